"""The figures of the page: SVG and, for those who do not see it, a sentence and a table of the same numbers.

Colours are classes of the style sheet, so that a figure follows light and dark. What is told apart by colour is told
apart by its shape too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from .axes import Axis, linear_axis, size_axis
from .entries import Eigenvalues, Spectrum
from .history import Course, thinned
from .words import number

LEFT, RIGHT, TOP, BOTTOM = 66, 14, 12, 44  # margins in the page's pixels
FLAT = (LEFT + 288 + RIGHT, TOP + 190 + BOTTOM)
MINUS = "\N{MINUS SIGN}"
PLANE = (LEFT + 288 + RIGHT, TOP + 288 + BOTTOM)  # the plane within is square, so that circles are round
LEGEND = {"before": "before: the raw tensor", "after": "after: the value"}
COURSES = {
    "residual": ("Residual", "how far the value was from its set"),
    "condition": ("Condition", "the largest singular value divided by the smallest"),
    "raw_norm": ("Norm of the raw tensors", "the Frobenius norm of what trains"),
}


@dataclass(frozen=True)
class Figure:
    """A figure of the page."""

    title: str
    description: str
    """What is to be seen, in a sentence or two."""
    caption: str
    """What is drawn, and what is left out."""
    svg: Markup
    """What stands within the ``svg`` element."""
    size: tuple[int, int]
    legend: tuple[tuple[str, str], ...]
    """Of each kind of mark its class and what it is."""
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    """The numbers."""
    is_course: bool = False
    """Whether it is of the training, and not of what is there now."""


def singular_values(before: Spectrum | None, after: Spectrum) -> Figure:
    """Singular values over their index, of the value and, where it has some, of the raw tensor."""
    spectra = [("before", "raw tensor", before), ("after", "value", after)]
    shown = [(mark, name, spectrum) for mark, name, spectrum in spectra if spectrum is not None]
    x = Axis(0.5, after.count + 0.5)
    y = size_axis(size for _, _, spectrum in shown for size in (*spectrum.low, *spectrum.high))
    plot = _Plot(x, y, FLAT, ("index", "singular value"), whole=True)
    for mark, _, spectrum in shown:
        if spectrum.matrices > 1:
            plot.band(mark, spectrum.indices, spectrum.low, spectrum.high)
        plot.line(mark, list(zip(spectrum.indices, spectrum.high, strict=True)))
        if spectrum.matrices > 1:
            plot.line(mark, list(zip(spectrum.indices, spectrum.low, strict=True)))
    several = after.matrices > 1
    caption = f"{_drawn(len(after.indices), after.count, 'singular values')}, the largest first"
    if several:
        caption += f"; of {after.matrices:,} matrices the smallest and the largest at each index"
    ends = [f"of the {name} from {number(max(s.high))} to {number(min(s.low))}" for _, name, s in shown]
    columns = [
        (f"{name}, {end}" if several else name, numbers)
        for _, name, spectrum in shown
        for end, numbers in (("largest", spectrum.high), ("smallest", spectrum.low))
        if several or end == "largest"
    ]
    return Figure(
        title="Singular values",
        description=f"Singular values {' and '.join(ends)}.",
        caption=f"{caption}{_below(y, after.low + (before.low if before else []))}.",
        svg=plot.svg(),
        size=FLAT,
        legend=tuple((mark, LEGEND[mark]) for mark, *_ in shown),
        header=("index", *(name for name, _ in columns)),
        rows=_rows(map(str, after.indices), *(map(number, numbers) for _, numbers in columns)),
    )


def eigenvalues(found: Eigenvalues) -> Figure:
    """Eigenvalues in the complex plane, and where they are to lie."""
    kind, size = found.region.kind, found.region.size
    reals, imaginaries = [z.real for z in found.points], [z.imag for z in found.points]
    if kind == "half-plane":
        x, y = linear_axis(reals, holds=(0.0, size)), linear_axis(imaginaries, holds=(0.0,))
        where = f"left of {number(size)}"
        far = max(reals, default=-math.inf)
        description = (
            f"The largest real part of an eigenvalue is {number(far)}; the edge of the set is at {number(size)}."
        )
    else:
        x = y = linear_axis([*reals, *imaginaries], holds=(-size, size))
        where = f"{'in' if kind == 'disc' else 'on'} the circle of radius {number(size)}"
        moduli = [abs(z) for z in found.points]
        description = (
            f"Absolute values of eigenvalues from {number(min(moduli, default=math.nan))} to "
            f"{number(max(moduli, default=math.nan))}; they are to lie {where}."
        )
    if kind == "half-plane":
        x, y = _equally_long(x, y)
    plot = _Plot(x, y, PLANE, ("real part", "imaginary part"))
    plot.region(kind, size)
    plot.dots("after", [(z.real, z.imag) for z in found.points])
    caption = _drawn(len(found.points), found.count, "eigenvalues")
    if len(found.points) < found.count:
        caption += ": those nearest to the edge, and some of the others"
    return Figure(
        title="Eigenvalues",
        description=description,
        caption=f"{caption}. They are to lie {where}.",
        svg=plot.svg(),
        size=PLANE,
        legend=(("dot", "an eigenvalue"), (kind, "where they are to lie")),
        header=("real part", "imaginary part", "absolute value"),
        rows=_rows(map(number, reals), map(number, imaginaries), (number(abs(z)) for z in found.points)),
    )


def course(quantity: str, found: Course, points: int) -> Figure:
    """A quantity over the steps of a training."""
    title, meaning = COURSES[quantity]
    shown = sorted(thinned(found.points, points), key=lambda point: point[0])
    steps = [step for step, _ in shown]
    finite = [value for _, value in shown if value is not None]
    x, y = linear_axis(steps), size_axis(finite)
    plot = _Plot(x, y, FLAT, ("step", title.lower()), whole=True)
    for run in _runs(shown):
        plot.line("after", run)
    caption = f"{title}: {meaning}. {_drawn(len(shown), found.measured, 'measurements')}"
    if len(shown) < found.measured:
        caption += ", of neighbours the largest"
    if found.not_finite:
        caption += f"; not known or not finite at {found.not_finite:,} of them"
    description = f"{title} at {found.measured:,} steps"
    if finite:
        description += f", from {number(finite[0])} first to {number(finite[-1])} last, at most {number(max(finite))}"
    return Figure(
        title=f"{title} over the training",
        description=f"{description}.",
        caption=f"{caption}{_below(y, finite)}.",
        svg=plot.svg(),
        size=FLAT,
        legend=(),
        header=("step", title.lower()),
        rows=_rows(
            (f"{step:g}" for step in steps), ("not finite" if value is None else number(value) for _, value in shown)
        ),
        is_course=True,
    )


class _Plot:
    """Axes, and marks on them, as SVG."""

    def __init__(
        self, x: Axis, y: Axis, size: tuple[int, int], labels: tuple[str, str], *, whole: bool = False
    ) -> None:
        self.x, self.y, self.size = x, y, size
        self.right, self.bottom = size[0] - RIGHT, size[1] - BOTTOM
        self.parts: list[str] = []
        middle = (TOP + self.bottom) / 2
        for tick in y.ticks():
            at = self._down(tick)
            self._add(f'<path class="grid" d="M{LEFT} {at:.1f}H{self.right}"/>')
            self._add(f'<text class="tick" x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{_label(tick, y)}</text>')
        for tick in x.ticks():
            if whole and tick != int(tick):
                continue
            at = self._along(tick)
            self._add(f'<path class="grid" d="M{at:.1f} {TOP}V{self.bottom}"/>')
            self._add(
                f'<text class="tick" x="{at:.1f}" y="{self.bottom + 17}" text-anchor="middle">{_label(tick, x)}</text>'
            )
        self._add(f'<path class="axis" d="M{LEFT} {TOP}V{self.bottom}H{self.right}"/>')
        self._add(
            f'<text class="label" x="{(LEFT + self.right) / 2:.1f}" y="{size[1] - 7}" text-anchor="middle">'
            f"{labels[0]}</text>"
        )
        self._add(
            f'<text class="label" x="10" y="{middle:.1f}" text-anchor="middle" '
            f'transform="rotate(-90 10 {middle:.1f})">{labels[1]}</text>'
        )

    def line(self, mark: str, points: Sequence[tuple[float, float]]) -> None:
        """A line through the points; few of them are marked besides, a single one could not be seen otherwise."""
        self._add(f'<path class="line {mark}" d="M{self._through(points)}"/>')
        if len(points) <= 40:
            self.dots(mark, points)

    def band(self, mark: str, along: Sequence[float], low: Sequence[float], high: Sequence[float]) -> None:
        """What is between two lines."""
        there = list(zip(along, high, strict=True))
        back = list(zip(along, low, strict=True))[::-1]
        self._add(f'<path class="band {mark}" d="M{self._through([*there, *back])}Z"/>')

    def dots(self, mark: str, points: Iterable[tuple[float, float]]) -> None:
        """A mark at each point: one path of round dots or, for what was before, of squares."""
        # A line of no length with round caps is a dot: one element for all of them.
        drawn = "".join(f"M{self._along(x):.1f} {self._down(y):.1f}h0" for x, y in points)
        if drawn:
            self._add(f'<path class="dots {mark}" d="{drawn}"/>')

    def region(self, kind: str, size: float) -> None:
        """Where eigenvalues are to lie."""
        if kind == "half-plane":
            edge = self._along(size)
            self._add(f'<path class="disc" d="M{LEFT} {TOP}H{edge:.1f}V{self.bottom}H{LEFT}Z"/>')
            self._add(f'<path class="edge" d="M{edge:.1f} {TOP}V{self.bottom}"/>')
        else:
            middle = f'cx="{self._along(0):.1f}" cy="{self._down(0):.1f}"'
            radius = self._along(size) - self._along(0)
            fill = "disc edge" if kind == "disc" else "edge"
            self._add(f'<circle class="{fill}" {middle} r="{radius:.1f}"/>')

    def svg(self) -> Markup:
        """All of it. (What stands in it is numbers and words of ours: nothing that a file has named.)"""
        return Markup("".join(self.parts))

    def _add(self, part: str) -> None:
        self.parts.append(part)

    def _along(self, number: float) -> float:
        return LEFT + self.x.place(number) * (self.right - LEFT)

    def _down(self, number: float) -> float:
        return self.bottom - self.y.place(number) * (self.bottom - TOP)

    def _through(self, points: Iterable[tuple[float, float]]) -> str:
        return "L".join(f"{self._along(x):.1f} {self._down(y):.1f}" for x, y in points)


def swatch(mark: str) -> Markup:
    """A mark as the legend has it, in a box of 28 by 12."""
    match mark:
        case "dot":
            drawn = '<path class="dots after" d="M14 6h0"/>'
        case "disc":
            drawn = '<circle class="disc edge" cx="14" cy="6" r="5"/>'
        case "half-plane":
            drawn = '<path class="disc" d="M4 1H24V11H4Z"/><path class="edge" d="M24 1V11"/>'
        case "circle":
            drawn = '<circle class="edge" cx="14" cy="6" r="5"/>'
        case _:
            drawn = f'<path class="line {mark}" d="M1 6H27"/><path class="dots {mark}" d="M14 6h0"/>'
    return Markup(drawn)


def _runs(points: Iterable[tuple[float, float | None]]) -> list[list[tuple[float, float]]]:
    """The points without gaps: a line is not drawn across what is not known."""
    runs: list[list[tuple[float, float]]] = [[]]
    for step, value in points:
        if value is None:
            runs.append([])
        else:
            runs[-1].append((step, value))
    return [run for run in runs if run]


def _equally_long(x: Axis, y: Axis) -> tuple[Axis, Axis]:
    """Both axes with the length of the longer one, round their middles: the plane is not distorted."""
    half = max(x.high - x.low, y.high - y.low) / 2
    return (
        Axis((x.low + x.high) / 2 - half, (x.low + x.high) / 2 + half),
        Axis((y.low + y.high) / 2 - half, (y.low + y.high) / 2 + half),
    )


def _drawn(drawn: int, count: int, what: str) -> str:
    if count == 1:
        return f"1 {what.removesuffix('s')}"
    return f"All {count:,} {what}" if drawn == count else f"{drawn:,} of {count:,} {what}"


def _below(y: Axis, numbers: Sequence[float]) -> str:
    hidden = y.is_logarithmic and min(numbers, default=y.low) < y.low
    return f"; what is below {_label(y.low, y)} is drawn there" if hidden else ""


def _label(tick: float, axis: Axis) -> str:
    if axis.is_logarithmic:
        exponent = round(math.log10(tick))
        return f"{tick:g}" if -3 <= exponent <= 4 else f"1e{exponent}"
    # 0.30000000000000004 is 0.3, and -0.0 is 0
    text = f"{tick if abs(tick) > (axis.high - axis.low) * 1e-9 else 0.0:.6g}"
    return text.replace("e-0", "e-").replace("e+", "e") if "e" in text else text.replace("-", MINUS)


def _rows(*columns: Iterable[str]) -> list[tuple[str, ...]]:
    return list(zip(*columns, strict=True))
