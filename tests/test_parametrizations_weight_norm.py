"""weight_norm, held against its formula and against torch.nn.utils.parametrizations.weight_norm."""

import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations as torchs

from paraform.parametrizations import weight_norm
from paraform.parametrize import remove_parametrizations

SHAPES = [(5,), (4, 3), (2, 3, 4)]
KINDS = [(shape, dim) for shape in SHAPES for dim in (None, *range(len(shape)))]


class Layer(nn.Module):
    def __init__(self, *shape: int, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(shape, dtype=dtype))


def gradients(layer: nn.Module, cotangent: torch.Tensor) -> tuple[torch.Tensor, ...]:
    originals = layer.parametrizations.weight.original0, layer.parametrizations.weight.original1
    return torch.autograd.grad(layer.weight, originals, cotangent)


@pytest.mark.parametrize(("shape", "dim"), KINDS)
def test_value_gradient_and_state_dict_are_those_of_torch(shape, dim):
    mine, theirs = weight_norm(Layer(*shape), dim=dim), torchs.weight_norm(Layer(*shape), dim=dim)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(torch.randn_like(parameter))
    mine.load_state_dict(theirs.state_dict(), strict=True)
    torch.testing.assert_close(mine.weight, theirs.weight)
    cotangent = torch.randn(shape, dtype=torch.float64)
    torch.testing.assert_close(gradients(mine, cotangent), gradients(theirs, cotangent))


@pytest.mark.parametrize(("shape", "dim"), KINDS)
def test_registration_and_assignment_keep_the_value(shape, dim):
    layer = Layer(*shape)
    before = layer.weight.detach().clone()
    weight_norm(layer, dim=dim)
    torch.testing.assert_close(layer.weight.detach(), before)
    layer.weight = 2 * before
    torch.testing.assert_close(layer.weight.detach(), 2 * before)


@pytest.mark.parametrize(("shape", "dim"), [(shape, dim) for shape, dim in KINDS if dim is not None])
def test_negative_dims_count_from_the_last(shape, dim):
    layer = Layer(*shape)
    lengths = [
        weight_norm(pickle.loads(pickle.dumps(layer)), dim=d).parametrizations.weight.original0
        for d in (dim, dim - len(shape))
    ]
    assert lengths[0].shape == tuple(n if d == dim else 1 for d, n in enumerate(shape))
    assert torch.equal(*lengths)


@pytest.mark.parametrize("dim", [0, 1, None])
def test_a_row_of_zeros_has_value_zero_and_can_be_trained(dim):
    layer = Layer(4, 3)
    with torch.no_grad():
        layer.weight[1] = 0
        layer.weight[:, 1] = 0
    before = layer.weight.detach().clone()
    weight_norm(layer, dim=dim)
    torch.testing.assert_close(layer.weight.detach(), before, rtol=1e-15, atol=0)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    target = torch.randn(4, 3, dtype=torch.float64)
    losses = []
    for _ in range(500):
        optimizer.zero_grad()
        loss = (layer.weight - target).square().sum()
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
    assert losses[-1] < 1e-3 * losses[0]


def test_a_checkpoint_with_a_direction_of_zeros_gives_no_nan():
    layer = weight_norm(Layer(4, 3))
    with torch.no_grad():
        layer.parametrizations.weight.original1[1] = 0
    assert torch.equal(layer.weight[1], torch.zeros(3, dtype=torch.float64))
    assert all(gradient.isfinite().all() for gradient in gradients(layer, torch.ones(4, 3, dtype=torch.float64)))


def test_a_complex_weight_has_real_lengths():
    layer = Layer(4, 3, dtype=torch.complex128)
    before = layer.weight.detach().clone()
    weight_norm(layer)
    torch.testing.assert_close(layer.weight.detach(), before)
    lengths = layer.parametrizations.weight.original0
    torch.testing.assert_close(lengths.detach(), before.abs().square().sum(1, keepdim=True).sqrt())


@pytest.mark.parametrize("dim", [2, -3])
def test_a_dimension_that_is_not_there_is_an_index_error_as_in_torch(dim):
    for function in (weight_norm, torchs.weight_norm):
        with pytest.raises(IndexError, match=f"{dim}"):
            function(Layer(4, 3), dim=dim)


@pytest.mark.parametrize("dim", [1.0, "0", True])
def test_a_dimension_that_is_no_integer_is_a_type_error_as_in_torch(dim):
    for function in (weight_norm, torchs.weight_norm):
        with pytest.raises(TypeError, match="dim"):
            function(Layer(4, 3), dim=dim)


def test_behind_another_parametrization_it_is_refused_in_words_and_nothing_changes():
    layer = weight_norm(Layer(4, 3))
    before = list(layer.state_dict())
    with pytest.raises(ValueError, match="'weight' of Layer has one already"):
        weight_norm(layer)
    assert list(layer.state_dict()) == before
    assert len(layer.parametrizations.weight) == 1


def test_a_checkpoint_of_torch_with_its_last_dim_loads_as_one_length_of_the_whole():
    theirs = torchs.weight_norm(Layer(4, 3), dim=-1)
    mine = weight_norm(Layer(4, 3), dim=None)
    mine.load_state_dict(theirs.state_dict(), strict=True)
    torch.testing.assert_close(mine.weight, theirs.weight)


def test_a_checkpoint_with_one_length_of_the_whole_loads_by_its_value_elsewhere():
    with pytest.warns(FutureWarning):
        old = nn.utils.weight_norm(Layer(4, 3), dim=None)
    for theirs in (torchs.weight_norm(Layer(4, 3), dim=-1), old):
        mine = nn.Sequential(weight_norm(Layer(4, 3), dim=-1))
        mine.load_state_dict(nn.Sequential(theirs).state_dict())
        torch.testing.assert_close(mine[0].weight, theirs.weight)


@pytest.mark.parametrize("dim", [0, 1, None])
def test_old_checkpoints_load_also_inside_a_model_and_after_a_pickle(dim):
    old = nn.Sequential(nn.Linear(3, 4))
    with pytest.warns(FutureWarning):
        nn.utils.weight_norm(old[0], dim=dim)
    old(torch.randn(2, 3))  # the old hook computes the weight in a forward pass
    new = nn.Sequential(weight_norm(nn.Linear(3, 4), dim=dim))
    for model in (new, pickle.loads(pickle.dumps(new))):
        model.load_state_dict(old.state_dict(), strict=True)
        torch.testing.assert_close(model[0].weight, old[0].weight)


def test_after_removal_old_keys_are_no_longer_taken():
    layer = remove_parametrizations(weight_norm(nn.Linear(3, 4)), "weight")
    with pytest.raises(RuntimeError, match=r"Unexpected key.*weight_g"):
        layer.load_state_dict({"bias": layer.bias, "weight_g": torch.ones(4, 1), "weight_v": torch.ones(4, 3)})
