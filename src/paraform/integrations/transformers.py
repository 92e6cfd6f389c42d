"""A monitor in the ``Trainer`` of Hugging Face. Needs the packages ``transformers`` and ``accelerate``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ..model.monitor import Monitor, checked_every, flat
from ..parametrize.named import Named, named_chains

if TYPE_CHECKING:
    from transformers import PreTrainedModel, Trainer

try:
    from transformers import TrainerCallback
except ModuleNotFoundError as missing:
    if missing.name != "transformers":  # it is there, and lacks something of its own
        raise
    raise ModuleNotFoundError(
        "paraform.integrations.transformers needs transformers: pip install 'transformers[torch]'", name="transformers"
    ) from None


class MonitorCallback(TrainerCallback):
    """A :class:`~paraform.model.monitor.Monitor` of the model that is trained, whose numbers go to the trainer's logs.

    Each goes to ``trainer.log`` under its flat name (``"lin.weight/residual"``), and so, in an entry of its own, to
    ``trainer.state.log_history`` and to wherever ``report_to`` says. In a distributed training the first process
    measures.

    Args:
        trainer: what it will be a callback of: a callback is told of everything but that.
        every: how many optimizer steps lie between two measurements.
        log: a file for the records; see the monitor.

    Raises:
        TypeError: ``trainer`` is none, or ``every`` no whole number.
        ValueError: ``every`` is not positive; or, when the training starts, ``log`` is a file that is something else.

    ::

        trainer.add_callback(MonitorCallback(trainer, every=50))
    """

    monitor: Monitor | None = None
    """From the first training on, in the first process."""

    def __init__(self, trainer: Trainer, every: int = 50, log: str | os.PathLike[str] | None = None) -> None:
        super().__init__()
        self.every = checked_every(every)
        if not hasattr(trainer, "log"):
            raise TypeError(
                f"Expected the trainer first, MonitorCallback(trainer, every=50), got {type(trainer).__name__}."
            )
        self.trainer = trainer
        self._log = log

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            model = kwargs["model"]
            if self.monitor is None or self.monitor.model is not model:
                self.monitor = Monitor(model, self.every, self._log)
            self.monitor.count = state.global_step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        record = self.monitor.step(state.global_step) if state.is_world_process_zero and self.monitor else None
        if record is not None:
            due = control.should_log  # which a log puts off, though the loss of this step may still be to log
            self.trainer.log(flat(record))
            control.should_log = due


def declare_ties(model: PreTrainedModel) -> None:
    """Let a model whose tied weights are parametrized be saved by ``save_pretrained`` and by the ``Trainer``.

    transformers saves one of several tensors that share memory, and refuses to save those that the model does not
    declare. A language model declares its head and its embedding by their plain names; this adds the names that stand
    in its state dict since the weight is parametrized. Call it after :func:`~paraform.register_parametrization`.

    What is saved then has raw tensors, and resumes a training of the constrained model. ``from_pretrained`` makes the
    plain model, and starts anew what it does not find: for that save ``paraform.plain_state_dict(model)``, as in
    ``model.save_pretrained(folder, state_dict=paraform.plain_state_dict(model))``.

    ::

        paraform.register_parametrization(model.transformer.wte, "weight", paraform.UnitNorm())
        declare_ties(model)
    """
    first: dict[Any, Named] = {}
    ties: dict[str, str] = {}
    for named in named_chains(model, remove_duplicate=False):
        source = first.setdefault(named.chain, named)
        if source is not named:
            ties.update({_key(named, name): _key(source, name) for name in named.chain.state_dict()})
    model._tied_weights_keys = {**(model._tied_weights_keys or {}), **ties}


def _key(named: Named, name: str) -> str:
    return f"{named.name.removesuffix(named.tensor_name)}parametrizations.{named.tensor_name}.{name}"
