"""What is special about matrices of low rank, of a given rank, and updates of low rank."""

import warnings

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import paraform as pf
from paraform.constraints import (
    Constraint,
    ConstraintError,
    FixedRank,
    LowRank,
    LowRankUpdate,
    Orthogonal,
    ProjectionWarning,
    Symmetric,
)
from paraform.parametrize import plain_state_dict, register_parametrization, remove_parametrizations

DOUBLE = torch.float64


def linear(value: Tensor) -> nn.Linear:
    layer = nn.Linear(value.shape[1], value.shape[0], bias=False, dtype=value.dtype)
    layer.weight.data.copy_(value)
    return layer


def of_rank(rank: int, m: int = 6, n: int = 5, dtype: torch.dtype = DOUBLE) -> Tensor:
    return torch.randn(m, rank, dtype=dtype) @ torch.randn(rank, n, dtype=dtype)


def trained(layer: nn.Module, target: Tensor, optimizer: torch.optim.Optimizer, steps: int) -> Tensor:
    for _ in range(steps):
        optimizer.zero_grad()
        (layer.weight - target).square().sum().backward()
        optimizer.step()
    return layer.weight.detach()


# Low rank


@pytest.mark.parametrize("make", [LowRank, FixedRank])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_the_nearest_point_is_the_truncated_singular_value_decomposition(
    make: type[Constraint], dtype: torch.dtype
) -> None:
    value = torch.randn(6, 4, dtype=dtype)
    U, S, Vh = np.linalg.svd(value.numpy(), full_matrices=False)
    np.testing.assert_allclose(make(2).project(value), (U[:, :2] * S[:2]) @ Vh[:2], atol=1e-12)
    assert float(make(2).residual(value)) == pytest.approx(np.linalg.norm(S[2:]), abs=1e-12)


def test_the_factors_of_a_value_are_balanced() -> None:
    left, right = LowRank(3).right_inverse(of_rank(3))
    torch.testing.assert_close(left.T @ left, right @ right.T)


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("make", [LowRank, FixedRank])
def test_zeros_and_matrices_of_smaller_rank_can_grow(rank: int, make: type[Constraint]) -> None:
    start, target = of_rank(rank), LowRank(3).project(2 * Orthogonal().sample((6, 5), dtype=DOUBLE))
    layer = register_parametrization(linear(start), "weight", make(3))
    torch.testing.assert_close(layer.weight.detach(), start, rtol=0, atol=1e-13)
    value = trained(layer, target, torch.optim.SGD(layer.parameters(), lr=0.02), 3000)
    torch.testing.assert_close(value, target, rtol=0, atol=1e-3)


@pytest.mark.parametrize("make", [LowRank, LowRankUpdate])
@pytest.mark.parametrize("start", [torch.zeros(3, 5), torch.diag(torch.ones(5))[:3] * torch.tensor([1, 0, 0, 0, 0])])
def test_zeros_grow_where_only_one_feature_ever_occurs(make: type[Constraint], start: Tensor) -> None:
    for feature in range(5):
        layer = register_parametrization(linear(start), "weight", make(2))
        layer(torch.eye(5)[feature]).sum().backward()
        gradient = layer.parametrizations.weight.original0.grad
        assert (gradient[:, -1] != 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_zeros_stay_zeros_to_the_bit_until_they_are_trained(dtype: torch.dtype) -> None:
    layer = register_parametrization(linear(torch.zeros(4, 3, dtype=dtype)), "weight", LowRank(2))
    assert layer.weight.count_nonzero() == 0
    layer.weight.sum().backward()
    # The other factor is as long as that of a weight of norm 1, not as long as rounding.
    length = torch.linalg.vector_norm(layer.parametrizations.weight.original1.detach(), dim=-1)
    torch.testing.assert_close(length, torch.ones(2, dtype=dtype), rtol=1e-2, atol=0)


@pytest.mark.parametrize("shape", [(6, 2), (2, 6), (1, 1), (3, 0)])
def test_a_rank_above_the_sides_allows_all_matrices(shape: tuple[int, int]) -> None:
    value = torch.randn(shape, dtype=DOUBLE)
    for constraint in (LowRank(9, strict=True), LowRankUpdate(9, strict=True)):
        constraint.right_inverse(torch.zeros(shape, dtype=DOUBLE))
        factors = constraint.right_inverse(value)
        assert factors[0].shape[-1] == min(shape)
        torch.testing.assert_close(constraint(*factors), value)
        assert constraint.dof(shape) == value.numel()


def test_decay_of_the_factors_lowers_the_sum_of_the_singular_values() -> None:
    # (|U|^2 + |V|^2) / 2 has the nuclear norm as its least value: the minimum soft-thresholds the singular values.
    target = torch.diag(torch.tensor([3.0, 2.0, 0.5], dtype=DOUBLE))
    layer = register_parametrization(linear(target), "weight", LowRank(3))
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.05, weight_decay=2.0)
    value = trained(layer, target, optimizer, 3000)
    torch.testing.assert_close(value, torch.diag(torch.tensor([2.0, 1.0, 0.0], dtype=DOUBLE)), rtol=0, atol=1e-2)


