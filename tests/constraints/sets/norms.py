"""Bounded norms, and norms as parameters of their own."""

import torch

from paraform.constraints import SpectralNorm, WeightNorm
from tests.constraints.sets.case import Case, Family

C = torch.complex128


def by_column(**options: bool) -> WeightNorm:
    return WeightNorm(-1, **options)


def whole(**options: bool) -> WeightNorm:
    return WeightNorm(None, **options)


def bounded(**options: bool) -> SpectralNorm:
    return SpectralNorm(0.8, slices=True, **options)


FAMILY = Family(
    "norms",
    "Norms",
    "Weights whose size is bounded, or is a parameter of its own.",
    [
        Case(WeightNorm, (4, 3), batch=False, outside=False),  # its slices run across the batch
        Case(by_column, (2, 3, 4), C, batch=False, outside=False),
        Case(whole, (3,), batch=False, outside=False),
        Case(bounded, (2, 4, 3)),
        Case(bounded, (2, 3), C),
    ],
)
