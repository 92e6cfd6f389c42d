"""Row 13: orthogonal on a convolution constrains slices of the kernel, where its filters were meant."""

import copy
import warnings

import pytest
import torch
from torch import nn

from paraform import Flatten, Orthogonal, SpectralNorm
from tests.complaints.layers import is_orthonormal
from tests.complaints.registry import PARAFORM, Engine, complaint, wrong


@complaint(
    13,
    "geotorch#10",
    "deel-lip#33",
    symptom="orthogonal on a convolution constrains the slices of its kernel, and does not say so",
    on_torch=wrong("nothing was said"),
    ours="a warning names the slices, and the way to have the filters instead",
)
def test_geotorch_10_orthogonal_on_a_convolution_says_that_it_constrains_slices(engine: Engine) -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        engine.parametrizations.orthogonal(nn.Conv2d(2, 4, 3))
    assert any("slices" in str(warning.message) for warning in said), "nothing was said"


def with_orthogonal_filters(engine: Engine, layer: nn.Module) -> nn.Module:
    """What the library offers for this."""
    if engine is PARAFORM:
        return engine.parametrize.register_parametrization(layer, "weight", Flatten(Orthogonal()))
    return engine.parametrizations.orthogonal(layer)


@complaint(
    13,
    "geotorch#38",
    symptom="the filters of a convolution cannot be made orthogonal",
    on_torch=wrong("the filters are not orthogonal"),
    ours="`Flatten(Orthogonal())`, for kernels of one, two and three dimensions",
)
def test_geotorch_38_the_filters_of_a_convolution_can_be_made_orthogonal(engine: Engine) -> None:
    for layer in (nn.Conv1d(2, 4, 3), nn.Conv2d(2, 4, 3), nn.Conv3d(2, 4, 3)):
        with_orthogonal_filters(engine, layer)
        layer.weight.sin().sum().backward()
        torch.optim.AdamW(layer.parameters()).step()
        assert is_orthonormal(layer.weight.flatten(1)), "the filters are not orthogonal"


@pytest.mark.parametrize("constraint", [Orthogonal, SpectralNorm])
@pytest.mark.parametrize("layer", [nn.Conv1d(2, 4, 3), nn.Conv2d(2, 4, 3), nn.ConvTranspose1d(2, 4, 3)], ids=str)
def test_a_constraint_on_matrices_refuses_a_kernel_until_it_is_told_what_is_meant(
    layer: nn.Module, constraint: type[nn.Module]
) -> None:
    layer, name = copy.deepcopy(layer), constraint.__name__
    with pytest.raises(ValueError, match=rf"Flatten\({name}\(.*\)\); if the slices are meant, {name}\(slices=True"):
        PARAFORM.parametrize.register_parametrization(layer, "weight", constraint())
    assert not PARAFORM.parametrize.is_parametrized(layer)
    PARAFORM.parametrize.register_parametrization(layer, "weight", constraint(slices=True))
    assert constraint().residual(layer.weight.detach().flatten(0, -3)).max() < 1e-5
    PARAFORM.parametrize.register_parametrization(nn.Linear(4, 4), "weight", constraint())
