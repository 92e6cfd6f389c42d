"""Folding: a plain model with the same numbers, or the model as it was."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.utils._python_dispatch import TorchDispatchMode

import paraform as pf
from paraform.model import fold
from tests.constraints.sets import CASES, ENGINES, Layer
from tests.model.models import KINDS, Kind, constrained, stack
from tests.parametrize.cases import HOSTS, Double, Host, Polar, Symmetric, assert_untouched, snapshot

for_all_kinds = pytest.mark.parametrize("kind", KINDS, ids=str)
in_both_modes = pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])


# What comes out


@for_all_kinds
@in_both_modes
def test_the_result_is_the_plain_model_with_the_same_numbers(kind: Kind, training: bool) -> None:
    model, plain, x = kind.constrained().train(training), kind.make().train(training), kind.inputs()
    expected = copy.deepcopy(pf.plain_state_dict(model))
    y = copy.deepcopy(model)(x)
    assert fold(model) is model
    assert [type(module) for module in model.modules()] == [type(module) for module in plain.modules()]
    assert [set(vars(module)) for module in model.modules()] == [set(vars(module)) for module in plain.modules()]
    assert [name for name, _ in model.named_parameters()] == [name for name, _ in plain.named_parameters()]
    assert list(model.state_dict()) == list(expected) == list(plain.state_dict())
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
    assert torch.equal(model(x), y)
    plain.load_state_dict(model.state_dict(), strict=True)
    assert torch.equal(plain(x), model(x))


@ENGINES
def test_the_value_of_every_set_is_kept_to_the_bit(engine: Any) -> None:
    model = nn.ModuleList(case.layer(engine) for case in CASES)
    values = [layer.weight.detach().clone() for layer in model]
    keys = list(pf.plain_state_dict(model))
    fold(model)
    for case, layer, value in zip(CASES, model, values, strict=True):
        assert type(layer) is Layer, case
        assert isinstance(layer.weight, nn.Parameter), case
        assert torch.equal(layer.weight, value), case
    assert list(model.state_dict()) == keys


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.title)
@pytest.mark.parametrize("step", [Symmetric, Polar])
def test_a_module_of_any_kind_gets_its_tensor_back(host: Host, step: type[nn.Module]) -> None:
    module = host.make()
    before = {name: type(tensor) for name, tensor in (*module.named_parameters(), *module.named_buffers())}
    cls, keys, attributes = type(module), list(module.state_dict()), set(vars(module))
    pf.register_parametrization(module, host.name, step())
    value = host.tensor(module).detach().clone()
    fold(module)
    assert torch.equal(host.tensor(module), value)
    assert {name: type(tensor) for name, tensor in (*module.named_parameters(), *module.named_buffers())} == before
    assert type(module) is cls
    assert list(module.state_dict()) == keys
    assert set(vars(module)) == attributes


def test_folding_again_and_folding_a_plain_model_change_nothing() -> None:
    model = fold(constrained())
    before = snapshot(model)
    assert_untouched(fold(model), before, nn.Sequential)
    plain = stack()
    before = snapshot(plain)
    assert_untouched(fold(plain), before, nn.Sequential)


def test_a_model_may_be_one_parametrized_layer() -> None:
    layer = pf.register_parametrization(nn.Linear(3, 3), "weight", pf.Skew())
    assert type(fold(layer)) is nn.Linear
    assert torch.equal(layer.weight, -layer.weight.mT)


def test_a_module_under_two_names_is_folded_once_and_stays_one() -> None:
    layer = pf.register_parametrization(nn.Linear(3, 3), "weight", Symmetric())
    model = nn.ModuleDict({"first": layer, "second": layer})
    fold(model)
    assert list(model.state_dict()) == ["first.weight", "first.bias", "second.weight", "second.bias"]
    assert model["first"].weight is model["second"].weight


def test_the_keys_keep_the_order_of_the_plain_model_under_torchs_engine_too() -> None:
    model: Any = nn.Sequential(nn.Linear(3, 3), nn.LSTM(3, 3))
    for engine in (pf, nn.utils.parametrize):
        chained = copy.deepcopy(model)
        engine.register_parametrization(chained[0], "weight", Symmetric())
        engine.register_parametrization(chained[0], "weight", Double())
        value = chained[0].weight.detach().clone()
        expected = list(pf.plain_state_dict(chained))
        fold(chained)
        assert type(chained[0]) is nn.Linear
        assert torch.equal(chained[0].weight, value)
        assert list(chained.state_dict()) == expected == list(model.state_dict())


def test_a_value_is_what_a_read_gives_without_the_steps_that_are_switched_off() -> None:
    layer: Any = pf.register_parametrization(nn.Linear(3, 3), "weight", Symmetric())
    pf.register_parametrization(layer, "weight", Double())
    layer.parametrizations.weight.switch_off(1)
    value = layer.weight.detach().clone()
    assert torch.equal(fold(layer).weight, value)


def test_in_training_mode_the_estimate_of_a_norm_is_not_carried_on() -> None:
    layer: Any = pf.parametrizations.spectral_norm(nn.Linear(6, 4))
    before = snapshot(layer)
    folded = fold(layer, copy=True)
    assert_untouched(layer, before, type(layer))
    x = torch.eye(6)
    assert torch.equal(folded(x), layer(x))  # whose forward pass does carry it on, from the same numbers


# Parameters, buffers, dtypes


def test_a_single_original_stays_the_same_parameter_and_loses_its_gradient() -> None:
    layer: Any = pf.register_parametrization(nn.Linear(3, 3), "weight", Symmetric())
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    raw = layer.parametrizations.weight.original
    layer(torch.ones(1, 3)).sum().backward()
    fold(layer)
    assert layer.weight is raw
    assert raw.grad is None
    before = raw.detach().clone()
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert torch.allclose(raw, before - 0.1)


@pytest.mark.parametrize("step", [Symmetric, Polar])
def test_parameters_want_a_gradient_as_before(step: type[nn.Module]) -> None:
    trained, still = nn.Linear(3, 3), nn.Linear(3, 3).requires_grad_(False)
    for layer in (trained, still):
        pf.register_parametrization(layer, "weight", step())
        fold(layer)
        assert type(layer.weight) is nn.Parameter
    assert trained.weight.requires_grad
    assert not still.weight.requires_grad


@pytest.mark.parametrize("step", [Symmetric, Polar])
@pytest.mark.parametrize("persistent", [True, False])
def test_buffers_stay_buffers(step: type[nn.Module], persistent: bool) -> None:
    module = nn.Module()
    module.register_buffer("first", torch.ones(3, 3))
    module.register_buffer("table", torch.randn(3, 3), persistent=persistent)
    module.register_buffer("last", torch.ones(3, 3))
    keys = list(module.state_dict())
    pf.register_parametrization(module, "table", step())
    value = module.table.clone()
    fold(module)
    assert torch.equal(module.table, value)
    assert list(module._buffers) == ["first", "table", "last"]
    assert list(module.state_dict()) == keys


def test_a_value_computed_in_single_precision_stays_in_half_precision() -> None:
    model = constrained().to(torch.bfloat16)
    values = [layer.weight.detach().clone() for layer in model]
    fold(model)
    for layer, value in zip(model, values, strict=True):
        assert layer.weight.dtype == torch.bfloat16
        assert torch.equal(layer.weight, value)


def test_unsafe_chains_leave_a_value_of_their_shape_and_dtype() -> None:
    class Rows(nn.Module):
        def forward(self, X: Tensor) -> Tensor:
            return X[:2]

    class Rounded(nn.Module):
        def forward(self, X: Tensor) -> Tensor:
            return X.to(torch.float16)

    for step in (Rows(), Rounded()):
        layer: Any = pf.register_parametrization(nn.Linear(4, 4, bias=False), "weight", step, unsafe=True)
        value = layer.weight.detach().clone()
        fold(layer)
        assert isinstance(layer.weight, nn.Parameter)
        assert layer.weight.requires_grad
        assert layer.weight.dtype == value.dtype
        assert torch.equal(layer.weight, value)


def test_new_parameters_are_contiguous_as_files_want_them() -> None:
    class Turned(nn.Module):
        def forward(self, length: Tensor, direction: Tensor) -> Tensor:
            return (length * direction).mT

        def right_inverse(self, X: Tensor) -> tuple[Tensor, Tensor]:
            return X.norm(), (X.mT / X.norm()).contiguous()

    layer: Any = pf.register_parametrization(nn.Linear(4, 3), "weight", Turned())
    assert not layer.parametrizations.weight().is_contiguous()
    assert fold(layer).weight.is_contiguous()


# Who else holds it


def test_tied_tensors_stay_tied_also_with_modules_outside() -> None:
    one, other, outside = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)
    other.weight = outside.weight = one.weight
    pf.register_parametrization(one, "weight", Symmetric())
    value = one.weight.detach().clone()
    model = fold(nn.Sequential(one, other))
    assert model[0].weight is model[1].weight
    assert outside.weight is one.weight
    assert type(outside) is nn.Linear
    assert torch.equal(one.weight, value)


def test_raw_tensors_that_two_chains_share_become_two_values() -> None:
    one: Any = pf.register_parametrization(nn.Linear(3, 3), "weight", Symmetric())
    other: Any = pf.register_parametrization(nn.Linear(3, 3), "weight", Double())
    outside: Any = pf.transfer_parametrizations_and_params(one, nn.Linear(3, 3))
    pf.transfer_parametrizations_and_params(one, other)
    values = [layer.weight.detach().clone() for layer in (one, other, outside)]
    fold(nn.Sequential(one, other))
    assert pf.is_parametrized(outside)
    for layer, value in zip((one, other, outside), values, strict=True):
        assert torch.equal(layer.weight, value)


def test_a_plain_module_that_holds_the_raw_tensor_keeps_its_numbers() -> None:
    layer: Any = pf.register_parametrization(nn.Linear(3, 3), "weight", Double())
    raw = layer.parametrizations.weight.original
    other, view = nn.Linear(3, 3), nn.Module()
    other.weight = raw
    view.register_buffer("row", raw.detach()[1])
    before, value = raw.detach().clone(), layer.weight.detach().clone()
    fold(nn.Sequential(layer, other))
    assert torch.equal(layer.weight, value)
    assert torch.equal(other.weight, before)
    assert torch.equal(view.row, before[1])


def test_a_chain_that_reads_another_folded_tensor_gets_the_value_from_before() -> None:
    first: Any = pf.register_parametrization(nn.Linear(3, 3), "weight", Double())
    raw = first.parametrizations.weight.original
    second: Any = pf.register_parametrization(nn.Linear(3, 3), "weight", lambda X: X + raw)
    values = [first.weight.detach().clone(), second.weight.detach().clone()]
    fold(nn.Sequential(first, second))
    assert torch.equal(first.weight, values[0])
    assert torch.equal(second.weight, values[1])


def test_a_value_that_was_read_before_says_that_it_reaches_nothing_any_more() -> None:
    layer: Any = pf.register_parametrization(nn.Linear(3, 3), "weight", Symmetric())
    weight = layer.weight
    fold(layer)
    with torch.no_grad(), pytest.raises(RuntimeError, match="is not parametrized any more"):
        weight.zero_()


# Contexts


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, pf.cached, torch.enable_grad])
@pytest.mark.parametrize("copied", [True, False])
def test_a_result_can_be_trained_whatever_the_context_was(context: Callable[[], Any], copied: bool) -> None:
    model, x = constrained(), torch.randn(2, 3)
    pf.register_parametrization(model[0], "bias", Polar())
    y = model(x).detach()
    with context():
        model(x)
        folded = fold(model, copy=copied)
        assert torch.equal(folded(x), y)
    folded(x).sum().backward()
    assert all(parameter.grad is not None for parameter in folded.parameters())


def test_autocast_has_no_part_in_the_values() -> None:
    layer: Any = pf.register_parametrization(nn.Linear(3, 3), "weight", lambda X: X @ X)
    value = layer.weight.detach().clone()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer.weight.dtype == torch.bfloat16
        fold(layer)
    assert torch.equal(layer.weight, value)


def test_a_model_made_under_inference_mode_is_folded_outside() -> None:
    with torch.inference_mode():
        model = constrained()
        values = [layer.weight.clone() for layer in model]
    fold(model)
    assert all(torch.equal(layer.weight, value) for layer, value in zip(model, values, strict=True))


def test_a_frozen_model_is_folded_within_its_context() -> None:
    model, x = constrained().eval(), torch.randn(2, 3)
    with pf.frozen(model):
        y = model(x)
        fold(model)
        assert torch.equal(model(x), y)
    assert torch.equal(model(x), y)


# Copies


@for_all_kinds
def test_a_copy_leaves_the_model_alone(kind: Kind) -> None:
    model, x = kind.constrained(), kind.inputs()
    with pf.cached():
        model(x)
        before = snapshot(model)
        folded = fold(model, copy=True)
    assert_untouched(model, before, type(model))
    memory = {tensor.data_ptr() for tensor in model.state_dict().values()}
    assert memory.isdisjoint(tensor.data_ptr() for tensor in folded.state_dict().values())
    assert torch.equal(folded(x), model(x))
    model(x).sum().backward()
    assert all(parameter.grad is None for parameter in folded.parameters())


class Clones(TorchDispatchMode):
    """Counts the entries that are cloned."""

    def __init__(self) -> None:
        super().__init__()
        self.entries = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.ops.aten.clone.default:
            self.entries += args[0].numel()
        return function(*args, **(kwargs or {}))


def test_what_becomes_of_a_copy_is_not_remembered_in_as_much_memory_again() -> None:
    size, layers = 16, 4
    model = nn.Sequential(*[nn.Linear(size, size, bias=False) for _ in range(layers)])
    pf.constrain(model, {"*.weight": pf.Symmetric()})
    with Clones() as clones:
        fold(model, copy=True)
    assert clones.entries <= 2 * layers * size * size  # that of the copy, and the values


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # the compiler's own
@pytest.mark.parametrize("copied", [True, False])
def test_of_a_compiled_model_the_one_within_is_folded(copied: bool) -> None:
    model, x = constrained(), torch.randn(2, 3)
    compiled = torch.compile(model, backend="eager")
    y = compiled(x)
    folded = fold(compiled, copy=copied)
    assert (folded is compiled) is not copied
    assert torch.allclose(folded(x), y)
    assert pf.is_parametrized(model[0]) is copied
    assert list(folded.state_dict()) == [f"_orig_mod.{i}.{name}" for i in (0, 1) for name in ("weight", "bias")]
    assert torch.allclose(compiled(x), y)


# Hooks


def test_hooks_of_the_users_stay_and_the_cache_of_each_forward_ends() -> None:
    model, x = constrained(), torch.randn(2, 3)
    seen: list[str] = []
    model.register_forward_hook(lambda *_: seen.append("after"))
    model.register_forward_pre_hook(lambda *_: seen.append("before"))
    pf.cache_each_forward(model)
    pf.cache_each_forward(model[0])
    fold(model)(x)
    assert seen == ["before", "after"]
    assert [len(module._forward_hooks) for module in model.modules()] == [1, 0, 0]
    assert [len(module._forward_pre_hooks) for module in model.modules()] == [1, 0, 0]
    assert not model._forward_hooks_always_called


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")  # which this is about
def test_tensors_computed_by_torchs_old_hooks_are_left_alone() -> None:
    normed, pruned = nn.utils.weight_norm(nn.Linear(3, 3)), prune.random_unstructured(nn.Linear(3, 3), "weight", 0.5)
    model, x = nn.Sequential(normed, pruned, constrained()), torch.randn(2, 3)
    y, keys = model(x), list(model.state_dict())[:6]
    assert torch.equal(fold(model)(x), y)
    assert list(model.state_dict())[:6] == keys
    assert prune.is_pruned(pruned)


def test_a_recurrent_layer_holds_its_plain_tensors_where_torchscript_looks() -> None:
    lstm: Any = nn.LSTM(3, 3)
    pf.register_parametrization(lstm, "weight_hh_l0", pf.WeightNorm())
    lstm(torch.ones(1, 1, 3))
    fold(lstm)
    for tensor, name in zip(lstm._flat_weights, lstm._flat_weights_names, strict=True):
        assert tensor is getattr(lstm, name), name


def test_a_folded_model_is_saved_and_loaded_as_a_whole() -> None:
    model, x = constrained(), torch.randn(2, 3)
    pf.cache_each_forward(model)
    file = io.BytesIO()
    torch.save(fold(model), file)
    assert b"paraform" not in file.getvalue()
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(x), model(x))
