"""Rows 6, 23, 24, 26 and 41: what befalls an orthogonal weight."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from paraform import Orthogonal
from tests.complaints.layers import is_orthonormal
from tests.complaints.registry import PARAFORM, Engine, complaint, raises, wrong


@complaint(
    41,
    symptom="with all defaults, one step of AdamW makes an orthogonal weight the zero matrix",
    on_torch=wrong("the columns are not orthonormal any more"),
)
def test_weight_decay_does_not_destroy_an_orthogonal_weight(engine: Engine) -> None:
    layer = engine.parametrizations.orthogonal(nn.Linear(64, 128))
    layer(torch.ones(1, 64)).sum().backward()
    torch.optim.AdamW(layer.parameters()).step()
    assert is_orthonormal(layer.weight), "the columns are not orthonormal any more"


@complaint(
    41,
    symptom="without a base, one step of AdamW makes an orthogonal weight by Householder reflections the zero matrix",
    on_torch=wrong("the columns are not orthonormal any more"),
)
def test_weight_decay_does_not_destroy_an_orthogonal_weight_without_a_base(engine: Engine) -> None:
    layer = engine.parametrizations.orthogonal(nn.Linear(64, 128), use_trivialization=False)
    layer(torch.ones(1, 64)).sum().backward()
    torch.optim.AdamW(layer.parameters()).step()
    assert is_orthonormal(layer.weight), "the columns are not orthonormal any more"


def on_meta(engine: Engine, rows: int) -> nn.Linear:
    with torch.device("meta"):
        return engine.parametrizations.orthogonal(nn.Linear(4, rows))


@complaint(
    24,
    "transformers#31970",
    symptom="a square matrix cannot be made orthogonal on the meta device",
    on_torch=raises(RuntimeError, "Tensor.item() cannot be called on meta tensors"),
)
def test_transformers_31970_a_square_matrix_becomes_orthogonal_on_meta(engine: Engine) -> None:
    trained = engine.parametrizations.orthogonal(nn.Linear(4, 4))
    layer = on_meta(engine, rows=4).to_empty(device="cpu")
    layer.load_state_dict(trained.state_dict())
    assert torch.equal(layer.weight, trained.weight)


@complaint(
    24,
    symptom="a tall matrix that is made orthogonal on the meta device has no value",
    on_torch=raises(TypeError, "unsupported operand type(s) for @: 'NoneType' and 'Tensor'"),
)
def test_a_tall_matrix_that_is_orthogonal_on_meta_has_a_value(engine: Engine) -> None:
    layer = on_meta(engine, rows=6)
    assert layer.weight.shape == (6, 4)
    assert layer.weight.is_meta


@complaint(
    24,
    "transformers#30881",
    symptom="a tall matrix that was made orthogonal on the meta device loads no checkpoint: its base is missing",
    on_torch=raises(
        RuntimeError,
        "Error(s) in loading state_dict for ParametrizedLinear:\n"
        '\tUnexpected key(s) in state_dict: "parametrizations.weight.0.base"',
    ),
)
def test_transformers_30881_a_tall_matrix_that_is_orthogonal_on_meta_loads_a_checkpoint(engine: Engine) -> None:
    trained, layer = engine.parametrizations.orthogonal(nn.Linear(4, 6)), on_meta(engine, rows=6)
    layer.load_state_dict(trained.state_dict(), assign=True)
    assert torch.equal(layer.weight, trained.weight)


def thin(engine: Engine, rows: int, columns: int) -> nn.Linear:
    """What the library offers for a new model with a tall orthogonal weight."""
    layer = nn.Linear(columns, rows)
    if engine is PARAFORM:
        return engine.parametrize.register_parametrization(layer, "weight", Orthogonal())
    return engine.parametrizations.orthogonal(layer)


class Largest(TorchDispatchMode):
    """Remembers how many entries the largest tensor had that an operator returned."""

    entries = 0

    def __torch_dispatch__(self, operator: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = operator(*args, **(kwargs or {}))
        sizes = (leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, Tensor))
        self.entries = max(self.entries, *sizes, 0)
        return result


def largest_of_a_training_step(engine: Engine, orthogonal_map: str) -> int:
    layer = nn.Linear(4, 200)
    with Largest() as largest:
        engine.parametrizations.orthogonal(layer, orthogonal_map=orthogonal_map, use_trivialization=False)
        layer.weight.sum().backward()
    return largest.entries


@complaint(
    26,
    "geotorch#30",
    symptom="the matrix exponential of a tall weight works on n x n matrices: 20 minutes for 30000 x 50",
    on_torch=wrong("an n x n matrix was made"),
)
def test_geotorch_30_a_tall_orthogonal_weight_by_the_exponential_makes_no_large_square(engine: Engine) -> None:
    assert largest_of_a_training_step(engine, "matrix_exp") < 200 * 200, "an n x n matrix was made"


@complaint(
    26,
    "pytorch#42243",
    symptom="the Cayley map of a tall weight works on n x n matrices",
    on_torch=wrong("an n x n matrix was made"),
)
def test_pytorch_42243_a_tall_orthogonal_weight_by_the_cayley_map_makes_no_large_square(engine: Engine) -> None:
    assert largest_of_a_training_step(engine, "cayley") < 200 * 200, "an n x n matrix was made"


@complaint(
    6,
    symptom="an average of orthogonal models with buffers is not orthogonal: their bases were averaged",
    on_torch=wrong("the columns are not orthonormal any more"),
)
def test_an_average_of_orthogonal_models_with_buffers_is_orthogonal(engine: Engine) -> None:
    layer = engine.parametrizations.orthogonal(nn.Linear(4, 6))
    average = AveragedModel(layer, use_buffers=True)
    for _ in range(3):
        layer.weight = torch.linalg.qr(torch.randn(6, 4)).Q
        average.update_parameters(layer)
    assert is_orthonormal(average.module.weight), "the columns are not orthonormal any more"


@complaint(
    23,
    symptom="under autocast an orthogonal weight is computed in bfloat16",
    on_torch=wrong("the weight is not of float32"),
)
def test_an_orthogonal_weight_under_autocast_is_that_of_float32(engine: Engine) -> None:
    layer = engine.parametrizations.orthogonal(nn.Linear(5, 5))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        weight = layer.weight
    assert weight.dtype == torch.float32, "the weight is not of float32"
    assert is_orthonormal(weight)


@complaint(
    26,
    "torch-householder#7",
    symptom="a tall orthogonal weight is held with an n x n base, 150 times the size of a 1500 x 10 weight",
    on_torch=wrong("an n x n matrix was made"),
    ours="`Orthogonal()`: its base has the weight's own shape",
)
def test_torch_householder_7_a_tall_orthogonal_weight_is_held_in_its_own_size(engine: Engine) -> None:
    with Largest() as largest:
        layer = thin(engine, 200, 4)
        layer.weight.sin().sum().backward()
        torch.optim.AdamW(layer.parameters()).step()
    assert largest.entries < 200 * 200, "an n x n matrix was made"
    assert is_orthonormal(layer.weight)


@pytest.mark.parametrize("map", ["matrix_exp", "cayley", "householder"])
def test_no_tensor_of_a_training_step_is_larger_than_three_times_a_tall_orthogonal_weight(map: str) -> None:
    layer = nn.Linear(50, 30000)
    with Largest() as largest:
        PARAFORM.parametrize.register_parametrization(layer, "weight", Orthogonal(map))
        layer.weight.sin().sum().backward()
        torch.optim.AdamW(layer.parameters()).step()
        weight = layer.weight
    assert largest.entries <= 3 * 30000 * 50
    assert is_orthonormal(weight)
