"""Plain functions, and pairs of them, as parametrizations."""

from __future__ import annotations

import copy
import functools
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from paraform import parametrize
from paraform.parametrize import Function
from tests.parametrize.cases import HOSTS, Host

on_hosts = pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.title)


def halve(X: Tensor) -> Tensor:
    return X / 2


def double(X: Tensor) -> Tensor:
    return X * 2


def parts(X: Tensor) -> tuple[Tensor, Tensor]:
    return X / 2, X / 2


@on_hosts
def test_a_function_is_applied_to_the_raw_tensor(host: Host) -> None:
    module = host.make()
    before = host.tensor(module).detach().clone()
    assert parametrize.register_parametrization(module, host.name, torch.matrix_exp) is module
    assert torch.equal(host.tensor(module), torch.matrix_exp(before))
    with pytest.raises(RuntimeError, match="does not implement right_inverse"):
        setattr(module, host.name, before)


@on_hosts
def test_a_pair_keeps_the_value_and_takes_assignments(host: Host) -> None:
    module = host.make()
    before = host.tensor(module).detach().clone()
    parametrize.register_parametrization(module, host.name, (halve, double))
    assert torch.equal(host.tensor(module), before)
    assert torch.equal(module.parametrizations[host.name].original, before * 2)
    setattr(module, host.name, before + 1)
    assert torch.equal(host.tensor(module), before + 1)


def test_an_inverse_may_give_several_originals() -> None:
    layer = parametrize.register_parametrization(nn.Linear(2, 2), "weight", (torch.add, parts))
    assert set(dict(layer.named_parameters())) == {
        "bias",
        "parametrizations.weight.original0",
        "parametrizations.weight.original1",
    }


@pytest.mark.parametrize("given", [torch.matrix_exp, halve, (halve, double), functools.partial(torch.mul, other=2)])
def test_it_is_copied_and_pickled_where_the_functions_can_be(given: Any) -> None:
    layer = parametrize.register_parametrization(nn.Linear(2, 2), "weight", given)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(other.weight, layer.weight)


def test_a_lambda_works_and_is_not_pickled() -> None:
    layer = parametrize.register_parametrization(nn.Linear(2, 2), "weight", lambda X: X + 1)
    assert torch.equal(layer.weight, layer.parametrizations.weight.original + 1)
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(layer)


def test_modules_in_a_pair_train_and_move_with_the_layer() -> None:
    scale = nn.PReLU()
    layer = parametrize.register_parametrization(nn.Linear(2, 2), "weight", (scale, halve))
    assert "parametrizations.weight.0.function.weight" in layer.state_dict()
    layer.double()(torch.ones(1, 2, dtype=torch.float64)).sum().backward()
    assert scale.weight.grad is not None


def test_it_compiles_to_one_graph() -> None:
    torch._dynamo.reset()
    layer = parametrize.register_parametrization(nn.Linear(2, 2), "weight", (halve, double))
    x = torch.randn(1, 2)
    torch.testing.assert_close(torch.compile(layer, fullgraph=True, backend="eager")(x), layer(x))


def test_its_repr_names_the_functions() -> None:
    assert repr(Function(torch.matrix_exp)) == "Function(matrix_exp)"
    assert repr(Function(halve, double)) == "Function(halve, inverse=double)"
    assert repr(Function(functools.partial(halve))).startswith("Function(functools.partial(<function halve")
    assert repr(Function(nn.Tanh())) == "Function(\n  (function): Tanh()\n)"


@pytest.mark.parametrize("given", ["weight", None, 2, [halve, double], (halve,), (halve, None), torch.ones(2), halve])
def test_what_is_neither_a_module_nor_a_function_is_refused(given: Any) -> None:
    if given is halve:
        given = Function  # the class
    layer = nn.Linear(2, 2)
    with pytest.raises(TypeError, match="Expected a parametrization") as raised:
        parametrize.register_parametrization(layer, "weight", given)
    assert "on 'weight' of Linear" in raised.value.__notes__[0]
    assert type(layer) is nn.Linear


def test_a_function_that_cannot_be_called_is_refused() -> None:
    with pytest.raises(TypeError, match="Expected a function as inverse, got int"):
        Function(halve, 3)
    with pytest.raises(TypeError, match="Expected a function as forward, got NoneType"):
        Function(None)