def test_samples_of_low_rank_have_the_law_that_is_stated() -> None:
    # Given the first factor, the square of an entry is a chi-square: so E x^2 = 1 and E x^4 = 3 (1 + 2 / r).
    x = LowRank(2).sample((20000, 3, 2), generator=torch.Generator().manual_seed(0), dtype=DOUBLE)[:, 0, 1]
    assert float(x.square().mean()) == pytest.approx(1, abs=0.05)
    # A sum of r products of normal numbers over sqrt(r) is, for r = 2, a Laplace variable of scale 1 / sqrt(2).
    assert scipy.stats.kstest(x, scipy.stats.laplace(scale=0.5**0.5).cdf).pvalue > 1e-3


class Large(TorchDispatchMode):
    """Counts the tensors made that are as large as the value."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size, self.storages = size, {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and tensor.numel() >= self.size:
                self.storages[tensor.untyped_storage()._cdata] = tensor
        return result


@pytest.mark.parametrize("make", [LowRank, FixedRank])
def test_nothing_but_the_value_is_as_large_as_the_value(make: type[Constraint]) -> None:
    constraint = make(2)
    raws = constraint.right_inverse(of_rank(2, 60, 50))
    with torch.no_grad(), Large(60 * 50) as seen:
        constraint(*raws)
    assert len(seen.storages) == 1


# A given rank

FACTORS = {
    "zeros": (torch.zeros(5, 2), torch.zeros(2, 4)),
    "a column of zeros": (torch.tensor([[1.0, 0.0]] * 5), torch.randn(2, 4)),
    "parallel columns": (torch.tensor([[1.0, 2.0]] * 5), torch.tensor([[1.0] * 4, [-3.0] * 4])),
    "a product that vanishes": (torch.tensor([[1.0, 1.0]] * 5), torch.tensor([[1.0] * 4, [-1.0] * 4])),
    "one factor of zeros": (torch.zeros(5, 2), torch.randn(2, 4)),
    "nearly of rank one": (torch.tensor([[1.0, 1.0]] * 4 + [[1.0, 1 + 1e-7]]), torch.randn(2, 4)),
    "tiny": (torch.full((5, 2), 1e-30), torch.full((2, 4), 1e-30)),
    "huge": (torch.full((5, 2), 1e15), torch.full((2, 4), 1e15)),
}


@pytest.mark.parametrize("factors", FACTORS.values(), ids=FACTORS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64])
def test_the_rank_is_exact_whatever_the_factors_are(factors: tuple[Tensor, Tensor], dtype: torch.dtype) -> None:
    factors = tuple(factor.to(dtype).requires_grad_() for factor in factors)
    value = FixedRank(2)(*factors)
    S = torch.linalg.svdvals(value.detach().to(torch.complex128))
    eps, scale = torch.finfo(dtype).eps, float(S[0])
    assert S[1] > max(2 * eps * scale, 0.9 * torch.finfo(dtype).smallest_normal)
    # The product is rounded as a product is: relative to the factors.
    size = float(torch.linalg.matrix_norm(factors[0].detach()) * torch.linalg.matrix_norm(factors[1].detach()))
    assert S[2] < 2 * eps * max(scale, size)
    for gradient in torch.autograd.grad(value.real.sum(), factors):
        assert torch.isfinite(torch.view_as_real(gradient) if gradient.is_complex() else gradient).all()


def test_decay_down_to_zeros_keeps_the_rank() -> None:
    layer = register_parametrization(nn.Linear(4, 5), "weight", FixedRank(2))
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.5, weight_decay=1.0)
    for _ in range(300):
        optimizer.zero_grad()
        (0 * layer.weight.sum()).backward()
        optimizer.step()
    assert torch.linalg.matrix_rank(layer.weight.double(), rtol=1e-3) == 2


def test_a_value_at_the_floor_is_taken_back_without_a_warning() -> None:
    constraint = FixedRank(2, strict=True)
    constraint.right_inverse(constraint.sample((5, 4)))
    for name in ("a column of zeros", "parallel columns", "nearly of rank one"):
        value = constraint(*FACTORS[name])
        torch.testing.assert_close(constraint(*constraint.right_inverse(value)), value)


def test_a_smaller_rank_is_outside_the_matrices_of_given_rank() -> None:
    constraint = FixedRank(2, strict=True)
    constraint.right_inverse(of_rank(2))
    for outside in (of_rank(1), of_rank(3), torch.zeros(6, 5, dtype=DOUBLE)):
        with pytest.raises(ConstraintError):
            constraint.right_inverse(outside)


def test_matrices_too_small_for_their_rank_are_refused() -> None:
    for shape in ((1, 5), (5, 1), (0, 0)):
        with pytest.raises(ValueError, match="2 rows and columns at least, got shape"):
            FixedRank(2).right_inverse(torch.zeros(shape))


def test_ranks_that_are_none_and_places_with_one_raw_tensor_are_refused() -> None:
    for make in (LowRank, FixedRank, LowRankUpdate):
        with pytest.raises(ValueError, match=f"{make.__name__} expects a rank of 1 at least, got -1"):
            make(-1)
        with pytest.raises(TypeError, match=f"{make.__name__} expects a rank as an int, got 2.0"):
            make(2.0)
        layer = register_parametrization(nn.Linear(3, 3), "weight", Symmetric())
        with pytest.raises(RuntimeError, match="cannot stand behind another parametrization"):
            register_parametrization(layer, "weight", make(1))
        with pytest.raises(ValueError, match="expects matrices"):
            make(1).right_inverse(torch.zeros(3))


# Updates


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64])
@pytest.mark.parametrize("size", [0.0, 1.0, 1e30])
def test_the_update_starts_at_the_weight_to_the_bit_and_only_the_left_factor_has_a_gradient(
    dtype: torch.dtype, size: float
) -> None:
    weight = (size * torch.randn(4, 3)).to(dtype)
    layer = register_parametrization(linear(weight), "weight", LowRankUpdate(2))
    chain = layer.parametrizations.weight
    assert torch.equal(layer.weight, weight)
    assert (chain[0].distance, chain.moved) == (0, 0)
    layer.weight.real.sum().backward()
    assert chain.original0.grad.count_nonzero() == 8
    assert chain.original1.grad.count_nonzero() == 0
    assert [name for name, _ in layer.named_parameters()] == [
        "parametrizations.weight.original0",
        "parametrizations.weight.original1",
    ]


def test_the_update_is_that_of_lora() -> None:
    W, x, target = torch.randn(6, 5), torch.randn(8, 5), torch.randn(8, 6)
    layer = register_parametrization(linear(W), "weight", LowRankUpdate(2, scale=4.0))
    chain = layer.parametrizations.weight
    A, B = nn.Parameter(chain.original1.detach().clone()), nn.Parameter(torch.zeros(6, 2))
    ours, theirs = torch.optim.AdamW(layer.parameters(), lr=0.1), torch.optim.AdamW([B, A], lr=0.1)
    for _ in range(5):
        for optimizer, output in ((ours, layer(x)), (theirs, x @ W.T + 4.0 * (x @ A.T) @ B.T)):
            optimizer.zero_grad()
            (output - target).square().mean().backward()
            optimizer.step()
    torch.testing.assert_close(layer.weight, W + 4.0 * B @ A, rtol=1e-4, atol=1e-4)
    assert torch.equal(chain[0].base, W)


def test_the_right_factor_starts_with_normal_entries_of_variance_one_over_n() -> None:
    _, A = LowRankUpdate(20).right_inverse(torch.zeros(50, 400, dtype=DOUBLE))
    assert scipy.stats.kstest(A.flatten(), scipy.stats.norm(scale=1 / 20).cdf).pvalue > 1e-3


@pytest.mark.parametrize("scale", [1.0, -0.5, 16.0])
def test_an_assigned_value_keeps_the_frozen_weight_and_takes_the_nearest_update(scale: float) -> None:
    W, value = torch.randn(6, 5, dtype=DOUBLE), torch.randn(6, 5, dtype=DOUBLE)
    layer = register_parametrization(linear(W), "weight", LowRankUpdate(2, scale))
    with pytest.warns(ProjectionWarning):
        layer.weight = value
    U, S, Vh = torch.linalg.svd(value - W)
    torch.testing.assert_close(layer.weight, W + (U[:, :2] * S[:2]) @ Vh[:2])
    torch.testing.assert_close(layer.parametrizations.weight[0].distance, torch.linalg.vector_norm(S[2:]))
    inside = W + of_rank(2)
    layer.weight = inside  # a warning is an error here
    torch.testing.assert_close(layer.weight, inside)
    assert torch.equal(layer.parametrizations.weight[0].base, W)


def test_directions_that_an_assigned_value_has_no_use_for_can_grow() -> None:
    W = torch.randn(6, 5, dtype=DOUBLE)
    layer = register_parametrization(linear(W), "weight", LowRankUpdate(2))
    for start in (W, W + of_rank(1)):
        layer.weight = start
        torch.testing.assert_close(layer.weight, start)
        target = W + LowRank(2).project(2 * Orthogonal().sample((6, 5), dtype=DOUBLE))
        value = trained(layer, target, torch.optim.Adam(layer.parameters(), lr=0.02), 2000)
        torch.testing.assert_close(value, target, rtol=0, atol=5e-2)


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_plain_weight_that_is_loaded_is_the_new_frozen_weight(assign: bool, dtype: torch.dtype) -> None:
    layer = register_parametrization(nn.Linear(5, 6), "weight", LowRankUpdate(2, strict=True)).to(dtype)
    with torch.no_grad():
        layer.parametrizations.weight.original0.normal_()
    pretrained = nn.Linear(5, 6).to(dtype)
    layer.load_state_dict(pretrained.state_dict(), assign=assign)  # a warning is an error here
    assert torch.equal(layer.weight, pretrained.weight)
    assert torch.equal(layer.parametrizations.weight[0].base, pretrained.weight)
    assert layer.parametrizations.weight.original0.count_nonzero() == 0
    with pytest.raises(ConstraintError):  # an assignment after the load keeps the new one
        layer.weight = torch.randn(6, 5, dtype=dtype)


def test_what_was_tuned_is_loaded_by_its_own_state_by_its_factors_or_merged() -> None:
    pretrained = nn.Linear(5, 6)

    def fresh() -> nn.Linear:
        layer = nn.Linear(5, 6)
        layer.load_state_dict(pretrained.state_dict())
        return register_parametrization(layer, "weight", LowRankUpdate(2))

    layer = fresh()
    trained(layer, torch.randn(6, 5), torch.optim.Adam(layer.parameters(), lr=0.1), 3)
    state = layer.state_dict()
    assert "parametrizations.weight.0.base" in state
    factors = {name: tensor for name, tensor in state.items() if "original" in name}
    for loaded, strict in ((state, True), (factors, False), (plain_state_dict(layer), True)):
        other = fresh()
        other.load_state_dict(loaded, strict=strict)
        assert torch.equal(other.weight, layer.weight)


def test_a_refused_load_leaves_the_frozen_weight_as_it_is() -> None:
    layer = register_parametrization(nn.Linear(5, 6), "weight", LowRankUpdate(2))
    before = layer.weight.detach().clone()
    with pytest.raises(RuntimeError, match=r"Expected a value of shape \(6, 5\), got \(2, 2\)"):
        layer.load_state_dict({"weight": torch.zeros(2, 2), "bias": torch.zeros(6)})
    assert torch.equal(layer.weight, before)
    with pytest.warns(ProjectionWarning):
        layer.weight = torch.randn(6, 5)
    assert torch.equal(layer.parametrizations.weight[0].base, before)


def test_removing_merges_the_update() -> None:
    layer = register_parametrization(nn.Linear(5, 6), "weight", LowRankUpdate(2))
    value = trained(layer, torch.randn(6, 5), torch.optim.Adam(layer.parameters(), lr=0.1), 3)
    remove_parametrizations(layer, "weight")
    assert type(layer) is nn.Linear
    assert isinstance(layer.weight, nn.Parameter)
    assert torch.equal(layer.weight, value)


def test_decay_draws_to_the_frozen_weight_and_is_meant_for_the_factors() -> None:
    W = torch.randn(6, 5)
    layer = register_parametrization(linear(W), "weight", LowRankUpdate(2))
    layer.weight = W + of_rank(2, dtype=torch.float32)
    decayed, rest = pf.param_groups(layer, weight_decay=1.0)
    assert (len(decayed["params"]), len(rest["params"])) == (2, 0)
    optimizer = torch.optim.SGD([decayed], lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        (0 * layer.weight.sum()).backward()
        optimizer.step()
    torch.testing.assert_close(layer.weight.detach(), W)


def test_a_layer_emptied_into_memory_takes_its_next_weight_as_the_frozen_one() -> None:
    with torch.device("meta"):
        layer = register_parametrization(nn.Linear(4, 6), "weight", LowRankUpdate(2))
    layer.to_empty(device="cpu")
    for tensor in layer.state_dict().values():
        tensor.fill_(torch.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer.reset_parameters()
    assert torch.equal(layer.weight, layer.parametrizations.weight[0].base)
    assert torch.isfinite(layer.weight).all()


def test_scales_that_are_none_are_refused() -> None:
    for scale in (0.0, torch.inf, torch.nan):
        with pytest.raises(ValueError, match="a finite scale that is not zero"):
            LowRankUpdate(2, scale)
    with pytest.raises(RuntimeError, match="has no base yet"):
        LowRankUpdate(2)(torch.zeros(3, 2), torch.zeros(2, 3))
