"""Rows 6, 17 and 18: weight_norm and spectral_norm."""

import contextlib
import copy
import math

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from paraform.constraints import SpectralNorm
from tests.complaints.registry import TORCH, Engine, complaint, wrong


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


def of_norm_one(engine: Engine, layer: nn.Module) -> nn.Module:
    """What each room offers to someone who wants no larger spectral norm than 1."""
    if engine is TORCH:
        return engine.parametrizations.spectral_norm(layer)
    return engine.parametrize.register_parametrization(layer, "weight", SpectralNorm(1.0))


@complaint(
    6,
    symptom="spectral_norm's estimate lags: an adversary reaches a norm of 6.8 by the direction it does not see",
    on_torch=wrong("the norm has passed its bound"),
)
def test_the_spectral_norm_does_not_lag_behind_adversarial_training(engine: Engine) -> None:
    layer = of_norm_one(engine, nn.Linear(64, 64, bias=False))
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    for _ in range(50):
        weight = layer.weight
        U, S, Vh = torch.linalg.svd(weight.detach())
        assert S[0] < 1.001, "the norm has passed its bound"
        optimizer.zero_grad()
        (-(U[:, -1] @ weight @ Vh[-1])).backward()
        optimizer.step()


@complaint(
    17,
    "pytorch PR#57784",
    symptom="after a large change of the weight, two reads in a row give two spectral norms",
    on_torch=wrong("the second read is another weight"),
)
def test_pytorch_pr_57784_two_reads_of_a_weight_of_bounded_norm_are_equal(engine: Engine) -> None:
    layer = of_norm_one(engine, nn.Linear(20, 30))
    nn.init.normal_(layer.parametrizations.weight.original)
    before = copy.deepcopy(layer.state_dict())
    first = layer.weight
    assert torch.equal(layer.weight, first), "the second read is another weight"
    assert all(torch.equal(tensor, before[key]) for key, tensor in layer.state_dict().items())


@complaint(
    6,
    "NCAR/miles-credit#394",
    symptom="averaged with buffers, unit vectors of opposite signs cancel and the weight is divided by almost nothing",
    on_torch=wrong("the averaged weight is not finite"),
)
def test_ncar_miles_credit_394_vectors_of_opposite_signs_do_not_cancel(engine: Engine) -> None:
    layer = engine.parametrizations.spectral_norm(nn.Linear(3, 3))
    # Vectors and their negatives belong to the same weight.
    value = torch.diag(torch.tensor([4.0, 1.0, 0.5]))
    layer.weight = value
    layer(torch.ones(1, 3))
    average = AveragedModel(layer, multi_avg_fn=get_ema_multi_avg_fn(0.5), use_buffers=True)
    average.update_parameters(layer)
    step = layer.parametrizations.weight[0]
    with torch.no_grad():
        step._u.neg_()
        step._v.neg_()
    average.update_parameters(layer)
    weight = average.eval().module.weight
    assert weight.isfinite().all(), "the averaged weight is not finite"
    assert torch.linalg.matrix_norm(weight, ord=2).item() == pytest.approx(1, rel=1e-3)
