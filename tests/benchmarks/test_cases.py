"""Every case of the benchmarks compares the same thing; nothing here looks at the clock."""

import math

import pytest
import torch

from benchmarks.cases import CASES, LIMITS, Case, Limit

CLOSE = 1e-3  # float32, geotorch's determinants included


@pytest.mark.filterwarnings("ignore")  # the peers' own
@pytest.mark.parametrize("case", CASES, ids=str)
def test_both_sides_of_a_case_give_values_of_the_same_set_and_shape(case: Case) -> None:
    sides = [make(case.small) for make in (case.theirs, case.ours)]
    for side in sides:
        side.run()
        side.run()
    values = [side.value() for side in sides]
    assert values[0].shape == values[1].shape
    assert values[0].shape[-2:] == case.small
    for value in values:
        assert value.dtype == torch.float32
        assert case.constraint(case.small).residual(value).max() < CLOSE


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("limit", LIMITS, ids=str)
def test_what_a_limit_measures_is_a_number(limit: Limit) -> None:
    assert math.isfinite(limit.measure(limit.small, 0.0))
