"""Stable matrices against scipy's solvers and against their own trajectories."""

import pytest
import scipy.linalg
import torch
from torch import Tensor, nn

from paraform import maps
from paraform.constraints import Constraint, Hurwitz, ProjectionWarning, Scaled, Schur, Transposed
from paraform.parametrize import register_parametrization


def on(value: Tensor, constraint: Constraint) -> nn.Module:
    layer = nn.Module()
    layer.weight = nn.Parameter(value.clone())
    return register_parametrization(layer, "weight", constraint)


def trained(layer: nn.Module, target: Tensor, steps: int) -> Tensor:
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.03, weight_decay=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        (layer.weight - target).square().sum().backward()
        optimizer.step()
    return layer.weight.detach()


def stable(n: int, kind: type, dtype: torch.dtype = torch.float64) -> Tensor:
    """A stable matrix of Gaussian entries, at a tenth of its size inside of the edge."""
    A = torch.randn(n, n, dtype=dtype) / n**0.5
    eigenvalues = torch.linalg.eigvals(A)
    if kind is Hurwitz:
        return A - (eigenvalues.real.max() + 0.1) * torch.eye(n, dtype=dtype)
    return 0.9 * A / eigenvalues.abs().max()


@pytest.mark.parametrize("n", [1, 2, 5, 40])
def test_the_lyapunov_equation_is_solved_as_scipy_solves_it(n: int) -> None:
    A = stable(n, Hurwitz)
    expected = scipy.linalg.solve_continuous_lyapunov(A.numpy(), -2 * torch.eye(n, dtype=torch.float64).numpy())
    torch.testing.assert_close(maps.lyapunov(A), torch.from_numpy(expected), rtol=1e-9, atol=1e-10)


