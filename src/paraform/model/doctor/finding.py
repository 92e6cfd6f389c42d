"""What the doctor finds, and all that it can find."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, overload

from ..table import escape, printable

Severity = Literal["warning", "note"]

TITLES: dict[str, str] = {
    # 1: the optimizer
    "PF101": "Weight decay where it has no meaning",
    "PF102": "A raw tensor that the optimizer does not know",
    "PF103": "The optimizer trains what is not in the model",
    # 2: ties
    "PF201": "A raw tensor is a weight elsewhere",
    "PF202": "Two chains share a raw tensor",
    "PF203": "A copy of a parametrized value",
    # 3: values
    "PF301": "A value that is not finite",
    "PF302": "A later step undoes a constraint",
    "PF303": "A value outside its set",
    "PF304": "A set left through low precision",
    "PF305": "A step that is switched off",
    "PF306": "A value that is nearly singular",
    # 4: raw tensors
    "PF401": "A raw tensor that is not finite",
    "PF402": "A saturated raw tensor",
    "PF403": "A derivative that is not finite",
    # 5: the forward pass
    "PF501": "A value computed several times a forward pass",
    "PF502": "The raw tensor is used in place of the value",
    "PF503": "A value that is never read",
    "PF504": "Two engines in one model",
    # 6: state that lags
    "PF601": "A spectral norm whose estimate lags",
    "PF602": "An average that leaves bases behind",
    # 7: the layer
    "PF701": "One orthogonal matrix over packed ones",
    # 9: the doctor itself
    "PF901": "A tensor that cannot be examined",
    "PF902": "A sample that cannot be run",
}
"""Every code with what it stands for. ``docs/doctor.md`` has a section on each."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a tensor, or that is worth knowing.

    >>> print(Finding("PF401", "warning", "0.weight", "1 of 9 entries is nan.", "Load an earlier checkpoint."))
    PF401 warning: A raw tensor that is not finite: 0.weight
      1 of 9 entries is nan.
      Remedy: Load an earlier checkpoint.
    """

    code: str
    """A key of :data:`TITLES`. It does not change from version to version."""
    severity: Severity
    """``"warning"`` for what makes results wrong, ``"note"`` for what costs time or may be meant."""
    tensor: str
    """The full name of the tensor in the plain model's state dict; empty where it is about no single one."""
    what: str
    """What was found, in numbers."""
    remedy: str
    """What to do."""

    @property
    def title(self) -> str:
        """What the code stands for."""
        return TITLES[self.code]

    def __str__(self) -> str:
        of = f": {_printable(self.tensor)}" if self.tensor else ""
        lines = [f"{self.code} {self.severity}: {self.title}{of}", self.what, f"Remedy: {self.remedy}"]
        return "\n".join([lines[0], *("  " + line for part in lines[1:] for line in _printable(part).splitlines())])

    def to_dict(self) -> dict[str, str]:
        """The finding as JSON data."""
        return {**asdict(self), "title": self.title}


class Report(Sequence[Finding]):
    """The findings of a :func:`doctor`, warnings first.

    Args:
        findings: in the order in which they were found.
        looked_at: how many parametrized tensors were looked at.
    """

    def __init__(self, findings: Sequence[Finding], looked_at: int) -> None:
        self.findings = tuple(sorted(findings, key=lambda finding: (finding.severity != "warning", finding.code)))
        self.looked_at = looked_at

    @overload
    def __getitem__(self, index: int) -> Finding: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Finding]: ...
    def __getitem__(self, index: int | slice) -> Finding | Sequence[Finding]:
        return self.findings[index]

    def __len__(self) -> int:
        return len(self.findings)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """The findings that are warnings."""
        return tuple(finding for finding in self if finding.severity == "warning")

    @property
    def codes(self) -> tuple[str, ...]:
        """The codes that were found, each once."""
        return tuple(sorted({finding.code for finding in self}))

    def __str__(self) -> str:
        if not self:
            return f"Nothing found. {self._looked_at()}"
        notes = len(self) - len(self.warnings)
        found = f"{_count(len(self.warnings), 'warning')}, {_count(notes, 'note')}. {self._looked_at()}"
        return "\n\n".join([*map(str, self), found])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        """The findings as a table, as notebooks show it."""
        if not self:
            return f"<p>{escape(str(self))}</p>"
        head = "".join(f'<th scope="col">{name}</th>' for name in ("Code", "Severity", "Tensor", "Found", "Remedy"))
        rows = "".join(
            "<tr>"
            + "".join(
                f'<td style="text-align: left">{escape(_printable(cell))}</td>'
                for cell in (each.code, each.severity, each.tensor, f"{each.title}. {each.what}", each.remedy)
            )
            + "</tr>"
            for each in self
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table><p>{self._looked_at()}</p>"

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON data: ``looked_at`` and the ``findings``."""
        return {"looked_at": self.looked_at, "findings": [finding.to_dict() for finding in self]}

    def _looked_at(self) -> str:
        return f"{_count(self.looked_at, 'parametrized tensor')} looked at."


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _printable(text: str) -> str:
    """``text`` without the characters by which a name could move a terminal's cursor; line ends stay."""
    return "\n".join(map(printable, text.split("\n")))
