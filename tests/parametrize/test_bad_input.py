"""Whatever is handed in wrongly raises one clear error, and the module is what it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.utils.parametrize as torch_parametrize
from torch import Tensor, nn

from paraform import constraints, parametrize
from tests.parametrize.cases import Double, MatrixExp, Polar, Scale, Symmetric


class Returns(nn.Module):
    """forward and right_inverse return what they are told to."""

    def __init__(self, forward: Any = None, inverse: Any = None) -> None:
        super().__init__()
        self._forward = forward or (lambda X: X)
        self._inverse = inverse or (lambda X: X)
        self.register_buffer("learned_vector", torch.zeros(2))

    def forward(self, X: Tensor) -> Any:
        return self._forward(X)

    def right_inverse(self, X: Tensor) -> Any:
        self.learned_vector.fill_(1.0)
        return self._inverse(X)


class Two(nn.Module):
    """Takes two tensors, and has no inverse that would give them."""

    def forward(self, X: Tensor, Y: Tensor) -> Tensor:
        return X + Y


def plain() -> nn.Module:
    return nn.Linear(4, 4)


def parametrized() -> nn.Module:
    layer = parametrize.register_parametrization(nn.Linear(4, 4), "weight", Symmetric())
    parametrize.register_parametrization(layer, "weight", Scale())
    layer.parametrizations.weight.switch_off(1)
    return layer


def polar() -> nn.Module:
    layer = parametrize.register_parametrization(nn.Linear(4, 4), "weight", Polar())
    return parametrize.register_parametrization(layer, "weight", Double())


def one_way() -> nn.Module:
    layer = parametrize.register_parametrization(nn.Linear(4, 4), "weight", MatrixExp())
    return parametrize.register_parametrization(layer, "weight", Double())


def single() -> nn.Module:
    return parametrize.register_parametrization(nn.Linear(4, 4), "weight", Symmetric())


def learned() -> nn.Module:
    step = constraints.Symmetric()
    parametrize.register_parametrization(nn.Linear(4, 4), "weight", step)
    return step


def register(step: Any, name: Any = "weight") -> Callable[[nn.Module], Any]:
    return lambda module: parametrize.register_parametrization(module, name, step)


def chain(edit: Callable[[Any], Any]) -> Callable[[nn.Module], Any]:
    return lambda module: edit(module.parametrizations.weight)


def assign(value: Any) -> Callable[[nn.Module], Any]:
    return lambda module: setattr(module, "weight", value)


NAN = torch.full((4, 4), torch.nan)
Make = Callable[[], nn.Module]
Step = Callable[[], Any]
STEPS: dict[str, tuple[Any, type[Exception], str]] = {
    "another shape": (Returns(lambda X: X[:2]), ValueError, "shape"),
    "another dtype": (Returns(lambda X: X.double()), ValueError, "dtype"),
    "another device": (Returns(None, lambda X: X.to("meta")), ValueError, "device|meta"),
    "nan": (Returns(lambda X: X * torch.nan), ValueError, "not finite"),
    "inf": (Returns(lambda X: X / 0), ValueError, "not finite"),
    "no tensor": (Returns(lambda X: "value"), ValueError, "got str"),
    "no tensor from the inverse": (Returns(None, lambda X: None), ValueError, "got NoneType"),
    "several tensors, and takes one": (Returns(None, lambda X: (X, X)), (TypeError, ValueError), "argument|tuple"),
    "takes two": (Two(), TypeError, "argument"),
    "learned already": (learned(), ValueError, "Build a new one for 'weight' of"),
    "a class": (Symmetric, TypeError, r"Did you mean Symmetric\(\)"),
    "a string": ("symmetric", TypeError, "got str"),
    "nothing": (None, TypeError, "got NoneType"),
    "a number": (3, TypeError, "got int"),
}
CALLS: dict[str, tuple[Make, Callable[[nn.Module], Any], Any, str]] = {
    **{f"register, {reason}": (plain, register(step), error, words) for reason, (step, error, words) in STEPS.items()},
    **{
        f"register behind, {reason}": (single, register(step), error, words)
        for reason, (step, error, words) in STEPS.items()
        if reason != "another device"  # the inverse of a further step is only compared
    },
    **{
        f"insert, {reason}": (parametrized, chain(lambda c, step=step: c.insert(1, step)), error, words)
        for reason, (step, error, words) in STEPS.items()
    },
    **{
        f"insert in front, {reason}": (parametrized, chain(lambda c, step=step: c.insert(0, step)), error, words)
        for reason, (step, error, words) in STEPS.items()
    },
    **{
        f"replace, {reason}": (parametrized, chain(lambda c, step=step: c.replace(0, step)), error, words)
        for reason, (step, error, words) in STEPS.items()
    },
    "register, no such name": (plain, register(Double(), "wieght"), ValueError, "It has: weight, bias"),
    "register, no tensor at all": (nn.Tanh, register(Double()), ValueError, "It has none"),
    "register, a bias that is None": (
        lambda: nn.Linear(4, 4, bias=False),
        register(Double(), "bias"),
        ValueError,
        "bias",
    ),
    "register, an unhashable name": (plain, register(Double(), ["weight"]), TypeError, "string, got list"),
    "register, a number as name": (plain, register(Double(), 0), TypeError, "string, got int"),
    "assign, another shape": (parametrized, assign(torch.ones(3, 3)), ValueError, "shape"),
    "assign, another dtype": (parametrized, assign(torch.ones(4, 4).double()), ValueError, "dtype"),
    "assign, another device": (parametrized, assign(torch.ones(4, 4, device="meta")), ValueError, "device"),
    "assign, nan": (parametrized, assign(NAN), ValueError, "not finite"),
    "assign, no tensor": (parametrized, assign(3.0), TypeError, "got float"),
    "assign, None": (parametrized, assign(None), TypeError, "got NoneType"),
    "assign, no inverse": (one_way, assign(torch.ones(4, 4)), RuntimeError, "MatrixExp, does not implement"),
    "remove all, no such name": (
        parametrized,
        lambda m: parametrize.remove_parametrizations(m, "bias"),
        ValueError,
        "Parametrized: weight",
    ),
    "remove all, an unhashable name": (
        parametrized,
        lambda m: parametrize.remove_parametrizations(m, ["weight"]),
        TypeError,
        "got list",
    ),
    "remove, the only step": (single, chain(lambda c: c.remove(0)), ValueError, "Call remove_parametrizations"),
    "pop, the only step": (single, chain(lambda c: c.pop()), ValueError, "Call remove_parametrizations"),
    "remove, no such index": (parametrized, chain(lambda c: c.remove(2)), IndexError, "index 2 is out of range"),
    "remove, no such step": (parametrized, chain(lambda c: c.remove(Double())), ValueError, "Double is no step"),
    "remove, no index": (parametrized, chain(lambda c: c.remove("0")), TypeError, "got str"),
    "remove, a slice": (parametrized, chain(lambda c: c.__delitem__(slice(0, 1))), TypeError, "got slice"),
    "remove, a mode": (parametrized, chain(lambda c: c.remove(True)), TypeError, "got bool"),
    "remove, no inverse before": (one_way, chain(lambda c: c.remove(1)), RuntimeError, "MatrixExp, has no"),
    "remove, several originals": (
        polar,
        chain(lambda c: c.remove(0, leave_parametrized=False)),
        ValueError,
        "2 originals",
    ),
    "insert, before several originals": (polar, chain(lambda c: c.insert(0, Double())), ValueError, "Replace it"),
    "insert, no index": (parametrized, chain(lambda c: c.insert("0", Double())), TypeError, "integer"),
    "insert, several originals in the middle": (
        parametrized,
        chain(lambda c: c.insert(1, Polar())),
        ValueError,
        "tuple",
    ),
    "replace, no such index": (parametrized, chain(lambda c: c.replace(-3, Double())), IndexError, "index -3"),
    "replace, a slice": (parametrized, chain(lambda c: c.__setitem__(slice(0, 1), Double())), TypeError, "slice"),
    "append, no step": (parametrized, chain(lambda c: c.append(3)), TypeError, "got int"),
    "extend, no step": (parametrized, chain(lambda c: c.extend([Double(), 3])), TypeError, "got int"),
    "switch off, no such index": (parametrized, chain(lambda c: c.switch_off(0, 2)), IndexError, "index 2"),
    "switch off, no such step": (
        parametrized,
        chain(lambda c: c.switch_off(Double())),
        ValueError,
        "Double is no step",
    ),
    "switch off, several originals": (polar, chain(lambda c: c.switch_off(1, 0)), ValueError, "2 originals"),
    "switch on, no such index": (parametrized, chain(lambda c: c.switch_on(1, 2)), IndexError, "index 2"),
    "a context, no such index": (parametrized, chain(lambda c: c.switched_off(2).__enter__()), IndexError, "index 2"),
}


def everything(module: nn.Module) -> list[Any]:
    """Whatever a refused call could have changed, of the module and of all below it."""
    return [
        [type(part), sorted(vars(part)), part.training, [(name, id(child)) for name, child in part._modules.items()]]
        + [sorted(map(str, part._forward_pre_hooks)), vars(part).get("_off"), vars(part).get("unsafe")]
        + [
            (name, id(tensor), tensor.shape, tensor.tolist())
            for name, tensor in part.state_dict(keep_vars=True).items()
        ]
        for part in module.modules()
    ]


@pytest.mark.parametrize("reason", CALLS)
def test_it_raises_one_clear_error_and_nothing_is_changed(reason: str) -> None:
    make, call, error, words = CALLS[reason]
    torch.manual_seed(0)
    module = make()
    before, vector = everything(module), [step.learned_vector.clone() for step in returning()]
    with pytest.raises(error, match=words) as raised:
        call(module)
    assert everything(module) == before
    assert all(torch.equal(step.learned_vector, old) for step, old in zip(returning(), vector, strict=True))
    text = "\n".join([str(raised.value), *getattr(raised.value, "__notes__", ())])
    assert type(module).__name__.removeprefix("Parametrized") in text or "string, got" in text


def returning() -> list[Returns]:
    return [step for step, _, _ in STEPS.values() if isinstance(step, Returns)]


TORCHS = [
    (plain, lambda e, m: e.register_parametrization(m, "wieght", Double())),
    (plain, lambda e, m: e.register_parametrization(m, "weight", Returns(lambda X: X[:2]))),
    (plain, lambda e, m: e.register_parametrization(m, "weight", Returns(lambda X: X.double()))),
    (plain, lambda e, m: e.register_parametrization(m, "weight", Returns(lambda X: "value"))),
    (plain, lambda e, m: e.register_parametrization(m, "weight", Returns(None, lambda X: X.double()))),
    (plain, lambda e, m: e.register_parametrization(m, "weight", Two())),
    (plain, lambda e, m: e.remove_parametrizations(m, "weight")),
    (plain, lambda e, m: e.remove_parametrizations(m, "wieght")),
    (plain, lambda e, m: e.ParametrizationList([], m.weight)),
    (plain, lambda e, m: e.ParametrizationList([Returns(None, lambda X: 3)], m.weight)),
]


@pytest.mark.parametrize("index", range(len(TORCHS)))
def test_the_same_misuse_raises_what_torch_raises(index: int) -> None:
    make, misuse = TORCHS[index]
    raised = []
    for engine in (torch_parametrize, parametrize):
        with pytest.raises(Exception) as caught:  # noqa: PT011 (the two types are compared)
            misuse(engine, make())
        raised.append(caught.type)
    assert raised[0] is raised[1]
