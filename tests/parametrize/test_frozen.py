"""frozen(): repeated reads in evaluation are free, and never stale."""

import copy
import gc
import threading
import weakref

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from paraform import parametrize
from tests.parametrize.cases import Counting, Double, Scale, Skew, Symmetric


def counting() -> tuple[nn.Linear, Counting]:
    layer = parametrize.register_parametrization(nn.Linear(4, 4), "weight", Counting()).eval()
    counter = layer.parametrizations.weight[0]
    counter.calls = 0
    return layer, counter


def symmetric() -> nn.Linear:
    return parametrize.register_parametrization(nn.Linear(4, 4), "weight", Symmetric()).eval()


def raw(layer: nn.Module) -> nn.Parameter:
    return layer.parametrizations.weight.original


def test_many_forward_passes_compute_once() -> None:
    layer, counter = counting()
    with parametrize.frozen(layer):
        for _ in range(5):
            layer(torch.ones(2, 4))
    assert counter.calls == 1


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_values_have_no_graph_and_count_writes(mode: type) -> None:
    layer = symmetric()
    with parametrize.frozen(layer), mode():
        value = layer.weight
        assert value is layer.weight
        assert not value.requires_grad
        assert not value.is_inference()


def test_a_value_that_is_the_original_has_no_graph_either() -> None:
    layer = parametrize.register_parametrization(nn.Linear(4, 4), "weight", nn.Identity()).eval()
    with parametrize.frozen(layer):
        value = layer.weight
        assert not value.requires_grad
        with torch.no_grad():
            raw(layer).zero_()
        assert torch.equal(layer.weight, torch.zeros(4, 4))


def test_the_gradient_still_reaches_the_input() -> None:
    layer, x = symmetric(), torch.ones(1, 4, requires_grad=True)
    with parametrize.frozen(layer):
        layer(x).sum().backward()
    torch.testing.assert_close(x.grad, layer.weight.sum(0, keepdim=True).detach())
    assert raw(layer).grad is None


def test_a_model_in_training_mode_is_refused() -> None:
    model = nn.Sequential(nn.Linear(4, 4), symmetric().train())
    with pytest.raises(RuntimeError, match=r"In training mode: 1\.weight\. Call eval"), parametrize.frozen(model):
        raise AssertionError
    with parametrize.frozen(model.eval()):
        pass


def test_a_read_after_train_is_refused_and_leaves_no_trace() -> None:
    layer = symmetric()
    with parametrize.frozen(layer):
        before = layer.weight
        layer.train()
        with pytest.raises(RuntimeError, match="In training mode: this tensor"):
            layer(torch.ones(1, 4))
        assert layer.eval().weight is before
    assert layer.train().weight.requires_grad


def optimizer_step(layer: nn.Module, fused: bool) -> None:
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1, fused=fused)
    raw(layer).grad = torch.ones(4, 4)
    optimizer.step()


