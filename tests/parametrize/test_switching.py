"""A step that is switched off has no part in the value, and nothing else changes."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter

from paraform import parametrize
from tests.parametrize.cases import HOSTS, Double, Host, Polar, Scale, Skew, Symmetric, snapshot

on_hosts = pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.title)


def adapted() -> Any:
    """A layer, its chain, and two steps of it."""
    layer = parametrize.register_parametrization(nn.Linear(4, 4), "weight", Symmetric())
    parametrize.register_parametrization(layer, "weight", Double())
    parametrize.register_parametrization(layer, "weight", Scale())
    return layer, layer.parametrizations.weight


@on_hosts
def test_any_combination_of_steps_can_be_off(host: Host) -> None:
    module = parametrize.register_parametrization(host.make(), host.name, Skew())
    parametrize.register_parametrization(module, host.name, Double())
    chain, steps = module.parametrizations[host.name], list(module.parametrizations[host.name])
    for off in ([], [0], [1], [0, 1]):
        with chain.switched_off(*off):
            expected = chain.original
            for index, step in enumerate(steps):
                expected = expected if index in off else step(expected)
            assert torch.equal(host.tensor(module), expected)
            assert [chain.is_on(step) for step in steps] == [index not in off for index in range(2)]
    assert torch.equal(host.tensor(module), steps[1](steps[0](chain.original)))


@on_hosts
def test_switching_changes_no_tensor_no_key_and_no_class(host: Host) -> None:
    module = parametrize.register_parametrization(host.make(), host.name, Scale())
    before, cls, state = snapshot(module), type(module), list(module.state_dict())
    chain, attributes = module.parametrizations[host.name], set(vars(module.parametrizations[host.name]))
    chain.switch_off(0)
    assert type(module) is cls
    assert list(module.state_dict()) == state
    after = snapshot(module)
    assert all(after[name][0] == identity and torch.equal(after[name][1], t) for name, (identity, t) in before.items())
    chain.switch_on(0)
    assert set(vars(chain)) == attributes


def test_the_others_train_and_the_one_that_is_off_does_not() -> None:
    layer, chain = adapted()
    with chain.switched_off(2):
        layer(torch.ones(1, 4)).sum().backward()
    assert chain.original.grad is not None
    assert chain[2].factor.grad is None


def test_assignment_goes_past_the_step_that_is_off() -> None:
    layer = parametrize.register_parametrization(nn.Linear(4, 4), "weight", Double())
    parametrize.register_parametrization(layer, "weight", Scale())  # has no inverse
    layer.parametrizations.weight.switch_off(1)
    layer.weight = torch.eye(4)
    assert torch.equal(layer.weight, torch.eye(4))
    assert torch.equal(layer.parametrizations.weight.original, torch.eye(4) / 2)


def test_contexts_nest_and_leave_what_was_off_before() -> None:
    _, chain = adapted()
    chain.switch_off(1)
    with chain.switched_off(1, 2):
        with chain.switched_off(0):
            assert [chain.is_on(index) for index in range(3)] == [False, False, False]
        assert [chain.is_on(index) for index in range(3)] == [True, False, False]
    assert [chain.is_on(index) for index in range(3)] == [True, False, True]


def test_a_context_that_ends_in_an_exception_switches_on_again() -> None:
    _, chain = adapted()
    with pytest.raises(ZeroDivisionError), chain.switched_off(0):
        _ = 1 / 0
    assert chain.is_on(0)


def test_a_step_that_was_removed_inside_the_context_does_not_come_back() -> None:
    _, chain = adapted()
    with chain.switched_off(1):
        chain.remove(1)
    assert len(chain) == 2
    chain.append(Double())
    assert [chain.is_on(index) for index in range(3)] == [True, True, True]


def test_removing_a_step_that_is_off_leaves_the_raw_tensor_to_the_bit() -> None:
    layer, chain = adapted()
    with torch.no_grad():
        chain.original.normal_()  # below the diagonal too, which no inverse would give back
    chain.switch_off(2)
    before, value = chain.original.detach().clone(), layer.weight.detach().clone()
    chain.remove(2)
    assert torch.equal(chain.original, before)
    assert torch.equal(layer.weight, value)


def test_a_step_that_replaces_one_that_is_off_is_on_and_keeps_the_value() -> None:
    layer, chain = adapted()
    chain.switch_off(1)
    value = layer.weight.detach().clone()
    chain[1] = Double()
    assert chain.is_on(1)
    torch.testing.assert_close(layer.weight.detach(), value)


def test_it_is_not_saved_in_the_state_dict() -> None:
    layer, chain = adapted()
    chain.switch_off(1)
    other, other_chain = adapted()
    other.load_state_dict(layer.state_dict())
    assert other_chain.is_on(1)


COPIES: dict[str, Callable[[nn.Module], nn.Module]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda module: pickle.loads(pickle.dumps(module)),
}


@pytest.mark.parametrize("how", COPIES)
def test_copies_keep_what_is_off_and_switch_on_their_own(how: str) -> None:
    layer, chain = adapted()
    chain.switch_off(1)
    other = COPIES[how](layer)
    assert torch.equal(other.weight, layer.weight)
    other.parametrizations.weight.switch_on(1)
    assert not chain.is_on(1)


def test_removing_all_parametrizations_leaves_the_value_that_it_has_now() -> None:
    layer, chain = adapted()
    chain.switch_off(1, 2)
    value = layer.weight.detach().clone()
    parametrize.remove_parametrizations(layer, "weight")
    assert torch.equal(layer.weight, value)


def test_the_repr_shows_what_is_off() -> None:
    _, chain = adapted()
    chain.switch_off(1)
    assert repr(chain) == "ParametrizationList(\n  (0): Symmetric()\n  (1): Double() (switched off)\n  (2): Scale()\n)"


def test_a_read_inside_cached_sees_the_switch() -> None:
    layer, chain = adapted()
    with parametrize.cached():
        on = layer.weight
        with chain.switched_off(1):
            off = layer.weight
        assert torch.equal(layer.weight, on)
    assert not torch.equal(on, off)


def test_a_step_that_makes_the_shape_cannot_be_off_and_another_can() -> None:
    class Diagonal(nn.Module):
        def forward(self, d: Tensor) -> Tensor:
            return torch.diag_embed(d)

        def right_inverse(self, D: Tensor) -> Tensor:
            return D.diagonal(dim1=-2, dim2=-1)

    layer = parametrize.register_parametrization(nn.Linear(4, 4), "weight", Diagonal())
    parametrize.register_parametrization(layer, "weight", Double())
    chain = layer.parametrizations.weight
    with pytest.raises(ValueError, match=r"shape \(4,\), not \(4, 4\)") as raised:
        chain.switch_off(0)
    assert raised.value.__notes__ == ["while switching off a step of the chain on 'weight' of ParametrizedLinear"]
    assert chain.is_on(0)
    chain.switch_off(1)
    assert torch.equal(layer.weight, torch.diag(chain.original))


def test_a_step_that_takes_several_originals_cannot_be_off() -> None:
    layer = parametrize.register_parametrization(nn.Linear(4, 4), "weight", Polar())
    chain = layer.parametrizations.weight
    with pytest.raises(ValueError, match="Polar makes one tensor out of the 2 originals"):
        chain.switch_off(0)
    assert layer.weight.shape == (4, 4)


# --- torch.compile and torch.export ---------------------------------------------------------------------------------


@pytest.fixture
def compilations() -> CompileCounter:
    torch._dynamo.reset()
    return CompileCounter()


def test_a_loop_that_switches_compiles_each_state_once(compilations: CompileCounter) -> None:
    layer, chain = adapted()
    x = torch.randn(2, 4)
    expected = {}
    for off in ((), (1,), (2,), (1, 2)):
        with chain.switched_off(*off):
            expected[off] = layer(x)
    compiled = torch.compile(layer, fullgraph=True, backend=compilations)
    for off, y in expected.items():
        with chain.switched_off(*off):
            torch.testing.assert_close(compiled(x), y)
    assert compilations.frame_count == len(expected)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for _ in range(3):
            for off, y in expected.items():
                with chain.switched_off(*reversed(off)):
                    torch.testing.assert_close(compiled(x), y)
    assert compilations.frame_count == len(expected)


def test_a_copy_of_a_compiled_layer_that_is_switched_computes_with_its_own_state(compilations: CompileCounter) -> None:
    layer, chain = adapted()
    other, x = copy.deepcopy(layer), torch.randn(2, 4)
    chain.switch_off(1)
    first, second = (torch.compile(m, fullgraph=True, backend=compilations) for m in (layer, other))
    for _ in range(2):
        torch.testing.assert_close(first(x), layer(x))
        torch.testing.assert_close(second(x), other(x))
    assert compilations.frame_count == 2


def test_a_switch_inside_compiled_code_under_cached_is_seen(compilations: CompileCounter) -> None:
    layer, chain = adapted()

    def both() -> tuple[Tensor, Tensor, Tensor]:
        with parametrize.cached():
            before = layer.weight
            chain.switch_off(1)
            off = layer.weight
            chain.switch_on(1)
            return before, off, layer.weight

    before, off, after = torch.compile(both, fullgraph=True, backend=compilations)()
    torch.testing.assert_close(after, layer.weight)
    torch.testing.assert_close(before, layer.weight)
    with chain.switched_off(1):
        torch.testing.assert_close(off, layer.weight)


def test_an_exported_layer_has_the_state_it_was_exported_in() -> None:
    layer, chain = adapted()
    chain.switch_off(1)
    x = torch.randn(2, 4)
    exported = torch.export.export(layer, (x,)).module()
    torch.testing.assert_close(exported(x), layer(x))
