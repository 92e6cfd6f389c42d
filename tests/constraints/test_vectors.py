"""What is special about sets of vectors: nearest points against theory, laws of samples, edges."""

import numpy as np
import pytest
import torch
from scipy import optimize, stats
from torch import Tensor, nn

from paraform.constraints import Ball, Constraint, Hyperboloid, Ordered, Simplex, UnitNorm
from paraform.parametrize import register_parametrization

EPS = torch.finfo(torch.float64).eps
SETS = pytest.mark.parametrize("kind", [UnitNorm, Simplex, Ordered, Ball, Hyperboloid])


def samples(constraint: Constraint, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return constraint.sample(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


def test_the_sphere_is_sampled_uniformly() -> None:
    first = samples(UnitNorm(), 4000, 3)[:, 0]  # by Archimedes, uniform
    assert stats.kstest((first + 1) / 2, "uniform").pvalue > 1e-3
    square = samples(UnitNorm(0), 5, 4000)[2].square()
    assert stats.kstest(square, stats.beta(0.5, 2).cdf).pvalue > 1e-3
    square = samples(UnitNorm(), 4000, 3, dtype=torch.complex128)[:, 1].abs().square()
    assert stats.kstest(square, stats.beta(1, 2).cdf).pvalue > 1e-3


def test_the_simplex_is_sampled_uniformly() -> None:
    for constraint, shape in ((Simplex(), (4000, 5)), (Simplex(0), (5, 4000))):
        p = samples(constraint, *shape).select(constraint.dim, 3)
        assert stats.kstest(p, stats.beta(1, 4).cdf).pvalue > 1e-3


@pytest.mark.parametrize(("dtype", "power"), [(torch.float64, 3), (torch.complex128, 6)], ids=str)
def test_the_ball_is_sampled_uniformly(dtype: torch.dtype, power: int) -> None:
    x = samples(Ball(2.0), 4000, 3, dtype=dtype)
    assert stats.kstest((x.norm(dim=-1) / 2) ** power, "uniform").pvalue > 1e-3
    real = x[:, 0].real / x.norm(dim=-1)
    assert stats.kstest(real.square(), stats.beta(0.5, (power - 1) / 2).cdf).pvalue > 1e-3


def test_sorted_normals_and_hyperbolic_points_have_their_laws() -> None:
    assert stats.kstest(samples(Ordered(), 4000, 3)[:, -1], lambda x: stats.norm.cdf(x) ** 3).pvalue > 1e-3
    x = samples(Hyperboloid(), 4000, 3)
    assert stats.kstest(x[:, 0].square() - 1, stats.chi2(2).cdf).pvalue > 1e-3


def test_the_nearest_probability_vector_obeys_the_variational_inequality() -> None:
    x = 3 * torch.randn(200, 6, dtype=torch.float64)
    p = Simplex().project(x)
    # <x - p, q - p> <= 0 for every q, hence for every corner: the nearest point of a convex set, and only it.
    inner = ((x - p).unsqueeze(-2) * (torch.eye(6, dtype=torch.float64) - p.unsqueeze(-2))).sum(-1)
    assert inner.max() < 1e-12


@pytest.mark.parametrize(("size", "n"), [(1e30, 5), (1e8, 5), (1.0, 20000), (1e-3, 20000)])
def test_the_nearest_probabilities_sum_to_one_for_huge_and_for_long_vectors(size: float, n: int) -> None:
    for dtype in (torch.float32, torch.float64):
        p = Simplex().project(size * torch.randn(4, n, dtype=dtype))
        torch.testing.assert_close(p.sum(-1), torch.ones(4, dtype=dtype), rtol=0, atol=4 * torch.finfo(dtype).eps)
        assert Simplex().residual(Simplex()(torch.randn(4, n, dtype=dtype))).max() < 4 * torch.finfo(dtype).eps


@pytest.mark.parametrize("n", [1, 2, 7, 1000])
def test_the_nearest_increasing_vector_is_that_of_scipy(n: int) -> None:
    x = torch.randn(4, n, dtype=torch.float64)
    x[0] = torch.arange(n) - n * (torch.arange(n) == n - 1) * 1e3  # blocks that are joined one by one
    expected = [optimize.isotonic_regression(row.numpy()).x for row in x]
    np.testing.assert_allclose(Ordered().project(x).numpy(), expected, rtol=0, atol=1e-10)
    np.testing.assert_allclose(Ordered(0).project(x.T).numpy().T, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("height", [-1e8, -50.0, -1.0, 0.0, 0.3, 1.0, 2.0, 2.001, 30.0, 1e8])
@pytest.mark.parametrize("radius", [0.0, 1e-6, 0.5, 40.0, 1e8])
def test_no_point_of_the_hyperboloid_is_nearer_than_the_projection(height: float, radius: float) -> None:
    x = torch.tensor([height, 0.6 * radius, 0.8 * radius], dtype=torch.float64)
    nearest = Hyperboloid().project(x)
    assert Hyperboloid().residual(nearest) <= 1e-12 * nearest[0]
    along = torch.cat([torch.zeros(1), torch.logspace(-12, 9, 4001)]).double()
    grid = torch.cat([along, (nearest[1:].norm() * (1 + torch.linspace(-0.1, 0.1, 2001))).double()])
    best = torch.hypot(torch.hypot(torch.ones_like(grid), grid) - height, grid - radius).min()
    assert torch.dist(nearest, x) <= best * (1 + 1e-12) + 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_exact_length_of_a_rounded_value_is_below_the_radius(dtype: torch.dtype) -> None:
    for n in (1, 3, 50):
        raw = torch.randn(500, n, dtype=dtype) * torch.logspace(-1, 20, 500, dtype=dtype).unsqueeze(-1)
        x = Ball(0.7)(raw).numpy().astype(np.longdouble)
        assert (np.square(x).sum(-1) < np.square(np.longdouble(torch.tensor(0.7, dtype=dtype).item()))).all()


def test_vectors_up_to_the_edge_of_the_ball_come_back() -> None:
    gaps = torch.cat([torch.logspace(-15, -0.01, 300), torch.tensor([1.0])]).double()
    for dtype in (torch.float32, torch.float64):
        ball = Ball(2.0)
        x = (torch.tensor([1.2, -1.6], dtype=torch.float64) * (1 - gaps).unsqueeze(-1)).to(dtype)
        torch.testing.assert_close(ball(ball.right_inverse(x)), x, rtol=8 * torch.finfo(dtype).eps, atol=0)


def test_the_ball_is_made_by_a_hyperbolic_tangent_to_the_last_digits() -> None:
    lengths = torch.logspace(-6, 1.5, 400, dtype=torch.float64)
    value = Ball(2.0)(lengths.unsqueeze(-1) * torch.tensor([0.6, 0.8], dtype=torch.float64)).norm(dim=-1)
    exact = 2 * np.tanh(lengths.numpy().astype(np.longdouble) / 2)
    np.testing.assert_allclose(value.numpy(), exact.astype(float), rtol=8 * EPS)


@pytest.mark.parametrize("size", [0.0, 1e-9, 0.0099999, 0.0100001])
def test_derivatives_of_the_ball_agree_with_finite_differences_where_its_two_formulas_meet(size: float) -> None:
    raw = (size * torch.tensor([0.6, 0.0, 0.8], dtype=torch.float64)).requires_grad_()
    ball = Ball(1.0)
    assert torch.autograd.gradcheck(ball, raw, eps=1e-4, atol=1e-7)
    assert torch.autograd.gradgradcheck(ball, raw, eps=1e-4, atol=1e-6)
    jacobian = torch.autograd.functional.jacobian(ball, raw)
    torch.testing.assert_close(jacobian, torch.eye(3, dtype=torch.float64), rtol=0, atol=1.1 * size**2 + 8 * EPS)


@SETS
def test_derivatives_at_zero_agree_with_finite_differences(kind: type[Constraint]) -> None:
    raw = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    if kind is UnitNorm:  # which is not continuous there
        (gradient,) = torch.autograd.grad(kind()(raw)[0], raw)
        assert gradient.isfinite().all()
        assert gradient[0] > 0
    else:
        assert torch.autograd.gradcheck(kind(), raw)
        assert torch.autograd.gradgradcheck(kind(), raw)


def test_zeros_and_ties_move_by_less_than_eps() -> None:
    p = torch.tensor([[0.0, 1.0, 0.0], [0.25, 0.25, 0.5]], dtype=torch.float64)
    simplex = Simplex()
    back = simplex(simplex.right_inverse(p))
    assert 0 < back[0].min() < EPS
    assert simplex.distance < EPS
    torch.testing.assert_close(back, p, rtol=0, atol=4 * EPS)
    x = torch.zeros(1000, dtype=torch.float64)
    ordered = Ordered()
    back = ordered(ordered.right_inverse(x))
    assert (back.diff() > 0).all()
    assert back.abs().max() < 1.01 * EPS


def test_one_of_the_nearest_points_is_taken_where_there_are_many() -> None:
    zeros = torch.zeros(4, dtype=torch.float64)
    torch.testing.assert_close(UnitNorm().project(zeros), zeros + 0.5)
    assert UnitNorm()(zeros).norm() == 1  # weight decay may bring a raw vector there
    top = Hyperboloid().project(torch.tensor([10.0, 0.0, 0.0], dtype=torch.float64))
    torch.testing.assert_close(top, torch.tensor([5.0, 12**0.5, 12**0.5], dtype=torch.float64))


@SETS
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_the_vectors_lie_along_the_dimension_that_is_named(kind: type[Constraint], dim: int) -> None:
    value = 2 * torch.randn(3, 4, 5, dtype=torch.float64)
    constraint, last = kind(dim=dim), kind()
    moved = constraint(constraint.right_inverse(value)).movedim(dim, -1)
    torch.testing.assert_close(moved, last(last.right_inverse(value.movedim(dim, -1))))
    torch.testing.assert_close(constraint.residual(value), last.residual(value.movedim(dim, -1)))
    assert constraint.dof((3, 4, 5)) == last.dof(value.movedim(dim, -1).shape)


@SETS
def test_it_trains_with_weight_decay_to_a_target_of_the_set(kind: type[Constraint]) -> None:
    layer = register_parametrization(nn.Linear(4, 3), "weight", kind())
    target = layer.parametrizations.weight[0].sample((3, 4), generator=torch.Generator().manual_seed(2))
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1, weight_decay=1e-3)
    for _ in range(400):
        optimizer.zero_grad()
        (layer.weight - target).square().sum().backward()
        optimizer.step()
    torch.testing.assert_close(layer.weight, target, rtol=0, atol=0.02)


@pytest.mark.parametrize(
    ("error", "words", "mistake"),
    [
        (TypeError, "expects a dimension as an int, got 1.0", lambda: Simplex(1.0)),
        (ValueError, "a tensor with a dimension 1, got shape", lambda: UnitNorm(1).project(torch.ones(3))),
        (ValueError, "a tensor with a dimension -1, got shape", lambda: Ordered().right_inverse(torch.ones(()))),
        (ValueError, "vectors of one entry at least", lambda: UnitNorm().sample((2, 0))),
        (ValueError, "vectors of one entry at least", lambda: Hyperboloid().dof((0,))),
        (ValueError, "expects real numbers", lambda: Simplex().project(torch.ones(2, dtype=torch.complex64))),
        (ValueError, "positive and finite radius, got 0", lambda: Ball(0)),
        (ValueError, "positive and finite radius, got nan", lambda: Ball(torch.nan)),
    ],
)
def test_a_mistake_is_named_in_words(error: type[Exception], words: str, mistake: object) -> None:
    with pytest.raises(error, match=words):
        mistake()