CHANGES = {
    "assignment": lambda layer: setattr(layer, "weight", torch.eye(4)),
    "a write to the original": lambda layer: raw(layer).detach().add_(1),
    "a step of an average": lambda layer: torch._foreach_lerp_([raw(layer).detach()], [torch.ones(4, 4)], 0.5),
    "load_state_dict": lambda layer: layer.load_state_dict({k: v + 1 for k, v in layer.state_dict().items()}),
    "double": lambda layer: layer.double(),
    "a registration": lambda layer: parametrize.register_parametrization(layer, "weight", Double()),
    "an optimizer step": lambda layer: optimizer_step(layer, fused=False),
    "a fused optimizer step": lambda layer: optimizer_step(layer, fused=True),
    "parameters from a vector": lambda layer: nn.utils.vector_to_parameters(torch.arange(20.0), layer.parameters()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_value_is_computed_anew_after(change: str) -> None:
    layer = symmetric()
    with parametrize.frozen(layer):
        before = layer.weight
        CHANGES[change](layer)
        after = layer.weight
        assert (after.dtype, after.tolist()) != (before.dtype, before.tolist())
        assert torch.equal(after, layer.parametrizations.weight())
        assert layer.weight is after


def test_a_population_in_one_memory_is_told_apart() -> None:
    layer = symmetric()
    population = torch.randn(3, sum(parameter.numel() for parameter in layer.parameters()))
    with parametrize.frozen(layer):
        for member in population:
            nn.utils.vector_to_parameters(member, layer.parameters())
            assert torch.equal(layer.weight, layer.parametrizations.weight())


@pytest.mark.parametrize("view", [lambda data: data.t(), lambda data: data[:3, :3]], ids=["transposed", "smaller"])
def test_another_view_of_the_same_memory_is_seen(view) -> None:
    layer = symmetric()
    with parametrize.frozen(layer):
        _ = layer.weight
        raw(layer).data = view(raw(layer).data)
        assert torch.equal(layer.weight, layer.parametrizations.weight())


def test_a_write_into_the_value_itself_drops_it() -> None:
    layer = symmetric()
    with parametrize.frozen(layer):
        layer.weight.data.zero_()  # this one cannot be seen
        layer.weight.zero_()
        assert torch.equal(layer.weight, layer.parametrizations.weight())


def test_other_threads_and_other_models_are_not_frozen() -> None:
    layer, other = symmetric(), symmetric()
    seen: list[Tensor] = []
    with parametrize.frozen(layer):
        thread = threading.Thread(target=lambda: seen.append(layer.weight))
        thread.start()
        thread.join()
        assert seen[0].requires_grad
        assert other.weight.requires_grad
        assert other.weight is not other.weight


@pytest.mark.parametrize("frozen_first", [True, False])
def test_frozen_and_cached_go_together_in_either_order(frozen_first: bool) -> None:
    layer = symmetric()
    contexts = [parametrize.frozen(layer), parametrize.cached()]
    first, second = contexts if frozen_first else reversed(contexts)
    with first, second:
        assert not layer.weight.requires_grad
        assert layer.weight is layer.weight


def test_a_copy_made_inside_has_its_own_values() -> None:
    layer = symmetric()
    with parametrize.frozen(layer):
        _ = layer.weight
        clone = copy.deepcopy(layer)
        with torch.no_grad():
            raw(clone).zero_()
        assert torch.equal(clone.weight, torch.zeros(4, 4))
        assert not torch.equal(layer.weight, clone.weight)


def test_functional_call_inside_uses_the_given_parameters() -> None:
    layer, x = symmetric(), torch.randn(2, 4)
    given = {"parametrizations.weight.original": torch.eye(4), "bias": torch.zeros(4)}
    with parametrize.frozen(layer):
        before = layer.weight
        assert torch.equal(functional_call(layer, given, (x,)), x)
        assert torch.equal(layer.weight, before)


def test_functional_call_inside_gives_gradients_to_the_given_parameters() -> None:
    layer, x = symmetric(), torch.randn(2, 4)
    given = torch.eye(4, requires_grad=True)
    with parametrize.frozen(layer):
        _ = layer.weight
        functional_call(layer, {"parametrizations.weight.original": given}, (x,)).sum().backward()
        assert not layer.weight.requires_grad
    assert given.grad is not None


def test_functional_call_inside_gives_gradients_to_a_given_tensor_of_a_parametrization() -> None:
    layer = parametrize.register_parametrization(nn.Linear(4, 4), "weight", Scale()).eval()
    given = torch.tensor(3.0, requires_grad=True)
    with parametrize.frozen(layer):
        functional_call(layer, {"parametrizations.weight.0.factor": given}, (torch.ones(4),)).sum().backward()
    torch.testing.assert_close(given.grad, raw(layer).sum())


# torch's own forward-mode decompositions use the TorchScript compiler that it deprecates.
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
def test_transforms_inside_differentiate_as_usual() -> None:
    layer, x = symmetric(), torch.randn(4)
    parameters = {"parametrizations.weight.original": raw(layer).detach(), "bias": layer.bias.detach()}

    def energy(parameters: dict[str, Tensor]) -> Tensor:
        return functional_call(layer, parameters, (x,)).square().sum()

    expected = torch.func.grad(energy)(parameters)
    with parametrize.frozen(layer):
        _ = layer.weight
        torch.testing.assert_close(torch.func.grad(energy)(parameters), expected)
        torch.testing.assert_close(torch.func.jvp(layer, (x,), (x,))[1], layer.weight @ x)
        torch.testing.assert_close(torch.func.vmap(layer)(x[None]), layer(x[None]))


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("backward_inside", [False, True])
def test_checkpointing_inside_gives_the_same_gradient_to_the_input(use_reentrant: bool, backward_inside: bool) -> None:
    layer, x = symmetric(), torch.randn(2, 4, requires_grad=True)
    (expected,) = torch.autograd.grad(layer(layer(x)).square().sum(), x)
    with parametrize.frozen(layer):
        loss = checkpoint(lambda h: layer(layer(h)), x, use_reentrant=use_reentrant).square().sum()
        if backward_inside:
            loss.backward()
    if not backward_inside:
        loss.backward()
    torch.testing.assert_close(x.grad, expected)


def test_export_inside_keeps_the_raw_tensor_a_parameter_of_the_program() -> None:
    layer, x = symmetric(), torch.randn(2, 4)
    with parametrize.frozen(layer):
        expected = layer(x)
        program = torch.export.export(layer, (x,))
        assert torch.equal(layer(x), expected)
    assert "parametrizations.weight.original" in program.state_dict
    assert not any("detach" in str(node.target) or "grad" in str(node.target) for node in program.graph.nodes)
    assert torch.equal(program.module()(x), expected)


@pytest.mark.parametrize("step", [Symmetric, nn.Identity])
def test_compiled_code_inside_and_around_gives_the_same(step: type[nn.Module]) -> None:
    torch._dynamo.reset()
    layer = parametrize.register_parametrization(nn.Linear(4, 4), "weight", step()).eval()
    x = torch.randn(2, 4)
    expected = layer(x)
    layer.bias.requires_grad_(False)

    def serve(x: Tensor) -> Tensor:
        with parametrize.frozen(layer):
            return layer(x)

    torch.testing.assert_close(torch.compile(serve, fullgraph=True, backend="eager")(x), expected.detach())
    assert not torch.compile(serve, fullgraph=True, backend="eager")(x).requires_grad
    with parametrize.frozen(layer):
        torch.testing.assert_close(torch.compile(layer, fullgraph=True, backend="eager")(x), expected)


def test_an_exception_half_way_is_the_end_of_it() -> None:
    layer, counter = counting()
    with pytest.raises(ArithmeticError), parametrize.frozen(layer):
        raise ArithmeticError(layer.weight)
    assert layer.weight is not layer.weight
    assert counter.calls == 3


def test_it_keeps_nothing_alive_after_it_is_left() -> None:
    layer = symmetric()
    with parametrize.frozen(layer):
        value = weakref.ref(layer.weight)
        assert value() is not None
    gc.collect()
    assert value() is None


def test_a_step_in_training_mode_inside_an_evaluating_layer_is_named() -> None:
    layer = parametrize.register_parametrization(nn.Linear(4, 4), "weight", Scale()).eval()
    parametrize.register_parametrization(layer, "weight", Skew())
    layer.parametrizations.weight[0].train()
    with pytest.raises(RuntimeError, match="In training mode: weight"), parametrize.frozen(layer):
        raise AssertionError


@pytest.mark.parametrize("wrong", [3, nn.Linear, None, "weight"])
def test_what_is_no_module_is_refused(wrong: object) -> None:
    with pytest.raises(TypeError, match=r"Expected an nn\.Module for frozen"):
        parametrize.frozen(wrong)


def test_a_parameter_that_functional_call_is_given_gets_its_gradient() -> None:
    layer = parametrize.register_parametrization(nn.Linear(4, 4, bias=False), "weight", Symmetric()).eval()
    given = nn.Parameter(torch.randn(4, 4))
    with parametrize.frozen(layer):
        before = layer.weight.clone()
        loss = torch.func.functional_call(layer, {"parametrizations.weight.original": given}, torch.ones(1, 4)).sum()
        loss.backward()
        assert torch.equal(layer.weight, before)
    assert torch.equal(given.grad, torch.ones(4, 4).triu() + torch.ones(4, 4).triu(1))