def test_the_certificate_of_a_recurrence_solves_scipys_discrete_lyapunov_equation() -> None:
    X, identity = stable(5, Schur), torch.eye(5, dtype=torch.float64)
    P = maps.positive_definite(maps.schur_raw(X))
    G = torch.linalg.solve(identity + X, torch.linalg.solve(identity + X, P).mT)
    expected = scipy.linalg.solve_discrete_lyapunov(X.numpy(), identity.numpy())  # G - X G X^T = I
    torch.testing.assert_close(G, torch.from_numpy(expected), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("kind", [Hurwitz, Schur])
@pytest.mark.parametrize("n", [1, 3, 20, 60])
def test_a_stable_weight_is_kept(kind: type, n: int) -> None:
    A = stable(n, kind)
    layer = on(A, kind())
    assert layer.parametrizations.weight[0].distance == 0
    torch.testing.assert_close(layer.weight.detach(), A, rtol=0, atol=1e-9)
    single = on(A.float(), kind())
    torch.testing.assert_close(single.weight.detach(), A.float(), rtol=0, atol=2e-4)


def test_a_jordan_block_is_kept_although_its_eigenvalues_are_sensitive() -> None:
    A = -torch.eye(6, dtype=torch.float64) + torch.diag(torch.ones(5, dtype=torch.float64), 1)
    torch.testing.assert_close(on(A, Hurwitz()).weight.detach(), A, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", [Hurwitz, Schur])
def test_training_towards_an_unstable_matrix_stays_stable(kind: type) -> None:
    target = 2 * torch.eye(4, dtype=torch.float64) + torch.randn(4, 4, dtype=torch.float64)
    layer = on(torch.randn(4, 4, dtype=torch.float64), kind())
    for _ in range(5):
        eigenvalues = torch.linalg.eigvals(trained(layer, target, 60))
        assert (eigenvalues.real.max() < 0) if kind is Hurwitz else (eigenvalues.abs().max() < 1)


@pytest.mark.parametrize("kind", [Hurwitz, Schur])
def test_every_stable_matrix_is_reached(kind: type) -> None:
    target, start = stable(3, kind), stable(3, kind)
    after = trained(on(start, kind()), target, 1500)
    assert torch.dist(after, target) < 0.2 * torch.dist(start, target)


def test_solutions_decay_at_least_at_the_rate_that_was_asked_for() -> None:
    A = on(3 * torch.randn(5, 5, dtype=torch.float64), Hurwitz(0.7)).weight.detach()
    assert torch.linalg.eigvals(A).real.max() < -0.7
    rates = [torch.linalg.matrix_norm(torch.matrix_exp(t * A), ord=2).log() / t for t in (200.0, 300.0)]
    assert max(rates) < -0.7


def test_the_energy_of_the_certificate_falls_along_every_solution() -> None:
    raw = torch.randn(4, 4, dtype=torch.float64)
    A, H = maps.hurwitz(raw), maps.positive_definite(raw)
    derivative = H @ A + A.T @ H  # of x^T H x
    assert torch.linalg.eigvalsh(derivative).max() < 0


@pytest.mark.parametrize(("kind", "value"), [(Hurwitz, torch.eye(3)), (Schur, 3 * torch.eye(3))])
def test_an_unstable_value_moves_to_a_stable_one_with_a_warning_and_tells_the_distance(
    kind: type, value: Tensor
) -> None:
    layer = on(0.1 * value - 0.5 * torch.eye(3), kind())
    with pytest.warns(ProjectionWarning):
        layer.weight = value
    step = layer.parametrizations.weight[0]
    torch.testing.assert_close(torch.dist(layer.weight.detach(), value), step.distance, rtol=1e-3, atol=0)
    assert step.residual(layer.weight.detach()) == 0


@pytest.mark.parametrize("kind", [Hurwitz, Schur])
def test_a_barely_unstable_matrix_moves_little(kind: type) -> None:
    A = stable(6, kind)
    A = A + 0.11 * torch.eye(6, dtype=torch.float64) if kind is Hurwitz else A / 0.89
    layer = on(A, kind())
    assert layer.parametrizations.weight[0].distance < 0.1 * torch.linalg.matrix_norm(A)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: Hurwitz(float("nan")), "expects a finite decay"),
        (lambda: Schur(0.0), "expects a radius above 0"),
        (lambda: Schur().right_inverse(torch.randn(2, 3)), "expects square matrices"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(wrong: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        wrong()


def test_a_thousand_steps_of_a_trained_recurrence_do_not_explode() -> None:
    A = trained(on(torch.randn(8, 8), Schur()), torch.randn(8, 8), 50)
    x = torch.randn(8)
    for _ in range(1000):
        x = A @ x
    assert x.norm() < 1


@pytest.mark.parametrize("scale", [1e-30, 1e-8, 1e300])
def test_weights_much_smaller_or_larger_than_the_decay_are_certified(scale: float) -> None:
    layer = on(scale * torch.randn(4, 4, dtype=torch.float64), Hurwitz(0.5))
    value = layer.weight.detach().clone()
    assert maps.abscissa(value) < -0.5
    layer.weight = value  # it is in the set, or this warns
    torch.testing.assert_close(layer.weight.detach() / value.abs().max(), value / value.abs().max())


def test_a_weight_that_rounding_leaves_at_the_edge_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match="wider dtype"):
        on(torch.full((1, 1), 2e-7, dtype=torch.float16), Hurwitz())


@pytest.mark.parametrize("make", [lambda: Scaled(Schur()), lambda: Scaled(Transposed(Schur()))])
def test_a_weight_outside_the_disc_is_kept_by_a_trained_factor(make: object) -> None:
    for _ in range(4):
        weight = 2 * torch.randn(6, 6)
        torch.testing.assert_close(on(weight, make()).weight.detach(), weight, rtol=0, atol=1e-2)


@pytest.mark.parametrize("kind", [Hurwitz, Schur])
def test_a_value_that_its_certificate_takes_digits_of_is_told_with_the_distance(kind: type) -> None:
    A = 3 * torch.diag(torch.ones(7), 1)
    A = A - 0.5 * torch.eye(8) if kind is Hurwitz else A
    layer = on(A, kind())
    step = layer.parametrizations.weight[0]
    torch.testing.assert_close(step.distance, torch.dist(layer.weight.detach(), A), rtol=1e-3, atol=1e-5)
    assert step.distance > 1e-3
    layer = on(torch.eye(8) * (-0.5), kind())
    with pytest.warns(ProjectionWarning, match="Frobenius distance"):
        layer.weight = A
    strict = on(torch.eye(8) * (-0.5), kind(strict=True))
    with pytest.raises(ValueError, match="Frobenius distance"):
        strict.weight = A
    assert strict.parametrizations.weight[0].distance == 0
    torch.testing.assert_close(strict.weight.detach(), torch.eye(8) * (-0.5), rtol=0, atol=1e-5)


@pytest.mark.parametrize("wrong", [lambda: Hurwitz("fast"), lambda: Schur(True)])
def test_what_is_no_number_is_refused_in_words(wrong: object) -> None:
    with pytest.raises(TypeError, match="to be a number"):
        wrong()
