"""cached() computes each value once, and is never wrong."""

import threading

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from paraform import parametrize
from tests.parametrize.cases import HOSTS, Counting, Host, Scale, Symmetric

on_hosts = pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.title)


def counting(module: nn.Module, name: str) -> Counting:
    parametrize.register_parametrization(module, name, Counting())
    counter = module.parametrizations[name][0]
    counter.calls = 0
    return counter


@on_hosts
def test_each_value_is_computed_once(host: Host) -> None:
    module = host.make()
    counter = counting(module, host.name)
    with parametrize.cached():
        first = host.tensor(module)
        for _ in range(3):
            host.output(module, host.input())
        assert host.tensor(module) is first
    assert counter.calls == 1


@on_hosts
def test_leaving_forgets_everything(host: Host) -> None:
    module = host.make()
    counter = counting(module, host.name)
    with parametrize.cached():
        inside = host.tensor(module)
    assert host.tensor(module) is not inside
    with parametrize.cached():
        assert host.tensor(module) is not inside
    assert counter.calls == 3


def test_leaving_by_an_exception_forgets_everything() -> None:
    layer = nn.Linear(4, 4)
    counter = counting(layer, "weight")

    @parametrize.cached()
    def fail() -> None:
        raise ArithmeticError(layer.weight)

    with pytest.raises(ArithmeticError):
        fail()
    _ = layer.weight, layer.weight
    assert counter.calls == 3


def test_an_inner_context_shares_with_the_outer_one() -> None:
    layer = nn.Linear(4, 4)
    counter = counting(layer, "weight")
    with parametrize.cached():
        with parametrize.cached():
            _ = layer.weight
        _ = layer.weight
    assert counter.calls == 1


def test_contexts_may_be_left_in_any_order() -> None:
    layer = nn.Linear(4, 4)
    counter = counting(layer, "weight")
    first, second = parametrize.cached(), parametrize.cached()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    _ = layer.weight, layer.weight
    assert counter.calls == 1
    second.__exit__(None, None, None)
    _ = layer.weight, layer.weight
    assert counter.calls == 3


def test_cached_is_a_decorator_too() -> None:
    layer = nn.Linear(4, 4)
    counter = counting(layer, "weight")

    @parametrize.cached()
    def twice(x: Tensor) -> Tensor:
        return layer(layer(x))

    twice(torch.ones(4))
    twice(torch.ones(4))
    assert counter.calls == 2


def test_gradients_of_all_reads_add_up() -> None:
    layer = parametrize.register_parametrization(nn.Linear(4, 4), "weight", Symmetric())
    original, x = layer.parametrizations.weight.original, torch.randn(2, 4)
    layer(layer(x)).square().sum().backward()
    free, original.grad = original.grad, None
    with parametrize.cached():
        y = layer(layer(x))
    y.square().sum().backward()
    torch.testing.assert_close(original.grad, free)


class Transposed(Scale):
    def forward(self, X: Tensor) -> Tensor:
        return super().forward(X).mT


@pytest.mark.parametrize("step", [Scale, Transposed])
@pytest.mark.parametrize("mode", [True, False])
def test_the_gradient_with_respect_to_a_value_that_was_read_outside_can_be_asked_for(
    step: type[nn.Module], mode: bool
) -> None:
    layer = parametrize.register_parametrization(nn.Linear(4, 4), "weight", step()).train(mode)
    x = torch.randn(3, 4)
    with parametrize.cached():
        value = layer.weight
        (gradient,) = torch.autograd.grad(layer(x).sum(), value)
    torch.testing.assert_close(gradient, x.sum(0).expand(4, 4))


def test_what_is_read_outside_does_not_keep_the_forward_pass_from_carrying_a_step_on() -> None:
    class Carried(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("written", torch.zeros(()))
            self.register_buffer("replaced", torch.zeros(()))
            self.count = 0

        def forward(self, X: Tensor) -> Tensor:
            if self.way == "written":
                self.written.add_(1)
            elif self.way == "replaced":
                self.replaced = self.replaced + 1
            else:
                self.count += 1
            return X * 2

    for way in ("written", "replaced", "count"):
        step = Carried()
        step.way = way
        layer = parametrize.register_parametrization(nn.Linear(4, 4), "weight", step)
        before = float(getattr(step, way))
        with parametrize.cached():
            _ = layer.weight
            assert getattr(step, way) == before
            layer(torch.ones(4))
            assert getattr(step, way) == before + 1


def test_copies_do_not_share_values() -> None:
    import copy

    layer = parametrize.register_parametrization(nn.Linear(4, 4), "weight", Symmetric())
    target = copy.deepcopy(layer)
    with torch.no_grad():
        target.parametrizations.weight.original.zero_()
    with parametrize.cached():
        assert torch.equal(layer.weight, layer.parametrizations.weight())
        assert torch.equal(target.weight, torch.zeros(4, 4))


def test_another_thread_that_did_not_enter_computes_its_own() -> None:
    layer = nn.Linear(4, 4)
    counter = counting(layer, "weight")
    values: list[Tensor] = []

    def read() -> None:
        values.extend([layer.weight, layer.weight])

    with parametrize.cached():
        _ = layer.weight
        thread = threading.Thread(target=read)
        thread.start()
        thread.join()
    assert values[0] is not values[1]
    assert counter.calls == 3


# --- a value is computed anew when something changed -----------------------------------------------------------------


def optimizer_step(layer: nn.Module, fused: bool) -> None:
    layer.zero_grad()
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1, fused=fused)
    layer.weight.sum().backward()
    optimizer.step()


