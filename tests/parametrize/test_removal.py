"""What removing does."""

import operator

import pytest
import torch
from torch import Tensor, nn

from paraform import parametrize
from tests.parametrize.cases import HOSTS, TRAINED, Double, Host, Polar, Symmetric, assert_untouched, snapshot

on_hosts = pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.title)
on_trained_hosts = pytest.mark.parametrize("host", TRAINED, ids=lambda host: host.title)


@on_hosts
def test_removing_leaves_the_value_by_default(host: Host) -> None:
    module = parametrize.register_parametrization(host.make(), host.name, Symmetric())
    original, value = module.parametrizations[host.name].original, host.tensor(module).detach().clone()
    assert parametrize.remove_parametrizations(module, host.name) is module
    assert host.tensor(module) is original
    assert torch.equal(original, value)


@on_hosts
def test_removing_can_leave_the_raw_tensor(host: Host) -> None:
    module = parametrize.register_parametrization(host.make(), host.name, Symmetric())
    original = module.parametrizations[host.name].original
    raw = original.detach().clone()
    parametrize.remove_parametrizations(module, host.name, leave_parametrized=False)
    assert host.tensor(module) is original
    assert torch.equal(original, raw)


@on_hosts
def test_removing_the_last_restores_class_and_state_dict_exactly(host: Host) -> None:
    module = host.make()
    cls, keys, attributes = type(module), set(module.state_dict()), set(vars(module))
    parametrize.register_parametrization(module, host.name, Symmetric())
    parametrize.remove_parametrizations(module, host.name)
    assert type(module) is cls
    assert set(module.state_dict()) == keys
    assert set(vars(module)) == attributes
    assert not parametrize.is_parametrized(module)
    assert not hasattr(module, "parametrizations")


@on_trained_hosts
def test_a_plain_layer_trains_on_after_removal_with_the_same_optimizer(host: Host) -> None:
    module = host.make()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    parametrize.register_parametrization(module, host.name, Symmetric())
    parametrize.remove_parametrizations(module, host.name)
    before = host.tensor(module).detach().clone()
    host.output(module, host.input()).square().sum().backward()
    optimizer.step()
    assert not torch.equal(host.tensor(module), before)


@on_hosts
def test_several_originals_become_one_plain_tensor(host: Host) -> None:
    module = host.make()
    kind = type(host.tensor(module))
    parametrize.register_parametrization(module, host.name, Polar())
    value = host.tensor(module).detach().clone()
    parametrize.remove_parametrizations(module, host.name)
    assert type(host.tensor(module)) is kind
    assert host.tensor(module).grad_fn is None
    assert torch.equal(host.tensor(module), value)


def test_several_originals_stay_a_parameter_under_no_grad_and_when_frozen() -> None:
    trained, frozen = nn.Linear(4, 4), nn.Linear(4, 4).requires_grad_(False)
    for layer in (trained, frozen):
        parametrize.register_parametrization(layer, "weight", Polar())
        with torch.no_grad():
            parametrize.remove_parametrizations(layer, "weight")
        assert isinstance(layer.weight, nn.Parameter)
    assert trained.weight.requires_grad
    assert not frozen.weight.requires_grad


def test_several_originals_have_no_single_raw_tensor_to_leave() -> None:
    layer = parametrize.register_parametrization(nn.Linear(4, 4), "weight", Polar())
    before, cls = snapshot(layer), type(layer)
    with pytest.raises(ValueError, match="has 2 originals"):
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
    assert_untouched(layer, before, cls)


def test_removing_one_tensor_keeps_the_other_parametrized() -> None:
    layer = nn.Linear(4, 4)
    parametrize.register_parametrization(layer, "weight", Symmetric())
    alone = type(layer)
    parametrize.register_parametrization(layer, "bias", Double())
    assert type(layer) is not alone
    parametrize.remove_parametrizations(layer, "bias")
    assert type(layer) is alone
    assert isinstance(layer.bias, nn.Parameter)
    assert torch.equal(layer.weight, layer.weight.mT)


