"""cached(model) evaluates equal parametrizations of equal shape as one batch, and nobody can tell but by the clock."""

import copy
import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from paraform import Flatten, Orthogonal, Scaled, Skew, parametrize
from paraform.parametrize import ParametrizationList, batching
from tests.parametrize.cases import Symmetric


class Layers(nn.Sequential):
    """Layers of equal shape with equal parametrizations, and raw tensors that differ."""

    def __init__(self, make: Callable[[], nn.Module] = Orthogonal, count: int = 4, size: int = 3) -> None:
        super().__init__(*[nn.Linear(size, size) for _ in range(count)])
        for layer in self:
            parametrize.register_parametrization(layer, "weight", make())
        with torch.no_grad():
            for raw in self.raws:
                raw.add_(torch.randn_like(raw) / 3)

    @property
    def chains(self) -> list[ParametrizationList]:
        return [layer.parametrizations.weight for layer in self]

    @property
    def raws(self) -> list[Tensor]:
        return [raw for chain in self.chains for raw in chain.originals()]

    def values(self) -> list[Tensor]:
        return [layer.weight for layer in self]


class Reader(nn.Module):
    """Reads as a forward pass does, which gets the values themselves."""

    def forward(self, model: Layers) -> list[Tensor]:
        return model.values()


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of how many chains the batches were that have been evaluated."""
    found: list[int] = []
    evaluate = batching.evaluate

    def spy(chains: list[ParametrizationList]) -> tuple[Tensor, ...]:
        found.append(len(chains))
        return evaluate(chains)

    monkeypatch.setattr(batching, "evaluate", spy)
    return found


def assert_right(values: list[Tensor], chains: list[ParametrizationList]) -> None:
    for value, chain in zip(values, chains, strict=True):
        torch.testing.assert_close(value.detach(), chain().detach(), rtol=1e-4, atol=5e-5)


# --- what is batched -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("context", "mode"),
    [
        (parametrize.cached, True),
        (parametrize.cached, False),
        (parametrize.cache_each_forward, True),
        (parametrize.frozen, False),
    ],
)
@pytest.mark.parametrize("make", [Orthogonal, Skew, lambda: Scaled(Orthogonal())], ids=["Orthogonal", "Skew", "Scaled"])
def test_equal_chains_are_evaluated_once(
    context: Callable[..., object], mode: bool, make: Callable[[], nn.Module], sizes: list[int]
) -> None:
    model, x = Layers(make).train(mode), torch.randn(2, 3)
    y = model(x)
    assert sizes == []
    with context(model):
        torch.testing.assert_close(model(x), y)
    assert sizes == [4]


def test_reads_outside_of_a_forward_pass_are_batched_too(sizes: list[int]) -> None:
    model = Layers()
    with parametrize.cached(model):
        values = model.values()
        assert all(one is other for one, other in zip(values, model.values(), strict=True))
        assert_right(values, model.chains)
    assert sizes == [4]


def test_without_a_model_nothing_is_batched(sizes: list[int]) -> None:
    model = Layers()
    with parametrize.cached():
        model.values()
    assert sizes == []


def test_only_equals_are_batched(sizes: list[int]) -> None:
    model = nn.Sequential(Layers(), Layers(count=2), Layers(lambda: Orthogonal("cayley"), 2), Layers(size=4, count=2))
    model[1].eval()
    model[3][1].double()
    hooked, fixed = Layers(count=1), Layers(count=1)
    hooked.chains[0].register_forward_hook(lambda *_: None)
    fixed.requires_grad_(False)
    model.extend([Layers(Symmetric, 2), hooked, fixed, Layers(lambda: Flatten(Orthogonal()), 2)])
    with parametrize.cached(model):
        for layers in model:
            assert_right(layers.values(), layers.chains)
    assert sizes == [4, 2, 2, 2]


def test_kernels_under_flatten_are_batched(sizes: list[int]) -> None:
    model = nn.Sequential(*[nn.Conv2d(4, 4, 3, padding=1) for _ in range(3)])
    for layer in model:
        parametrize.register_parametrization(layer, "weight", Flatten(Orthogonal()))
    x = torch.randn(1, 4, 5, 5)
    y = model(x)
    with parametrize.cached(model):
        torch.testing.assert_close(model(x), y)
    assert sizes == [3]


def test_large_tensors_are_evaluated_alone(sizes: list[int]) -> None:
    model = Layers(Skew, 2, 65)
    with parametrize.cached(model):
        model.values()
    assert sizes == []


def test_only_those_that_changed_are_evaluated_again(sizes: list[int]) -> None:
    model = Layers()
    with parametrize.cached(model):
        before = model.values()
        with torch.no_grad():
            model.raws[0].add_(1)
            model.raws[2].add_(1)
        after = model.values()
        assert [one is other for one, other in zip(before, after, strict=True)] == [False, True, False, True]
        assert_right(after, model.chains)
        model[3].weight = model[0].weight.detach()
        assert_right(model.values(), model.chains)
    assert sizes == [4, 2]


def test_what_changes_in_the_context_is_seen() -> None:
    model = Layers()
    with parametrize.cached(model):
        model.values()
        model[0].parametrizations.weight.append(nn.Tanh())
        model[1].eval()
        model[2].requires_grad_(False)
        with torch.no_grad():
            model.raws[3].add_(1)
        assert_right(model.values(), model.chains)
        model.append(parametrize.register_parametrization(nn.Linear(3, 3), "weight", Orthogonal()))
        assert_right(model.values(), model.chains)
        model[1].parametrizations.weight.switch_off(0)
        assert model[1].weight is model[1].parametrizations.weight.original or torch.equal(
            model[1].weight, model[1].parametrizations.weight.original
        )


def test_a_base_that_strayed_is_replaced_in_its_module(sizes: list[int]) -> None:
    model = Layers().eval()
    with torch.no_grad():
        model.chains[1][0].base.mul_(1.5)
    with parametrize.cached(model):
        values = [value.detach().clone() for value in model.values()]
    for value, chain in zip(values, model.chains, strict=True):
        torch.testing.assert_close(value.T @ value, torch.eye(3))
        torch.testing.assert_close(chain[0].base.T @ chain[0].base, torch.eye(3))
    assert sizes == [3]


# --- gradients -------------------------------------------------------------------------------------------------------


def losses(model: Layers, which: tuple[int, ...]) -> Tensor:
    return torch.stack([(model[index].weight.exp() * torch.arange(3.0)).sum() for index in which]).sum()


ALL = (0, 1, 2, 3)


def test_gradients_are_those_of_each_alone() -> None:
    model = Layers()
    alone = torch.autograd.grad(losses(model, ALL), model.raws)
    with parametrize.cached(model):
        together = torch.autograd.grad(losses(model, ALL), model.raws)
    torch.testing.assert_close(together, alone)


def test_a_value_that_nobody_used_gives_no_gradient() -> None:
    model = Layers()
    losses(model, (1, 3)).backward()
    alone = [raw.grad for raw in model.raws]
    model.zero_grad()
    with parametrize.cached(model):
        losses(model, (1, 3)).backward()
    assert [raw.grad is None for raw in model.raws] == [True, False, True, False]
    torch.testing.assert_close(model.raws[1].grad, alone[1])
    torch.testing.assert_close(model.raws[3].grad, alone[3])


def test_each_value_can_be_differentiated_after_the_graph_of_another_was_freed() -> None:
    model = Layers()
    losses(model, ALL).backward()
    alone = [raw.grad for raw in model.raws]
    model.zero_grad()
    with parametrize.cached(model):
        for each in [losses(model, (index,)) for index in range(4)]:
            each.backward()
    torch.testing.assert_close([raw.grad for raw in model.raws], alone)


def test_a_step_between_two_backward_passes_does_not_change_the_second_gradient() -> None:
    model = Layers()
    (alone,) = torch.autograd.grad(losses(model, (1,)), model.raws[1])
    with parametrize.cached(model):
        first, second = losses(model, (0,)), losses(model, (1,))
        first.backward()
        with torch.no_grad():
            for raw in model.raws:
                raw.add_(1)
        (together,) = torch.autograd.grad(second, model.raws[1])
    torch.testing.assert_close(together, alone)


def test_a_graph_that_is_retained_serves_again() -> None:
    model = Layers()
    with parametrize.cached(model):
        loss = losses(model, ALL)
        once = torch.autograd.grad(loss, model.raws, retain_graph=True)
        again = torch.autograd.grad(loss, model.raws)
    torch.testing.assert_close(once, again, rtol=0, atol=0)


@pytest.mark.parametrize("which", [ALL, (1, 2)], ids=["all", "some"])
def test_second_and_third_derivatives_are_those_of_each_alone(which: tuple[int, ...]) -> None:
    model = Layers().double()
    raws = [model.raws[index] for index in which]
    _ = [chain() for chain in model.chains]  # looks at the bases, which are in another dtype now

    def derivatives() -> tuple[Tensor, ...]:
        weights = [model[index].weight for index in which]
        loss = torch.stack([(weight**3 * torch.arange(9.0).view(3, 3)).sum() for weight in weights]).sum()
        first = torch.autograd.grad(loss, raws, create_graph=True)
        second = torch.autograd.grad(torch.stack(first).exp().sum(), raws, create_graph=True)
        return (*first, *second, *torch.autograd.grad(torch.stack(second).square().sum(), raws))

    alone = derivatives()
    with parametrize.cached(model):
        together = derivatives()
    torch.testing.assert_close(together, alone, rtol=1e-7, atol=1e-8)


def test_higher_derivatives_are_those_at_the_numbers_of_the_forward_pass() -> None:
    model = Layers()

    def derivatives(step: float) -> tuple[Tensor, ...]:
        loss = losses(model, ALL)
        with torch.no_grad():
            for raw in model.raws:
                raw.detach().add_(step)
        first = torch.autograd.grad(loss, model.raws, create_graph=True)
        return (*first, *torch.autograd.grad(torch.stack(first).square().sum(), model.raws))

    alone = derivatives(0.0)
    with parametrize.cached(model):
        together = derivatives(1.0)
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


def test_a_vectorized_jacobian_goes_through_a_batch() -> None:
    model = Layers()

    def jacobian() -> tuple[Tensor, ...]:
        return torch.autograd.grad(model(torch.ones(3)), model.raws, torch.eye(3), is_grads_batched=True)

    alone = jacobian()
    with parametrize.cached(model):
        together = jacobian()
    torch.testing.assert_close(together, alone)


def test_a_raw_tensor_that_wants_no_gradient_gets_none() -> None:
    model = Layers(lambda: Scaled(Orthogonal()))
    for chain in model.chains:
        chain.original0.requires_grad_(False)
    losses(model, ALL).backward()
    alone = [raw.grad for raw in model.raws]
    model.zero_grad()
    with parametrize.cached(model):
        losses(model, ALL).backward()
    for chain in model.chains:
        assert chain.original0.grad is None
    torch.testing.assert_close([raw.grad for raw in model.raws], alone)


def test_gradients_with_respect_to_a_value_can_be_asked_for() -> None:
    model = Layers()
    x = torch.randn(2, 3)
    with parametrize.cached(model):
        value = model[3].weight
        hidden = model[2](model[1](model[0](x)))
        (gradient,) = torch.autograd.grad(model[3](hidden).sum(), value)
    torch.testing.assert_close(gradient, hidden.detach().sum(0).expand(3, 3))


class Product(Skew):
    """A map that autocast changes."""

    stacks = True

    def forward(self, raw: Tensor) -> Tensor:
        return raw @ super().forward(raw)

    def right_inverse(self, value: Tensor) -> Tensor:
        return value


@pytest.mark.parametrize("forward", [True, False])
def test_autocast_is_that_of_the_forward_pass(forward: bool) -> None:
    model = Layers(Product)

    def gradients() -> list[Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=forward):
            values = Reader()(model)
        with torch.autocast("cpu", torch.bfloat16, enabled=not forward):
            pairs = zip(values, model.raws, strict=True)
            return [torch.autograd.grad(value.float().square().sum(), raw)[0] for value, raw in pairs]

    alone = gradients()
    with parametrize.cached(model):
        together = gradients()
    torch.testing.assert_close(together, alone, rtol=1e-6, atol=1e-6)


# --- each value is its own -------------------------------------------------------------------------------------------


def test_a_write_to_one_value_leaves_the_others() -> None:
    model = Layers().eval()
    with parametrize.frozen(model):
        before = Reader()(model)
        before[1].mul_(2)
        after = Reader()(model)
    assert [one is other for one, other in zip(before, after, strict=True)] == [True, False, True, True]
    assert_right(after, model.chains)
    assert len({value.untyped_storage().data_ptr() for value in after}) == 4


def test_an_initialisation_in_the_context_writes_to_each() -> None:
    model = Layers(Skew)
    with parametrize.cached(model), torch.no_grad():
        for layer in model:
            layer.weight.copy_(torch.zeros(3, 3))
        assert not any(value.any() for value in model.values())


# --- where a batch is not what a read is to give ---------------------------------------------------------------------


def test_an_error_is_that_of_the_module_that_is_read(sizes: list[int]) -> None:
    class Picky(Skew):
        stacks = True

        def forward(self, raw: Tensor) -> Tensor:
            if bool((raw > 100).any()):
                raise ArithmeticError("too large")
            return super().forward(raw)

    model = Layers(Picky)
    with torch.no_grad():
        model.raws[2].fill_(1000)
    with parametrize.cached(model):
        for index in (0, 1, 3):
            assert_right([model[index].weight], [model.chains[index]])
        with pytest.raises(ArithmeticError, match="too large"):
            _ = model[2].weight
    assert sizes == [4]


def test_frozen_refuses_training_mode() -> None:
    model = Layers().eval()
    with parametrize.frozen(model):
        model.train()
        with pytest.raises(RuntimeError, match="training mode"):
            _ = model[0].weight


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_gradient_modes_have_their_own_values(mode: type) -> None:
    model = Layers()
    with parametrize.cached(model):
        graph = Reader()(model)
        with mode():
            values = Reader()(model)
            assert_right(values, model.chains)
            assert all(value.requires_grad == (mode is torch.enable_grad) for value in values)
            assert all(value.is_inference() == (mode is torch.inference_mode) for value in values)
        assert all(value.requires_grad for value in graph)


def test_checkpointed_regions_compute_their_own(sizes: list[int]) -> None:
    model, x = Layers(), torch.randn(2, 3, requires_grad=True)
    free = torch.autograd.grad(model(x).sum(), model.raws)
    with parametrize.cached(model):
        y = checkpoint(model, x, use_reentrant=False)
        kept = torch.autograd.grad(y.sum(), model.raws)
    torch.testing.assert_close(kept, free)
    assert sizes == []


def test_a_checkpointed_region_that_enters_the_context_itself_is_right() -> None:
    model, x = Layers(), torch.randn(2, 3, requires_grad=True)
    free = torch.autograd.grad(model(x).sum(), model.raws)
    with parametrize.cache_each_forward(model):
        kept = torch.autograd.grad(checkpoint(model, x, use_reentrant=False).sum(), model.raws)
    torch.testing.assert_close(kept, free)


def test_transforms_in_and_around_the_context_compute_their_own(sizes: list[int]) -> None:
    model, x = Layers(), torch.randn(2, 3)
    parameters = dict(model.named_parameters())

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        with parametrize.cached(model):
            return functional_call(model, parameters, (x,)).square().sum()

    plain = torch.func.grad(lambda given: functional_call(model, given, (x,)).square().sum())(parameters)
    torch.testing.assert_close(torch.func.grad(loss)(parameters), plain)
    assert sizes == []
    with parametrize.cached(model):
        torch.testing.assert_close(torch.func.grad(loss)(parameters), plain)
        torch.testing.assert_close(torch.vmap(model)(x), model(x))


def test_functional_call_differentiates_what_it_is_given() -> None:
    model, x = Layers(), torch.randn(2, 3)
    leaves = [(2 * parameter).detach().requires_grad_() for parameter in model.parameters()]
    given = {name: 1 * leaf for (name, _), leaf in zip(model.named_parameters(), leaves, strict=True)}
    _ = model(x)

    def gradients() -> tuple[Tensor, ...]:
        return torch.autograd.grad(functional_call(model, given, (x,)).sum(), leaves, retain_graph=True)

    free = gradients()
    with parametrize.cached(model):
        torch.testing.assert_close(gradients(), free)
        assert_right(model.values(), model.chains)
        torch.testing.assert_close(gradients(), free)
        assert_right(model.values(), model.chains)


def test_a_chain_that_two_modules_share_is_one(sizes: list[int]) -> None:
    model = Layers(count=3)
    model.append(model[0])
    x = torch.randn(2, 3)
    raws = model.raws[:3]
    free = torch.autograd.grad(model(x).sum(), raws)
    with parametrize.cached(model):
        kept = torch.autograd.grad(model(x).sum(), raws)
    torch.testing.assert_close(kept, free)
    assert sizes == [3]


def test_two_chains_that_share_a_raw_tensor_add_up() -> None:
    model = Layers(count=3)
    model.chains[1].original = model.chains[0].original
    raws = [model.chains[0].original, model.chains[2].original]
    free = torch.autograd.grad(losses(model, (0, 1, 2)), raws)
    with parametrize.cached(model):
        kept = torch.autograd.grad(losses(model, (0, 1, 2)), raws)
    torch.testing.assert_close(kept, free)


def test_a_write_by_another_thread_while_a_batch_is_evaluated_is_not_lost() -> None:
    meanwhile: list[threading.Thread] = []

    class Interrupted(Skew):
        stacks = True

        def forward(self, raw: Tensor) -> Tensor:
            value = super().forward(raw)
            for thread in meanwhile:
                thread.start()
                thread.join()
            meanwhile.clear()
            return value

    model = Layers(Interrupted)
    written = model.raws[2].detach()
    meanwhile.append(threading.Thread(target=written.zero_))
    with parametrize.cached(model):
        _ = model[0].weight
        assert torch.equal(model[2].weight, torch.zeros(3, 3))


def test_an_outer_context_of_a_part_serves_that_part() -> None:
    model = Layers()
    with parametrize.cached(model[0]):
        first = model[0].weight
        with parametrize.cached(model):
            others = [model[1].weight, model[2].weight]
            assert model[0].weight is first
        assert model[0].weight is first
    assert_right([first, *others], model.chains[:3])


def test_training_is_what_it_is_without_the_context() -> None:
    free, kept = (model := Layers(count=3)), copy.deepcopy(model)
    parametrize.cache_each_forward(kept)
    x = torch.randn(8, 3)
    for model in (free, kept):
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.05, weight_decay=0.3)
        for _ in range(5):
            optimizer.zero_grad()
            (model(x) - 1).square().mean().backward()
            optimizer.step()
    torch.testing.assert_close(kept.state_dict(), free.state_dict(), rtol=1e-4, atol=1e-4)
