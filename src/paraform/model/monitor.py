"""Watching parametrized tensors while a model trains."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.nn import Module

from ..parametrize.named import named_chains
from .measure import as_json, measure
from .table import printable

Record = dict[str, Any]
"""``{"step": 10, "tensors": {"lin.weight": {"residual": 1e-7, "condition": 1.0, "raw_norm": 3.2}}}``"""

QUANTITIES = ("residual", "condition", "raw_norm")


class Monitor:
    """Residual, condition number and norm of the raw tensors of each parametrized tensor, every so many steps.

    A measurement evaluates each chain once and decomposes each matrix, so that it costs some forward passes; ``every``
    spreads that. Training goes on as it would without: nothing in the model moves on, no gradient is made, no random
    number drawn, no mode changed. What is registered later is seen, and a compiled model is taken as what was compiled.
    Where a tensor cannot be measured, its numbers are None, and a RuntimeWarning says why, once.

    Args:
        model: any module.
        every: how many steps lie between two measurements.
        log: a file that each record is appended to, as a line of JSON, when it is made: what was measured stays when
            the training ends early. :func:`read_log` reads it. Records of an earlier run are kept in front.

    Raises:
        TypeError: an argument is of another kind.
        ValueError: ``every`` is not positive, or ``log`` is a file that is something else.
        OSError: ``log`` cannot be written.

    >>> import torch
    >>> from paraform import Orthogonal, register_parametrization
    >>> layer = register_parametrization(torch.nn.Linear(3, 3), "weight", Orthogonal())
    >>> monitor = Monitor(layer, every=2)
    >>> for _ in range(4):  # a training loop
    ...     record = monitor.step()
    >>> [record["step"] for record in monitor.history]
    [2, 4]
    >>> sorted(flat(record))  # for loggers
    ['weight/condition', 'weight/raw_norm', 'weight/residual']
    """

    history: list[Record]
    """All records of this monitor, first one first. A number that cannot be known is None; it may be nan or inf."""

    def __init__(self, model: Module, every: int = 1, log: str | os.PathLike[str] | None = None) -> None:
        if not isinstance(model, Module):
            raise TypeError(f"Expected an nn.Module for Monitor, got {type(model).__name__}.")
        self.model = model
        self.every = checked_every(every)
        self.count = 0
        """The number of the last step. A training that is resumed sets it to the step that it starts from."""
        self.history = []
        self._warned: set[str] = set()
        self._log = None if log is None else Path(log)
        if self._log is not None:
            _continue_log(self._log)

    def step(self, number: int | None = None) -> Record | None:
        """Count a step, and measure if it is time.

        Args:
            number: the number of the step, where somebody else counts; some may be left out or come twice. Measures if
                a multiple of ``every`` lies between the last one and this.

        Returns:
            What :meth:`measure` gives; None at the steps between.
        """
        before, self.count = self.count, self.count + 1 if number is None else number
        return self.measure() if self.count // self.every > before // self.every else None

    def measure(self) -> Record:
        """Measure now: a record, which is added to :attr:`history` and to the log."""
        record = {"step": self.count, "tensors": self._tensors()}
        self.history.append(record)
        if self._log is not None:
            with self._log.open("a", encoding="utf-8") as file:
                file.write(_as_line(record))
        return record

    def _tensors(self) -> dict[str, dict[str, float | None]]:
        tensors: dict[str, dict[str, float | None]] = {}
        for named in named_chains(self.model):
            name = named.name.replace("_orig_mod.", "")  # where torch.compile has put a module around another
            try:
                seen = measure(named.chain, name)
                tensors[name] = {quantity: getattr(seen, quantity) for quantity in QUANTITIES}
            except Exception as error:
                tensors[name] = dict.fromkeys(QUANTITIES)
                if name not in self._warned:
                    self._warned.add(name)
                    said = f"Monitor could not measure '{name}': {type(error).__name__}: {error}."
                    warnings.warn(f"{printable(said)} Its numbers are None.", RuntimeWarning, stacklevel=4)
        return tensors


def flat(record: Record) -> dict[str, float]:
    """A record as loggers want it: one number a name. What is not known is left out.

    >>> flat({"step": 1, "tensors": {"lin.weight": {"residual": 0.0, "condition": None, "raw_norm": 2.0}}})
    {'lin.weight/residual': 0.0, 'lin.weight/raw_norm': 2.0}
    """
    return {
        f"{name}/{quantity}": number
        for name, numbers in record["tensors"].items()
        for quantity, number in numbers.items()
        if number is not None
    }


def read_log(path: str | os.PathLike[str]) -> list[Record]:
    """The records of a monitor's log, in the order in which they were written.

    Each line is a JSON object ``{"step": 10, "tensors": {"lin.weight": {"residual": 1e-7, "condition": 1.0, "raw_norm":
    3.2}}}``, with null for a number that is not known or not finite. A last line that was not finished is left out. A
    training that went back to an earlier checkpoint has written some steps twice.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not such a log; the line is named.
    """
    return _records(Path(path))[0]


def checked_every(every: int) -> int:
    """``every``, or an error that says what is wrong with it."""
    if isinstance(every, bool) or not isinstance(every, int):
        raise TypeError(f"Expected a whole number of steps for Monitor, got {every!r}.")
    if every < 1:
        raise ValueError(f"Expected at least 1 step between measurements, got {every}.")
    return every


def _as_line(record: Record) -> str:
    return json.dumps(as_json(record), allow_nan=False) + "\n"


def _continue_log(path: Path) -> None:
    """Make the log, or check that a file of that name is one, and take off a line that was not finished."""
    path.touch()
    _, size = _records(path)
    os.truncate(path, size)


def _records(path: Path) -> tuple[list[Record], int]:
    """The records, and how many bytes they take."""
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    records = [_record(line, f"line {number} of {path}") for number, line in enumerate(whole.splitlines(), start=1)]
    if not records and data and not data.startswith(b'{"step": '):
        raise ValueError(f"Expected a monitor's log in {path}, which has no whole line of one; choose another file.")
    return records, len(whole)


def _record(line: bytes, where: str) -> Record:
    try:
        record = json.loads(line, parse_constant=_refuse)
        if not (type(record["step"]) is int and 0 <= record["step"] < 2**63):
            raise ValueError("its step is no number of a step")
        tensors = {str(name): _numbers(numbers) for name, numbers in record["tensors"].items()}
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(
            f'Expected {{"step": 10, "tensors": {{"weight": {{"residual": 1e-7, ...}}}}}} in {where}, as in every line '
            f"of a monitor's log, got something else ({type(error).__name__}: {error})."
        ) from None
    return {"step": record["step"], "tensors": tensors}


def _numbers(numbers: Mapping[str, Any]) -> dict[str, float | None]:
    """The quantities of a tensor, all that there are and no others."""
    found = {quantity: numbers.get(quantity) for quantity in QUANTITIES}
    if not all(number is None or type(number) in (int, float) for number in found.values()):
        raise ValueError("what a tensor has are no numbers")
    return {quantity: None if number is None else as_json(float(number)) for quantity, number in found.items()}


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
