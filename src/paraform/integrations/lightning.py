"""A monitor in Lightning's trainer. Needs the package ``lightning``, or ``pytorch-lightning``."""

from __future__ import annotations

import os
from typing import Any

from ..model.monitor import Monitor, checked_every, flat

try:
    from lightning.pytorch import Callback
except ModuleNotFoundError as missing:
    if missing.name not in ("lightning", "lightning.pytorch"):  # it is there, and lacks something of its own
        raise
    try:
        from pytorch_lightning import Callback  # type: ignore[assignment]
    except ModuleNotFoundError as other:
        if other.name != "pytorch_lightning":
            raise
        raise ModuleNotFoundError(
            "paraform.integrations.lightning needs Lightning: pip install lightning", name="lightning"
        ) from None


class MonitorCallback(Callback):
    """A :class:`~paraform.model.monitor.Monitor` of the module that is trained, whose numbers Lightning logs.

    Each is logged under its flat name (``"lin.weight/residual"``) by ``log_dict``. At every ``log_every_n_steps``-th
    step Lightning hands on to its loggers what was logged last in this epoch; :attr:`monitor` keeps all. In a
    distributed training the first process measures.

    Args:
        every: how many optimizer steps lie between two measurements.
        log: a file for the records; see the monitor.

    Raises:
        TypeError: ``every`` is no whole number.
        ValueError: ``every`` is not positive; or, when the training starts, ``log`` is a file that is something else.

    ::

        trainer = lightning.Trainer(callbacks=[MonitorCallback(every=50)])
    """

    monitor: Monitor | None = None
    """From the first training on, in the first process."""

    def __init__(self, every: int = 50, log: str | os.PathLike[str] | None = None) -> None:
        super().__init__()
        self.every = checked_every(every)
        self._log = log  # Lightning puts a method `log` on callbacks

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.is_global_zero:
            if self.monitor is None or self.monitor.model is not pl_module:
                self.monitor = Monitor(pl_module, self.every, self._log)
            self.monitor.count = trainer.global_step

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        record = self.monitor.step(trainer.global_step) if trainer.is_global_zero and self.monitor else None
        if record is not None:
            pl_module.log_dict(flat(record), on_step=True, on_epoch=False, rank_zero_only=True)
