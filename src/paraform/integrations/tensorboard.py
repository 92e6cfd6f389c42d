"""A monitor's records in TensorBoard."""

from __future__ import annotations

from typing import Any

from ..model.monitor import Record, flat


def write(writer: Any, record: Record | None) -> None:
    """Write a record of a :class:`~paraform.model.monitor.Monitor` to a ``SummaryWriter``, at its own step.

    Each number is a scalar under its flat name (``"lin.weight/residual"``), which TensorBoard groups by tensor.

    Args:
        writer: a ``torch.utils.tensorboard.SummaryWriter`` (for which torch needs the package ``tensorboard``), or
            anything with its ``add_scalar``.
        record: what ``monitor.step()`` or ``monitor.measure()`` gave; None, at a step that is not measured, writes
            nothing.

    Raises:
        TypeError: ``writer`` has no ``add_scalar``.

    ::

        write(writer, monitor.step())
    """
    if not hasattr(writer, "add_scalar"):
        raise TypeError(
            f"Expected a torch.utils.tensorboard.SummaryWriter to write to, got {type(writer).__name__}; "
            f"torch needs the package tensorboard for it: pip install tensorboard"
        )
    if record is not None:
        for name, number in flat(record).items():
            writer.add_scalar(name, number, record["step"])
