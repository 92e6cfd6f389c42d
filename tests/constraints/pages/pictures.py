"""The pictures on the pages: what each shows, and the function that draws it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.figure import Figure

from paraform.report.pictures import DOTS_PER_INCH


@dataclass(frozen=True)
class Picture:
    """A picture of one constraint, which stands with it, or of several, at the head of their page."""

    name: str
    sets: tuple[str, ...]
    """The constraints that it shows; it is drawn where all of them are in the table."""
    alt: str
    """What there is to see, for those who do not see it."""
    caption: str
    """What there is to learn from it."""
    draw: Callable[[Figure], None]

    def save(self, folder: Path) -> None:
        """Draw it, from the same random numbers each time."""
        figure = Figure(figsize=(7.2, 4.2), layout="constrained", facecolor="white")
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.draw(figure)
        folder.mkdir(parents=True, exist_ok=True)
        figure.savefig(folder / f"{self.name}.png", dpi=DOTS_PER_INCH, metadata={"Software": None})


PICTURES: list[Picture] = []
