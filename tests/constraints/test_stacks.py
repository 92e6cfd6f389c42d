"""One call on a stack of raw tensors gives the stack of what each gives alone: the law behind ``cached(model)``."""

import pytest
import torch
from torch import Tensor

from paraform import parametrize
from paraform.constraints import Constraint, Orthogonal, Skew
from paraform.parametrize import ParametrizationList, batching
from tests.constraints.sets import CASES, CLOSE, FOR_ALL, Case

HALVES = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
REAL = pytest.mark.parametrize("case", [case for case in CASES if not case.dtype.is_complex], ids=str)

# What is evaluated alone, and why.
ALONE = {
    "Circulant": "spreads over a shape that it has noted",
    "Toeplitz": "spreads over a shape that it has noted",
    "Positive": "numbers: bounds broadcast from the back, and one cheap call",
    "GreaterThan": "numbers",
    "LessThan": "numbers",
    "Interval": "numbers",
    "Masked": "a mask broadcasts from the back, and one cheap call",
    "WeightNorm": "a norm over all other dimensions, and one cheap call",
    "from_distribution": "torch's transforms say nothing of stacks",
}


def chains_of(case: Case, dtype: torch.dtype | None = None) -> list[ParametrizationList]:
    """Three equal chains, whose tensors all differ."""
    chains = []
    for _ in range(3):
        layer = case.layer(parametrize).to(dtype)
        chain = layer.parametrizations.weight
        with torch.no_grad():
            for raw in chain.originals():
                raw.copy_(0.9 * raw + 0.01 * torch.randn_like(raw))
        _ = layer.weight, chain()  # a base in another dtype is looked at
        chains.append(chain)
    return chains


def size(x: Tensor) -> float:
    return max(1.0, float(x.detach().abs().max())) if x.numel() else 1.0


def assert_same(together: Tensor, alone: Tensor) -> None:
    """The same but for rounding, relative to the largest entry.

    (In float64 the exponential of one small matrix is off by 1e-11 in torch, and that of a batch is not.)
    """
    assert together.dtype == alone.dtype
    assert together.shape == alone.shape
    assert together.requires_grad == alone.requires_grad
    close = CLOSE.get(alone.dtype, 4 * torch.finfo(alone.dtype).eps)
    torch.testing.assert_close(together, alone, rtol=close, atol=close * size(alone))


def check(chains: list[ParametrizationList]) -> None:
    members = batching.equal_to(chains[0], chains)
    assert [*members] == chains
    together, alone = batching.evaluate(members), [chain() for chain in chains]
    cotangents = [torch.randn_like(value) for value in alone]
    for one, other in zip(together, alone, strict=True):
        assert_same(one, other)
        assert not one._is_view()
    raws = [raw for chain in chains for raw in chain.originals()]
    both = [torch.autograd.grad(values, raws, cotangents, allow_unused=True) for values in (together, alone)]
    for one, other in zip(*both, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            assert_same(one, other)


@FOR_ALL
def test_a_stack_gives_what_each_gives_alone(case: Case) -> None:
    chains = chains_of(case)
    if chains[0][0].stack_key() is None:
        assert any(name in str(case) for name in ALONE)
    else:
        check(chains)


@REAL
@HALVES
def test_it_does_in_half_precision(case: Case, dtype: torch.dtype) -> None:
    chains = chains_of(case, dtype)
    if chains[0][0].stack_key() is not None:
        check(chains)


def test_what_differs_in_any_setting_has_another_key() -> None:
    keys = [
        Orthogonal(*arguments, **options)
        for arguments in [(), ("cayley",), ("matrix_exp",)]
        for options in [{}, {"special": True}, {"slices": True}]
    ]
    for constraint in keys:
        constraint.right_inverse(torch.eye(3))
    found = [constraint.stack_key() for constraint in keys]
    assert None not in found
    assert all(found.count(key) == 1 for key in found)


def test_a_subclass_is_evaluated_alone_until_it_says_otherwise() -> None:
    class Shifted(Skew):
        def forward(self, raw: Tensor) -> Tensor:
            return super().forward(raw) + float(raw.sum())

    class Doubled(Skew):
        stacks = True

        def forward(self, raw: Tensor) -> Tensor:
            return 2 * super().forward(raw)

    assert Skew().stack_key() is not None
    assert Shifted().stack_key() is None
    assert Doubled().stack_key() == Doubled().stack_key() != Skew().stack_key()


@pytest.mark.parametrize("value", [torch.zeros(2), lambda raw: raw, object()], ids=["tensor", "function", "object"])
def test_a_constraint_that_holds_what_cannot_be_compared_is_evaluated_alone(value: object) -> None:
    constraint: Constraint = Skew()
    constraint.extra = value
    assert constraint.stack_key() is None
    constraint.extra = 3
    assert constraint.stack_key() is not None
