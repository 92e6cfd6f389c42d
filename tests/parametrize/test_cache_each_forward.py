"""cache_each_forward() computes each value once a forward pass, and ends with it; cached(model) is for one model."""

import copy
import gc
import io
import threading
import weakref
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from paraform import parametrize
from paraform.parametrize import cache
from tests.parametrize.cases import Counting, Symmetric


class Twice(nn.Module):
    """Reads the weight of its layer twice a forward pass; may stop half-way or call itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = parametrize.register_parametrization(nn.Linear(4, 4), "weight", Counting())
        self.counter.calls = 0

    @property
    def counter(self) -> Counting:
        return self.layer.parametrizations.weight[0]

    def forward(self, x: Tensor, stop: BaseException | None = None, depth: int = 0) -> Tensor:
        y = self.layer(x)
        if stop is not None:
            raise stop
        if depth:
            y = self(y, depth=depth - 1)
        return self.layer(y)


def reads_afresh(model: Twice) -> bool:
    before = model.counter.calls
    _ = model.layer.weight, model.layer.weight
    return model.counter.calls == before + 2


x = torch.ones(2, 4)


def test_each_forward_pass_computes_once_and_forgets() -> None:
    model = Twice()
    parametrize.cache_each_forward(model)
    model(x)
    assert model.counter.calls == 1
    model(x)
    assert model.counter.calls == 2
    assert reads_afresh(model)


def test_hooks_of_others_that_were_there_before_read_the_same_value() -> None:
    model = Twice()
    seen = []
    model.register_forward_pre_hook(lambda model, _: seen.append(model.layer.weight))
    parametrize.cache_each_forward(model)
    model(x)
    assert model.counter.calls == 1


def test_the_gradient_is_that_of_the_plain_model() -> None:
    model = Twice()
    parameters = list(model.parameters())
    expected = torch.autograd.grad(model(x).square().sum(), parameters)
    parametrize.cache_each_forward(model)
    torch.testing.assert_close(torch.autograd.grad(model(x).square().sum(), parameters), expected)


@pytest.mark.parametrize("end", ["remove", "context"])
def test_the_handle_ends_it(end: str) -> None:
    model = Twice()
    with parametrize.cache_each_forward(model) as handle:
        model(x)
        if end == "remove":
            handle.remove()
            handle.remove()  # and again, which does nothing
    model(x)
    assert model.counter.calls == 3
    assert not model._forward_hooks
    assert not model._forward_pre_hooks


def test_each_of_two_handles_ends_its_own() -> None:
    model = Twice()
    first, second = parametrize.cache_each_forward(model), parametrize.cache_each_forward(model)
    model(x)
    first.remove()
    model(x)
    assert model.counter.calls == 2
    second.remove()
    model(x)
    assert model.counter.calls == 4


def test_only_the_models_own_tensors_are_kept() -> None:
    other = Twice()

    class Outer(Twice):
        def forward(self, x: Tensor) -> Tensor:
            return other.layer(other.layer(super().forward(x)))

    model = Outer()
    parametrize.cache_each_forward(model)
    model(x)
    assert (model.counter.calls, other.counter.calls) == (1, 2)


class StopError(Exception):
    pass


@pytest.mark.parametrize("error", [StopError, KeyboardInterrupt, GeneratorExit])
def test_an_exception_half_way_ends_it(error: type[BaseException]) -> None:
    model = Twice()
    parametrize.cache_each_forward(model)
    for _ in range(2):
        with pytest.raises(error):
            model(x, error())
    assert model.counter.calls == 2
    model(x)
    assert model.counter.calls == 3
    assert reads_afresh(model)
    assert not cache.thread.scopes


def test_an_interrupted_forward_pass_keeps_no_value_once_another_model_is_read() -> None:
    model, other = Twice(), Twice()
    parametrize.cache_each_forward(model)
    with pytest.raises(KeyboardInterrupt):
        model(x, KeyboardInterrupt())
    _ = other.layer.weight
    assert not cache.thread.scopes
    assert reads_afresh(model)


def test_a_forward_pass_inside_a_forward_pass_shares_its_values() -> None:
    model = Twice()
    parametrize.cache_each_forward(model)
    model(x, depth=3)
    assert model.counter.calls == 1
    assert reads_afresh(model)


def test_a_handle_removed_half_way_leaves_nothing_behind() -> None:
    model = Twice()

    class Removing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            handle.remove()
            return model(x)

    outer = Removing()
    outer.model = model
    handle = parametrize.cache_each_forward(outer)
    outer(x)
    outer(x)
    assert reads_afresh(model)
    assert not cache.thread.scopes


def test_a_forward_pass_that_is_a_generator_computes_at_each_read() -> None:
    class Stream(Twice):
        def forward(self, x: Tensor) -> Iterator[Tensor]:  # type: ignore[override]
            while True:
                yield self.layer(x)

    model = Stream()
    parametrize.cache_each_forward(model)
    stream = model(x)
    next(stream), next(stream)
    assert model.counter.calls == 2
    assert not cache.thread.scopes


def test_it_goes_into_copies_and_pickles() -> None:
    model = Twice()
    handle = parametrize.cache_each_forward(model)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    twins = [copy.deepcopy(model), torch.load(file, weights_only=False)]
    handle.remove()
    for twin in twins:
        twin.counter.calls = 0
        twin(x)
        assert twin.counter.calls == 1
    model.counter.calls = 0
    model(x)
    assert model.counter.calls == 2


def test_threads_do_not_share_values() -> None:
    model = parametrize.register_parametrization(nn.Sequential(nn.Linear(4, 4))[0], "weight", Symmetric())
    twice = nn.Sequential(model, model)
    parametrize.cache_each_forward(twice)
    expected, outputs = twice(x), []
    threads = [threading.Thread(target=lambda: outputs.append(twice(x))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outputs) == 8
    assert all(torch.equal(output, expected) for output in outputs)


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("outer", [False, True], ids=["the checkpointed model", "the model around it"])
def test_checkpointing_gives_the_same_gradients_and_ends(use_reentrant: bool, outer: bool) -> None:
    inner = nn.Sequential(parametrize.register_parametrization(nn.Linear(4, 4), "weight", Symmetric()), nn.Tanh())

    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(checkpoint(lambda h: self.inner(self.inner(h)), x, use_reentrant=use_reentrant))

    model, x = Around(), torch.randn(2, 4, requires_grad=True)
    inputs = [x, *model.parameters()]
    model(x).square().sum().backward()
    expected = [tensor.grad for tensor in inputs]
    for tensor in inputs:
        tensor.grad = None
    parametrize.cache_each_forward(model if outer else inner)
    model(x).square().sum().backward()
    torch.testing.assert_close([tensor.grad for tensor in inputs], expected)
    assert not cache.thread.scopes


def test_the_values_of_a_forward_pass_are_not_kept_alive() -> None:
    model = Twice()
    values = []
    model.layer.register_forward_hook(lambda layer, *_: values.append(weakref.ref(layer.weight)))
    parametrize.cache_each_forward(model)
    model(x)
    gc.collect()
    assert values[0]() is None


def test_compiled_code_gives_the_same_in_one_graph() -> None:
    torch._dynamo.reset()
    layer = parametrize.register_parametrization(nn.Linear(4, 4), "weight", Symmetric())
    model = nn.Sequential(layer, nn.Tanh(), layer)
    expected = model(x)
    parametrize.cache_each_forward(model)
    torch.testing.assert_close(torch.compile(model, fullgraph=True, backend="eager")(x), expected)
    torch.testing.assert_close(torch.export.export(model, (x,)).module()(x), expected)
    assert not cache.thread.scopes


@pytest.mark.parametrize("wrong", [3, nn.Linear, None, "weight"])
def test_what_is_no_module_is_refused(wrong: object) -> None:
    with pytest.raises(TypeError, match=r"Expected an nn\.Module for cache_each_forward"):
        parametrize.cache_each_forward(wrong)


# --- cached(model) ---------------------------------------------------------------------------------------------------


def test_cached_with_a_model_computes_others_at_each_read() -> None:
    model, other = Twice(), Twice()
    with parametrize.cached(model):
        model(x), other(x)
    assert (model.counter.calls, other.counter.calls) == (1, 2)


def test_cached_with_a_model_asks_at_the_read_what_belongs_to_it() -> None:
    model, late = Twice(), Twice()
    with parametrize.cached(model):
        model.late = late
        late(x)
    assert late.counter.calls == 1


def test_cached_with_two_models_keeps_the_values_of_each_as_long_as_its_own_context() -> None:
    model, other = Twice(), Twice()
    with parametrize.cached(model):
        with parametrize.cached(other):
            model(x), other(x)
        model(x), other(x)
    assert (model.counter.calls, other.counter.calls) == (1, 3)


def test_cached_with_a_model_works_in_compiled_code() -> None:
    torch._dynamo.reset()
    model = parametrize.register_parametrization(nn.Linear(4, 4), "weight", Symmetric())
    other = copy.deepcopy(model)

    @torch.compile(fullgraph=True, backend="eager")
    def same(x: Tensor) -> tuple[bool, bool]:
        with parametrize.cached(model):
            return x + 1, model.weight is model.weight, other.weight is other.weight

    assert same(x)[1:] == (True, False)


@pytest.mark.parametrize("wrong", [3, nn.Linear, "weight"])
def test_cached_with_what_is_no_module_is_refused(wrong: object) -> None:
    with pytest.raises(TypeError, match=r"Expected an nn\.Module for cached"):
        parametrize.cached(wrong)


def test_cached_without_its_parentheses_is_told_so() -> None:
    with pytest.raises(TypeError, match=r"As a decorator it is written @cached\(\)"):

        @parametrize.cached
        def step() -> None: ...
