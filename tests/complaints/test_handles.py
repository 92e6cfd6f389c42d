"""Rows 16, 27, 34 and 35: one step of a chain, adapters around a forward pass, lazy layers, plain functions."""

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter

from tests.complaints.registry import Engine, complaint, raises, wrong
from tests.parametrize.cases import Double, Symmetric


class Adapter(nn.Module):
    """Adds a product of two thin matrices, as LoRA does."""

    def __init__(self) -> None:
        super().__init__()
        self.A = nn.Parameter(torch.randn(1, 3))
        self.B = nn.Parameter(torch.randn(3, 1))

    def forward(self, W: Tensor) -> Tensor:
        return W + self.B @ self.A

    def right_inverse(self, W: Tensor) -> Tensor:
        return W - self.B @ self.A


def adapted(engine: Engine, *steps: nn.Module) -> nn.Linear:
    layer = nn.Linear(3, 3)
    for step in steps:
        engine.parametrize.register_parametrization(layer, "weight", step)
    return layer


@complaint(
    16,
    "peft PR#2710",
    symptom="taking one adapter off a tensor renames the others in the state dict",
    on_torch=wrong("another adapter has another name"),
)
def test_peft_pr_2710_taking_one_adapter_off_leaves_the_names_of_the_others(engine: Engine) -> None:
    layer = adapted(engine, Double(), Adapter(), Adapter())
    chain = layer.parametrizations.weight
    names = [name for name, module in layer.named_modules() if module is chain[2]]
    del chain[1]
    assert [name for name, module in layer.named_modules() if module is chain[1]] == names, (
        "another adapter has another name"
    )


@complaint(
    16,
    "peft PR#2665",
    symptom="a merged adapter that is taken off takes the value along",
    on_torch=wrong("the value is another one"),
)
def test_peft_pr_2665_an_adapter_that_is_taken_off_leaves_the_value(engine: Engine) -> None:
    layer = adapted(engine, Double(), Adapter(), Double())
    merged = layer.weight.detach().clone()
    del layer.parametrizations.weight[1]
    assert torch.allclose(layer.weight, merged, atol=1e-6), "the value is another one"


@complaint(
    16,
    symptom="one adapter cannot be taken off while the others stay as they are",
    on_torch=raises(AttributeError, "'ParametrizationList' object has no attribute 'remove'"),
)
def test_an_adapter_is_taken_off_by_itself_and_its_part_with_it(engine: Engine) -> None:
    first, second = Adapter(), Adapter()
    layer = adapted(engine, first, second)
    layer.parametrizations.weight.remove(first, leave_parametrized=False)
    assert torch.equal(layer.weight, second(layer.parametrizations.weight.original))


@complaint(
    16,
    symptom="a parametrization that is put before others moves the value and renames them",
    on_torch=wrong("the value is another one"),
)
def test_a_parametrization_is_put_before_others(engine: Engine) -> None:
    layer = adapted(engine, Adapter())
    value, adapter = layer.weight.detach().clone(), layer.parametrizations.weight[0]
    layer.parametrizations.weight.insert(0, Double())
    assert torch.allclose(layer.weight, value, atol=1e-6), "the value is another one"
    assert layer.get_submodule("parametrizations.weight.0") is adapter


@complaint(
    16,
    "peft#2638",
    symptom="of two adapters on one parameter none can be used alone",
    on_torch=raises(AttributeError, "'ParametrizationList' object has no attribute 'switched_off'"),
)
def test_peft_2638_of_two_adapters_on_one_parameter_each_can_be_used_alone(engine: Engine) -> None:
    first, second = Adapter(), Adapter()
    layer = adapted(engine, first, second)
    chain = layer.parametrizations.weight
    assert torch.equal(layer.weight, second(first(chain.original)))
    with chain.switched_off(first):
        assert torch.equal(layer.weight, second(chain.original))
    with chain.switched_off(second):
        assert torch.equal(layer.weight, first(chain.original))
    with chain.switched_off(first, second):
        assert torch.equal(layer.weight, chain.original)


