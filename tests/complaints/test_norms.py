"""Rows 6 and 18: weight_norm and spectral_norm."""

import contextlib
import math

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from tests.complaints.registry import Engine, complaint, wrong


@complaint(
    18,
    symptom="weight_norm of a weight with a row of zeros is nan",
    on_torch=wrong("the row is not finite"),
)
def test_weight_norm_of_a_row_of_zeros_is_zero(engine: Engine) -> None:
    layer = nn.Linear(3, 3)
    with torch.no_grad():
        layer.weight[0] = 0
    engine.parametrizations.weight_norm(layer)
    assert layer.weight.isfinite().all(), "the row is not finite"
    assert torch.equal(layer.weight[0], torch.zeros(3))


@complaint(
    18,
    symptom="weight_norm with dim=-1 takes one norm of the whole tensor",
    on_torch=wrong("the norm is not one a column"),
)
def test_weight_norm_of_the_last_dimension_is_one_a_column(engine: Engine) -> None:
    layer = engine.parametrizations.weight_norm(nn.Linear(3, 5), dim=-1)
    length = layer.parametrizations.weight.original0
    assert length.shape == (1, 3), "the norm is not one a column"
    assert torch.allclose(length, layer.weight.norm(dim=0, keepdim=True))


@complaint(
    18,
    "pytorch#81195",
    symptom="weight_norm with a length that is to be broadcast along the other dimension gives a wrong weight",
    on_torch=wrong("the weight is not g v / |v|"),
)
def test_pytorch_81195_weight_norm_broadcasts_the_length_as_in_its_formula(engine: Engine) -> None:
    layer = engine.parametrizations.weight_norm(nn.Linear(2, 2), dim=1)
    length, direction = torch.tensor([[5.0], [6.0]]), layer.parametrizations.weight.original1
    layer.parametrizations.weight.original0 = nn.Parameter(length)
    expected = length * direction / direction.norm(dim=0, keepdim=True)
    assert torch.allclose(layer.weight, expected), "the weight is not g v / |v|"


@complaint(
    18,
    "pytorch PR#191141",
    symptom="weight_norm takes a length of another rank than the weight, which torch.compile refuses",
    on_torch=wrong("it was taken"),
    ours="refused, compiled or not, with the shape that is meant",
)
def test_pytorch_pr_191141_weight_norm_refuses_a_length_of_another_rank(engine: Engine) -> None:
    layer = engine.parametrizations.weight_norm(nn.Linear(3, 3))
    layer.parametrizations.weight.original0 = nn.Parameter(torch.ones(3))  # for the rows, or along them?
    with contextlib.suppress(ValueError):
        layer(torch.ones(1, 3))
        raise AssertionError("it was taken")


@complaint(
    18,
    "pytorch#19126",
    symptom="the gradients of weight_norm are nan for a row of zeros",
    on_torch=wrong("a gradient is not finite"),
)
def test_pytorch_19126_the_gradients_of_weight_norm_are_finite_for_a_row_of_zeros(engine: Engine) -> None:
    layer = nn.Linear(3, 3)
    with torch.no_grad():
        layer.weight[0] = 0
    engine.parametrizations.weight_norm(layer)(torch.ones(1, 3)).sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in layer.parameters()), "a gradient is not finite"


@pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning")  # by torch itself
@complaint(
    18,
    "pytorch PR#191749",
    "pytorch#130644",
    symptom="weight_norm of a vector is wrong once it is exported and decomposed",
    on_torch=wrong("the exported layer gives another result"),
)
def test_pytorch_pr_191749_weight_norm_of_a_vector_survives_decomposition(engine: Engine) -> None:
    layer, x = engine.parametrizations.weight_norm(nn.Linear(3, 5), "bias"), torch.ones(1, 3)
    exported = torch.export.export(layer, (x,)).run_decompositions().module()
    assert torch.allclose(exported(x), layer(x)), "the exported layer gives another result"


@complaint(
    6,
    "NCAR/miles-credit#394",
    symptom="an average with buffers shortens the power iteration's unit vectors, and the averaged weight is too large",
    on_torch=wrong("the averaged weight has another norm than 1"),
)
def test_ncar_miles_credit_394_an_averaged_spectral_norm_bounds_the_averaged_weight(engine: Engine) -> None:
    layer = engine.parametrizations.spectral_norm(nn.Linear(2, 2))
    average = AveragedModel(layer, use_buffers=True)
    # Two weights of rank one, turned from each other: their vectors average to shorter ones in the right direction.
    for angle in (math.pi / 3, -math.pi / 3):
        layer.weight = torch.tensor([[math.cos(angle), 0], [math.sin(angle), 0]])
        layer(torch.ones(1, 2))
        average.update_parameters(layer)
    norm = torch.linalg.matrix_norm(average.eval().module.weight, ord=2)
    assert norm.item() == pytest.approx(1), "the averaged weight has another norm than 1"
