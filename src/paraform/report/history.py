"""The log of a monitor: what was measured of each tensor while it trained."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .words import shortened

QUANTITIES = ("residual", "condition", "raw_norm")
MOST_POINTS = 512  # of a course in memory: what is longer is thinned out
LONGEST_LINE = 2**24  # bytes: no model has so many tensors, and a file without line ends must not fill the memory


class HistoryError(ValueError):
    """A log is damaged, or is none."""


class NotJSONError(ValueError):
    """A line is no JSON."""


@dataclass
class Course:
    """A quantity over the steps of a training; None where it was not finite.

    Of a long course neighbours are put together, and the larger number stays, so that no peak is lost.

    >>> course = Course()
    >>> for step in range(2000):
    ...     course.add(step, 7.0 if step == 1234 else 1.0)
    >>> len(course.points) <= MOST_POINTS, max(value for _, value in course.points), course.measured
    (True, 7.0, 2000)
    """

    points: list[tuple[float, float | None]] = field(default_factory=list)
    measured: int = 0
    """How many there were."""
    not_finite: int = 0
    """How many of them were not."""
    _together: int = 1
    _open: int = 0

    def add(self, step: float, value: float | None) -> None:
        """Go on with a number."""
        self.measured += 1
        self.not_finite += value is None
        if self._open:
            self.points[-1] = max(self.points[-1], (step, value), key=_badness)
        else:
            self.points.append((step, value))
        self._open = (self._open + 1) % self._together
        if len(self.points) >= MOST_POINTS and not self._open:
            self.points = thinned(self.points, MOST_POINTS // 2)
            self._together *= 2


History = dict[str, dict[str, Course]]
"""The courses of each tensor by name: its residual, its condition and the norm of its raw tensors."""


def thinned(points: list[tuple[float, float | None]], most: int) -> list[tuple[float, float | None]]:
    """``points``, of which neighbours are put together until there are no more than ``most``."""
    while len(points) > most:
        points = [max(points[place : place + 2], key=_badness) for place in range(0, len(points), 2)]
    return points


def read_history(log: Path | Iterable[Mapping[str, Any]]) -> History:
    """The history that a monitor wrote down: a file of JSON lines, or the records themselves.

    A record is ``{"step": 10, "tensors": {"lin.weight": {"residual": 1e-7, "condition": 1.0, "raw_norm": 3.2}}}``,
    with null for what is not known or not finite. Further entries are ignored, and so is a last line of a file that was
    not finished, where the training was stopped.

    Raises:
        HistoryError: it has no record, or something else in it.
        OSError: the file cannot be read.

    >>> history = read_history([{"step": 10, "tensors": {"weight": {"residual": 1e-7, "condition": None}}}])
    >>> history["weight"]["residual"].points
    [(10.0, 1e-07)]
    """
    history: History = {}
    complete = 0
    where = f"line {{}} of {shortened(str(log))}" if isinstance(log, Path) else "record {} of the history"
    records: Iterable[Any] = _lines(log) if isinstance(log, Path) else log
    for count, record in enumerate(records, start=1):
        try:
            _add(history, _parsed(record))
            complete = count
        except ValueError as error:
            if isinstance(error, NotJSONError) and not record.endswith(b"\n"):
                break  # the training was stopped while it wrote its last line
            raise HistoryError(
                f'Expected a record {{"step": ..., "tensors": {{...}}}} in {where.format(count)}, but {error}; '
                f"give the log of a monitor, unchanged."
            ) from error
    if not complete:
        source = shortened(str(log)) if isinstance(log, Path) else "the history"
        raise HistoryError(f"Expected at least one record in {source}, but there is none; give the log of a monitor.")
    return history


def _lines(path: Path) -> Iterable[bytes]:
    with path.open("rb") as file:
        while line := file.readline(LONGEST_LINE):
            if not line.isspace():
                yield line


def _parsed(record: bytes | Mapping[str, Any]) -> Any:
    if not isinstance(record, bytes):
        return record
    if len(record) >= LONGEST_LINE:
        raise ValueError("the line does not end")
    try:
        return json.loads(record)
    except (ValueError, RecursionError) as error:
        raise NotJSONError("it is no JSON") from error


def _add(history: History, record: Any) -> None:
    if not isinstance(record, Mapping) or not isinstance(record.get("tensors"), Mapping):
        raise ValueError("it has none")
    step = _number("its step", record.get("step"))
    if step is None:
        raise ValueError("its step is no finite number")
    for name, measured in record["tensors"].items():
        if not isinstance(name, str) or not isinstance(measured, Mapping):
            raise ValueError("what it says of a tensor is no mapping")
        courses = history.setdefault(name, {})
        for quantity in QUANTITIES:
            if quantity in measured:
                value = _number(f"a {quantity}", measured[quantity])
                courses.setdefault(quantity, Course()).add(step, value)


def _number(what: str, value: Any) -> float | None:
    """A finite number, or None for null and what is not finite."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{what} is no number")
    try:
        finite = float(value)
    except OverflowError as error:
        raise ValueError(f"{what} is too large") from error
    return finite if math.isfinite(finite) else None


def _badness(point: tuple[float, float | None]) -> float:
    """By which the one of two neighbours is found that is kept: a number that was not finite, or the larger."""
    return math.inf if point[1] is None else point[1]
