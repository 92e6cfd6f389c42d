"""Rows 29 and 31: tools that want a plain module: type checks, quantization, pruning, TorchScript."""

import copy
import io
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from tests.complaints.layers import doubled, original
from tests.complaints.registry import FIXED, Engine, complaint, raises, wrong
from tests.parametrize.cases import Double

DESTROYED = raises(AttributeError, "'ParametrizedLinear' object has no attribute 'weight'")


def plain_copy(engine: Engine, layer: nn.Module) -> nn.Module:
    """The way round: the live model goes on, and the copy is what any tool knows."""
    return engine.parametrize.remove_parametrizations(copy.deepcopy(layer), "weight")


def told(mistake: Callable[[], object], error: type[Exception]) -> str:
    """What an error says, with its notes; nothing, where there was none."""
    try:
        mistake()
    except error as raised:
        return "\n".join((str(raised), *getattr(raised, "__notes__", ())))
    return ""


@complaint(
    29,
    symptom="a copy without parametrizations, made for a tool that checks types, leaves the live model destroyed",
    on_torch=DESTROYED,
)
def test_a_copy_without_parametrizations_has_the_plain_type(engine: Engine) -> None:
    layer, x = doubled(engine), torch.ones(1, 3)
    copied = plain_copy(engine, layer)
    assert type(copied) is nn.Linear
    assert torch.equal(copied(x), layer(x))
    layer(x).sum().backward()
    assert original(layer).grad is not None


@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
@complaint(
    29,
    "pytorch PR#66779",
    symptom="a parametrized model cannot be quantized, not even by way of a copy",
    on_torch=DESTROYED,
)
def test_pytorch_pr_66779_a_copy_without_parametrizations_can_be_quantized(engine: Engine) -> None:
    layer, x = doubled(engine), torch.ones(1, 3)
    quantized = torch.ao.quantization.quantize_dynamic(nn.Sequential(plain_copy(engine, layer)), {nn.Linear})
    assert type(quantized[0]) is not nn.Linear
    assert torch.allclose(quantized(x), layer(x), atol=0.1)


@complaint(
    29,
    "pytorch PR#74848",
    symptom="code cannot ask which class a layer had before it was parametrized",
    on_torch=FIXED,
)
def test_pytorch_pr_74848_a_parametrized_layer_tells_its_type_before(engine: Engine) -> None:
    layer = doubled(engine)
    assert isinstance(layer, nn.Linear)
    assert engine.parametrize.type_before_parametrizations(layer) is nn.Linear


@complaint(
    29,
    symptom="pruning a parametrized weight fails with words about assigning a tensor",
    on_torch=wrong("the error does not say that the weight is parametrized"),
    ours="the error says so and names three ways round; nothing is changed",
)
def test_pruning_a_parametrized_weight_names_the_way_round(engine: Engine) -> None:
    layer = doubled(engine)
    before = layer.weight.detach().clone()
    words = told(lambda: prune.l1_unstructured(layer, "weight", amount=0.5), TypeError)
    assert "'weight' of ParametrizedLinear is parametrized" in words, (
        "the error does not say that the weight is parametrized"
    )
    assert torch.equal(layer.weight, before)
    assert not prune.is_pruned(layer)


@complaint(
    29,
    symptom="the raw tensor of a parametrized weight cannot be pruned",
    on_torch=FIXED,
)
def test_the_raw_tensor_of_a_parametrized_weight_can_be_pruned(engine: Engine) -> None:
    layer = doubled(engine)
    prune.l1_unstructured(layer.parametrizations.weight, "original", amount=3)
    assert layer.weight.count_nonzero() == 6
    layer(torch.ones(1, 3)).sum().backward()
    assert layer.parametrizations.weight.original_orig.grad is not None


@complaint(
    29,
    symptom="parametrizing a pruned weight fails with words about a tensor that is not there",
    on_torch=wrong("the error does not say that a hook computes the weight"),
    ours="the error says that a hook computes it, and to call `prune.remove` first",
)
def test_parametrizing_a_pruned_weight_names_the_way_round(engine: Engine) -> None:
    layer = nn.Linear(3, 3)
    prune.l1_unstructured(layer, "weight", amount=3)
    words = told(lambda: engine.parametrize.register_parametrization(layer, "weight", Double()), ValueError)
    assert "prune.remove(module, 'weight')" in words, "the error does not say that a hook computes the weight"
    prune.remove(layer, "weight")
    engine.parametrize.register_parametrization(layer, "weight", Double())
    assert layer.weight.count_nonzero() == 6


# The complaints are about TorchScript, which torch has deprecated since.
DEPRECATED = pytest.mark.filterwarnings("ignore:`torch.jit.*` is deprecated:DeprecationWarning")


@DEPRECATED
@complaint(
    31,
    "pytorch#60971",
    symptom="a model cannot be traced under cached()",
    on_torch=raises(RuntimeError, "Cannot trace a model while caching parametrizations."),
)
def test_pytorch_60971_a_model_can_be_traced_under_cached(engine: Engine) -> None:
    layer, x = doubled(engine), torch.ones(1, 3)
    with engine.parametrize.cached():
        traced = torch.jit.trace(layer, (x,))
    with torch.no_grad():
        original(layer).normal_()
    assert torch.equal(traced(x), layer(x))


@DEPRECATED
@complaint(
    31,
    "pytorch PR#60969",
    symptom="a parametrized model cannot be traced, saved and trained on",
    on_torch=FIXED,
)
def test_pytorch_pr_60969_a_traced_model_is_saved_and_trains(engine: Engine) -> None:
    layer, x, file = doubled(engine), torch.ones(1, 3), io.BytesIO()
    traced = torch.jit.trace(layer, (x,))
    torch.jit.save(traced, file)
    file.seek(0)
    assert torch.equal(torch.jit.load(file)(x), layer(x))
    traced(x).sum().backward()
    assert original(layer).grad is not None


@DEPRECATED
@complaint(
    31,
    "pytorch#21275",
    symptom="TorchScript compiles a parametrized model, and the result fails at its first call",
    on_torch=wrong("nothing was said when it was compiled"),
    ours="refused when it is compiled, in words that name the ways round",
)
def test_pytorch_21275_torchscript_is_refused_when_it_compiles(engine: Engine) -> None:
    model = nn.Sequential(engine.parametrizations.weight_norm(nn.Linear(3, 3)))
    words = told(lambda: torch.jit.script(model), RuntimeError)
    assert "torch.jit.trace" in words, "nothing was said when it was compiled"
    assert "fold(model, copy=True)" in words


@DEPRECATED
@complaint(
    31,
    "pytorch#57289",
    symptom="a model with weight_norm cannot be compiled by TorchScript, not even by way of a copy",
    on_torch=DESTROYED,
)
def test_pytorch_57289_a_copy_without_parametrizations_is_compiled_by_torchscript(engine: Engine) -> None:
    layer: Callable[[Tensor], Tensor] = engine.parametrizations.weight_norm(nn.Linear(3, 3))
    x = torch.ones(1, 3)
    assert torch.allclose(torch.jit.script(plain_copy(engine, layer))(x), layer(x))
