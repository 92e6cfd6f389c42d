"""Row 40: originals that are tensor subclasses, and modules whose tensors are swapped."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_map_only

from tests.complaints.layers import doubled, original
from tests.complaints.registry import FIXED, Engine, complaint, raises, wrong
from tests.parametrize.cases import Double

aten = torch.ops.aten


class Sum(Tensor):
    """A tensor that is held as two, which add up to it; what is computed from it is plain."""

    def __new__(cls, a: Tensor, b: Tensor) -> "Sum":
        return Tensor._make_wrapper_subclass(cls, a.shape, dtype=a.dtype, device=a.device)

    def __init__(self, a: Tensor, b: Tensor) -> None:
        self.a, self.b = a, b

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["a", "b"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, Tensor], *_: Any) -> "Sum":
        return Sum(inner["a"], inner["b"])

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is nn.functional.linear:  # as quantized tensors do, which bring a kernel of their own
            args = tree_map_only(Sum, lambda tensor: tensor.a + tensor.b, args)
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        first, rest = args[0], args[1:]
        if func in (aten.detach.default, aten.clone.default, aten._to_copy.default):
            made = Sum(func(first.a, *rest, **kwargs), func(first.b, *rest, **kwargs))
            return return_and_correct_aliasing(func, args, kwargs, made)
        if func is aten.copy_.default and isinstance(first, Sum):
            (new,) = rest
            first.a.copy_(new.a if isinstance(new, Sum) else new)
            first.b.copy_(new.b if isinstance(new, Sum) else torch.zeros_like(new))
            return first
        args, kwargs = tree_map_only(Sum, lambda tensor: tensor.a + tensor.b, (args, kwargs))
        return func(*args, **kwargs)


class Unwrapped(nn.Module):
    """Two plain originals in place of one that is held as two."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return Sum(a, b)

    def right_inverse(self, X: Tensor) -> tuple[Tensor, Tensor]:
        return X.a, X.b


def with_sum(engine: Engine, parametrization: nn.Module | None = None) -> nn.Linear:
    layer = nn.Linear(3, 3)
    layer.weight = nn.Parameter(Sum(torch.randn(3, 3), torch.randn(3, 3)))
    if parametrization is not None:
        engine.parametrize.register_parametrization(layer, "weight", parametrization)
    return layer


@complaint(
    40,
    "pytorch#123859",
    symptom="registration makes a plain tensor of an original that is a tensor subclass",
    on_torch=wrong("the original is no subclass any more"),
)
def test_pytorch_123859_an_original_that_is_a_subclass_stays_one(engine: Engine) -> None:
    layer = with_sum(engine)
    weight, before = layer.weight, torch.clone(layer.weight.a + layer.weight.b).detach()
    engine.parametrize.register_parametrization(layer, "weight", Double())
    assert type(original(layer)) is Sum, "the original is no subclass any more"
    assert original(layer) is weight
    assert torch.allclose(layer.weight, before)


@complaint(
    40,
    "ao PR#2062",
    "ao#515",
    symptom="unwrapping a tensor subclass a second time breaks the layer",
    on_torch=FIXED,
    ours="refused; the layer stays as it was",
)
def test_ao_pr_2062_unwrapping_twice_is_refused_and_leaves_the_layer_unwrapped_once(engine: Engine) -> None:
    layer, x = with_sum(engine, Unwrapped()), torch.ones(1, 3)
    before, keys = layer(x), list(layer.state_dict())
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'b'"):
        engine.parametrize.register_parametrization(layer, "weight", Unwrapped())
    assert torch.equal(layer(x), before)
    assert list(layer.state_dict()) == keys


@complaint(
    40,
    "pytorch PR#140632",
    symptom="a subclass that is unwrapped into plain originals cannot be loaded, compiled or wrapped again",
    on_torch=FIXED,
)
def test_pytorch_pr_140632_an_unwrapped_subclass_is_loaded_compiled_and_wrapped_again(engine: Engine) -> None:
    torch._dynamo.reset()
    layer, other, x = with_sum(engine, Unwrapped()), with_sum(engine, Unwrapped()), torch.ones(1, 3)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(x), layer(x))
    assert all(type(parameter) is nn.Parameter for parameter in layer.parameters())
    assert torch.allclose(torch.compile(layer, fullgraph=True, backend="aot_eager")(x), layer(x))
    engine.parametrize.remove_parametrizations(other, "weight")
    assert type(other.weight) is Sum
    assert torch.equal(other(x), layer(x))


@complaint(
    40,
    "pytorch#129682",
    "ao#345",
    symptom="a model whose weights are tensor subclasses, unwrapped into plain originals, cannot be exported",
    on_torch=FIXED,
)
def test_pytorch_129682_an_unwrapped_subclass_is_exported_as_plain_tensors(engine: Engine) -> None:
    layer, x = with_sum(engine, Unwrapped()), torch.ones(1, 3)
    exported = torch.export.export(layer, (x,))
    assert torch.allclose(exported.module()(x), layer(x))
    assert set(exported.state_dict) == {
        "bias",
        "parametrizations.weight.original0",
        "parametrizations.weight.original1",
    }


@pytest.fixture
def _swapped() -> Iterator[None]:
    torch.__future__.set_swap_module_params_on_conversion(True)
    yield
    torch.__future__.set_swap_module_params_on_conversion(False)


@pytest.mark.usefixtures("_swapped")
@complaint(
    40,
    symptom="under cached() a conversion or a load that swaps tensors does not take effect",
    on_torch=wrong("the value has the dtype from before double()"),
)
def test_a_read_under_cached_sees_swapped_tensors(engine: Engine) -> None:
    layer, other = doubled(engine), doubled(engine)
    with engine.parametrize.cached():
        _ = layer.weight
        layer.double()
        assert layer.weight.dtype == torch.float64, "the value has the dtype from before double()"
        layer.load_state_dict(other.state_dict())
        assert torch.equal(layer.weight, other.weight.double())


@pytest.mark.usefixtures("_swapped")
@complaint(
    40,
    symptom="a recurrent layer cannot be parametrized where conversions are to swap tensors",
    on_torch=raises(RuntimeError, "Cannot swap t1 because it has weakref associated with it"),
)
def test_a_recurrent_layer_can_be_parametrized_and_converted_where_conversions_swap_tensors(engine: Engine) -> None:
    lstm = engine.parametrize.register_parametrization(nn.LSTM(3, 3), "weight_hh_l0", Double())
    x = torch.ones(2, 1, 3)
    expected = lstm(x)[0].detach().double()  # a living graph holds the tensors, and nobody could swap them
    lstm.double()
    assert torch.allclose(lstm(x.double())[0], expected, atol=1e-6)
