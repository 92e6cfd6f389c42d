"""Every set that torch or geotorch has too."""

from __future__ import annotations

from collections.abc import Callable

import geotorch
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm as torchs_spectral_norm
from torch.nn.utils.parametrizations import weight_norm as torchs_weight_norm
from torch.nn.utils.parametrize import register_parametrization

import paraform as pf

from .case import NOT_SLOWER, Case, Make, Shape, Subject, Weight, originals, spectral_norm, value_and_gradient

Register = Callable[[nn.Module], object]
Constrain = Callable[[Shape], pf.Constraint]

SQUARE, TALL = (128, 128), (256, 64)
SLACK = 0.1  # geotorch's default for almost orthogonal matrices
LONG = 3.0
"""The spectral norm of a weight that SpectralNorm has to shorten to 1."""

ONE_STEP = "torch takes one step of a power iteration a read, and lags behind a weight that moves"
N_SQUARED = "geotorch registers it by a linear system of n^2 equations, which ends at small n"


def rank(shape: Shape) -> int:
    return max(2, min(shape) // 8)


def trained(register: Register) -> Make:
    """Where every raw tensor is a step of spectral norm 1 away from where it was registered."""

    def make(shape: Shape) -> Subject:
        layer = Weight(shape)
        register(layer)
        with torch.no_grad():
            for raw in originals(layer):
                step = torch.randn_like(raw)
                raw.add_(step / spectral_norm(step))
        return value_and_gradient(layer)

    return make


def long(register: Register) -> Make:
    """Where a weight of 3 times the norm allowed has to be shortened."""

    def make(shape: Shape) -> Subject:
        layer = Weight(shape)
        register(layer)
        with torch.no_grad():
            for raw in originals(layer):
                raw.mul_(LONG / spectral_norm(raw))
        return value_and_gradient(layer)

    return make


def ours(constrain: Constrain) -> Register:
    return lambda layer: pf.register_parametrization(layer, "weight", constrain(tuple(layer.weight.shape)))


def geotorchs(register: Callable[..., nn.Module], **options: object) -> Register:
    """geotorch's own function, which starts from a random point of the set."""
    return lambda layer: register(layer, "weight", **options)


def geotorchs_ranked(register: Callable[..., nn.Module]) -> Register:
    return lambda layer: register(layer, "weight", rank(tuple(layer.weight.shape)))


def geotorchs_invertible(layer: nn.Module) -> None:
    geotorch.invertible(layer, "weight")
    layer.weight = pf.Invertible().sample(
        layer.weight.shape
    )  # its own point may have a negative determinant, and keeps it


class MirroredTriangle(nn.Module):
    """The symmetric matrices of PyTorch's tutorial on parametrizations."""

    def forward(self, X: Tensor) -> Tensor:
        return X.triu() + X.triu(1).mT


class SkewTriangle(nn.Module):
    """The skew-symmetric matrices of PyTorch's tutorial on parametrizations."""

    def forward(self, X: Tensor) -> Tensor:
        A = X.triu(1)
        return A - A.mT


def tutorials(step: Callable[[], nn.Module]) -> Register:
    return lambda layer: register_parametrization(layer, "weight", step())


def against(
    peer: str,
    theirs: Register,
    title: str,
    constrain: Constrain,
    shape: Shape = SQUARE,
    *,
    start: Callable[[Register], Make] = trained,
    note: str = "",
) -> Case:
    small = (6, 6) if shape[0] == shape[1] else (12, 4)
    sides = start(theirs), start(ours(constrain))
    return Case(title, shape, peer, *sides, constraint=constrain, bar=NOT_SLOWER, small=small, note=note)


def geo(register: Register, title: str, constrain: Constrain, shape: Shape = SQUARE, note: str = "") -> Case:
    return against("geotorch", register, title, constrain, shape, note=note)


CASES = [
    against("tutorial", tutorials(MirroredTriangle), "Symmetric()", lambda _: pf.Symmetric()),
    geo(geotorchs(geotorch.symmetric), "Symmetric()", lambda _: pf.Symmetric()),
    against("tutorial", tutorials(SkewTriangle), "Skew()", lambda _: pf.Skew()),
    geo(geotorchs(geotorch.skew), "Skew()", lambda _: pf.Skew()),
    *(against("torch", torchs_weight_norm, "WeightNorm()", lambda _: pf.WeightNorm(), s) for s in (SQUARE, TALL)),
    *(
        against(
            "torch",
            torchs_spectral_norm,
            "SpectralNorm()",
            lambda _: pf.SpectralNorm(),
            shape,
            start=long,
            note=ONE_STEP,
        )
        for shape in (SQUARE, TALL)
    ),
    *(geo(geotorchs(geotorch.sphere, embedded=e), "UnitNorm()", lambda _: pf.UnitNorm(), TALL) for e in (False, True)),
    geo(geotorchs(geotorch.positive_definite), "PositiveDefinite()", lambda _: pf.PositiveDefinite()),
    geo(geotorchs(geotorch.positive_semidefinite), "PositiveSemidefinite()", lambda _: pf.PositiveSemidefinite()),
    geo(
        geotorchs_ranked(geotorch.positive_semidefinite_low_rank),
        "PositiveSemidefinite(rank)",
        lambda shape: pf.PositiveSemidefinite(rank(shape)),
    ),
    geo(
        geotorchs_ranked(geotorch.positive_semidefinite_fixed_rank),
        "PositiveSemidefinite(rank, exact)",
        lambda shape: pf.PositiveSemidefinite(rank(shape), exact=True),
    ),
    *(
        geo(geotorchs_ranked(geotorch.low_rank), "LowRank(rank)", lambda shape: pf.LowRank(rank(shape)), shape)
        for shape in (SQUARE, TALL)
    ),
    *(
        geo(geotorchs_ranked(geotorch.fixed_rank), "FixedRank(rank)", lambda shape: pf.FixedRank(rank(shape)), shape)
        for shape in (SQUARE, TALL)
    ),
    geo(geotorchs_invertible, "Invertible()", lambda _: pf.Invertible()),
    geo(geotorchs(geotorch.sln), "SpecialLinear()", lambda _: pf.SpecialLinear()),
    geo(geotorchs(geotorch.orthogonal), "Orthogonal()", lambda _: pf.Orthogonal(), TALL),
    geo(geotorchs(geotorch.orthogonal), "Orthogonal(special)", lambda _: pf.Orthogonal(special=True)),
    geo(geotorchs(geotorch.grassmannian), "Grassmann()", lambda _: pf.Grassmann(), TALL),
    *(
        geo(
            geotorchs(geotorch.almost_orthogonal, lam=SLACK),
            "AlmostOrthogonal(0.1)",
            lambda _: pf.AlmostOrthogonal(SLACK),
            shape,
        )
        for shape in (SQUARE, TALL)
    ),
    geo(geotorchs(geotorch.alpha_stable), "Hurwitz()", lambda _: pf.Hurwitz(), (32, 32), note=N_SQUARED),
]
