"""writable() makes a model its plain self for a while; reset_parameters() is that for one layer."""

import copy
import threading

import pytest
import torch
from torch import Tensor, nn

from paraform import parametrize
from tests.parametrize.cases import HOSTS, Double, Host, MatrixExp, Polar, Skew, Symmetric

on_hosts = pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.title)


def two() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
    for layer in (model[0], model[2]):
        parametrize.register_parametrization(layer, "weight", Double())
    return model


@on_hosts
def test_the_module_is_plain_inside_and_the_same_as_before_after(host: Host) -> None:
    module = host.make()
    plain_names = list(module.state_dict())
    base = type(module)
    parametrize.register_parametrization(module, host.name, Double())
    before, cls, objects = host.tensor(module).detach().clone(), type(module), list(module.parameters())
    state = copy.deepcopy(module.state_dict())
    with parametrize.writable(module) as same:
        assert same is module
        assert type(module) is base
        assert list(module.state_dict()) == plain_names
        assert torch.equal(module.state_dict()[host.name], before)
        assert not parametrize.is_parametrized(module)
    assert type(module) is cls
    assert all(now is then for now, then in zip(module.parameters(), objects, strict=True))
    assert list(module.state_dict()) == list(state)
    assert all(torch.equal(state[key], value) for key, value in module.state_dict().items())


@on_hosts
def test_what_is_written_inside_is_the_value_after(host: Host) -> None:
    module = host.make()
    parametrize.register_parametrization(module, host.name, Double())
    target = torch.randn_like(host.tensor(module).detach())
    with parametrize.writable(module):
        host.tensor(module).data = target.clone()
    assert torch.equal(host.tensor(module), target)


def test_a_plain_checkpoint_loads_inside() -> None:
    model, plain = two(), nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
    with parametrize.writable(model):
        model.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3)
    torch.testing.assert_close(model(x), plain(x))


def test_what_is_not_written_to_stays_as_it_is_to_the_bit() -> None:
    model = nn.Sequential(parametrize.register_parametrization(nn.Linear(3, 3), "weight", MatrixExp()), nn.Linear(3, 3))
    before = copy.deepcopy(model.state_dict())
    with parametrize.writable(model):
        nn.init.zeros_(model[1].weight)
    now = model.state_dict()
    assert torch.equal(now.pop("1.weight"), torch.zeros(3, 3))
    assert all(torch.equal(before[key], value) for key, value in now.items())


@pytest.mark.parametrize("how", ["no inverse", "not finite", "wrong shape", "body raises"])
def test_after_a_refusal_every_tensor_has_the_value_from_before(how: str) -> None:
    model = two()
    if how == "no inverse":
        parametrize.register_parametrization(model[2], "weight", MatrixExp())
    before = {key: value.clone() for key, value in model.state_dict().items()}
    types = [type(module) for module in model.modules()]

    def write() -> None:
        with parametrize.writable(model):
            nn.init.ones_(model[0].weight)
            if how == "body raises":
                raise RuntimeError("in the body")
            model[2].weight.data = {
                "no inverse": torch.ones(3, 3),
                "not finite": torch.full((3, 3), torch.inf),
                "wrong shape": torch.ones(2, 2),
            }[how]

    with pytest.raises((RuntimeError, ValueError)):
        write()
    assert [type(module) for module in model.modules()] == types
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_only_a_module_can_be_written_to() -> None:
    with pytest.raises(TypeError, match="Expected an nn\\.Module"), parametrize.writable([nn.Linear(2, 2)]):
        pass


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Linear(4, 4),
        lambda: nn.Conv2d(4, 4, 3),
        lambda: nn.ConvTranspose1d(4, 4, 3),
        lambda: nn.Embedding(5, 4, padding_idx=1),
        lambda: nn.RNN(4, 4),
        lambda: nn.LSTM(4, 4, num_layers=2, bidirectional=True),
        lambda: nn.GRUCell(4, 4),
        lambda: nn.Bilinear(4, 4, 4),
    ],
)
def test_reset_parameters_draws_what_the_plain_layer_draws(make) -> None:  # type: ignore[no-untyped-def]
    plain, layer = make(), make()
    for name in list(dict(plain.named_parameters()))[::2]:
        parametrize.register_parametrization(layer, name, Double())
    for each in (plain, layer):
        torch.manual_seed(2)
        each.reset_parameters()
    for name, expected in plain.named_parameters():
        torch.testing.assert_close(getattr(layer, name).detach(), expected.detach(), rtol=0, atol=0)
    assert parametrize.is_parametrized(layer)


