"""What folding refuses, and that the model is then as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.testing._internal.distributed.fake_pg import FakeStore

import paraform as pf
from paraform.model import fold
from tests.model.models import constrained, stack
from tests.parametrize.cases import Double, Polar, Symmetric, assert_untouched, snapshot


class Failing(nn.Module):
    """Works until it is told not to."""

    works = True

    def forward(self, X: Tensor) -> Any:
        if not self.works:
            raise ArithmeticError("out of order")
        return X.clone()


def failing(model: Any) -> None:
    step = Failing()
    pf.register_parametrization(model[1], "bias", step)
    step.works = False


def not_finite(model: Any) -> None:
    pf.register_parametrization(model[1], "bias", Double())
    with torch.no_grad():
        model[1].parametrizations.bias.original[0] = torch.nan


def no_tensor(model: Any) -> None:
    pf.register_parametrization(model[1], "bias", lambda X: (X, X), unsafe=True)


def no_leaf(model: Any) -> None:
    model[1].register_buffer("table", torch.ones(3))
    chain = pf.register_parametrization(model[1], "table", Double()).parametrizations.table
    chain._buffers["original"] = model[0].bias * 2


def parametrized_itself(model: Any) -> None:
    chain = pf.register_parametrization(model[1], "bias", Double()).parametrizations.bias
    nn.utils.parametrize.register_parametrization(chain, "original", Double())


def other_class(model: Any) -> None:
    layer = pf.register_parametrization(model[1], "bias", Double())
    layer.__class__ = type("Other", (type(layer),), {})


def lazy(model: Any) -> None:
    model.append(pf.register_parametrization(nn.LazyLinear(3), "weight", Double()))


@pytest.mark.parametrize(
    ("spoil", "error", "words"),
    [
        (failing, ArithmeticError, ["out of order", "while folding '1.bias'; the model is as it was"]),
        (not_finite, ValueError, ["'1.bias' has entries that are not finite"]),
        (no_tensor, TypeError, ["'1.bias' is no tensor but a tuple"]),
        (no_leaf, ValueError, ["'1.table' is no leaf"]),
        (parametrized_itself, ValueError, ["'1.bias' is no leaf"]),
        (other_class, RuntimeError, ["another library", "while folding '1.weight'"]),
        (lazy, RuntimeError, ["'2', a LazyLinear, waits for its first forward pass", "weight"]),
    ],
)
def test_what_is_refused_leaves_the_model_as_it_was(
    spoil: Callable[[Any], None], error: type[Exception], words: list[str]
) -> None:
    model = constrained()
    model[0] = pf.parametrizations.spectral_norm(nn.Linear(3, 3))  # whose estimate a forward pass carries on
    spoil(model)
    classes, before = [type(module) for module in model.modules()], snapshot_if_any(model)
    with pytest.raises(error) as caught:
        fold(model)
    said = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", ())])
    assert all(word in said for word in words), said
    assert [type(module) for module in model.modules()] == classes
    assert snapshot_if_any(model).keys() == before.keys()
    for name, tensor in snapshot_if_any(model).items():
        assert torch.equal(tensor.nan_to_num(), before[name].nan_to_num()), name


def snapshot_if_any(model: nn.Module) -> dict[str, Tensor]:
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: x.detach().clone() for name, x in tensors.items() if not nn.parameter.is_lazy(x)}


@pytest.fixture
def distributed() -> Iterator[None]:
    torch.distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("distributed")
def test_a_sharded_model_is_refused() -> None:
    model = constrained()
    fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
    before, cls = snapshot(model), type(model)
    with pytest.raises(RuntimeError, match=r"is sharded by FSDP[\s\S]*shard the model") as caught:
        fold(model)
    assert "while folding '0.weight'" in caught.value.__notes__[-1]
    assert_untouched(model, before, cls)


@pytest.mark.parametrize("moment", ["first", "last"])
def test_a_wrong_value_is_noticed_and_everything_taken_back(monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    model, x = constrained(), torch.randn(2, 3)
    outside: Any = nn.Linear(3, 3)
    outside.weight = model[1].bias  # of another shape, which nobody asks
    pf.register_parametrization(model[1], "bias", Polar())
    nn.utils.parametrize.register_parametrization(model.append(nn.Linear(3, 3))[2], "weight", Symmetric())
    model(x).sum().backward()
    spoiled = model[0 if moment == "first" else 2].parametrizations.weight.original
    gradient = spoiled.grad.clone()
    room = import_module("paraform.model.fold")
    put = room.write

    def write(old: Tensor, new: Tensor) -> None:
        put(old, new)
        if old is spoiled:
            old[0, 0] += 1e-6

    monkeypatch.setattr(room, "write", write)
    before, cls = snapshot(model), type(model)
    classes, y = [type(module) for module in model.modules()], model(x)
    with pytest.raises(RuntimeError, match=r"weight' of Linear is not the value"):
        fold(model)
    assert_untouched(model, before, cls)
    assert [type(module) for module in model.modules()] == classes
    assert pf.is_parametrized(outside)
    assert torch.equal(model(x), y)
    assert torch.equal(spoiled.grad, gradient)
    monkeypatch.undo()
    assert torch.equal(fold(model)(x), y)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_what_is_no_module_or_compiled_by_torchscript_is_refused() -> None:
    with pytest.raises(TypeError, match="to fold, got dict"):
        fold({})  # type: ignore[type-var]
    traced = torch.jit.trace(pf.register_parametrization(nn.Linear(3, 3), "weight", Symmetric()), torch.ones(1, 3))
    with pytest.raises(TypeError, match="Fold first, then script or trace"):
        fold(nn.Sequential(traced))
    scripted = torch.jit.script(stack())
    model = nn.Sequential(scripted, constrained())
    keys = list(pf.plain_state_dict(model))
    assert fold(model)[0] is scripted
    assert list(model.state_dict()) == keys
