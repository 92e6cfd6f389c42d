"""A chain is edited like a list: the value stays where it can, and the other steps keep their keys."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
import torch.nn.utils.parametrize as torch_parametrize
from torch import Tensor, nn

from paraform import constraints, parametrize
from tests.parametrize.cases import HOSTS, Double, Host, MatrixExp, Polar, Scale, Skew, Symmetric, Table

on_hosts = pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.title)


class Times(nn.Module):
    """Multiplies; saved with the module, so that its key shows."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor, dtype=torch.float64))

    def forward(self, X: Tensor) -> Tensor:
        return self.factor * X

    def right_inverse(self, Y: Tensor) -> Tensor:
        return Y / self.factor


class Plus(Times):
    def forward(self, X: Tensor) -> Tensor:
        return X + self.factor

    def right_inverse(self, Y: Tensor) -> Tensor:
        return Y - self.factor


class OneWay(Times):
    """Has no inverse."""

    right_inverse = property()  # an attribute that is not there


def chained(*steps: nn.Module) -> Any:
    layer = nn.Linear(3, 3, dtype=torch.float64)
    for step in steps:
        parametrize.register_parametrization(layer, "weight", step)
    return layer, layer.parametrizations.weight


def keys(layer: nn.Module) -> list[str]:
    prefix = "parametrizations.weight."
    return [key.removeprefix(prefix) for key in layer.state_dict() if key.startswith(prefix)]


# --- what stays -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", [0, 1, 2])
def test_removing_a_step_keeps_the_value_the_parameter_the_class_and_the_keys_of_the_others(index: int) -> None:
    layer, chain = chained(Times(2.0), Plus(3.0), Times(5.0))
    value, raw, cls = layer.weight.detach().clone(), chain.original, type(layer)
    chain.remove(index)
    torch.testing.assert_close(layer.weight.detach(), value)
    assert chain.original is raw
    assert type(layer) is cls
    assert keys(layer) == ["original", *[f"{key}.factor" for key in range(3) if key != index]]
    assert chain.moved <= 1e-12


def test_a_step_is_named_by_its_index_from_either_end_or_by_itself() -> None:
    middle = Plus(3.0)
    for name in (1, -2, middle):
        _, chain = chained(Times(2.0), middle, Times(5.0))
        chain.remove(name)
        assert [type(step) for step in chain] == [Times, Times]
        assert [step.factor.item() for step in (chain[0], chain[1], chain[-1])] == [2.0, 5.0, 5.0]


def test_removing_without_keeping_the_value_leaves_the_raw_tensor() -> None:
    layer, chain = chained(Times(2.0), Plus(3.0))
    raw = chain.original.detach().clone()
    chain.remove(1, leave_parametrized=False)
    assert torch.equal(chain.original, raw)
    assert torch.equal(layer.weight, 2 * raw)
    assert chain.moved == pytest.approx(9.0)  # 3 in each of 9 entries


def test_the_first_step_goes_without_an_inverse_of_anything() -> None:
    layer, chain = chained(OneWay(2.0), OneWay(3.0))
    value = layer.weight.detach().clone()
    chain.remove(0)
    torch.testing.assert_close(layer.weight.detach(), value)


@on_hosts
def test_the_value_of_a_first_step_with_several_originals_becomes_a_single_one(host: Host) -> None:
    module = host.make()
    parametrize.register_parametrization(module, host.name, Polar())
    parametrize.register_parametrization(module, host.name, Double())
    chain, value = module.parametrizations[host.name], host.tensor(module).detach().clone()
    kind = type(chain.original0)
    chain.remove(0)
    torch.testing.assert_close(host.tensor(module).detach(), value)
    assert chain.is_tensor
    assert [name for name, _ in chain.named_parameters()] + [name for name, _ in chain.named_buffers()] == ["original"]
    assert type(chain.original) is kind
    setattr(module, host.name, value)
    torch.testing.assert_close(host.tensor(module).detach(), value)


