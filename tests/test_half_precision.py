"""float16, bfloat16 and autocast: every set is held to the resolution of the dtype, and gradients are finite."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from paraform import parametrizations, parametrize
from tests.constraints.sets import CASES, Case, Layer

HALVES = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
REAL = pytest.mark.parametrize("case", [case for case in CASES if not case.dtype.is_complex], ids=str)


def registered_narrow(case: Case, dtype: torch.dtype) -> Layer:
    return case.layer(parametrize, case.random(dtype))


def converted(case: Case, dtype: torch.dtype) -> Layer:
    return case.layer(parametrize, case.random(torch.float32)).to(dtype)


def converted_and_back(case: Case, dtype: torch.dtype) -> Layer:
    return converted(case, dtype).float()


def loaded(case: Case, dtype: torch.dtype) -> Layer:
    layer = registered_narrow(case, dtype)
    layer.load_state_dict(case.layer(parametrize, case.random(torch.float32)).state_dict())
    return layer


WAYS = [registered_narrow, converted, converted_and_back, loaded]
BY_EVERY_WAY = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)


def step(layer: nn.Module, loss: Callable[[Tensor], Tensor]) -> None:
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.03, eps=1e-4)
    loss(layer.weight).backward()
    for parameter in layer.parametrizations.parameters():
        assert parameter.grad.dtype == parameter.dtype
        assert torch.isfinite(parameter.grad).all()
    optimizer.step()


@REAL
@HALVES
@BY_EVERY_WAY
def test_the_set_holds_to_the_resolution_of_the_dtype(
    case: Case, dtype: torch.dtype, way: Callable[[Case, torch.dtype], Layer]
) -> None:
    layer = way(case, dtype)
    kind = torch.float32 if way is converted_and_back else dtype
    target = case.random(kind)
    for _ in range(3):
        step(layer, lambda weight: (weight - target).square().sum())
        value = layer.weight.detach()
        assert value.dtype == kind
        # The value was rounded, and a base too; a Gram matrix doubles that.
        allowed = 4 * torch.finfo(kind).eps * torch.linalg.vector_norm(value.double())
        assert (layer.constraint.residual(value).double() <= allowed).all()


@REAL
@pytest.mark.parametrize("narrow", [torch.float16, torch.bfloat16], ids=str)
def test_under_autocast_values_and_gradients_are_those_without(case: Case, narrow: torch.dtype) -> None:
    layer = case.layer(parametrize, case.random(torch.float32))
    twin = copy.deepcopy(layer)
    target = case.random(torch.float32)
    with torch.autocast("cpu", dtype=narrow):
        value = layer.weight
    (value - target).square().sum().backward()  # outside, as torch asks: a backward pass inside is cast too
    (twin.weight - target).square().sum().backward()
    assert torch.equal(value, twin.weight)
    for inside, outside in zip(layer.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(inside.grad, outside.grad)


STAND_INS = {
    **{
        f"orthogonal-{map_}-{base}": lambda layer, map_=map_, base=base: parametrizations.orthogonal(
            layer, orthogonal_map=map_, use_trivialization=base
        )
        for map_ in ("matrix_exp", "cayley", "householder")
        for base in (True, False)
    },
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm": lambda layer: parametrizations.spectral_norm(layer, n_power_iterations=30),
}


@pytest.mark.parametrize("name", STAND_INS)
@HALVES
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5)], ids=str)
def test_a_stand_in_holds_its_set_to_the_resolution_of_the_dtype(
    name: str, dtype: torch.dtype, when: str, shape: tuple[int, int]
) -> None:
    layer = nn.Linear(*shape)
    layer = STAND_INS[name](layer.to(dtype)) if when == "before" else STAND_INS[name](layer).to(dtype)
    target = torch.randn(layer.weight.shape, dtype=dtype)
    eps = torch.finfo(dtype).eps
    for _ in range(3):
        step(layer, lambda weight: (weight - target).square().sum())
        weight = layer.weight.detach()
        assert weight.dtype == dtype
        wide = weight.double()
        tall = wide if len(wide) >= wide.shape[1] else wide.mT
        if name.startswith("orthogonal"):
            identity = torch.eye(tall.shape[1], dtype=torch.float64)
            assert torch.linalg.matrix_norm(tall.mT @ tall - identity) < 4 * eps * tall.shape[1] ** 0.5
        elif name == "weight_norm":
            length = layer.parametrizations.weight.original0.detach().double().abs()
            torch.testing.assert_close(wide.norm(dim=1, keepdim=True), length, rtol=2 * eps, atol=0)
        else:
            assert abs(torch.linalg.matrix_norm(wide, ord=2) - 1) < 4 * eps
