"""What torch.distributions.constraints names, and torch can transform to."""

from collections.abc import Callable

from torch.distributions import constraints

from paraform.constraints import from_distribution
from tests.constraints.sets.case import Case, Family

UNIT = constraints.unit_interval
MIXED = constraints.cat([constraints.positive, UNIT, constraints.real], dim=-1, lengths=[2, 1, 1])
ROWS = constraints.stack([constraints.simplex, constraints.independent(UNIT, 1)], dim=-2)
VECTORS = ((0, 1), (1, 1))


def of(constraint: constraints.Constraint) -> Callable[..., from_distribution]:
    return lambda **options: from_distribution(constraint, **options)


FAMILY = Family(
    "distributions",
    "Sets of torch.distributions",
    "The supports of probability distributions, and the sets that their parameters lie in: whatever "
    "``torch.distributions.transform_to`` has a map to.",
    [
        Case(of(constraints.positive), (2, 3)),
        Case(of(constraints.interval(-1.0, 0.5)), (2, 3)),
        Case(of(constraints.simplex), (2, 3), edges=VECTORS),
        Case(of(constraints.lower_cholesky), (2, 3, 3)),
        Case(of(constraints.corr_cholesky), (3, 3), edges=((1, 1), (2, 2))),
        Case(of(constraints.positive_definite), (2, 3, 3)),
        Case(of(constraints.positive_semidefinite), (3, 3)),
        Case(of(MIXED), (2, 4), edges=((0, 4), (1, 4))),
        Case(of(ROWS), (2, 3), edges=((2, 1),)),
    ],
)
