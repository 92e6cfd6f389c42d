"""Kernels of convolutions: as one matrix, by Flatten, or slice by slice, on purpose."""

import pytest
import torch
from torch import Tensor, nn

from paraform.constraints import Flatten, Masked, Orthogonal, ProjectionWarning, Skew, Symmetric, WeightNorm
from paraform.parametrize import register_parametrization
from tests.constraints.sets import ENGINES

CONVOLUTIONS = {
    "Conv1d": lambda: nn.Conv1d(2, 4, 3),
    "Conv2d": lambda: nn.Conv2d(2, 4, 3),
    "Conv3d": lambda: nn.Conv3d(2, 4, 2),
    "grouped": lambda: nn.Conv2d(4, 6, 2, groups=2),
    "transposed": lambda: nn.ConvTranspose2d(3, 2, 3),
}


def assert_orthonormal_filters(kernel: Tensor) -> None:
    filters = kernel.detach().flatten(1)
    torch.testing.assert_close(filters @ filters.T, torch.eye(len(filters)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("make", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
@ENGINES
def test_the_filters_are_orthonormal_from_registration_on(make: object, engine: object) -> None:
    layer = make()
    weight, shape = layer.weight, layer.weight.shape
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1)
    engine.register_parametrization(layer, "weight", Flatten(Orthogonal()))
    assert_orthonormal_filters(layer.weight)
    layer.weight.sin().sum().backward()
    optimizer.step()  # built before: the raw tensor is the same parameter, of the kernel's shape
    assert layer.parametrizations.weight.original is weight
    assert weight.shape == layer.weight.shape == shape
    assert weight.count_nonzero() > 0
    assert_orthonormal_filters(layer.weight)


def test_an_assigned_kernel_outside_moves_to_the_nearest_one_with_one_warning() -> None:
    layer = register_parametrization(nn.Conv2d(2, 4, 3), "weight", Flatten(Orthogonal()))
    value = torch.randn(4, 2, 3, 3)
    with pytest.warns(ProjectionWarning) as caught:
        layer.weight = value
    U, _, Vh = torch.linalg.svd(value.flatten(1), full_matrices=False)
    assert [warning.filename for warning in caught] == [__file__]
    torch.testing.assert_close(layer.weight, (U @ Vh).reshape(value.shape))


def test_several_raw_tensors_are_those_of_the_constraint() -> None:
    layer = nn.Conv2d(2, 4, 3)
    before = layer.weight.detach().clone()
    register_parametrization(layer, "weight", Flatten(WeightNorm()))
    length, direction = layer.parametrizations.weight.originals()
    assert (length.shape, direction.shape) == ((4, 1), (4, 2, 3, 3))
    torch.testing.assert_close(layer.weight, before)
    torch.testing.assert_close(length.flatten(), before.flatten(1).norm(dim=1))


def test_what_a_mask_hides_is_kept() -> None:
    layer = nn.Conv1d(1, 2, 2)
    before = layer.weight.detach().clone()
    register_parametrization(layer, "weight", Flatten(Masked([[1, 0], [0, 1]])))
    assert torch.equal(layer.weight, before * torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]]))
    assert torch.equal(layer.parametrizations.weight.original, before)


@ENGINES
def test_a_kernel_can_be_flattened_behind_another_parametrization(engine: object) -> None:
    layer = engine.register_parametrization(nn.Conv1d(2, 4, 2), "weight", nn.Identity())
    engine.register_parametrization(layer, "weight", Flatten(Symmetric()))
    assert torch.equal(layer.weight.flatten(1), layer.weight.flatten(1).T)


def test_a_model_with_a_flattened_kernel_compiles_to_one_graph_and_exports() -> None:
    layer = register_parametrization(nn.Conv2d(2, 4, 3), "weight", Flatten(Orthogonal()))
    x = torch.randn(1, 2, 5, 5)
    torch.testing.assert_close(torch.compile(layer, fullgraph=True, backend="aot_eager")(x), layer(x))
    torch.testing.assert_close(torch.export.export(layer, (x,)).module()(x), layer(x))


def test_a_kernel_is_refused_by_orthogonal_alone_and_the_error_names_both_ways_out() -> None:
    layer = nn.Conv2d(2, 4, 3)
    before = layer.weight.detach().clone()
    with pytest.raises(ValueError, match=r"slices of shape \(3, 3\).*write Flatten\(Orthogonal\(\)\).*slices=True"):
        register_parametrization(layer, "weight", Orthogonal())
    assert type(layer) is nn.Conv2d
    assert torch.equal(layer.weight, before)


def test_the_slices_of_a_kernel_can_be_meant() -> None:
    layer = register_parametrization(nn.Conv2d(2, 4, 3), "weight", Orthogonal(slices=True))
    torch.testing.assert_close(layer.weight.mT @ layer.weight, torch.eye(3).expand(4, 2, 3, 3), rtol=0, atol=1e-5)


def test_another_kernel_with_the_same_matrix_is_refused() -> None:
    constraint = Flatten(Orthogonal())
    constraint.right_inverse(torch.randn(2, 2, 3, 1))
    with pytest.raises(ValueError, match=r"registered on a tensor of shape \(2, 2, 3, 1\), got one of shape \(2, 2, 1"):
        constraint.right_inverse(torch.randn(2, 2, 1, 3))


@pytest.mark.parametrize(
    ("error", "words", "mistake"),
    [
        (TypeError, r"expects a constraint, got <class .*Orthogonal'>; write Flatten\(", lambda: Flatten(Orthogonal)),
        (TypeError, r"Flatten expects a dimension as an int, got 1.5", lambda: Flatten(Orthogonal(), dim=1.5)),
        (
            ValueError,
            r"Flatten\(Orthogonal\(\), dim=2\) expects .* a dimension 2",
            lambda: Flatten(Orthogonal(), 2).dof((3, 3)),
        ),
        (ValueError, r"Flatten\(Orthogonal\(\)\) expects matrices", lambda: Flatten(Orthogonal()).sample((3,))),
        (ValueError, r"square matrices, .* got shape \(4, 6\)", lambda: Flatten(Skew()).dof((4, 2, 3))),
    ],
)
def test_a_mistake_is_named_in_words(error: type[Exception], words: str, mistake: object) -> None:
    with pytest.raises(error, match=words):
        mistake()


def test_a_constraint_that_serves_another_tensor_cannot_be_flattened_for_this_one() -> None:
    used = Orthogonal()
    register_parametrization(nn.Linear(3, 3), "weight", used)
    with pytest.raises(ValueError, match="serves the tensor that it was registered on before"):
        register_parametrization(nn.Conv1d(2, 4, 2), "weight", Flatten(used))
