"""What a value that is kept is held against: threads, switches, shared tensors, the parts of a tensor."""

import threading

import pytest
import torch
import torch.distributed
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import distribute_tensor
from torch.testing._internal.distributed.fake_pg import FakeStore

from paraform import parametrize
from tests.parametrize.cases import Symmetric


def test_a_write_by_another_thread_while_a_value_is_computed_is_not_lost() -> None:
    meanwhile: list[threading.Thread] = []

    class Interrupted(nn.Module):
        def forward(self, X: Tensor) -> Tensor:
            Y = X * 1
            for thread in meanwhile:
                thread.start()
                thread.join()
            meanwhile.clear()
            return Y

    layer = parametrize.register_parametrization(nn.Linear(4, 4), "weight", Interrupted())
    original = layer.parametrizations.weight.original
    meanwhile.append(threading.Thread(target=lambda: original.detach().zero_()))
    with parametrize.cached():
        assert layer.weight.any()
        assert torch.equal(layer.weight, torch.zeros(4, 4))


def test_an_optimizer_step_of_another_thread_is_seen() -> None:
    layer = parametrize.register_parametrization(nn.Linear(4, 4), "weight", Symmetric())
    optimizer = torch.optim.Adam(layer.parameters(), fused=True)
    layer.weight.sum().backward()
    with parametrize.cached():
        _ = layer.weight
        thread = threading.Thread(target=optimizer.step)
        thread.start()
        thread.join()
        assert torch.equal(layer.weight, layer.parametrizations.weight())


def test_threads_may_enter_contexts_while_another_steps_an_optimizer() -> None:
    layer = parametrize.register_parametrization(nn.Linear(4, 4), "weight", Symmetric())
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    errors: list[BaseException] = []

    def serve() -> None:
        try:
            for _ in range(200):
                with parametrize.cached():
                    _ = layer.weight
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=serve) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(200):
        optimizer.step()
    for thread in threads:
        thread.join()
    assert not errors


def test_a_value_from_autocast_to_another_dtype_is_not_used() -> None:
    class Product(nn.Module):
        def forward(self, X: Tensor) -> Tensor:
            return X @ X

    layer = parametrize.register_parametrization(nn.Linear(4, 4), "weight", Product())
    with parametrize.cached():
        for dtype in (torch.bfloat16, torch.float16, torch.bfloat16):
            with torch.autocast("cpu", dtype=dtype):
                assert layer.weight.dtype == dtype
                assert layer.weight is layer.weight


@pytest.mark.parametrize("n", [16, 32, 64, 128])  # some of which an allocator gives out again at once
def test_memory_that_a_value_came_from_is_not_given_to_another_tensor(n: int) -> None:
    layer = parametrize.register_parametrization(nn.Linear(n, n), "weight", Symmetric())
    original = layer.parametrizations.weight.original
    with parametrize.cached():
        _ = layer.weight
        address, original.data = original.data_ptr(), torch.zeros(n, n)
        others = [torch.full((n, n), float(number)) for number in range(100)]
        for other in others:
            if other.data_ptr() == address:
                original.data = other
        assert torch.equal(layer.weight, layer.parametrizations.weight())


class Switched(parametrize.ParametrizationList):
    """A chain with a switch, as the ones that can be edited have."""

    def forward(self) -> Tensor:
        return self.original if getattr(self, "_off", ()) else super().forward()


def test_a_switch_of_the_chain_is_seen_in_compiled_code() -> None:
    torch._dynamo.reset()
    layer = parametrize.register_parametrization(nn.Linear(4, 4), "weight", Symmetric())
    chain = layer.parametrizations.weight
    chain.__class__ = Switched

    @torch.compile(fullgraph=True, backend="eager")
    def on_and_off(x: Tensor) -> tuple[Tensor, Tensor]:
        with parametrize.cached():
            on = layer(x)
            chain._off = ("0",)
            return on, layer(x)

    x = torch.eye(4)
    expected = layer(x)
    on, off = on_and_off(x)
    assert torch.equal(on, expected)
    assert torch.equal(off, nn.functional.linear(x, chain.original, layer.bias))


def test_a_switch_of_the_chain_is_seen() -> None:
    layer = parametrize.register_parametrization(nn.Linear(4, 4), "weight", Symmetric())
    chain = layer.parametrizations.weight
    chain.__class__ = Switched
    with parametrize.cached():
        before = layer.weight
        chain._off = ("0",)
        assert layer.weight is chain.original
        del chain._off
        assert torch.equal(layer.weight, before)


def test_modules_that_call_themselves_equal_are_told_apart() -> None:
    class Equal(nn.Module):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.factor = factor

        def forward(self, X: Tensor) -> Tensor:
            return self.factor * X

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Equal)

        def __hash__(self) -> int:
            return 0

    layer = parametrize.register_parametrization(nn.Linear(4, 4), "weight", Equal(2.0))
    with parametrize.cached():
        before = layer.weight
        assert layer.weight is before
        layer.parametrizations.weight[0] = Equal(4.0)
        assert torch.equal(layer.weight, 4 * before)  # without an inverse the value becomes the original


def test_a_shared_tensor_of_two_steps_is_watched() -> None:
    class Times(nn.Module):
        def __init__(self, factor: nn.Parameter) -> None:
            super().__init__()
            self.factor = factor

        def forward(self, X: Tensor) -> Tensor:
            return X * self.factor

    factor = nn.Parameter(torch.ones(()))
    layer = parametrize.register_parametrization(nn.Linear(4, 4), "weight", Times(factor))
    parametrize.register_parametrization(layer, "weight", Times(factor))
    with parametrize.cached(), torch.no_grad():
        before = layer.weight
        assert layer.weight is before
        factor.fill_(2)
        assert torch.equal(layer.weight, 4 * before)


def test_a_write_into_the_local_part_of_a_distributed_tensor_is_seen() -> None:
    torch.distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=1)
    try:
        layer = parametrize.register_parametrization(nn.Linear(4, 4), "weight", Symmetric())
        mesh = init_device_mesh("cpu", (1,))
        chain = layer.parametrizations.weight
        chain.original = nn.Parameter(distribute_tensor(chain.original.detach(), mesh))
        with parametrize.cached():
            assert layer.weight is layer.weight
            with torch.no_grad():
                chain.original.to_local().zero_()
            assert torch.equal(layer.weight.to_local(), torch.zeros(4, 4))
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage:UserWarning")
def test_what_depends_on_a_nested_tensor_is_computed_at_each_read() -> None:
    class Shift(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("rows", torch.nested.nested_tensor([torch.ones(4), torch.ones(2)]))

        def forward(self, X: Tensor) -> Tensor:
            return X + self.rows.unbind()[0]

    layer = parametrize.register_parametrization(nn.Linear(4, 4), "weight", Shift())
    with parametrize.cached():
        assert torch.equal(layer.weight, layer.parametrizations.weight.original + 1)
