"""What a constraint refuses, in which words, and what it keeps safe from the mode that it is called in."""

import pytest
import torch
from torch import nn

from paraform.constraints import (
    Constraint,
    Masked,
    Orthogonal,
    PositiveDefinite,
    Skew,
    SpectralNorm,
    Symmetric,
    WeightNorm,
)
from paraform.parametrize import register_parametrization
from tests.constraints.sets import ENGINES, FOR_ALL, MATRIX_BY_MATRIX, Case, value_of


def test_another_dtype_or_device_is_refused_under_any_engine_and_changes_nothing() -> None:
    layer = nn.utils.parametrize.register_parametrization(nn.Linear(4, 4), "weight", Orthogonal()).eval()
    before = layer.weight.detach().clone()
    for bad in (torch.eye(4, dtype=torch.float64), torch.eye(4, device="meta")):
        with pytest.raises(ValueError, match=r"expects a tensor of torch.float32 on cpu, where its"):
            layer.weight = bad
    assert torch.equal(layer.weight, before)


@pytest.mark.parametrize("kind", [Orthogonal, SpectralNorm])
@ENGINES
def test_a_layer_that_moved_to_another_dtype_takes_values_of_that_dtype(engine: object, kind: type) -> None:
    layer = engine.register_parametrization(nn.Linear(4, 4), "weight", kind()).double()
    layer.weight = torch.eye(4, dtype=torch.float64)
    torch.testing.assert_close(layer.weight, torch.eye(4, dtype=torch.float64))


def test_a_mask_on_another_device_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match=r"on cpu, where its mask is, got torch\.float32 on meta"):
        register_parametrization(nn.Linear(2, 2, device="meta"), "weight", Masked(torch.eye(2)))


@FOR_ALL
@ENGINES
def test_what_is_learned_under_inference_mode_trains(case: Case, engine: object) -> None:
    layer = case.layer(engine)
    with torch.inference_mode():
        if engine is not nn.utils.parametrize:  # torch's own makes the raw tensor an inference tensor
            layer.weight = layer.constraint.sample(case.shape, dtype=case.dtype)
        constraint = case.make()
        raws = constraint.right_inverse(case.random())
    raws = tuple(raw.clone().requires_grad_() for raw in (raws if isinstance(raws, tuple) else (raws,)))
    for value in (layer.weight, constraint(*raws)):
        value.abs().sum().backward()
    assert all(torch.isfinite(raw.grad).all() for raw in raws)


@MATRIX_BY_MATRIX
def test_what_is_not_finite_gives_nan_for_its_matrix_only(case: Case) -> None:
    constraint, raws = case.registered()
    value = torch.stack([value_of(constraint, raws), torch.full(case.shape, torch.nan, dtype=case.dtype)])
    for answer in (constraint.residual(value), constraint.project(value)):
        assert torch.isfinite(answer[0]).all()
        assert torch.isnan(answer[1]).any()


def test_a_norm_that_overflows_half_precision_is_refused() -> None:
    layer = nn.Linear(1000, 1000, bias=False, dtype=torch.float16)
    nn.init.constant_(layer.weight, 100.0)
    with pytest.raises(ValueError, match=r"finite entries in torch\.float16"):
        register_parametrization(layer, "weight", WeightNorm(None))


def behind(kind: type[Constraint]) -> object:
    layer = register_parametrization(nn.Linear(4, 4), "weight", Skew())
    return register_parametrization(layer, "weight", kind())


@pytest.mark.parametrize(
    ("error", "words", "mistake"),
    [
        (RuntimeError, "Register it before the others", lambda: behind(WeightNorm)),
        (RuntimeError, "Register it before the others", lambda: behind(Orthogonal)),
        (TypeError, "got 3; give all sizes", lambda: Symmetric().sample(3)),
        (ValueError, "complex numbers, got torch.int64", lambda: Skew().sample((3, 3), dtype=torch.int64)),
        (ValueError, "complex numbers, got torch.int64", lambda: Skew().dof((3, 3), dtype=torch.int64)),
        (TypeError, "expects a dimension as an int", lambda: WeightNorm("a")),
        (TypeError, "expects a dimension as an int", lambda: WeightNorm(1.0)),
        (ValueError, "positive and finite bound, got inf", lambda: SpectralNorm(torch.inf)),
        (ValueError, "positive and finite bound, got nan", lambda: SpectralNorm(torch.nan)),
    ],
)
def test_a_mistake_is_named_in_words(error: type[Exception], words: str, mistake: object) -> None:
    with pytest.raises(error, match=words):
        mistake()


def test_a_mask_may_be_a_list() -> None:
    assert torch.equal(Masked([1, 0])(torch.ones(2, 2)), torch.tensor([[1.0, 0.0], [1.0, 0.0]]))


class Padded(Orthogonal):
    """A user's own constraint, whose constructor has other arguments."""

    def __init__(self, n: int) -> None:
        super().__init__("cayley")


def test_a_subclass_with_its_own_constructor_can_be_printed() -> None:
    assert str(Padded(3)) == "Padded()"


def test_learned_says_whether_an_instance_serves_a_tensor() -> None:
    constraint = PositiveDefinite()
    assert not constraint.learned
    constraint.right_inverse(torch.eye(2))
    assert constraint.learned
