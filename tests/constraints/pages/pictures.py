"""The pictures on the pages: what each shows, and the function that draws it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import torch
from matplotlib.figure import Figure
from PIL import Image

from paraform.report.pictures import DOTS_PER_INCH
from tests.constraints.pages import matrices, planes, spectra

COLOURS = 128  # with the shades at the edges of lines; a file is a third as large as with all of them


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
        drawn = BytesIO()
        figure.savefig(drawn, dpi=DOTS_PER_INCH)
        few = Image.open(drawn).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
        few.save(folder / f"{self.name}.png", optimize=True)


PICTURES = [
    Picture(
        "numbers",
        ("Positive", "GreaterThan", "LessThan", "Interval"),
        "Four curves of the value over the raw number: each is smooth, increases, and stays on its side of its bounds.",
        "Far from a bound the value follows the raw number; near to it, a step moves it less and less.",
        planes.numbers,
    ),
    Picture(
        "vectors",
        ("UnitNorm", "Ball", "Simplex", "Hyperboloid"),
        "Random points in the plane with arrows to the nearest point of a circle, a disc, a triangle and a branch of a "
        "hyperbola; points inside of the disc and the triangle have none.",
        "Four sets, and where vectors that are assigned go: to the nearest point. Those inside stay where they are.",
        planes.vectors,
    ),
    Picture(
        "semidefinite",
        ("PositiveSemidefinite", "Correlation"),
        "A cone that stands on its tip, in the space of symmetric 2 x 2 matrices; lines lead from points outside to "
        "the nearest ones on the cone, and a short line across its inside is the set of correlation matrices.",
        "The symmetric matrices [[a, b], [b, c]] are a space of three dimensions. The semidefinite ones are a cone in "
        "it, those of rank one its surface, and zero is the tip.",
        planes.cone,
    ),
    Picture(
        "symmetric-and-skew",
        ("Symmetric", "Skew"),
        "Eigenvalues in the complex plane, before and after training: those of the symmetric weight lie on the real "
        "axis, those of the skew-symmetric one on the imaginary axis, and those of free weights anywhere.",
        "A weight learns a symmetric and a skew-symmetric map from 24 noisy pairs. In its set its eigenvalues keep to "
        "their axis at every step; the free weight fits the noise as well.",
        spectra.symmetric_and_skew,
    ),
    Picture(
        "orthogonal",
        ("Orthogonal",),
        "Eigenvalues in the complex plane, before and after training: those of the orthogonal weight lie on the unit "
        "circle, those of the free weight inside and outside of it.",
        "A weight learns a rotation from 24 noisy pairs. Registration moves the weight that it finds to the nearest "
        "orthogonal one, and training moves the eigenvalues along the circle.",
        spectra.orthogonal,
    ),
    Picture(
        "stable",
        ("Hurwitz", "Schur"),
        "Eigenvalues in the complex plane, before and after training: those of the stable weights lie in the left half "
        "of the plane and in the unit disc, some of those of the free weights outside.",
        "A weight learns a swinging system that is hardly damped, from 24 noisy pairs: above in continuous time, below "
        "in discrete time. Free, it fits the noise with modes that grow without end.",
        spectra.stable,
    ),
    Picture(
        "singular-values",
        ("SpectralNorm",),
        "Singular values of a weight, the largest first, before and after training: those of the constrained weight "
        "are at most 1, where many lie; those of the free weight pass 3.",
        "Registration cuts the singular values off at the bound. A map that would stretch more is learned as far as "
        "the bound allows: the values gather there.",
        spectra.singular_values,
    ),
    Picture(
        "patterns",
        ("Symmetric", "Skew", "Triangular", "Banded", "BlockDiagonal", "Toeplitz", "Circulant", "Masked"),
        "Eight 12 x 12 matrices as images: mirrored at the diagonal, mirrored with the sign changed, zero above the "
        "diagonal, a band, three blocks, constant diagonals, diagonals that go round, and two zeros in every four.",
        "A random point of each set. White is zero, purple positive and orange negative.",
        matrices.patterns,
    ),
    Picture(
        "masked",
        ("Masked",),
        "Two rows of ten images of 8 x 8 weights, one a digit: above all are coloured, below seven of ten are white.",
        "What a linear classifier of digits looks at: trained, and then pruned by magnitude and trained on.",
        matrices.masked,
    ),
    Picture(
        "permutation",
        ("DoublyStochastic",),
        "Four images of an 8 x 8 matrix: uniform at first, then with darker and darker entries, at last one in each "
        "row and each column, the others white.",
        "A weight learns how lists were put out of order. At every step its rows and columns sum to one, and it ends "
        "near to a permutation.",
        matrices.permutation,
    ),
]
