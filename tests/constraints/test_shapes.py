"""Whatever the shape is: a constraint either refuses it in words, or keeps its promises."""

import warnings
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paraform.constraints import Constraint
from tests.conftest import SEED
from tests.constraints.sets import CASES, assert_close, assert_inside, value_of

SHAPES = st.lists(st.integers(0, 3), max_size=2).flatmap(
    lambda batch: st.lists(st.integers(0, 5), min_size=0, max_size=2).map(lambda sizes: (*batch, *sizes))
)
MAKERS: dict[str, Callable[..., Constraint]] = {str(case.make()): case.make for case in CASES}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@given(shape=SHAPES, seed=st.integers(0, 99))
def test_a_shape_is_refused_in_words_or_its_values_are_in_the_set(
    make: Callable[..., Constraint], shape: tuple[int, ...], seed: int
) -> None:
    torch.manual_seed(100 * SEED + seed)
    constraint, value = make(), torch.randn(shape, dtype=torch.float64)
    try:
        free = constraint.dof(shape, dtype=torch.float64)
    except ValueError:
        with pytest.raises(ValueError, match=r"expects .*, got .*shape \("):
            constraint.right_inverse(value)
        return
    assert 0 <= free <= value.numel()
    raws = constraint.right_inverse(value)
    start = value_of(constraint, raws)
    assert start.shape == torch.Size(shape)
    assert_inside(constraint, start)
    assert_close(torch.linalg.vector_norm(start - value), constraint.distance)
    projected = constraint.project(value)
    assert_close(constraint.project(projected), projected)
    spanned = [dim % len(shape) for dim in constraint._dims(value)]
    others = [size for dim, size in enumerate(shape) if dim not in spanned]
    assert constraint.residual(value).shape == torch.Size(others)
    raws = tuple(raw + 0.1 * torch.randn_like(raw) for raw in (raws if isinstance(raws, tuple) else (raws,)))
    moved = constraint(*raws)
    assert_inside(constraint, moved)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_close(value_of(constraint, constraint.right_inverse(moved)), moved)