def test_reset_parameters_moves_what_it_draws_to_the_set() -> None:
    layer = parametrize.register_parametrization(nn.Linear(3, 3), "weight", Skew())
    parametrize.register_parametrization(layer, "bias", Polar())
    kept = list(layer.parameters())
    before = layer.weight.detach().clone()
    layer.reset_parameters()
    assert torch.equal(layer.weight, -layer.weight.T)
    assert not torch.equal(layer.weight, before)
    assert all(now is then for now, then in zip(layer.parameters(), kept, strict=True))


def test_removal_puts_a_parameter_back_to_its_place() -> None:
    layer = nn.Linear(3, 3)
    parametrize.register_parametrization(layer, "weight", Symmetric())
    parametrize.register_parametrization(layer, "bias", Double())
    for name in ("bias", "weight"):
        parametrize.remove_parametrizations(layer, name)
    assert [name for name, _ in layer.named_parameters()] == ["weight", "bias"]


def test_two_owners_of_one_chain_have_one_parameter_inside() -> None:
    first = parametrize.register_parametrization(nn.Linear(3, 3), "weight", Double())
    second = parametrize.transfer_parametrizations_and_params(first, nn.Linear(3, 3))
    second.parametrizations["weight"] = first.parametrizations["weight"]
    model = nn.Sequential(first, second)
    with parametrize.writable(model):
        assert first.weight is second.weight
        nn.init.ones_(second.weight)
    assert torch.equal(first.weight, torch.ones(3, 3))


def test_looking_at_a_model_leaves_the_state_of_its_parametrizations() -> None:
    class Ticking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("ticks", torch.zeros(()))

        def forward(self, X: Tensor) -> Tensor:
            if self.training:
                self.ticks += 1
            return X + self.ticks

        def right_inverse(self, Y: Tensor) -> Tensor:
            return Y - self.ticks

    layer = parametrize.register_parametrization(nn.Linear(2, 2), "weight", Ticking())
    layer(torch.ones(1, 2))
    ticks = layer.parametrizations.weight[0].ticks
    before = ticks.clone()
    assert torch.equal(layer.weight, layer.weight)
    with parametrize.writable(layer):
        pass
    with parametrize.cached():
        assert layer.weight is layer.weight
    assert torch.equal(ticks, before)
    layer(torch.ones(1, 2))
    assert torch.equal(ticks, before + 1)
    assert layer.parametrizations.weight[0].ticks is ticks
    with parametrize.cached():
        layer.weight.sum()
        layer(torch.ones(1, 2))
        layer(torch.ones(1, 2))
    assert torch.equal(ticks, before + 2)


def test_threads_that_look_at_one_layer_leave_its_state_alone() -> None:
    class Slow(nn.Module):
        """Two threads are inside of it at once."""

        def __init__(self, barrier: threading.Barrier) -> None:
            super().__init__()
            self.register_buffer("ticks", torch.zeros(()))
            self.barrier = barrier

        def forward(self, X: Tensor) -> Tensor:
            self.ticks += 1
            if self.training:
                self.barrier.wait(timeout=30)
            return X

    barrier = threading.Barrier(2)
    layer = nn.Linear(2, 2).eval()
    parametrize.register_parametrization(layer, "weight", Slow(barrier))
    step = layer.parametrizations.weight[0]
    held, before = step.ticks, step.ticks.clone()
    layer.train()
    threads = [threading.Thread(target=lambda: layer.weight) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert step.ticks is held
    assert torch.equal(held, before)


@pytest.mark.parametrize("name", ["weight", "bias"])
def test_a_registration_inside_is_refused_and_loses_nothing(name: str) -> None:
    model = two()
    layer, before = model[0], copy.deepcopy(model.state_dict())
    with pytest.raises(RuntimeError, match=f"registered on '{name}' of"), parametrize.writable(model):
        parametrize.register_parametrization(layer, name, Double())
    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert model(torch.ones(1, 3)).requires_grad
