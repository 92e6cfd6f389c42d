"""Rows 8 and 25: caches that stay on, values that are computed again at each look, and what is left of row 4."""

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from tests.complaints.layers import doubled, original
from tests.complaints.registry import FIXED, Engine, complaint, raises, wrong
from tests.parametrize.cases import Counting


def counted(engine: Engine) -> tuple[nn.Linear, Counting]:
    """A layer, and the parametrization that counts how often it is evaluated from now on."""
    layer = engine.parametrize.register_parametrization(nn.Linear(3, 3), "weight", Counting())
    counter = layer.parametrizations.weight[0]
    counter.calls = 0
    return layer, counter


class Twice(nn.Module):
    """Somebody else's model: reads the weight of its layer twice a forward pass."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.layer(x))


# --- row 8 -----------------------------------------------------------------------------------------------------------


def no_such(name: str) -> str:
    return f"module 'torch.nn.utils.parametrize' has no attribute '{name}'"


@complaint(
    8,
    "bitsandbytes#2005",
    symptom="no way to cache each forward pass of a model without changing its code",
    on_torch=raises(AttributeError, no_such("cache_each_forward")),
)
def test_bitsandbytes_2005_each_forward_pass_can_be_cached_from_outside(engine: Engine) -> None:
    layer, counter = counted(engine)
    model = Twice(layer)
    engine.parametrize.cache_each_forward(model)
    model(torch.ones(1, 3))
    assert counter.calls == 1
    _ = layer.weight, layer.weight
    assert counter.calls == 3


@complaint(
    8,
    "bitsandbytes PR#1999",
    symptom="such a cache stays on when activation checkpointing stops the recomputation of a forward pass early",
    on_torch=raises(AttributeError, no_such("cache_each_forward")),
)
def test_bitsandbytes_pr_1999_checkpointing_does_not_leave_the_cache_on(engine: Engine) -> None:
    layer, counter = counted(engine)
    model = Twice(layer)
    engine.parametrize.cache_each_forward(model)
    x = torch.ones(1, 3, requires_grad=True)
    for use_reentrant in (False, True):
        checkpoint(model, x, use_reentrant=use_reentrant).sum().backward()
        counter.calls = 0
        _ = layer.weight, layer.weight
        assert counter.calls == 2


@complaint(
    8,
    symptom="such a cache, made of a counter that hooks raise and lower, stays on after an exception",
    on_torch=raises(AttributeError, no_such("cache_each_forward")),
)
def test_an_exception_in_a_forward_pass_does_not_leave_the_cache_on(engine: Engine) -> None:
    layer, counter = counted(engine)
    model = Twice(layer)
    engine.parametrize.cache_each_forward(model)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        model(torch.ones(1, 2))
    counter.calls = 0
    _ = layer.weight, layer.weight
    assert counter.calls == 2


@complaint(
    8,
    symptom="an exception inside cached() leaves the cache on",
    on_torch=FIXED,
)
def test_an_exception_inside_cached_does_not_leave_the_cache_on(engine: Engine) -> None:
    layer, counter = counted(engine)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), engine.parametrize.cached():
        layer(torch.ones(1, 2))
    counter.calls = 0
    _ = layer.weight, layer.weight
    assert counter.calls == 2


# --- row 25 ----------------------------------------------------------------------------------------------------------


@complaint(
    25,
    "geotorch#46",
    symptom="in evaluation the value is computed at each forward pass, and cached() around it all goes stale",
    on_torch=raises(AttributeError, no_such("frozen")),
)
def test_geotorch_46_evaluation_computes_a_value_once(engine: Engine) -> None:
    layer, counter = counted(engine)
    with engine.parametrize.frozen(layer.eval()), torch.no_grad():
        for _ in range(5):
            layer(torch.ones(1, 3))
        assert counter.calls == 1
        original(layer).fill_(1)
        assert torch.equal(layer.weight, torch.full((3, 3), 2.0))


@complaint(
    25,
    "geotorch#34",
    symptom="a value kept for evaluation goes stale when training goes on, or cuts the gradient off",
    on_torch=raises(AttributeError, no_such("frozen")),
)
def test_geotorch_34_training_a_frozen_model_is_refused(engine: Engine) -> None:
    layer = doubled(engine).eval()
    with engine.parametrize.frozen(layer):
        layer(torch.ones(1, 3))
        layer.train()
        with pytest.raises(RuntimeError, match="training mode"):
            layer(torch.ones(1, 3))
    layer(torch.ones(1, 3)).sum().backward()
    assert original(layer).grad is not None


@complaint(
    25,
    "deel-torchlip PR#20",
    symptom="asking for the shape, dtype or device of a parametrized tensor computes it",
    on_torch=raises(AttributeError, "'ParametrizationList' object has no attribute 'shape'"),
)
def test_deel_torchlip_pr_20_shape_dtype_and_device_compute_nothing(engine: Engine) -> None:
    layer, counter = counted(engine)
    layer.bfloat16()
    chain = layer.parametrizations.weight
    assert (chain.shape, chain.dtype, chain.device) == ((3, 3), torch.bfloat16, torch.device("cpu"))
    assert counter.calls == 0
    assert (layer.weight.shape, layer.weight.dtype, layer.weight.device) == (chain.shape, chain.dtype, chain.device)


@complaint(
    25,
    symptom="inside cached() a look at the shape, or hasattr, computes the value again",
    on_torch=FIXED,
)
def test_inside_cached_a_look_at_the_shape_computes_nothing(engine: Engine) -> None:
    layer, counter = counted(engine)
    with engine.parametrize.cached():
        layer(torch.ones(1, 3))
        assert layer.weight.shape == (3, 3)
        assert hasattr(layer, "weight")
    assert counter.calls == 1


# --- row 4 -----------------------------------------------------------------------------------------------------------


@complaint(
    4,
    symptom="cached() keeps the values of every module that is read, not of the model that is meant",
    on_torch=raises(TypeError, "cached() takes 0 positional arguments but 1 was given"),
)
def test_cached_can_be_limited_to_one_model(engine: Engine) -> None:
    (layer, counter), (other, of_other) = counted(engine), counted(engine)
    with engine.parametrize.cached(layer):
        layer(other(other(layer(torch.ones(1, 3)))))
    assert (counter.calls, of_other.calls) == (1, 2)


@complaint(
    4,
    symptom="under cached() an in-place write into the weight that was handed out is what the next read gives",
    on_torch=wrong("the read gives what was written over the value"),
)
def test_a_read_under_cached_does_not_give_what_was_written_over_the_value(engine: Engine) -> None:
    layer, values = doubled(engine), []

    class Careless(nn.Module):
        def forward(self) -> None:
            values.append(layer.weight)  # inside a forward pass this is the plain value

    with engine.parametrize.cached(), torch.no_grad():
        Careless()()
        values[0].zero_()
        assert torch.equal(layer.weight, 2 * original(layer)), "the read gives what was written over the value"


@complaint(
    4,
    symptom="under cached() a buffer that a parametrization gets later is left out",
    on_torch=wrong("the value is that without the buffer"),
)
def test_a_read_under_cached_sees_a_buffer_that_was_empty(engine: Engine) -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mask", None)

        def forward(self, X: Tensor) -> Tensor:
            return X if self.mask is None else X * self.mask

    layer = engine.parametrize.register_parametrization(nn.Linear(3, 3), "weight", Masked())
    with engine.parametrize.cached():
        _ = layer.weight
        layer.parametrizations.weight[0].mask = torch.zeros(3, 3)
        assert torch.equal(layer.weight, torch.zeros(3, 3)), "the value is that without the buffer"


@complaint(
    4,
    symptom="under cached() the derivative of one call with respect to other parameters leaves its tensor behind",
    on_torch=wrong("the weight got no gradient"),
)
def test_a_gradient_transform_under_cached_leaves_nothing_behind(engine: Engine) -> None:
    layer, x = doubled(engine), torch.ones(1, 3)
    parameters = {name: tensor.detach() for name, tensor in layer.named_parameters()}
    with engine.parametrize.cached():
        gradient = torch.func.grad(lambda parameters: functional_call(layer, parameters, (x,)).sum())(parameters)
        assert torch.equal(gradient["parametrizations.weight.original"], torch.full((3, 3), 2.0))
        layer(x).sum().backward()
    assert original(layer).grad is not None, "the weight got no gradient"


# torch's own forward-mode decompositions use the TorchScript compiler that it deprecates.
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
@complaint(
    4,
    symptom="under cached() a forward-mode derivative with respect to the parameters is zero",
    on_torch=wrong("the derivative leaves the weight out"),
)
def test_a_forward_mode_derivative_under_cached_follows_the_parameters(engine: Engine) -> None:
    layer, x = doubled(engine), torch.ones(1, 3)
    parameters = {name: tensor.detach() for name, tensor in layer.named_parameters()}
    ones = {name: torch.ones_like(tensor) for name, tensor in parameters.items()}
    with engine.parametrize.cached():
        _ = layer.weight
        _, derivative = torch.func.jvp(
            lambda parameters: functional_call(layer, parameters, (x,)), (parameters,), (ones,)
        )
    assert torch.equal(derivative, torch.full((1, 3), 7.0)), "the derivative leaves the weight out"