CHANGES = {
    "assignment": lambda layer: setattr(layer, "weight", torch.eye(4)),
    "a write to the original": lambda layer: layer.parametrizations.weight.original.detach().add_(1),
    "another original": lambda layer: setattr(layer.parametrizations.weight, "original", nn.Parameter(torch.eye(4))),
    "load_state_dict": lambda layer: layer.load_state_dict({k: v + 1 for k, v in layer.state_dict().items()}),
    "load_state_dict(assign=True)": lambda layer: layer.load_state_dict(
        {k: v + 1 for k, v in layer.state_dict().items()}, assign=True
    ),
    "eval": lambda layer: layer.eval(),
    "eval of the parametrization alone": lambda layer: layer.parametrizations.weight[0].eval(),
    "a write to its parameter": lambda layer: layer.parametrizations.weight[0].factor.detach().add_(1),
    "a write to its buffer": lambda layer: layer.parametrizations.weight[0].offset.add_(1),
    "double": lambda layer: layer.double(),
    "other memory behind the same parameter": lambda layer: setattr(
        layer.parametrizations.weight.original, "data", torch.eye(4)
    ),
    "a second registration": lambda layer: parametrize.register_parametrization(layer, "weight", Scale()),
    "another parametrization in its place": lambda layer: layer.parametrizations.weight.__setitem__(0, nn.Tanh()),
    "an optimizer step": lambda layer: optimizer_step(layer, fused=False),
    "a fused optimizer step": lambda layer: optimizer_step(layer, fused=True),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_value_is_computed_anew_after(change: str) -> None:
    layer = parametrize.register_parametrization(nn.Linear(4, 4), "weight", Symmetric())

    class Invertible(Scale):
        def right_inverse(self, Y: Tensor) -> Tensor:
            return (Y - self.offset - (1.0 if self.training else 0.0)) / self.factor

    layer.parametrizations.weight[0] = Invertible()
    with parametrize.cached():
        before = layer.weight
        CHANGES[change](layer)
        after = layer.weight
        assert not torch.equal(after.double(), before.double())
        assert torch.equal(after, layer.parametrizations.weight())
        assert layer.weight is after


def nested() -> nn.Module:
    layer = parametrize.register_parametrization(nn.Linear(4, 4), "weight", Scale())
    parametrize.register_parametrization(layer.parametrizations.weight[0], "factor", nn.Sequential(nn.Tanh()))
    return layer


NESTED_CHANGES = {
    "registration": lambda scale: parametrize.register_parametrization(scale, "factor", nn.Sigmoid()),
    "removal": lambda scale: parametrize.remove_parametrizations(scale, "factor", leave_parametrized=False),
    "replacement": lambda scale: scale.parametrizations.factor.__setitem__(0, nn.Sigmoid()),
    "a change inside a Sequential": lambda scale: scale.parametrizations.factor[0].append(nn.Tanh()),
}


@pytest.mark.parametrize("change", NESTED_CHANGES)
def test_a_value_is_computed_anew_after_a_change_inside_a_nested_parametrization(change: str) -> None:
    layer = nested()
    with parametrize.cached():
        before = layer.weight
        assert layer.weight is before
        NESTED_CHANGES[change](layer.parametrizations.weight[0])
        assert not torch.equal(layer.weight, before)
        assert torch.equal(layer.weight, layer.parametrizations.weight())


def test_a_value_follows_a_freeze_of_its_original() -> None:
    layer = parametrize.register_parametrization(nn.Linear(4, 4), "weight", Symmetric())
    with parametrize.cached():
        assert layer.weight.requires_grad
        layer.requires_grad_(False)
        assert not layer.weight.requires_grad
        layer.requires_grad_(True)
        assert layer.weight.requires_grad


MODES = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("inside_first", [False, True])
def test_a_value_from_another_mode_is_not_used(mode: str, inside_first: bool) -> None:
    class Product(nn.Module):
        def forward(self, X: Tensor) -> Tensor:
            return X @ X

    layer = parametrize.register_parametrization(nn.Linear(4, 4), "weight", Product())

    def inside() -> Tensor:
        with MODES[mode]():
            return layer.weight

    with parametrize.cached():
        if inside_first:
            special, usual = inside(), layer.weight
        else:
            usual, special = layer.weight, inside()
        assert usual is layer.weight
        assert special is inside()
    assert usual.requires_grad
    assert usual.dtype == torch.float32
    assert not usual.is_inference()
    expected = {
        "no_grad": not special.requires_grad,
        "inference_mode": not special.requires_grad,  # an inference tensor counts no writes, so it is copied
        "autocast": special.dtype == torch.bfloat16,
    }
    assert expected[mode]


def test_functional_call_inside_uses_the_given_parameters() -> None:
    layer = parametrize.register_parametrization(nn.Linear(4, 4, bias=False), "weight", Symmetric())
    raw, x = torch.eye(4), torch.randn(2, 4)
    with parametrize.cached():
        before = layer.weight
        assert torch.equal(torch.func.functional_call(layer, {"parametrizations.weight.original": raw}, x), x)
        assert torch.equal(layer.weight, before)


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("read_before", [False, True])
@pytest.mark.parametrize("backward_inside", [False, True])
def test_checkpointing_gives_the_same_gradients(use_reentrant: bool, read_before: bool, backward_inside: bool) -> None:
    layer = parametrize.register_parametrization(nn.Linear(4, 4), "weight", Symmetric())
    original, x = layer.parametrizations.weight.original, torch.randn(2, 4, requires_grad=True)
    (layer(layer(layer(x))).square().sum() + (layer.weight.sum() if read_before else 0)).backward()
    expected, original.grad = original.grad, None

    with parametrize.cached():
        extra = layer.weight.sum() if read_before else 0
        y = layer(checkpoint(lambda h: layer(layer(h)), x, use_reentrant=use_reentrant))
        loss = y.square().sum() + extra
        if backward_inside:
            loss.backward()
    if not backward_inside:
        loss.backward()
    torch.testing.assert_close(original.grad, expected)


# torch's own forward-mode decompositions use the TorchScript compiler that it deprecates.
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
def test_transforms_inside_do_not_leave_their_tensors_behind() -> None:
    layer = parametrize.register_parametrization(nn.Linear(4, 4, bias=False), "weight", Symmetric())
    x = torch.randn(3, 4)
    W = layer.weight.detach()

    def energy(v: Tensor) -> Tensor:
        return layer(v).square().sum()

    with parametrize.cached():
        for _ in range(2):
            torch.testing.assert_close(torch.func.vmap(layer)(x), x @ W)
            torch.testing.assert_close(torch.func.grad(energy)(x[0]), 2 * W @ W @ x[0])
            torch.testing.assert_close(torch.func.jvp(layer, (x[0],), (x[1],))[1], W @ x[1])
        assert layer.weight is layer.weight
        layer.weight.sum().backward()
    assert layer.parametrizations.weight.original.grad is not None


def test_an_in_place_write_inside_an_inference_mode_model_is_seen() -> None:
    with torch.inference_mode():
        layer = parametrize.register_parametrization(nn.Linear(4, 4), "weight", Symmetric())
        with parametrize.cached():
            _ = layer.weight
            layer.parametrizations.weight.original.zero_()
            assert torch.equal(layer.weight, torch.zeros(4, 4))


def test_tracing_under_cached_keeps_the_weight_a_parameter_of_the_trace() -> None:
    layer = parametrize.register_parametrization(nn.Linear(4, 4, bias=False), "weight", Symmetric())
    x = torch.randn(2, 4)
    with parametrize.cached():
        _ = layer.weight
        graph = torch.fx.experimental.proxy_tensor.make_fx(
            lambda raw: torch.func.functional_call(layer, {"parametrizations.weight.original": raw}, x)
        )(torch.randn(4, 4))
        assert torch.equal(layer.weight, layer.parametrizations.weight())
    assert torch.equal(graph(torch.eye(4)), x)


def test_the_cache_keeps_nothing_alive_after_it_is_left() -> None:
    import gc
    import weakref

    layer = parametrize.register_parametrization(nn.Linear(4, 4), "weight", Symmetric())
    with parametrize.cached():
        value = weakref.ref(layer.weight)
        assert value() is not None
    gc.collect()
    assert value() is None
