"""An optimizer is handed over when the parameters behind a tensor are exchanged."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn, optim

from paraform import Circulant, Orthogonal, Skew, WeightNorm
from paraform.parametrize import (
    match_by_name,
    register_parametrization,
    remove_parametrizations,
    transfer_parametrizations_and_params,
)
from tests.parametrize.cases import Double, Polar, Scale, Symmetric, Table, assert_untouched, snapshot

Make = Callable[[Iterable[Any]], optim.Optimizer]

OPTIMIZERS: dict[str, Make] = {
    "SGD": lambda params: optim.SGD(params, lr=0.01, momentum=0.9),
    "SGD fused": lambda params: optim.SGD(params, lr=0.01, momentum=0.9, fused=True),
    "Adam": lambda params: optim.Adam(params, lr=0.01),
    "Adam amsgrad foreach": lambda params: optim.Adam(params, lr=0.01, amsgrad=True, foreach=True),
    "Adam with a tensor as lr": lambda params: optim.Adam(params, lr=torch.tensor(0.01)),
    "AdamW fused": lambda params: optim.AdamW(params, lr=0.01, fused=True),
    "Adagrad": lambda params: optim.Adagrad(params, lr=0.01, initial_accumulator_value=0.1),
    "Adagrad fused": lambda params: optim.Adagrad(params, lr=0.01, fused=True),
    "RMSprop": lambda params: optim.RMSprop(params, lr=0.01, momentum=0.9, centered=True),
    "Adadelta": lambda params: optim.Adadelta(params, lr=0.1),
    "Adamax": lambda params: optim.Adamax(params, lr=0.01),
    "NAdam": lambda params: optim.NAdam(params, lr=0.01),
    "RAdam": lambda params: optim.RAdam(params, lr=0.01),
    "ASGD": lambda params: optim.ASGD(params, lr=0.01),
    "Rprop": lambda params: optim.Rprop(params, lr=0.01),
    "Adafactor": lambda params: optim.Adafactor(params, lr=0.01),
}
on_optimizers = pytest.mark.parametrize("kind", OPTIMIZERS)


def step(model: nn.Module, optimizer: optim.Optimizer) -> None:
    optimizer.zero_grad()
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(5, 4, generator=generator)
    model(x).square().sum().backward()
    optimizer.step()


def ids(parameters: Iterable[Tensor]) -> list[int]:
    return [id(parameter) for parameter in parameters]


def trained(optimizer: optim.Optimizer) -> list[int]:
    return [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]


def behind(layer: nn.Module) -> list[int]:
    return ids(layer.parametrizations.parameters())


@on_optimizers
def test_training_goes_on_as_with_an_optimizer_that_is_new_for_the_new_tensors(kind: str) -> None:
    """The reference: fresh optimizers for the originals, and one that goes on for the bias."""
    layer = nn.Linear(4, 4)
    optimizer = OPTIMIZERS[kind](layer.parameters())
    for _ in range(3):
        step(layer, optimizer)
    reference = nn.Linear(4, 4)
    reference.load_state_dict(layer.state_dict())
    going_on = OPTIMIZERS[kind]([reference.weight, reference.bias])
    going_on.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    register_parametrization(layer, "weight", WeightNorm(), optimizer=optimizer)
    register_parametrization(reference, "weight", WeightNorm())
    fresh = OPTIMIZERS[kind](reference.parametrizations.parameters())
    for _ in range(3):
        step(layer, optimizer)
        going_on.zero_grad()
        step(reference, fresh)
        going_on.step()
    for name, actual in layer.named_parameters():
        assert torch.equal(actual, reference.get_parameter(name)), name
    assert optimizer.state.keys() == set(layer.parameters())


@on_optimizers
def test_removal_puts_the_plain_parameter_in_the_place_of_the_originals(kind: str) -> None:
    layer = register_parametrization(nn.Linear(4, 4), "weight", WeightNorm())
    originals = list(layer.parametrizations.parameters())
    optimizer = OPTIMIZERS[kind]([*originals, layer.bias])
    step(layer, optimizer)
    remove_parametrizations(layer, "weight", optimizer=optimizer)
    assert trained(optimizer) == ids([layer.weight, layer.bias])
    before = layer.weight.detach().clone()
    step(layer, optimizer)
    assert not torch.equal(layer.weight, before)
    assert optimizer.state.keys() == {layer.weight, layer.bias}


@on_optimizers
def test_where_the_shape_changes_an_optimizer_does_as_if_it_were_handed_over(kind: str) -> None:
    """A fused step asks for no shape: with moments of another one it would write beyond their end."""
    layer = nn.Linear(4, 4)
    weight, optimizer = layer.weight, OPTIMIZERS[kind](list(layer.parameters()))
    twin, told = copy.deepcopy((layer, optimizer))
    for change in (
        lambda layer, **handed: register_parametrization(layer, "weight", Circulant(), **handed),
        lambda layer, **handed: remove_parametrizations(layer, "weight", **handed),
    ):
        for _ in range(2):
            step(layer, optimizer)
            step(twin, told)
        change(layer)
        change(twin, optimizer=told)
        assert weight in set(layer.parameters())
    for _ in range(2):
        step(layer, optimizer)
        step(twin, told)
    assert torch.equal(layer.weight, twin.weight)
    assert torch.equal(layer.bias, twin.bias)


def test_an_edited_chain_whose_original_has_another_shape_makes_optimizers_start_anew() -> None:
    layer = register_parametrization(nn.Linear(4, 4), "weight", Skew())
    optimizer = OPTIMIZERS["AdamW fused"](layer.parameters())
    for constraint, shape in ((Circulant(), (4,)), (Skew(), (4, 4))):
        step(layer, optimizer)
        layer.parametrizations.weight.replace(0, constraint)
        step(layer, optimizer)
        assert optimizer.state[layer.parametrizations.weight.original]["exp_avg"].shape == shape


def test_the_new_tensors_have_the_group_the_place_and_the_name_of_the_old_one() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    named = list(model.named_parameters())
    optimizer = optim.Adam([{"params": named[:1], "lr": 0.5}, {"params": named[1:], "lr": 0.1}])
    other, group = optimizer.param_groups
    lists = group["params"], group["param_names"]
    register_parametrization(model[1], "weight", Polar(), optimizer=optimizer)
    original0, original1 = model[1].parametrizations.weight.originals()
    assert optimizer.param_groups[1] is group
    assert (group["params"], group["param_names"]) == lists
    assert group["params"] is lists[0]
    assert ids(group["params"]) == ids([model[0].bias, original0, original1, model[1].bias])
    parts = ["1.parametrizations.weight.original0", "1.parametrizations.weight.original1"]
    assert group["param_names"] == ["0.bias", *parts, "1.bias"]
    assert (other["lr"], group["lr"]) == (0.5, 0.1)
    remove_parametrizations(model[1], "weight", optimizer=optimizer)
    assert group["param_names"] == ["0.bias", "1.weight", "1.bias"]
    assert ids(group["params"]) == ids([model[0].bias, model[1].weight, model[1].bias])


def test_a_name_of_the_users_own_stays_in_front() -> None:
    layer = nn.Linear(4, 4)
    optimizer = optim.SGD([("overweight", layer.weight), ("rest", layer.bias)], lr=0.1)
    register_parametrization(layer, "weight", Polar(), optimizer=optimizer)
    parts = [f"overweight.parametrizations.weight.original{index}" for index in (0, 1)]
    assert optimizer.param_groups[0]["param_names"] == [*parts, "rest"]


def test_a_single_original_stays_the_same_parameter_and_starts_anew() -> None:
    layer = nn.Linear(4, 4)
    optimizer = optim.Adam(layer.named_parameters())
    step(layer, optimizer)
    weight, bias_state = layer.weight, optimizer.state[layer.bias]
    register_parametrization(layer, "weight", Orthogonal(), optimizer=optimizer)
    assert trained(optimizer) == ids([weight, layer.bias])
    assert weight not in optimizer.state
    assert weight.grad is None
    assert optimizer.state[layer.bias] is bias_state
    assert optimizer.param_groups[0]["param_names"] == ["parametrizations.weight.original", "bias"]
    step(layer, optimizer)
    remove_parametrizations(layer, "weight", optimizer=optimizer)
    assert weight not in optimizer.state
    assert optimizer.param_groups[0]["param_names"] == ["weight", "bias"]


def test_without_an_optimizer_a_single_original_goes_on_with_its_moments() -> None:
    layer = nn.Linear(4, 4)
    optimizer = optim.Adam(layer.parameters())
    step(layer, optimizer)
    state = optimizer.state[layer.weight]
    register_parametrization(layer, "weight", Double())
    assert optimizer.state[layer.parametrizations.weight.original] is state


def test_what_a_parametrization_trains_of_its_own_joins_and_leaves() -> None:
    layer = nn.Linear(4, 4)
    optimizer = optim.SGD(layer.named_parameters(), lr=0.1)
    register_parametrization(layer, "weight", Symmetric(), optimizer=optimizer)
    step(layer, optimizer)
    register_parametrization(layer, "weight", Scale(), optimizer=optimizer)
    assert trained(optimizer) == [*behind(layer), id(layer.bias)]
    assert optimizer.param_groups[0]["param_names"][1] == "parametrizations.weight.1.factor"
    factor = layer.parametrizations.weight[1].factor.item()
    step(layer, optimizer)
    assert layer.parametrizations.weight[1].factor.item() != factor
    remove_parametrizations(layer, "weight", optimizer=optimizer)
    assert trained(optimizer) == ids([layer.weight, layer.bias])


def test_a_further_parametrization_leaves_the_moments_of_the_originals() -> None:
    layer = register_parametrization(nn.Linear(4, 4), "weight", Polar())
    optimizer = optim.Adam(layer.parameters())
    step(layer, optimizer)
    states = {raw: optimizer.state[raw] for raw in layer.parametrizations.weight.originals()}
    register_parametrization(layer, "weight", Symmetric(), optimizer=optimizer)
    assert all(optimizer.state[raw] is state for raw, state in states.items())


def test_what_serves_another_layer_too_stays_in_the_optimizer() -> None:
    shared = Scale()
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    optimizer = optim.SGD([*first.parameters(), *second.parameters()], lr=0.1)
    for layer in (first, second):
        register_parametrization(layer, "weight", shared, optimizer=optimizer)
    assert trained(optimizer).count(id(shared.factor)) == 1
    remove_parametrizations(first, "weight", optimizer=optimizer)
    assert id(shared.factor) in trained(optimizer)
    remove_parametrizations(second, "weight", optimizer=optimizer)
    assert id(shared.factor) not in trained(optimizer)


@pytest.mark.parametrize("parametrization", [Double, Polar])
def test_originals_that_a_transfer_shares_stay_in_the_optimizer(parametrization: type[nn.Module]) -> None:
    first = register_parametrization(nn.Linear(4, 4), "weight", parametrization())
    second = transfer_parametrizations_and_params(first, nn.Linear(4, 4))
    optimizer = optim.SGD(first.parameters(), lr=0.1)
    remove_parametrizations(second, "weight", optimizer=optimizer)
    assert set(trained(optimizer)) == {*ids(first.parameters()), id(second.weight)}


def test_a_scheduler_goes_on_and_drives_the_new_tensors() -> None:
    for make in (
        lambda optimizer: optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.5**epoch),
        lambda optimizer: optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=9),
    ):
        layer, plain = nn.Linear(4, 4), nn.Linear(4, 4)
        optimizer, reference = optim.SGD(layer.parameters(), lr=0.1), optim.SGD(plain.parameters(), lr=0.1)
        scheduler, expected = make(optimizer), make(reference)
        for model, each, schedule in ((layer, optimizer, scheduler), (plain, reference, expected)):
            step(model, each)
            schedule.step()
        register_parametrization(layer, "weight", Polar(), optimizer=optimizer)
        before = layer.weight.detach().clone()
        for model, each, schedule in ((layer, optimizer, scheduler), (plain, reference, expected)):
            step(model, each)
            schedule.step()
        assert scheduler.get_last_lr() == expected.get_last_lr()
        assert not torch.equal(layer.weight, before)


def test_the_state_of_an_optimizer_that_was_handed_over_is_saved_and_loaded() -> None:
    layer = nn.Linear(4, 4)
    optimizer = optim.AdamW(layer.named_parameters())
    step(layer, optimizer)
    register_parametrization(layer, "weight", Polar(), optimizer=optimizer)
    step(layer, optimizer)
    resumed = optim.AdamW(layer.named_parameters())
    resumed.load_state_dict(match_by_name(resumed, optimizer.state_dict()))
    for parameter in layer.parameters():
        assert torch.equal(resumed.state[parameter]["exp_avg"], optimizer.state[parameter]["exp_avg"])


# What is refused


class TwoPlaces(optim.SGD):
    def __init__(self, params: Iterable[Tensor]) -> None:
        super().__init__(params, lr=0.1)
        self.also = list(self.param_groups[0]["params"])


UNFIT: dict[str, tuple[Callable[[nn.Module], object], type[Exception], str]] = {
    "no optimizer": (lambda layer: [1], TypeError, r"Expected a torch\.optim\.Optimizer to hand over, got list"),
    "one that does not train it": (
        lambda layer: optim.SGD([layer.bias], lr=0.1),
        ValueError,
        "This SGD does not train 'weight' of .*Linear",
    ),
    "LBFGS": (lambda layer: optim.LBFGS(layer.parameters()), ValueError, "LBFGS keeps its parameters in its '_params'"),
    "one that lists them elsewhere": (lambda layer: TwoPlaces(layer.parameters()), ValueError, "in its 'also'"),
}


@pytest.mark.parametrize("reason", UNFIT)
def test_an_optimizer_that_cannot_be_handed_over_is_refused_before_anything_changes(reason: str) -> None:
    make, error, words = UNFIT[reason]
    layer = nn.Linear(4, 4)
    before = snapshot(layer)
    with pytest.raises(error, match=words):
        register_parametrization(layer, "weight", Polar(), optimizer=make(layer))
    assert_untouched(layer, before, nn.Linear)
    register_parametrization(layer, "weight", Polar())
    before = snapshot(layer)
    with pytest.raises(error, match=words):
        remove_parametrizations(layer, "weight", optimizer=make(layer))
    assert_untouched(layer, before, type(layer))


def test_a_buffer_is_trained_by_no_optimizer_and_a_missing_tensor_is_said_to_be_missing() -> None:
    optimizer = optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)
    with pytest.raises(ValueError, match="does not train 'table' of Table"):
        register_parametrization(Table(), "table", Double(), optimizer=optimizer)
    with pytest.raises(ValueError, match="has no parameter, buffer or parametrized tensor 'nothing'"):
        register_parametrization(Table(), "nothing", Double(), optimizer=optimizer)


def test_a_registration_that_is_refused_leaves_the_optimizer_alone() -> None:
    class Flat(nn.Module):
        def forward(self, X: Tensor) -> Tensor:
            return X.flatten()

    layer = nn.Linear(4, 4)
    optimizer = optim.Adam(layer.parameters())
    step(layer, optimizer)
    parameters, state = trained(optimizer), dict(optimizer.state)
    with pytest.raises(ValueError, match="shape"):
        register_parametrization(layer, "weight", Flat(), optimizer=optimizer)
    assert trained(optimizer) == parameters
    assert all(optimizer.state[key] is value for key, value in state.items())
    assert layer.weight.grad is not None


# Saved optimizers


def stepped(model: nn.Module, params: Iterable[Any]) -> optim.Optimizer:
    optimizer = optim.Adam(params)
    step(model, optimizer)
    return optimizer


@pytest.mark.parametrize("hook", [False, True])
def test_moments_go_to_the_tensor_of_their_name_across_a_registration(hook: bool) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    optimizer = stepped(model, model.named_parameters())
    saved, moments = optimizer.state_dict(), {p: state["exp_avg"] for p, state in optimizer.state.items()}
    register_parametrization(model[0], "weight", Skew())
    resumed = optim.Adam(model.named_parameters(), lr=0.5)
    names = list(resumed.param_groups[0]["param_names"])
    if hook:
        resumed.register_load_state_dict_pre_hook(match_by_name)
    resumed.load_state_dict(saved if hook else match_by_name(resumed, saved))
    assert names[0] == "0.bias"
    assert all(torch.equal(resumed.state[p]["exp_avg"], moment) for p, moment in moments.items())
    assert resumed.param_groups[0]["param_names"] == names
    assert resumed.param_groups[0]["lr"] == 1e-3
    back = optim.Adam(dict(model.named_parameters()).items())
    back.load_state_dict(match_by_name(back, resumed.state_dict()))
    assert all(torch.equal(back.state[p]["exp_avg"], moment) for p, moment in moments.items())


def test_a_saved_optimizer_that_does_not_match_is_refused() -> None:
    layer = nn.Linear(4, 4)
    named = list(layer.named_parameters())
    optimizer = stepped(layer, named)
    saved = optimizer.state_dict()
    with pytest.raises(ValueError, match="The optimizer that loads has no names"):
        match_by_name(optim.Adam(layer.parameters()), saved)
    with pytest.raises(ValueError, match="The saved optimizer has no names"):
        match_by_name(optimizer, optim.Adam(layer.parameters()).state_dict())
    with pytest.raises(ValueError, match="2 parameter groups"):
        match_by_name(optim.Adam([{"params": [each]} for each in named]), saved)
    with pytest.raises(ValueError, match="two parameters named 'weight'"):
        match_by_name(optim.Adam([("weight", layer.weight), ("weight", layer.bias)]), saved)
    wide = nn.Linear(4, 3)
    with pytest.raises(ValueError, match=r"'exp_avg' of 'weight' to fit shape \(3, 4\), got one of shape \(4, 4\)"):
        match_by_name(optim.Adam(wide.named_parameters()), saved)
    circulant = register_parametrization(nn.Linear(4, 4), "weight", Circulant())
    with pytest.raises(ValueError, match=r"'exp_avg' of 'weight' to fit shape \(4,\), got one of shape \(4, 4\)"):
        match_by_name(optim.Adam(circulant.named_parameters()), saved)
    register_parametrization(layer, "weight", Polar())
    with pytest.raises(ValueError, match=r"only the saved one has weight, only the one that loads .*0, p"):
        match_by_name(optim.Adam(layer.named_parameters()), saved)
