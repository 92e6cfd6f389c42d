"""What is special about doubly stochastic matrices: any raw tensor, the nearest point, Sinkhorn's limit, training."""

import numpy as np
import pytest
import torch
from scipy import optimize, stats
from torch import Tensor, nn

from paraform.constraints import DoublyStochastic
from paraform.parametrize import register_parametrization
from tests.constraints.sets import CLOSE

EPS = torch.finfo(torch.float64).eps


def raws(dtype: torch.dtype) -> list[Tensor]:
    """Raw tensors at which 20 rounds of Sinkhorn's iteration converge, and others at which they do not."""
    sizes = [0.0, 1e-30, 1.0, 3.0, 10.0, 100.0, 1e4, 1e30]
    raws = [size * torch.randn(4, n, n, dtype=dtype) for size in sizes for n in (1, 2, 5, 40)]
    contested = torch.zeros(6, 6, dtype=dtype)  # three rows want the first column, three share five others
    contested[:3, 1:], contested[3:, 0] = -1000, -1000
    corner = torch.log(torch.eye(5, dtype=dtype) + torch.finfo(dtype).tiny)
    return [*raws, contested, corner, -corner, 40 * torch.eye(5, dtype=dtype).flip(0) + 39 * torch.eye(5, dtype=dtype)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_every_raw_tensor_gives_a_point_of_the_set_and_finite_derivatives(dtype: torch.dtype) -> None:
    for raw in raws(dtype):
        raw.requires_grad_()
        P = DoublyStochastic()(raw)
        assert torch.all(P >= 0)
        for dim in (-2, -1):
            assert torch.all((P.sum(dim) - 1).abs() < CLOSE[dtype])
        (first,) = torch.autograd.grad((P * torch.randn_like(P)).sum(), raw, create_graph=True)
        (second,) = torch.autograd.grad((first * torch.randn_like(P)).sum(), raw, allow_unused=True)
        assert first.isfinite().all()
        assert second is None or second.isfinite().all()


def test_the_limit_of_sinkhorns_iteration_is_reached_where_it_converges_in_time() -> None:
    raw = 0.5 * torch.randn(20, 6, 6, dtype=torch.float64)
    P = raw.numpy().astype(np.longdouble)
    P = np.exp(P)
    for _ in range(2000):
        P /= P.sum(-1, keepdims=True)
        P /= P.sum(-2, keepdims=True)
    np.testing.assert_allclose(DoublyStochastic()(raw).numpy(), P.astype(float), rtol=1e-9)


@pytest.mark.parametrize("size", [3.0, 10.0])
def test_derivatives_are_right_where_the_iteration_has_not_converged(size: float) -> None:
    raw = (size * torch.randn(4, 4, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(DoublyStochastic(), raw)
    assert torch.autograd.gradgradcheck(DoublyStochastic(), raw)


def test_derivatives_are_right_at_a_point_of_the_set_from_which_the_iteration_is_slow() -> None:
    blocks = torch.block_diag(torch.full((2, 2), 0.5), torch.full((2, 2), 0.5)).double()
    P = 0.98 * blocks + 0.02 / 4  # rows know of the other block by one part in 50
    raw = DoublyStochastic().right_inverse(P).requires_grad_()
    assert torch.autograd.gradcheck(DoublyStochastic(), raw)
    assert torch.autograd.gradgradcheck(DoublyStochastic(), raw)
    jacobian = torch.autograd.functional.jacobian(DoublyStochastic(), raw)
    assert jacobian.sum(0).abs().max() < 1e-14
    assert jacobian.sum(1).abs().max() < 1e-14


def test_numbers_added_to_rows_and_columns_change_nothing() -> None:
    raw = 0.3 * torch.randn(5, 5, dtype=torch.float64)
    shifted = raw + 100 * torch.randn(5, 1, dtype=torch.float64) + 100 * torch.randn(1, 5, dtype=torch.float64)
    torch.testing.assert_close(DoublyStochastic()(shifted), DoublyStochastic()(raw), rtol=1e-10, atol=0)


@pytest.mark.parametrize("n", [2, 3, 8, 30])
@pytest.mark.parametrize("size", [0.01, 1.0, 30.0, 1e4])
def test_the_nearest_point_obeys_the_variational_inequality(n: int, size: float) -> None:
    whole = size * torch.randint(-2, 3, (n, n)).double()
    for x in (size * torch.randn(n, n, dtype=torch.float64), whole, size * torch.randn(n, 1).double() * torch.randn(n)):
        P = DoublyStochastic().project(x)
        assert DoublyStochastic().residual(P) < 1e-13
        # <X - P, Q - P> <= 0 for every Q of the set: it is enough to look at the best corner, an assignment.
        rows, columns = optimize.linear_sum_assignment((x - P).numpy(), maximize=True)
        gap = (x - P)[rows, columns].sum() - ((x - P) * P).sum()
        assert gap <= 1e-14 * n**2 * max(1.0, size) ** 2  # sums of the size of X are rounded


def test_the_nearest_points_of_a_batch_and_of_huge_matrices_are_found() -> None:
    x = torch.stack([torch.eye(3), 1e30 * torch.randn(3, 3), torch.zeros(3, 3), torch.full((3, 3), torch.nan)]).double()
    P = DoublyStochastic().project(x)
    torch.testing.assert_close(P[0], x[0])
    torch.testing.assert_close(P[2], torch.full((3, 3), 1 / 3, dtype=torch.float64))
    assert P[3].isnan().all()
    rows, columns = optimize.linear_sum_assignment(x[1].numpy(), maximize=True)
    assert torch.all(P[1][rows, columns] > 1 - 1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_no_entry_of_a_projection_is_so_small_that_it_could_not_train(dtype: torch.dtype) -> None:
    for size in (0.3, 3.0, 1000.0):
        assert (
            DoublyStochastic().project(size * torch.randn(20, 16, 16, dtype=dtype)).min() > torch.finfo(dtype).eps / 32
        )


def test_a_permutation_matrix_comes_back_to_within_eps() -> None:
    value = torch.eye(6, dtype=torch.float64)[torch.randperm(6)]
    constraint = DoublyStochastic()
    back = constraint(constraint.right_inverse(value))
    assert 0 < back.min() < EPS
    assert constraint.distance < 1.1 * EPS * 6**0.5
    torch.testing.assert_close(back, value, rtol=0, atol=1e-14)


def test_samples_of_two_by_two_matrices_have_a_law_in_closed_form() -> None:
    P = DoublyStochastic().sample((4000, 2, 2), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    # P is (q, 1-q; 1-q, q) with q / (1-q) = sqrt(E1 E4 / (E2 E3)): a ratio E1/E2 is that of a uniform U to 1 - U.
    uniform = np.random.default_rng(0).uniform(size=(100_000, 2))
    root = np.sqrt((uniform / (1 - uniform)).prod(-1))
    assert stats.ks_2samp(P[:, 0, 0].numpy(), root / (1 + root)).pvalue > 1e-3
    assert stats.kstest(P[:, 0, 0].numpy(), lambda q: cdf(2 * np.log(q / (1 - q)))).pvalue > 1e-3


def cdf(t: np.ndarray) -> np.ndarray:
    """That of the sum of two independent logistic numbers: ``1 / (1 - s) + s t / (1 - s)^2`` with ``s = exp(-t)``."""
    s = np.exp(-t)
    return 1 / (1 - s) - s * t / (1 - s) ** 2


def test_it_learns_a_permutation_and_weight_decay_keeps_it_in_the_set() -> None:
    layer = register_parametrization(nn.Linear(5, 5), "weight", DoublyStochastic())
    target = torch.eye(5)[torch.tensor([2, 0, 4, 1, 3])]
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.3, weight_decay=0.01)
    for _ in range(300):
        optimizer.zero_grad()
        (layer.weight - target).square().sum().backward()
        optimizer.step()
        assert layer.parametrizations.weight[0].residual(layer.weight.detach()) < 1e-5
    assert torch.equal(layer.weight.argmax(-1), target.argmax(-1))
    torch.testing.assert_close(layer.weight, target, rtol=0, atol=0.05)


def test_complex_and_rectangular_matrices_are_refused() -> None:
    with pytest.raises(ValueError, match="expects real numbers"):
        DoublyStochastic().right_inverse(torch.eye(2, dtype=torch.complex64))
    with pytest.raises(ValueError, match="expects square matrices"):
        DoublyStochastic().residual(torch.ones(2, 3))