def test_a_buffer_that_is_not_saved_is_still_not_saved() -> None:
    module = parametrize.register_parametrization(Table(persistent=False), "table", Symmetric())
    module.parametrizations.table[0] = Polar()
    assert dict(module.state_dict()) == {}
    module.parametrizations.table[0] = Symmetric()
    assert dict(module.state_dict()) == {}
    assert torch.equal(module.table, module.table.mT)


@pytest.mark.parametrize("index", [0, 1, 2, 3, -1, 9])
def test_inserting_a_step_keeps_the_value_and_the_keys_of_the_others(index: int) -> None:
    layer, chain = chained(Times(2.0), Plus(3.0), Times(5.0))
    value, raw, step = layer.weight.detach().clone(), chain.original, Plus(7.0)
    expected = list(chain)
    expected.insert(index, step)
    chain.insert(index, step)
    assert list(chain) == expected
    assert chain[expected.index(step)] is step
    torch.testing.assert_close(layer.weight.detach(), value)
    assert chain.original is raw
    assert [key for key, module in chain.named_children() if module is step] == ["3"]
    assert set(keys(layer)) == {"original", "0.factor", "1.factor", "2.factor", "3.factor"}


@pytest.mark.parametrize("index", [0, 1, 2])
def test_replacing_a_step_keeps_the_value_and_the_key(index: int) -> None:
    layer, chain = chained(Times(2.0), Plus(3.0), Times(5.0))
    value, before = layer.weight.detach().clone(), keys(layer)
    chain[index] = Times(7.0)
    assert keys(layer) == before
    assert chain[index].factor.item() == 7.0
    torch.testing.assert_close(layer.weight.detach(), value)


def test_a_value_outside_the_set_of_the_new_step_moves_and_says_how_far() -> None:
    layer, chain = chained(Times(2.0))
    value = layer.weight.detach().clone()
    chain.insert(1, constraints.Symmetric())
    expected = (value + value.mT) / 2
    torch.testing.assert_close(layer.weight.detach(), expected)
    torch.testing.assert_close(chain.moved, torch.dist(expected, value))


def test_behind_a_step_without_an_inverse_the_value_moves_and_the_raw_tensor_stays() -> None:
    layer, chain = chained(OneWay(2.0))
    raw, value = chain.original.detach().clone(), layer.weight.detach().clone()
    chain.insert(1, Plus(3.0))
    assert torch.equal(chain.original, raw)
    assert torch.equal(layer.weight, value + 3.0)
    assert chain.moved == pytest.approx(9.0)


def test_a_first_step_is_replaced_by_one_with_several_originals_and_back() -> None:
    layer, chain = chained(Times(2.0), Plus(3.0))
    value = layer.weight.detach().clone()
    chain[0] = Polar()
    assert not hasattr(chain, "original")
    assert keys(layer) == ["original0", "original1", "1.factor"]
    torch.testing.assert_close(layer.weight.detach(), value)
    chain[0] = Skew()
    assert keys(layer) == ["original", "1.factor"]
    assert isinstance(chain.original, nn.Parameter)


def test_two_kinds_of_several_originals_are_exchanged_in_place() -> None:
    layer, chain = chained(Polar())
    optimised = list(layer.parameters())
    value = layer.weight.detach().clone()
    chain[0] = Polar()
    assert all(new is old for new, old in zip(layer.parameters(), optimised, strict=True))
    torch.testing.assert_close(layer.weight.detach(), value)


def test_an_optimizer_goes_on_after_an_edit() -> None:
    layer, chain = chained(Times(2.0))
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    chain.insert(0, Symmetric())
    before = layer.weight.detach().clone()
    layer(torch.ones(1, 3, dtype=torch.float64)).square().sum().backward()
    optimizer.step()
    assert not torch.equal(layer.weight, before)
    assert torch.equal(layer.weight, layer.weight.mT)