@pytest.fixture(autouse=True)
def _fresh_compiler() -> None:
    torch._dynamo.reset()


@complaint(
    27,
    "peft PR#3304",
    symptom="an adapter that is registered and removed around each forward pass compiles the layer each time",
    on_torch=wrong("it was compiled again"),
)
def test_peft_pr_3304_registering_and_removing_around_each_forward_compiles_once_with_and_once_without(
    engine: Engine,
) -> None:
    layer, adapter, x, compilations = nn.Linear(3, 3), Adapter(), torch.ones(1, 3), CompileCounter()
    compiled = torch.compile(layer, backend=compilations, fullgraph=True)
    for _ in range(4):
        plain = compiled(x)
        engine.parametrize.register_parametrization(layer, "weight", adapter)
        compiled(x)
        engine.parametrize.remove_parametrizations(layer, "weight")
    assert compilations.frame_count == 2, "it was compiled again"
    assert torch.allclose(plain, layer(x), atol=1e-5)


@complaint(
    27,
    "peft PR#2638",
    symptom="an adapter cannot be switched off for a forward pass without changing the layer",
    on_torch=raises(AttributeError, "'ParametrizationList' object has no attribute 'switch_off'"),
)
def test_peft_pr_2638_switching_an_adapter_in_a_loop_does_not_compile_again(engine: Engine) -> None:
    layer, x, compilations = adapted(engine, Double(), Adapter()), torch.ones(1, 3), CompileCounter()
    chain, cls, keys = layer.parametrizations.weight, type(layer), list(layer.state_dict())
    compiled = torch.compile(layer, backend=compilations, fullgraph=True)
    for _ in range(4):
        chain.switch_off(1)
        assert torch.allclose(compiled(x), nn.functional.linear(x, 2 * chain.original, layer.bias))
        chain.switch_on(1)
        assert torch.allclose(compiled(x), nn.functional.linear(x, chain[1](2 * chain.original), layer.bias))
    assert compilations.frame_count == 2
    assert (type(layer), list(layer.state_dict())) == (cls, keys)


@complaint(
    34,
    "pytorch PR#44538",
    symptom="a lazy layer cannot be parametrized before its first forward pass",
    on_torch=raises(
        RuntimeError,
        "Can't access the shape of an uninitialized parameter or buffer.",
    ),
)
def test_pytorch_pr_44538_a_lazy_layer_is_parametrized_at_its_first_forward_pass(engine: Engine) -> None:
    model = nn.Sequential(nn.LazyLinear(3), nn.LazyLinear(3))
    engine.parametrize.register_parametrization(model[1], "weight", Symmetric())
    model(torch.ones(2, 5))
    assert [engine.parametrize.is_parametrized(layer) for layer in model] == [False, True]
    assert torch.equal(model[1].weight, model[1].weight.mT)
    assert isinstance(model[1], nn.Linear)


@complaint(
    35,
    "tutorials PR#1444",
    symptom="a plain function cannot be registered",
    on_torch=raises(AttributeError, "'builtin_function_or_method' object has no attribute 'train'"),
)
def test_tutorials_pr_1444_a_plain_function_is_a_parametrization(engine: Engine) -> None:
    layer = nn.Linear(3, 3)
    engine.parametrize.register_parametrization(layer, "weight", Symmetric())
    engine.parametrize.register_parametrization(layer, "weight", torch.matrix_exp)
    assert (torch.linalg.eigvalsh(layer.weight) > 0).all()


@complaint(
    35,
    symptom="a pair of a function and its inverse cannot be registered",
    on_torch=raises(AttributeError, "'tuple' object has no attribute 'train'"),
)
def test_a_function_and_its_inverse_are_a_parametrization(engine: Engine) -> None:
    layer = nn.Linear(3, 3)
    with torch.no_grad():
        layer.weight.exp_()
    value = layer.weight.detach().clone()
    engine.parametrize.register_parametrization(layer, "weight", (torch.exp, torch.log))
    assert torch.allclose(layer.weight, value)
    layer.weight = torch.full((3, 3), 2.0)
    assert torch.allclose(layer.weight, torch.full((3, 3), 2.0))
