"""The shape, dtype and device of a value are known without computing it."""

import copy

import pytest
import torch
from torch import Tensor, nn

from paraform import parametrize
from tests.parametrize.cases import HOSTS, Counting, Host, Polar, Scale, Symmetric


def looks(chain: parametrize.ParametrizationList) -> tuple[object, object, object]:
    return chain.shape, chain.dtype, chain.device


def look_of(value: Tensor) -> tuple[object, object, object]:
    return value.shape, value.dtype, value.device


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.title)
def test_the_chain_knows_what_its_value_looks_like(host: Host) -> None:
    module = parametrize.register_parametrization(host.make(), host.name, Symmetric())
    assert looks(module.parametrizations[host.name]) == look_of(host.tensor(module))


@pytest.mark.parametrize("step", [Scale, Polar])
@pytest.mark.parametrize(
    "move", [lambda layer: layer.double(), lambda layer: layer.bfloat16(), lambda layer: layer.to("meta")]
)
def test_it_follows_a_conversion(step, move) -> None:
    layer = move(parametrize.register_parametrization(nn.Linear(4, 4), "weight", step()))
    assert looks(layer.parametrizations.weight) == look_of(layer.weight)


def test_asking_computes_nothing() -> None:
    layer = parametrize.register_parametrization(nn.Linear(4, 4), "weight", Counting())
    chain = layer.parametrizations.weight
    chain[0].calls = 0
    looks(chain)
    assert chain[0].calls == 0


def test_copies_and_transferred_chains_know_it_too() -> None:
    layer = parametrize.register_parametrization(nn.Linear(4, 4), "weight", Symmetric())
    other = parametrize.transfer_parametrizations_and_params(layer, nn.Linear(4, 4))
    for module in (copy.deepcopy(layer), other):
        assert looks(module.parametrizations.weight) == look_of(layer.weight)


def test_where_registration_checked_nothing_nothing_is_known() -> None:
    class Flat(nn.Module):
        def forward(self, X: Tensor) -> Tensor:
            return X.flatten().double()

    layer = parametrize.register_parametrization(nn.Linear(4, 4), "weight", Symmetric())
    parametrize.register_parametrization(layer, "weight", Flat(), unsafe=True)
    assert looks(layer.parametrizations.weight) == (None, None, None)


def test_a_value_of_another_dtype_than_its_originals_is_not_guessed() -> None:
    class Complex(nn.Module):
        def forward(self, real: Tensor, imaginary: Tensor) -> Tensor:
            return torch.complex(real, imaginary)

        def right_inverse(self, Z: Tensor) -> tuple[Tensor, Tensor]:
            return Z.real, Z.imag

    layer = nn.Linear(4, 4, dtype=torch.complex64)
    chain = parametrize.register_parametrization(layer, "weight", Complex()).parametrizations.weight
    assert looks(chain) == ((4, 4), None, None)
