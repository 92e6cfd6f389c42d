"""torch.nn.utils.parametrize and this engine understand each other's modules and checkpoints."""

import copy
from types import ModuleType

import pytest
import torch
import torch.nn.utils.parametrize as torch_parametrize
from torch import nn

import paraform.parametrize as our_parametrize
from tests.parametrize.cases import HOSTS, Double, Host, Polar, Scale, Symmetric, assert_untouched, snapshot

on_hosts = pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.title)
in_both_directions = pytest.mark.parametrize(
    ("maker", "user"),
    [(our_parametrize, torch_parametrize), (torch_parametrize, our_parametrize)],
    ids=["torch on ours", "ours on torch's"],
)


def value_of(host: Host, module: nn.Module) -> torch.Tensor:
    return host.tensor(module).detach().clone()


@pytest.mark.parametrize("parametrization", [Symmetric, Scale, Polar])
@in_both_directions
@on_hosts
def test_a_checkpoint_of_either_engine_loads_in_the_other(
    host: Host, maker: ModuleType, user: ModuleType, parametrization: type[nn.Module]
) -> None:
    saved, other = host.make(), host.make()
    maker.register_parametrization(saved, host.name, parametrization())
    user.register_parametrization(other, host.name, parametrization())
    assert list(other.state_dict()) == list(saved.state_dict())
    other.load_state_dict(saved.state_dict(), strict=True)
    assert torch.equal(host.tensor(other), host.tensor(saved))


@in_both_directions
@on_hosts
def test_either_engine_recognises_the_others_modules(host: Host, maker: ModuleType, user: ModuleType) -> None:
    module = host.make()
    base = type(module)
    maker.register_parametrization(module, host.name, Symmetric())
    assert user.is_parametrized(module)
    assert user.is_parametrized(module, host.name)
    assert not user.is_parametrized(module, "other")
    assert user.type_before_parametrizations(module) is base


@pytest.mark.parametrize("leave_parametrized", [True, False])
@in_both_directions
@on_hosts
def test_either_engine_removes_the_others_parametrizations_and_no_copy_notices(
    host: Host, maker: ModuleType, user: ModuleType, leave_parametrized: bool
) -> None:
    module = host.make()
    base = type(module)
    maker.register_parametrization(module, host.name, Symmetric())
    twin, sibling = copy.deepcopy(module), maker.register_parametrization(host.make(), host.name, Symmetric())
    value, others = value_of(host, module), [(m, snapshot(m), type(m), value_of(host, m)) for m in (twin, sibling)]
    raw = module.parametrizations[host.name].original.detach().clone()
    user.remove_parametrizations(module, host.name, leave_parametrized=leave_parametrized)
    assert type(module) is base
    assert torch.equal(host.tensor(module), value if leave_parametrized else raw)
    assert host.output(module, host.input()) is not None
    for other, before, cls, other_value in others:
        assert_untouched(other, before, cls)
        assert torch.equal(host.tensor(other), other_value)


@in_both_directions
@on_hosts
def test_either_engine_registers_behind_the_others_parametrization(
    host: Host, maker: ModuleType, user: ModuleType
) -> None:
    module = maker.register_parametrization(host.make(), host.name, Symmetric())
    twin, before = copy.deepcopy(module), value_of(host, module)
    user.register_parametrization(module, host.name, Double())
    assert torch.equal(host.tensor(module), 2 * before)
    assert torch.equal(host.tensor(twin), before)
    setattr(module, host.name, before)
    torch.testing.assert_close(host.tensor(module), before)
    user.remove_parametrizations(module, host.name)
    assert torch.equal(host.tensor(twin), before)


@in_both_directions
def test_either_engine_registers_on_another_tensor_of_the_others_module(maker: ModuleType, user: ModuleType) -> None:
    layer = maker.register_parametrization(nn.Linear(4, 4), "weight", Symmetric())
    twin = copy.deepcopy(layer)
    before, cls = snapshot(twin), type(twin)
    user.register_parametrization(layer, "bias", Double())
    raw = layer.parametrizations.bias.original
    assert torch.equal(layer.bias, 2 * raw)
    assert torch.equal(layer.weight, layer.weight.mT)
    assert_untouched(twin, before, cls)
    assert twin.bias is dict(twin.named_parameters())["bias"]
    assert twin(torch.ones(1, 4)).shape == (1, 4)
    maker.remove_parametrizations(layer, "bias")
    user.remove_parametrizations(layer, "weight")
    assert type(layer) is nn.Linear
    assert_untouched(twin, before, cls)


