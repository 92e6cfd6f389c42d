"""Matrices of positive determinant and of determinant 1: nearest points, training, and conditioning."""

import pytest
import torch
from torch import Tensor, nn

from paraform.constraints import Constraint, Invertible, ProjectionWarning, SpecialLinear
from paraform.parametrize import register_parametrization


def on(value: Tensor, constraint: Constraint) -> nn.Module:
    layer = nn.Module()
    layer.weight = nn.Parameter(value.clone())
    return register_parametrization(layer, "weight", constraint)


def trained(layer: nn.Module, target: Tensor, steps: int = 100) -> Tensor:
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.05, weight_decay=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        (layer.weight - target).square().sum().backward()
        optimizer.step()
    return layer.weight.detach()


def test_a_negative_determinant_moves_by_the_smallest_singular_value_with_a_warning() -> None:
    layer = on(torch.eye(2), Invertible())
    value = torch.diag(torch.tensor([2.0, -0.25]))
    with pytest.warns(ProjectionWarning):
        layer.weight = value
    moved = layer.weight.detach()
    assert torch.linalg.det(moved) > 0
    torch.testing.assert_close(torch.dist(moved, value), torch.tensor(0.25), rtol=0, atol=2e-3)


def test_a_matrix_of_positive_determinant_is_kept_to_the_bit() -> None:
    value = torch.tensor([[1.0, 5.0], [-2.0, 1e-3]])
    assert torch.equal(on(value, Invertible()).weight, value)


def test_training_towards_a_negative_determinant_stops_before_zero() -> None:
    target = torch.diag(torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64))
    layer = on(torch.eye(3, dtype=torch.float64), Invertible())
    for _ in range(5):
        after = trained(layer, target)
        assert torch.linalg.det(after) > 0
    assert torch.linalg.det(after) < 0.1


def test_every_matrix_of_positive_determinant_is_reached() -> None:
    target = Invertible().sample((3, 3), dtype=torch.float64)
    after = trained(on(torch.eye(3, dtype=torch.float64), Invertible()), target, 1500)
    assert torch.dist(after, target) < 0.02 * torch.linalg.matrix_norm(target)


@pytest.mark.parametrize("value", [torch.zeros(3, 3), torch.ones(3, 3), torch.full((2, 2), 1e30)])
def test_a_singular_matrix_becomes_a_regular_one_near_it(value: Tensor) -> None:
    moved = on(value, Invertible()).weight.detach()
    assert torch.linalg.det(moved / moved.abs().max()) > 0
    assert torch.dist(moved.double(), value.double()) <= 3e-3 * value.abs().max().clamp_min(1)


@pytest.mark.parametrize("shift", [(3.0, 2.0), (0.5, 0.1), (10.0, 10.0), (-2.0, 0.5)])
def test_the_nearest_matrix_of_determinant_one_is_that_of_a_search(shift: tuple[float, float]) -> None:
    value = torch.diag(torch.tensor(shift, dtype=torch.float64))
    nearest = torch.dist(SpecialLinear().project(value), value)
    angles = torch.linspace(0, 2 * torch.pi, 91, dtype=torch.float64)
    stretches = torch.linspace(-4, 4, 401, dtype=torch.float64).exp()
    one, other, s = torch.meshgrid(angles, angles, stretches, indexing="ij")
    # All of them: rotation, diag(s, 1/s), rotation.
    c, d = torch.cos(one), torch.sin(one)
    e, f = torch.cos(other), torch.sin(other)
    entries = (c * s * e - d / s * f, -c * s * f - d / s * e, d * s * e + c / s * f, -d * s * f + c / s * e)
    distances = sum((entry - v).square() for entry, v in zip(entries, value.flatten(), strict=True)).sqrt()
    assert distances.min() >= nearest - 1e-9
    assert distances.min() <= nearest + 0.05 * value.abs().max()


def test_a_trained_special_linear_matrix_keeps_its_determinant_and_reaches_a_target() -> None:
    target = SpecialLinear().sample((3, 3), dtype=torch.float64)
    after = trained(on(torch.randn(3, 3, dtype=torch.float64), SpecialLinear()), target, 1500)
    torch.testing.assert_close(torch.linalg.det(after), torch.ones((), dtype=torch.float64))
    assert torch.dist(after, target) < 0.05 * torch.linalg.matrix_norm(target)


def test_in_single_precision_determinants_stay_one_over_many_steps() -> None:
    layer = on(torch.randn(4, 4), SpecialLinear())
    after = trained(layer, torch.randn(4, 4), 300)
    torch.testing.assert_close(torch.linalg.det(after.double()), torch.ones((), dtype=torch.float64), rtol=0, atol=1e-5)


def test_the_logarithm_of_the_determinant_grows_by_the_trace_of_the_raw_tensor() -> None:
    layer = on(Invertible().sample((3, 3), dtype=torch.float64), Invertible())
    before = torch.linalg.slogdet(layer.weight.detach()).logabsdet
    raw = layer.parametrizations.weight.original
    with torch.no_grad():
        raw.normal_()
    torch.testing.assert_close(torch.linalg.slogdet(layer.weight.detach()).logabsdet, before + raw.detach().trace())


def test_an_empty_matrix_has_no_determinant_of_one() -> None:
    with pytest.raises(ValueError, match="expects matrices with rows"):
        SpecialLinear().right_inverse(torch.zeros(0, 0))


def test_samples_of_invertible_matrices_are_gaussian_and_of_positive_determinant() -> None:
    drawn = Invertible().sample((4000, 2, 2), dtype=torch.float64)
    assert (torch.linalg.det(drawn) > 0).all()
    torch.testing.assert_close(drawn.mean(0), torch.zeros(2, 2, dtype=torch.float64), rtol=0, atol=0.08)
    torch.testing.assert_close(drawn.square().mean(0), torch.ones(2, 2, dtype=torch.float64), rtol=0, atol=0.12)


@pytest.mark.parametrize("value", [torch.zeros(3, 3), torch.ones(3, 3), torch.zeros(1, 1)])
def test_a_singular_weight_does_not_count_as_one_of_determinant_1(value: Tensor) -> None:
    layer = on(value, SpecialLinear())
    assert layer.parametrizations.weight[0].distance > 0.5
    torch.testing.assert_close(torch.linalg.det(layer.weight), torch.tensor(1.0))


def test_determinants_of_large_matrices_of_small_entries_are_not_lost_to_underflow() -> None:
    x = torch.randn(300, 300) / 1000
    x[0] *= -torch.linalg.slogdet(x).sign
    assert Invertible().residual(x) > 0
    assert torch.linalg.slogdet(on(x, Invertible()).weight).sign == 1
    assert torch.linalg.slogdet(Invertible().sample((4, 300, 300))).sign.tolist() == [1, 1, 1, 1]
    assert SpecialLinear().residual(on(x, SpecialLinear()).weight) < 1e-3
