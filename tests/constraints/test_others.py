"""What is special about the other constraints: weight norm, spectral norm, masks, definiteness, and their base."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from paraform.constraints import (
    Constraint,
    ConstraintError,
    Masked,
    Orthogonal,
    PositiveDefinite,
    ProjectionWarning,
    Skew,
    SpectralNorm,
    Symmetric,
    WeightNorm,
)
from paraform.parametrize import register_parametrization, remove_parametrizations


@pytest.mark.parametrize("dim", [0, 1, 2, None])
def test_weight_norm_has_the_originals_and_gradients_of_torch(dim: int | None) -> None:
    ours = nn.Conv1d(2, 3, 4)
    theirs = nn.Conv1d(2, 3, 4)
    theirs.load_state_dict(ours.state_dict())
    register_parametrization(ours, "weight", WeightNorm(dim))
    parametrizations.weight_norm(theirs, dim=dim)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())
    for layer in (ours, theirs):
        layer(torch.ones(1, 2, 6)).square().sum().backward()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_a_negative_dimension_is_counted_from_the_end() -> None:
    g, _ = WeightNorm(-1).right_inverse(torch.randn(2, 3, 4))
    assert g.shape == (1, 1, 4)


@pytest.mark.parametrize("dim", [0, 1, None])
def test_zeros_stay_zeros_have_finite_gradients_and_can_grow_again(dim: int | None) -> None:
    layer = nn.Linear(3, 2)
    nn.init.zeros_(layer.weight)
    register_parametrization(layer, "weight", WeightNorm(dim))
    assert torch.equal(layer.weight, torch.zeros(2, 3))
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    layer(torch.ones(1, 3)).sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in layer.parameters())
    optimizer.step()
    assert (layer.weight != 0).all()


def test_weight_norm_refuses_a_dimension_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="a dimension 2, got shape"):
        WeightNorm(2).right_inverse(torch.randn(3, 3))


def test_a_spectral_norm_can_stand_behind_another_parametrization() -> None:
    layer = nn.Linear(4, 4)
    with torch.no_grad():
        layer.weight.mul_(10)
    register_parametrization(layer, "weight", Symmetric())
    register_parametrization(layer, "weight", SpectralNorm(2.0))
    assert torch.linalg.matrix_norm(layer.weight, ord=2) <= 2 * (1 + 1e-4)
    torch.testing.assert_close(layer.weight, layer.weight.mT)


def test_an_orthogonal_behind_another_parametrization_is_refused_in_clear_words() -> None:
    layer = register_parametrization(nn.Linear(4, 4), "weight", Skew())
    with pytest.raises(RuntimeError, match="Register it before the others"):
        register_parametrization(layer, "weight", Orthogonal())
    assert len(layer.parametrizations.weight) == 1


def test_spectral_norm_scales_what_is_outside_by_the_exact_singular_value() -> None:
    raw = 2 * torch.randn(4, 3, dtype=torch.float64)
    torch.testing.assert_close(SpectralNorm(0.7)(raw), 0.7 * raw / torch.linalg.matrix_norm(raw, ord=2))


def test_two_forwards_before_one_backward_do_not_disturb_each_other() -> None:
    layer = register_parametrization(nn.Linear(4, 4), "weight", SpectralNorm(0.1))
    with torch.no_grad():
        layer.parametrizations.weight.original.normal_()
    (layer(torch.ones(1, 4)) + layer(torch.ones(1, 4))).sum().backward()
    assert layer.parametrizations.weight.original.grad is not None


def test_spectral_norm_refuses_a_bound_that_is_not_positive() -> None:
    for bound in (0.0, -1.0):
        with pytest.raises(ValueError, match="expects"):
            SpectralNorm(bound)


def test_what_is_behind_the_mask_at_registration_comes_back_on_removal() -> None:
    layer = nn.Linear(3, 2)
    before = layer.weight.detach().clone()
    register_parametrization(layer, "weight", Masked(torch.tensor([1, 0, 1])))
    assert torch.equal(layer.weight[:, 1], torch.zeros(2))
    remove_parametrizations(layer, "weight", leave_parametrized=False)
    assert torch.equal(layer.weight, before)


def test_a_mask_that_does_not_fit_is_refused_at_registration() -> None:
    layer = nn.Linear(3, 2)
    with pytest.raises(ValueError, match="its mask of shape"):
        register_parametrization(layer, "weight", Masked(torch.ones(2)))
    assert type(layer) is nn.Linear


def test_nothing_leaks_from_behind_the_mask() -> None:
    raw = torch.tensor([1.0, torch.inf, torch.nan], requires_grad=True)
    value = Masked(torch.tensor([1, 0, 0]))(raw)
    value.sum().backward()
    assert torch.equal(value, torch.tensor([1.0, 0.0, 0.0]))
    assert torch.equal(raw.grad, torch.tensor([1.0, 0.0, 0.0]))


@pytest.mark.parametrize("size", [1e-12, 1.0, 1e12])
def test_positive_definite_matrices_of_any_size_come_back(size: float) -> None:
    constraint = PositiveDefinite()
    value = size * constraint.sample((5, 5))
    raw = constraint.right_inverse(value)
    assert constraint.distance == 0
    torch.testing.assert_close(constraint(raw), value, rtol=1e-4, atol=1e-6 * size)


def test_a_value_within_rounding_of_the_set_is_taken_as_it_is() -> None:
    for constraint in (Orthogonal(), Symmetric(), PositiveDefinite()):
        value = constraint.sample((64, 64), dtype=torch.float64).float()
        constraint.right_inverse(value)
        assert constraint.distance == 0


def test_a_warning_that_is_an_error_leaves_everything_as_it_was() -> None:
    layer = register_parametrization(nn.Linear(3, 3), "weight", Orthogonal())
    before, distance = layer.weight.detach().clone(), layer.parametrizations.weight[0].distance
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ProjectionWarning):
            layer.weight = torch.ones(3, 3)
    assert torch.equal(layer.weight, before)
    assert layer.parametrizations.weight[0].distance is distance


def test_the_text_of_a_constraint_is_its_constructor() -> None:
    shown = [
        Orthogonal("cayley", strict=True),
        Skew(),
        SpectralNorm(2.0, exact=True),
        WeightNorm(None),
        Masked(torch.ones(2, 3)),
    ]
    assert [str(constraint) for constraint in shown] == [
        "Orthogonal(map='cayley', strict=True)",
        "Skew()",
        "SpectralNorm(bound=2.0, exact=True)",
        "WeightNorm(dim=None)",
        "Masked(mask=(2, 3))",
    ]


@pytest.mark.parametrize("kind", [Symmetric, Skew, PositiveDefinite])
def test_square_sets_refuse_other_shapes(kind: type[Constraint]) -> None:
    layer = nn.Linear(3, 2)
    with pytest.raises(ValueError, match="expects square matrices"):
        register_parametrization(layer, "weight", kind())
    for question in (kind().project, kind().residual):
        with pytest.raises(ValueError, match="expects square matrices"):
            question(layer.weight)
    assert type(layer) is nn.Linear


def test_whole_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="floating-point or complex"):
        Symmetric().right_inverse(torch.eye(3, dtype=torch.long))


def test_an_error_of_a_strict_constraint_is_a_value_error_that_names_it() -> None:
    constraint = Symmetric(strict=True)
    constraint.right_inverse(torch.eye(2))
    with pytest.raises(ConstraintError, match=r"^Symmetric\(strict=True\) expects a value in its set") as caught:
        constraint.right_inverse(torch.tensor([[0.0, 2.0], [0.0, 0.0]]))
    assert isinstance(caught.value, ValueError)