def test_a_value_of_another_dtype_cannot_be_left_in_the_original() -> None:
    class ToDouble(nn.Module):
        def forward(self, X: Tensor) -> Tensor:
            return X.double()

    layer = parametrize.register_parametrization(nn.Linear(4, 4), "weight", ToDouble(), unsafe=True)
    before, cls = snapshot(layer), type(layer)
    with pytest.raises(RuntimeError, match=r"has dtype torch\.float64.*leave_parametrized=False"):
        parametrize.remove_parametrizations(layer, "weight")
    assert_untouched(layer, before, cls)
    parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
    assert layer.weight.dtype == torch.float32


def test_a_value_of_another_shape_can_be_left() -> None:
    class Top(nn.Module):
        def forward(self, X: Tensor) -> Tensor:
            return X[:2]

    layer = parametrize.register_parametrization(nn.Linear(4, 4), "weight", Top(), unsafe=True)
    parameter, value = layer.parametrizations.weight.original, layer.weight.detach().clone()
    parametrize.remove_parametrizations(layer, "weight")
    assert layer.weight is parameter
    assert torch.equal(parameter, value)


def test_removing_what_is_not_parametrized_says_so() -> None:
    layer = parametrize.register_parametrization(nn.Linear(4, 4), "weight", Symmetric())
    with pytest.raises(ValueError, match="no parametrization on 'bias'"):
        parametrize.remove_parametrizations(layer, "bias")
    with pytest.raises(ValueError, match="no parametrization on 'weight'"):
        parametrize.remove_parametrizations(nn.Linear(2, 2), "weight")


def test_a_parametrization_that_fails_at_removal_leaves_the_module_untouched() -> None:
    class Fails(nn.Module):
        works = True

        def forward(self, X: Tensor) -> Tensor:
            if not self.works:
                raise ArithmeticError("out of order")
            return X

    fails = Fails()
    layer = parametrize.register_parametrization(nn.Linear(4, 4), "weight", fails)
    before, cls = snapshot(layer), type(layer)
    fails.works = False
    with pytest.raises(ArithmeticError, match="out of order") as caught:
        parametrize.remove_parametrizations(layer, "weight")
    assert_untouched(layer, before, cls)
    assert "while removing the parametrizations of 'weight'" in caught.value.__notes__[-1]


def test_removal_under_cached_leaves_the_current_value() -> None:
    layer = parametrize.register_parametrization(nn.Linear(4, 4), "weight", Symmetric())
    with parametrize.cached():
        _ = layer.weight
        layer.weight = torch.eye(4)
        parametrize.remove_parametrizations(layer, "weight")
        assert torch.equal(layer.weight, torch.eye(4))


def test_a_module_with_its_own_ways_to_register_and_look_up_gets_its_parameter_back() -> None:
    class Wrapper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2, 2))
            self.base = nn.Linear(2, 2)

        def __getattr__(self, name: str) -> object:
            try:
                return super().__getattr__(name)
            except AttributeError:
                return getattr(super().__getattr__("base"), name)

    wrapper = Wrapper()
    parameter = wrapper.weight
    parametrize.register_parametrization(wrapper, "weight", Double())
    parametrize.remove_parametrizations(wrapper, "weight")
    assert wrapper.weight is parameter
    assert type(wrapper) is Wrapper


def test_a_value_that_is_no_tensor_cannot_be_left() -> None:
    class Pair(nn.Module):
        def forward(self, X: Tensor) -> tuple[Tensor, Tensor]:
            return X, X

    layer = parametrize.register_parametrization(nn.Linear(2, 2), "weight", Pair(), unsafe=True)
    with pytest.raises(RuntimeError, match="is no tensor but a tuple"):
        parametrize.remove_parametrizations(layer, "weight")
    parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
    assert type(layer) is nn.Linear


def test_an_emptied_chain_says_so_and_does_not_end_a_loop() -> None:
    layer = parametrize.register_parametrization(nn.Linear(2, 2), "weight", Double())
    delattr(layer.parametrizations.weight, "0")
    with pytest.raises(IndexError, match="no parametrization left"):
        list(map(operator.attrgetter("weight"), [layer]))
