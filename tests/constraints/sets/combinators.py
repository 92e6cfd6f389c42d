"""Constraints made of constraints."""

import torch

from paraform.constraints import (
    Blocks,
    DoublyStochastic,
    Flatten,
    Orthogonal,
    Scaled,
    Simplex,
    Skew,
    SpectralNorm,
    Transposed,
    UnitNorm,
    WeightNorm,
)
from tests.constraints.sets.case import Case, Family

C = torch.complex128


def filters(**options: bool) -> Flatten:
    return Flatten(Orthogonal(**options))


def filters_of_outputs(**options: bool) -> Flatten:
    return Flatten(Orthogonal(**options), dim=1)


def filters_at_the_end(**options: bool) -> Flatten:
    return Flatten(SpectralNorm(**options), dim=-1)


def scaled_filters(**options: bool) -> Flatten:
    return Flatten(Scaled(Orthogonal(**options)))


def gates(**options: bool) -> Blocks:
    return Blocks(Orthogonal(**options), 2)


def side_by_side(**options: bool) -> Blocks:
    return Blocks(Skew(**options), 3, dim=-1)


def lengths_of_blocks(**options: bool) -> Blocks:
    return Blocks(WeightNorm(**options), 2)


def columns(**options: bool) -> Transposed:
    return Transposed(Simplex(**options))


def scaled(**options: bool) -> Scaled:
    return Scaled(Orthogonal(**options))


def scaled_rows(**options: bool) -> Scaled:
    return Scaled(UnitNorm(**options))


def scaled_blocks(**options: bool) -> Scaled:
    return Scaled(Blocks(Transposed(DoublyStochastic(**options)), 2))


def trained_bound(**options: bool) -> Scaled:
    return Scaled(SpectralNorm(slices=True, **options))


FAMILY = Family(
    "combinators",
    "Combinators",
    "Constraints made of other constraints, which see the tensor in another shape or at another size.",
    [
        Case(filters, (4, 2, 2, 2), batch=False),
        Case(filters, (3, 2, 1, 2), C, batch=False),
        Case(filters_of_outputs, (2, 3, 2), batch=False),
        Case(filters_at_the_end, (2, 1, 2, 3), C, batch=False, outside=False),
        Case(gates, (6, 2), batch=False, edges=((0, 0), (2, 1))),
        Case(side_by_side, (2, 2, 6), C, batch=False, edges=((0, 0), (1, 3))),
        Case(lengths_of_blocks, (4, 3), batch=False, outside=False, edges=((0, 0), (2, 1))),
        Case(columns, (2, 3, 4), edges=((1, 0), (1, 1))),
        Case(scaled, (4, 3)),
        Case(scaled, (2, 3, 3), C, batch=False),
        Case(scaled_rows, (2, 3), outside=False, edges=((0, 1), (1, 1))),
        Case(scaled_filters, (3, 2, 2), batch=False),
        Case(scaled_blocks, (4, 2), nearest=False, batch=False, edges=((2, 1),)),
        Case(trained_bound, (2, 3), outside=False, edges=((0, 0), (1, 1))),
    ],
)
