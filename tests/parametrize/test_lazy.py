"""On a lazy module the registration waits until the shapes are known."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.utils.parametrize as torch_parametrize
from torch import nn

from paraform import parametrize
from tests.parametrize.cases import Double, MatrixExp, Polar, Scale, Skew

COPIES: dict[str, Callable[[nn.Module], nn.Module]] = {
    "itself": lambda module: module,
    "deepcopy": copy.deepcopy,
    "pickle": lambda module: pickle.loads(pickle.dumps(module)),
}
x = torch.ones(2, 4)


def orthogonal() -> Any:
    """A lazy layer with a chain of two steps on its weight and one step on its bias."""
    layer = parametrize.register_parametrization(nn.LazyLinear(4), "weight", Skew())
    parametrize.register_parametrization(layer, "bias", Double())
    return parametrize.register_parametrization(layer, "weight", MatrixExp())


@pytest.mark.parametrize("how", COPIES)
def test_the_first_forward_pass_registers_all_in_order(how: str) -> None:
    layer = COPIES[how](orthogonal())
    assert not parametrize.is_parametrized(layer)
    assert not torch_parametrize.is_parametrized(layer, "weight")
    y = layer(x)
    assert type(layer).__name__ == "ParametrizedLinear"
    assert parametrize.type_before_parametrizations(layer) is nn.Linear
    assert list(layer.parametrizations) == ["weight", "bias"]
    raw = layer.parametrizations.weight.original
    expected = torch.matrix_exp(raw.triu(1) - raw.triu(1).mT)
    assert torch.equal(layer.weight, expected)
    torch.testing.assert_close(y, x @ expected.mT + 2 * layer.parametrizations.bias.original)
    assert not layer._forward_pre_hooks
    assert torch.equal(layer(x), y)


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: nn.LazyConv2d(3, 3), (1, 2, 5, 5)),
        (lambda: nn.LazyConvTranspose1d(3, 2), (1, 2, 5)),
        (lambda: nn.LazyBatchNorm1d(), (5, 3)),
    ],
)
def test_every_kind_of_lazy_layer_waits(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    plain, layer = make(), make()
    parametrize.register_parametrization(layer, "weight", Double())
    torch.manual_seed(0)
    expected = plain(torch.ones(shape))
    torch.manual_seed(0)
    torch.testing.assert_close(layer(torch.ones(shape)), expected)
    assert parametrize.is_parametrized(layer, "weight")
    assert type(layer).__bases__ == (type(plain),)


def test_the_same_parameter_object_is_the_original() -> None:
    layer = parametrize.register_parametrization(nn.LazyLinear(4), "weight", Skew())
    parameter = layer.weight
    layer(x)
    assert layer.parametrizations.weight.original is parameter


def test_a_waiting_step_moves_and_changes_mode_with_the_module_and_trains() -> None:
    layer = parametrize.register_parametrization(nn.LazyLinear(4), "weight", Scale())
    scale = layer.parametrizations.weight[0]
    assert "parametrizations.weight.0.factor" in layer.state_dict()
    assert any(parameter is scale.factor for parameter in layer.parameters())
    layer.double().eval()
    assert not scale.training
    layer(x.double())
    assert layer.parametrizations.weight[0] is scale
    assert layer.weight.dtype == torch.float64
    assert "parametrizations.weight.0.factor" in layer.state_dict()


def test_a_plain_checkpoint_that_gives_the_shapes_keeps_its_weight() -> None:
    layer = parametrize.register_parametrization(nn.LazyLinear(4), "weight", Double())
    saved = nn.Linear(4, 4)
    layer.load_state_dict(saved.state_dict())
    torch.testing.assert_close(layer(x), saved(x))
    assert torch.equal(layer.parametrizations.weight.original, saved.weight / 2)


def test_a_layer_that_got_its_shapes_from_a_checkpoint_waits_too() -> None:
    layer, saved = nn.LazyLinear(4), nn.Linear(4, 4)
    layer.load_state_dict(saved.state_dict())
    parametrize.register_parametrization(layer, "weight", Double())
    torch.testing.assert_close(layer(x), saved(x))
    assert torch.equal(layer.parametrizations.weight.original, saved.weight / 2)


def test_unsafe_and_several_originals_and_functions_wait_too() -> None:
    layer = parametrize.register_parametrization(nn.LazyLinear(4), "weight", Polar())
    parametrize.register_parametrization(layer, "weight", lambda X: X[:2], unsafe=True)
    parametrize.register_parametrization(layer, "bias", lambda b: b[:2], unsafe=True)
    assert layer(x).shape == (2, 2)
    assert layer.parametrizations.weight.ntensors == 2


def refusing() -> Any:
    layer = parametrize.register_parametrization(nn.LazyLinear(3), "bias", Double())
    parametrize.register_parametrization(layer, "weight", Double())
    return parametrize.register_parametrization(layer, "weight", Skew())  # of 3 x 4 matrices


def test_what_is_refused_raises_in_each_forward_pass_and_nothing_is_registered() -> None:
    layer = refusing()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="size of tensor") as raised:
            layer(x)
        notes = "\n".join(raised.value.__notes__)
        assert "while registering Skew on 'weight' of" in notes
        assert "what is waiting on: bias, weight" in notes
        assert type(layer) is nn.Linear
        assert list(layer.state_dict()) == ["weight", "bias"]
    value = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    with pytest.raises(RuntimeError):
        layer(x)
    assert all(torch.equal(tensor, value[name]) for name, tensor in layer.state_dict().items())
    parametrize.remove_parametrizations(layer, "weight")
    assert torch.equal(layer(x), x @ value["weight"].mT + value["bias"])
    assert parametrize.is_parametrized(layer, "bias")


def test_a_registration_after_a_refusal_waits_behind_the_others() -> None:
    layer = refusing()
    with pytest.raises(RuntimeError):
        layer(x)
    parametrize.register_parametrization(layer, "bias", Double())
    parametrize.remove_parametrizations(layer, "weight")
    layer(x)
    assert len(layer.parametrizations.bias) == 2


def test_a_raw_tensor_of_another_shape_is_given_back_after_a_refusal() -> None:
    layer = parametrize.register_parametrization(
        nn.LazyLinear(4), "weight", (torch.diag_embed, lambda W: W.diagonal(dim1=-2, dim2=-1))
    )
    parametrize.register_parametrization(layer, "bias", Skew())
    with pytest.raises(RuntimeError):
        layer(x)
    assert layer.weight.shape == (4, 4)


def test_removing_what_waits_leaves_a_lazy_module() -> None:
    layer = orthogonal()
    parametrize.remove_parametrizations(layer, "weight")
    assert list(layer.parametrizations._modules) == ["bias"]
    parametrize.remove_parametrizations(layer, "bias")
    assert "parametrizations" not in layer._modules
    assert list(layer.state_dict()) == ["weight", "bias"]
    layer(x)
    assert type(layer) is nn.Linear


def test_a_name_that_does_not_exist_is_refused_at_once() -> None:
    layer = nn.LazyLinear(4, bias=False)
    for name in ("bias", "wieght"):
        with pytest.raises(ValueError, match=f"no parameter, buffer or parametrized tensor '{name}'"):
            parametrize.register_parametrization(layer, name, Double())
    assert "parametrizations" not in layer._modules
    layer.parametrizations = nn.Tanh()
    with pytest.raises(ValueError, match="attribute 'parametrizations' of its own"):
        parametrize.register_parametrization(layer, "weight", Double())


def test_a_parameter_that_nothing_will_initialise_is_refused() -> None:
    module = nn.Module()
    module.weight = nn.UninitializedParameter()
    with pytest.raises(RuntimeError, match="'weight' of Module has no shape yet"):
        parametrize.register_parametrization(module, "weight", Double())


def test_a_transfer_to_a_lazy_module_is_refused_even_when_it_has_its_shapes() -> None:
    source, target = parametrize.register_parametrization(nn.Linear(4, 4), "weight", Double()), nn.LazyLinear(4)
    target.load_state_dict(nn.Linear(4, 4).state_dict())
    with pytest.raises(RuntimeError, match="forward pass"):
        parametrize.transfer_parametrizations_and_params(source, target)
    target(x)
    assert type(target) is nn.Linear


def test_a_layer_compiles_after_its_first_forward_pass() -> None:
    torch._dynamo.reset()
    layer = orthogonal()
    y = layer(x)
    torch.testing.assert_close(torch.compile(layer, fullgraph=True, backend="eager")(x), y)
