"""A monitor in the ``Trainer`` of Hugging Face. Needs the packages ``transformers`` and ``accelerate``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ..model.monitor import Monitor, checked_every, flat

if TYPE_CHECKING:
    from transformers import Trainer

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
        TypeError: ``every`` is no whole number.
        ValueError: ``every`` is not positive; or, when the training starts, ``log`` is a file that is something else.

    ::

        trainer.add_callback(MonitorCallback(trainer, every=50))
    """

    monitor: Monitor | None = None
    """From the first training on, in the first process."""

    def __init__(self, trainer: Trainer, every: int = 50, log: str | os.PathLike[str] | None = None) -> None:
        super().__init__()
        self.trainer = trainer
        self.every = checked_every(every)
        self.log = log

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            model = kwargs["model"]
            if self.monitor is None or self.monitor.model is not model:
                self.monitor = Monitor(model, self.every, self.log)
            self.monitor.count = state.global_step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        record = self.monitor.step(state.global_step) if state.is_world_process_zero and self.monitor else None
        if record is not None:
            due = control.should_log  # which a log puts off, though the loss of this step may still be to log
            self.trainer.log(flat(record))
            control.should_log = due
