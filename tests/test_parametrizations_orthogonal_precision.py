"""The digits that orthogonal keeps: half precision, rounded checkpoints, large raw tensors."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations as torchs

from paraform import parametrizations as ours
from tests.test_parametrizations_orthogonal import MAPS, Layer, moved_away, orthogonality_error, weights


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("map_", MAPS)
def test_half_precision_is_computed_in_float32(map_, dtype):
    registered_before = ours.orthogonal(nn.Linear(6, 9), orthogonal_map=map_).to(dtype)
    registered_after = ours.orthogonal(nn.Linear(6, 9).to(dtype), orthogonal_map=map_)
    for layer in (registered_before, registered_after):
        moved_away(layer)
        layer.weight.sum().backward()
        wide = copy.deepcopy(layer).float()
        assert layer.weight.dtype == dtype
        # One rounding, of the value, on top of that of the base, which widening undoes.
        torch.testing.assert_close(layer.weight.double(), wide.weight.double(), rtol=0, atol=2 * torch.finfo(dtype).eps)
        # Two roundings, of the base and of the value, on columns of length 1.
        assert orthogonality_error(layer.weight.float()) < 2 * torch.finfo(dtype).eps


@pytest.mark.parametrize("narrow", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("shape", [(64, 64), (40, 20), (20, 40)])
@pytest.mark.parametrize("map_", MAPS)
def test_what_was_rounded_is_orthogonal_again_in_a_wider_dtype(map_, shape, narrow):
    layer = moved_away(ours.orthogonal(Layer(weights(shape, torch.float32)), orthogonal_map=map_).to(narrow))
    loaded = ours.orthogonal(Layer(weights(shape)), orthogonal_map=map_)
    loaded.load_state_dict(layer.state_dict())
    for wide in (loaded, copy.deepcopy(layer).double()):
        assert orthogonality_error(wide.weight) < 1e-13
        # The base and the value were rounded, after sums of at most `max(shape)` products in float32.
        apart = torch.finfo(narrow).eps + max(shape) * torch.finfo(torch.float32).eps
        assert torch.dist(wide.weight, layer.weight) < apart * min(shape) ** 0.5
        wide.weight = wide.weight.detach()  # without a ProjectionWarning


def test_the_orthogonality_error_in_float32_is_no_larger_than_in_torch():
    mine = ours.orthogonal(nn.Linear(200, 200))
    theirs = torchs.orthogonal(nn.Linear(200, 200))
    theirs.load_state_dict(moved_away(mine).state_dict())
    assert orthogonality_error(mine.weight) <= 1.5 * orthogonality_error(theirs.weight)


@pytest.mark.parametrize("size", [0.01, 1, 30, 1000])
@pytest.mark.parametrize("shape", [(256, 64), (128, 64), (64, 63), (40, 4), (12, 5)])
def test_cayley_of_a_large_raw_tensor_along_one_direction_is_as_orthogonal_as_in_torch(shape, size):
    n, k = shape
    raw = size * torch.randn(n, 1) @ torch.randn(1, k) / k**0.5 + 0.01 * torch.randn(n, k)
    state = {"parametrizations.weight.original": raw, "parametrizations.weight.0.base": torch.eye(n)}

    def weight(room, dtype):
        layer = room.orthogonal(Layer(torch.eye(n, k, dtype=dtype)), orthogonal_map="cayley")
        layer.load_state_dict(state)
        return layer.weight.detach().double()

    mine, theirs, exact = weight(ours, torch.float32), weight(torchs, torch.float32), weight(torchs, torch.float64)
    eps = torch.finfo(torch.float32).eps
    # What rounding the entries of a column leaves, nobody can avoid.
    assert orthogonality_error(mine) <= max(2 * orthogonality_error(theirs), eps * n**0.5)
    # Nor what rounding the raw tensor moves the value by.
    assert torch.dist(mine, exact) <= eps * n**0.5 * (1 + torch.linalg.matrix_norm(raw))