def test_the_list_verbs_say_the_same() -> None:
    layer, chain = chained(Times(2.0), Plus(3.0), Times(5.0), Plus(7.0))
    value, steps = layer.weight.detach().clone(), list(chain)
    assert chain.pop() is steps[3]
    assert chain.pop(1) is steps[1]
    del chain[-1]
    assert list(chain) == steps[:1]
    torch.testing.assert_close(layer.weight.detach(), value)
    chain.append(steps[1]).extend([torch.sin])
    chain += [Double()]
    assert list(chain.named_children())[1][0] == "1"
    assert [type(step).__name__ for step in chain] == ["Times", "Plus", "Function", "Double"]
    assert type(chain[1:]) is nn.ModuleList
    assert list(chain[1:]) == list(chain)[1:]
    assert list(chain + nn.ModuleList([Double()]))[:4] == list(chain)


def test_a_new_step_takes_the_mode_of_the_chain() -> None:
    layer, chain = chained(Double())
    layer.eval()
    chain.insert(0, nn.Dropout())
    assert not chain[0].training


def test_an_edited_module_is_copied_pickled_and_loaded_into_one_edited_alike() -> None:
    def edited() -> Any:
        layer, chain = chained(Times(2.0), Plus(3.0))
        chain.remove(0)
        chain.insert(0, Plus(5.0))
        return layer

    layer = edited()
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(other.weight, layer.weight)
        assert keys(other) == keys(layer)
    loaded = edited()
    loaded.load_state_dict(layer.state_dict())
    assert torch.equal(loaded.weight, layer.weight)


def test_registering_with_either_engine_after_an_edit_takes_a_free_key() -> None:
    for engine in (parametrize, torch_parametrize):
        layer, chain = chained(Times(2.0), Plus(3.0))
        chain.remove(0)
        engine.register_parametrization(layer, "weight", Plus(1.0))
        assert keys(layer) == ["original", "1.factor", "2.factor"]
        torch.testing.assert_close(layer.weight, chain.original + 4.0)


def test_a_module_that_torch_parametrized_is_edited_once_ours_has_touched_it() -> None:
    layer = torch_parametrize.register_parametrization(nn.Linear(3, 3), "weight", Symmetric())
    parametrize.register_parametrization(layer, "weight", Double())
    value = layer.weight.detach().clone()
    layer.parametrizations.weight.remove(1)
    torch.testing.assert_close(layer.weight.detach(), value)


def test_a_transferred_chain_has_its_keys_and_what_is_switched_off() -> None:
    layer, chain = chained(Times(2.0), Plus(3.0), Plus(5.0))
    chain.remove(0)
    chain.switch_off(1)
    other = parametrize.transfer_parametrizations_and_params(layer, nn.Linear(3, 3, dtype=torch.float64))
    assert torch.equal(other.weight, layer.weight)
    assert keys(other) == keys(layer)
    twice = parametrize.transfer_parametrizations_and_params(layer, chained(Times(2.0))[0])
    torch.testing.assert_close(twice.weight, 2 * chain.original + 3.0)


# --- in the other parts of the engine -------------------------------------------------------------------------------


def test_an_edit_inside_cached_is_seen() -> None:
    layer, chain = chained(Times(2.0), Plus(3.0))
    with parametrize.cached():
        _ = layer.weight
        chain.remove(1, leave_parametrized=False)
        assert torch.equal(layer.weight, 2 * chain.original)
        chain[0] = Symmetric()
        assert torch.equal(layer.weight, layer.weight.mT)


def test_a_step_that_was_removed_in_evaluation_trains_as_before() -> None:
    layer, chain = chained(Scale().double(), MatrixExp())
    layer.eval()
    chain.remove(1, leave_parametrized=False)
    layer.train()
    layer.weight.sum().backward()
    assert chain[0].factor.grad is not None


def test_a_change_of_the_order_inside_cached_is_seen() -> None:
    layer, chain = chained(OneWay(2.0), Times(3.0), Plus(5.0))
    last = chain[2]
    with parametrize.cached():
        _ = layer.weight
        chain.remove(last, leave_parametrized=False)
        chain.insert(1, last)
        torch.testing.assert_close(layer.weight, (2 * chain.original + 5) * 3)