def test_after_torch_removed_one_of_two_tensors_ours_still_copies_and_removes() -> None:
    layer = nn.Linear(4, 4)
    our_parametrize.register_parametrization(layer, "weight", Symmetric())
    our_parametrize.register_parametrization(layer, "bias", Double())
    torch_parametrize.remove_parametrizations(layer, "weight")
    assert isinstance(layer.weight, nn.Parameter)
    with torch.no_grad():
        layer.weight.fill_(1.0)
    assert torch.equal(copy.deepcopy(layer).weight, torch.ones(4, 4))
    our_parametrize.remove_parametrizations(layer, "bias")
    assert type(layer) is nn.Linear


def test_a_module_that_torch_parametrized_can_be_pickled_once_ours_has_touched_it() -> None:
    layer = torch_parametrize.register_parametrization(nn.Linear(4, 4), "weight", Symmetric())
    with pytest.raises(RuntimeError, match="only supported through state_dict"):
        copy.copy(layer).__getstate__()
    our_parametrize.register_parametrization(layer, "bias", Double())
    assert torch.equal(copy.deepcopy(layer).weight, layer.weight)
    layer.weight = torch.eye(4)
    assert torch.equal(layer.weight, torch.eye(4))


def test_a_refused_call_leaves_a_module_that_torch_parametrized_untouched() -> None:
    layer = torch_parametrize.register_parametrization(nn.Linear(4, 4), "weight", Polar())
    before, cls = snapshot(layer), type(layer)
    with pytest.raises(ValueError, match="shape"):
        our_parametrize.register_parametrization(layer, "weight", nn.Flatten(0))
    with pytest.raises(ValueError, match="originals"):
        our_parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
    assert_untouched(layer, before, cls)


def test_transfer_takes_from_a_module_that_torch_parametrized() -> None:
    source = torch_parametrize.register_parametrization(nn.Linear(4, 4), "weight", Symmetric())
    cls = type(source)
    target = our_parametrize.transfer_parametrizations_and_params(source, nn.Linear(4, 4))
    assert torch.equal(target.weight, source.weight)
    assert type(source) is cls


def test_torchs_transfer_takes_from_ours() -> None:
    source = our_parametrize.register_parametrization(nn.Linear(4, 4), "weight", Symmetric())
    target = torch_parametrize.transfer_parametrizations_and_params(source, nn.Linear(4, 4))
    assert torch.equal(target.weight, source.weight)


def test_a_layer_of_the_shared_class_compiles_whole_after_torch_put_a_property_on_the_class() -> None:
    torch._dynamo.reset()
    layer, sibling = (our_parametrize.register_parametrization(nn.Linear(4, 4), "weight", Symmetric()) for _ in "ab")
    torch_parametrize.register_parametrization(sibling, "bias", Double())
    assert isinstance(vars(type(layer))["bias"], property)
    x = torch.randn(2, 4)
    for module in (layer, sibling):
        torch.testing.assert_close(torch.compile(module, fullgraph=True, backend="eager")(x), module(x))
    torch_parametrize.remove_parametrizations(sibling, "bias")
    torch.testing.assert_close(torch.compile(sibling, fullgraph=True, backend="eager")(x), sibling(x))


def test_a_property_that_a_user_puts_on_the_class_is_left_alone() -> None:
    layer = our_parametrize.register_parametrization(nn.Linear(4, 4), "weight", Symmetric())
    cls = type(layer)
    cls.answer = property(lambda self: 42)
    assert layer.answer == 42
    del cls.answer
    assert not hasattr(layer, "answer")


def test_every_public_name_of_torchs_engine_is_here_with_its_signature() -> None:
    import inspect

    for name in torch_parametrize.__all__:
        signatures = (inspect.signature(getattr(room, name)) for room in (our_parametrize, torch_parametrize))
        ours, theirs = ({key: (each.kind, each.default) for key, each in s.parameters.items()} for s in signatures)
        assert list(ours.items())[: len(theirs)] == list(theirs.items()), name
        for key, (kind, default) in list(ours.items())[len(theirs) :]:  # of our own
            assert default is None, name
            assert kind is inspect.Parameter.KEYWORD_ONLY or (name, key) == ("cached", "model")
    assert set(torch_parametrize.__all__) <= set(our_parametrize.__all__)
