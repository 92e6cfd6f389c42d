"""Several changes together: all of them, or none of them, to the bit."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest
import torch
from torch import nn

from paraform.constraints import Circulant, Orthogonal, Skew, WeightNorm
from paraform.parametrize import is_parametrized, register_parametrization, remove_parametrizations
from paraform.parametrize.together import unchanged_on_failure
from tests.parametrize.photographs import photograph, photograph_of_optimizer


class StopError(Exception):
    pass


@contextmanager
def undone(
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    by: type[BaseException] = StopError,
) -> Iterator[None]:
    """What the body changes is undone at its end by an exception."""
    with pytest.raises(by), unchanged_on_failure(model, optimizer):  # noqa: PT012 (it is the body that matters)
        yield
        raise by


def mixed_model() -> nn.Sequential:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3), nn.LSTM(3, 4))
    register_parametrization(model[2], "weight", Orthogonal())
    return model


def trained(model: nn.Module, make: Callable[..., torch.optim.Optimizer] = torch.optim.Adam) -> torch.optim.Optimizer:
    optimizer = make(model.named_parameters(), lr=0.01)
    model(torch.randn(5, 3))[0].sum().backward()
    optimizer.step()
    return optimizer


CHANGES: dict[str, Callable[[Any, Any], Any]] = {
    "registers one original": lambda m, o: register_parametrization(m[0], "weight", Orthogonal(), optimizer=o),
    "registers several originals": lambda m, o: register_parametrization(m[0], "weight", WeightNorm(), optimizer=o),
    "registers another shape": lambda m, o: register_parametrization(m[0], "weight", Circulant(), optimizer=o),
    "registers on a buffer": lambda m, _: register_parametrization(m[1], "running_mean", torch.exp),
    "registers on a recurrent layer": lambda m, o: register_parametrization(m[3], "weight_ih_l0", WeightNorm()),
    "appends": lambda m, o: register_parametrization(m[2], "weight", Skew(), optimizer=o),
    "edits": lambda m, _: m[2].parametrizations.weight.insert(0, Skew()),
    "switches off": lambda m, _: m[2].parametrizations.weight.switch_off(0),
    "removes": lambda m, o: remove_parametrizations(m[2], "weight", optimizer=o),
    "assigns": lambda m, _: setattr(m[2], "weight", torch.eye(3)),
    "loads": lambda m, _: m.load_state_dict({key: 1 - value for key, value in m.state_dict().items()}),
    "converts": lambda m, _: m.double(),
    "freezes": lambda m, _: m.requires_grad_(False),
    "forgets gradients": lambda m, _: m.zero_grad(),
    "changes modes": lambda m, _: m.eval(),
    "adds a hook": lambda m, _: m[0].register_forward_hook(print),
    "adds modules and attributes": lambda m, _: (m.append(nn.Linear(2, 2)), setattr(m[0], "note", "new")),
    "writes a zero of the other sign": lambda m, _: m[0].bias.detach().zero_(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_after_an_exception_model_and_optimizer_are_to_the_bit_what_they_were(
    change: Callable[[Any, Any], Any],
) -> None:
    model = mixed_model()
    optimizer = trained(model)
    with torch.no_grad():
        model[0].bias.fill_(-0.0)  # equal to 0, but of other bits
    before = photograph(model), photograph_of_optimizer(optimizer)
    with undone(model, optimizer):
        change(model, optimizer)
        assert (photograph(model), photograph_of_optimizer(optimizer)) != before  # or the test shows nothing
    assert photograph(model) == before[0]
    assert photograph_of_optimizer(optimizer) == before[1]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, ValueError])
def test_any_exception_counts_and_goes_on(interruption: type[BaseException]) -> None:
    model = mixed_model()
    before = photograph(model)
    with undone(model, by=interruption):
        register_parametrization(model[0], "weight", Skew())
    assert photograph(model) == before


def interrupted_in_restoring(line: int) -> Callable[..., Any]:
    """A trace function that raises KeyboardInterrupt at the ``line``-th line that a ``restore`` executes."""
    seen = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal seen
        if not frame.f_code.co_filename.endswith("together.py") or frame.f_code.co_name != "restore":
            return None
        seen += event == "line"
        if event == "line" and seen == line:
            raise KeyboardInterrupt
        return trace

    return trace


@pytest.mark.parametrize("reason", [StopError, KeyboardInterrupt])
@pytest.mark.parametrize("line", [1, 2, 5, 20, 50, 100])
def test_an_interruption_while_all_is_put_back_waits_until_it_is(line: int, reason: type[BaseException]) -> None:
    model = mixed_model()
    optimizer = trained(model)
    before = photograph(model), photograph_of_optimizer(optimizer)
    traced = sys.gettrace()
    try:
        with pytest.raises(KeyboardInterrupt), unchanged_on_failure(model, optimizer):  # noqa: PT012
            register_parametrization(model[0], "weight", Skew(), optimizer=optimizer)
            remove_parametrizations(model[2], "weight")
            sys.settrace(interrupted_in_restoring(line))
            raise reason
    finally:
        sys.settrace(traced)
    assert photograph(model) == before[0]
    assert photograph_of_optimizer(optimizer) == before[1]


def test_without_an_exception_all_changes_stay() -> None:
    model = mixed_model()
    with unchanged_on_failure(model):
        register_parametrization(model[0], "weight", Skew())
    assert is_parametrized(model[0], "weight")
    assert torch.equal(model[0].weight, -model[0].weight.T)


def test_optimizers_that_were_not_handed_over_remember_again_what_a_change_of_shape_let_them_forget() -> None:
    model = mixed_model()
    optimizer = trained(model)
    before = photograph_of_optimizer(optimizer)
    with undone(model):
        register_parametrization(model[0], "weight", Circulant())
        assert photograph_of_optimizer(optimizer) != before
    assert photograph_of_optimizer(optimizer) == before


def test_a_module_outside_that_shares_a_tensor_is_as_before_too() -> None:
    inside, outside = nn.Linear(3, 3), nn.Linear(3, 3)
    outside.weight = inside.weight
    before = photograph(outside)
    with undone(inside):
        register_parametrization(inside, "weight", Skew())
        assert is_parametrized(outside)
    assert photograph(outside) == before
    assert outside.weight is inside.weight


def test_a_module_outside_that_shares_a_chain_is_as_before_too() -> None:
    inside, outside = nn.Linear(3, 3), nn.Linear(3, 3)
    outside.weight = inside.weight
    register_parametrization(inside, "weight", Skew())
    before = photograph(outside)
    with undone(inside):
        remove_parametrizations(inside, "weight")
        assert not is_parametrized(outside)
    assert photograph(outside) == before
    assert outside.parametrizations.weight is inside.parametrizations.weight


def test_memory_that_others_share_is_shared_again() -> None:
    layer = nn.Linear(3, 3)
    array = layer.weight.detach().numpy()
    with undone(layer):
        register_parametrization(layer, "weight", Circulant())  # whose raw tensor is a vector
    array[0, 0] = 7
    assert layer.weight[0, 0] == 7


def test_a_graph_through_tensors_that_were_not_written_to_stays_good() -> None:
    model = mixed_model()
    x = torch.ones(1, 3, requires_grad=True)
    loss = model[0](x).sum()  # whose backward pass needs the weight
    with undone(model):
        register_parametrization(model[2], "weight", Skew())
    loss.backward()
    assert torch.equal(x.grad, model[0].weight.sum(0, keepdim=True))


def test_an_expanded_tensor_is_in_its_own_memory_again() -> None:
    layer = nn.Linear(3, 3)
    layer.weight = nn.Parameter(torch.ones(1, 3).expand(3, 3))
    before = photograph(layer)
    with undone(layer):
        register_parametrization(layer, "weight", Skew())
    assert photograph(layer) == before


def test_a_model_on_meta_and_a_lazy_one_are_as_before() -> None:
    model = nn.Sequential(nn.Linear(3, 3, device="meta"), nn.LazyLinear(3))
    before = [(type(module), list(vars(module)), list(module._parameters.items())) for module in model.modules()]
    with undone(model):
        register_parametrization(model[0], "weight", Skew())
        register_parametrization(model[1], "weight", Skew())
    assert repr(before) == repr(
        [(type(module), list(vars(module)), list(module._parameters.items())) for module in model.modules()]
    )
    assert len(model[1]._forward_pre_hooks) == 1  # torch's own


def test_contexts_nest() -> None:
    model = mixed_model()
    before = photograph(model)
    with undone(model):
        register_parametrization(model[0], "weight", Skew())
        with undone(model):
            register_parametrization(model[0], "bias", torch.exp)
        assert list(model[0].parametrizations) == ["weight"]
    assert photograph(model) == before


def test_a_tie_that_is_made_in_the_context_is_seen() -> None:
    model, late = mixed_model(), nn.Linear(3, 3)
    with unchanged_on_failure(model):
        late.weight = model[0].weight
        register_parametrization(model[0], "weight", Skew())
    assert late.parametrizations.weight is model[0].parametrizations.weight
