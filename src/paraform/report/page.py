"""The report of a model: one HTML page that needs nothing else, not even a network."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup
from torch.nn import Module

from . import figures
from .entries import Entry, entry_of
from .history import QUANTITIES, Course, History, read_history
from .sources import Plain, source_of
from .words import breakable, exactly, number, shape, shortened

if TYPE_CHECKING:
    from ..files import SavedFile

MOST_POINTS = 200  # of a figure
POINTS_OF_A_PAGE = 40_000  # over all its figures, which keeps a page of hundreds of tensors at some megabytes
FEWEST_POINTS = 24
MOST_DRAWN = 500  # tensors with figures, and rows of the list of plain tensors
OPEN = 12  # so many tensors are shown unfolded


@dataclass(frozen=True)
class Report:
    """All that the page says, as data."""

    title: str
    written_by: str
    """The paraform that wrote the file, or measured the model."""
    entries: list[Entry]
    plain: list[Plain]
    history: History
    points: int
    """At most so many are drawn in a figure."""

    @property
    def outside(self) -> list[Entry]:
        """What is not in its set, or could not be computed: findings."""
        return [entry for entry in self.entries if entry.state in ("outside", "error")]

    @property
    def unknown(self) -> list[Entry]:
        """What has no set that is known."""
        return [entry for entry in self.entries if entry.state == "unknown"]

    @property
    def known(self) -> bool:
        """Whether there is a tensor whose set is known."""
        return any(entry.state in ("inside", "outside") for entry in self.entries)

    @property
    def trained(self) -> int:
        """How many real numbers train behind the parametrized tensors."""
        return sum(entry.measured.trained for entry in self.entries if entry.measured)

    @property
    def dof(self) -> int:
        """The sum of the dimensions that are known."""
        return sum(entry.measured.dof or 0 for entry in self.entries if entry.measured)

    @property
    def without_dof(self) -> int:
        """How many tensors do not know their dimension."""
        return sum(entry.measured is None or entry.measured.dof is None for entry in self.entries)

    @property
    def not_here(self) -> list[str]:
        """Names of the history that the report has no parametrized tensor for."""
        return sorted(self.history.keys() - {name for entry in self.entries for name in _logged(entry)})

    def courses(self, entry: Entry) -> Mapping[str, Course]:
        """The history of a tensor."""
        return next((self.history[name] for name in _logged(entry) if name in self.history), {})


def _logged(entry: Entry) -> list[str]:
    """The names under which a log may have a tensor: a monitor leaves out where ``torch.compile`` stands around it."""
    names = (entry.name, *entry.also)
    return [*names, *(name.replace("_orig_mod.", "") for name in names)]


def build_report(
    model: Module | SavedFile,
    history: History | Path | Iterable[Mapping[str, Any]] | None = None,
    *,
    title: str | None = None,
) -> str:
    """The report of ``model`` as an HTML page: self-contained, it loads nothing.

    Args:
        model: a model, or a saved one (:class:`paraform.files.SavedFile`).
        history: the log that a monitor wrote, or its records, or what
            :func:`paraform.report.history.read_history` made of them.
        title: what the page is headed with; the name of the file, or of the model's class, if None.

    Raises:
        HistoryError: the log is damaged.
        OSError: the log cannot be read.

    >>> from torch import nn
    >>> from paraform import Skew, register_parametrization
    >>> layer = register_parametrization(nn.Linear(3, 3), "weight", Skew())
    >>> page = build_report(layer)
    >>> page.startswith("<!DOCTYPE html>") and "All inside their sets" in page
    True
    """
    return render(collect(model, history, title=title))


def collect(
    model: Module | SavedFile,
    history: History | Path | Iterable[Mapping[str, Any]] | None = None,
    *,
    title: str | None = None,
) -> Report:
    """What :func:`build_report` shows, as data. Takes one tensor after the other."""
    if isinstance(history, dict):
        read: History = history
    else:
        read = {} if history is None else read_history(history)
    source = source_of(model)
    figures_each = 2 + (len(QUANTITIES) if read else 0)
    points = POINTS_OF_A_PAGE // (figures_each * max(len(source.parametrized), 1))
    points = max(FEWEST_POINTS, min(MOST_POINTS, points))
    entries = [
        entry_of(found, anchor=f"t{place + 1}", points=points if place < MOST_DRAWN else 0)
        for place, found in enumerate(source.parametrized)
    ]
    return Report(source.title if title is None else title, source.version, entries, source.plain, read, points)


def render(report: Report) -> str:
    """The page as HTML. What a file has named is escaped wherever it stands."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    style, script = (_resource(f"page.{kind}") for kind in ("css", "js"))
    environment = Environment(
        loader=PackageLoader("paraform.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=number,
        exactly=exactly,
        shape=shape,
        size=math.prod,
        shortened=shortened,
        breakable=breakable,
        swatch=figures.swatch,
    )
    return environment.get_template("page.html.jinja").render(
        report=report,
        figures_of=lambda entry: list(_figures(report, entry)),
        style=Markup(style),
        script=Markup(script),
        style_hash=_hash(style),
        script_hash=_hash(script),
        most_drawn=MOST_DRAWN,
        is_open=len(report.entries) <= OPEN,
    )


def _figures(report: Report, entry: Entry) -> Iterator[figures.Figure]:
    if entry.after is not None:
        yield figures.singular_values(entry.before, entry.after)
    if entry.eigenvalues is not None:
        yield figures.eigenvalues(entry.eigenvalues)
    courses = report.courses(entry)
    for quantity in QUANTITIES:
        # What was never known, as the condition of a vector, has no course.
        if quantity in courses and courses[quantity].not_finite < courses[quantity].measured:
            yield figures.course(quantity, courses[quantity], report.points)


def _resource(name: str) -> str:
    return resources.files("paraform.report").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """By which a Content-Security-Policy allows just this script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
