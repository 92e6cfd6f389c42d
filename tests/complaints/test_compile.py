"""Rows 22, 36 and 37: torch.compile and torch.export."""

import pytest
import torch
import torch._dynamo
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter
from torch.fx import GraphModule

from tests.complaints.layers import doubled
from tests.complaints.registry import FIXED, Engine, complaint, wrong
from tests.parametrize.cases import Double, MatrixExp


@pytest.fixture(autouse=True)
def _fresh_compiler() -> None:
    torch._dynamo.reset()


@complaint(
    22,
    "torchtitan PR#2754",
    symptom="six equal layers that are compiled one by one compile six times",
    on_torch=wrong("equal layers were compiled more than once"),
)
def test_torchtitan_pr_2754_equal_layers_compile_once(engine: Engine) -> None:
    compilations = CompileCounter()
    for layer in [doubled(engine) for _ in range(6)]:
        torch.compile(layer, backend=compilations)(torch.ones(1, 3))
    assert compilations.frame_count == 1, "equal layers were compiled more than once"


@complaint(
    22,
    "torchtitan PR#3286",
    "torchtitan PR#1273",
    symptom="two layers that are parametrized alike have different classes",
    on_torch=wrong("the classes differ"),
)
def test_torchtitan_pr_3286_layers_that_are_parametrized_alike_have_one_class(engine: Engine) -> None:
    assert type(doubled(engine)) is type(doubled(engine)), "the classes differ"


class Recurrent(nn.Module):
    """Reads its kernel at each of the steps, under cached()."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.engine = engine
        self.cell = engine.parametrize.register_parametrization(nn.RNNCell(2, 3), "weight_hh", MatrixExp())

    def forward(self, xs: Tensor) -> Tensor:
        h = xs.new_zeros(1, 3)
        with self.engine.parametrize.cached():
            for x in xs:
                h = self.cell(x, h)
        return h


def exponentials(graph: GraphModule) -> int:
    return sum("matrix_exp" in str(node.target) for node in graph.graph.nodes)


@complaint(
    36,
    "pytorch#167645",
    symptom="an exported model computes what cached() keeps at each read",
    on_torch=FIXED,
)
def test_pytorch_167645_an_exported_model_computes_a_cached_value_once(engine: Engine) -> None:
    model, xs = Recurrent(engine), torch.ones(4, 1, 2)
    exported = torch.export.export(model, (xs,)).module()
    assert exponentials(exported) == 1
    assert torch.allclose(exported(xs), model(xs))


@complaint(
    36,
    symptom="spectral_norm does not compile to one graph, once and in good time",
    on_torch=FIXED,
)
def test_spectral_norm_compiles_to_one_graph(engine: Engine) -> None:
    layer, x = engine.parametrizations.spectral_norm(nn.Linear(3, 3), n_power_iterations=3), torch.ones(1, 3)
    compilations = CompileCounter()
    compiled = torch.compile(layer, fullgraph=True, backend=compilations)
    for _ in range(3):
        trained = compiled(x)
    assert compilations.frame_count == 1
    assert torch.allclose(trained, layer.eval()(x))


@complaint(
    37,
    "pytorch#121304",
    symptom="a convolution with weight_norm cannot be compiled",
    on_torch=FIXED,
)
def test_pytorch_121304_a_convolution_with_weight_norm_compiles_to_one_graph(engine: Engine) -> None:
    layer, x = engine.parametrizations.weight_norm(nn.Conv1d(2, 3, 2)), torch.ones(1, 2, 4)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(x), layer(x))


@complaint(
    37,
    symptom="a model that uses cached() does not compile to one graph",
    on_torch=FIXED,
)
def test_a_model_that_uses_cached_compiles_to_one_graph(engine: Engine) -> None:
    model, xs = Recurrent(engine), torch.ones(4, 1, 2)
    assert torch.allclose(torch.compile(model, fullgraph=True, backend="eager")(xs), model(xs))


@complaint(
    37,
    "pytorch#115744",
    "pytorch#120914",
    "pytorch#118795",
    symptom="a function that registers a parametrization cannot be compiled",
    on_torch=FIXED,
)
def test_pytorch_115744_a_function_that_registers_can_be_compiled(engine: Engine) -> None:
    def scaled(weight: nn.Parameter, x: Tensor) -> Tensor:
        layer = nn.Linear(3, 3, bias=False)
        layer.weight = weight
        return engine.parametrize.register_parametrization(layer, "weight", Double())(x)

    weight, x = nn.Parameter(torch.randn(3, 3)), torch.ones(1, 3)
    expected = nn.functional.linear(x, weight)
    assert torch.allclose(torch.compile(scaled, backend="eager")(weight, x), expected)
