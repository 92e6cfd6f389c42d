"""Orthogonal weights, map by map."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import geotorch
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import orthogonal

import paraform as pf

from ..memory import peak_bytes, saved_bytes
from ..timing import calmer_half, fitted_slope, matmul, median_ratio, time_together
from .case import Case, Limit, Make, Shape, Subject, Weight, originals, value, value_and_gradient

TYPICAL = 1.0
"""The spectral norm of the skew matrix that the raw tensor stands for: a turn by one radian at most."""
FAR = 10.0
"""After long training without a moving base."""
LINEAR = 1.1
"""Caches end between n = 3750 and n = 30000, which alone makes a larger weight dearer a row."""


def tangent(shape: Shape, norm: float) -> Tensor:
    """A random raw tensor, strictly lower triangular, whose skew matrix has the given spectral norm."""
    raw = torch.randn(shape).tril(-1)
    k = shape[-1]
    # The skew matrix [[S, -P^T], [P, 0]] has the singular values of the smaller one with R in place of P = QR.
    R = torch.linalg.qr(raw[..., k:, :], mode="r").R
    small = torch.cat([raw[..., :k, :], R], dim=-2)
    small = torch.nn.functional.pad(small, (0, small.shape[-2] - k))
    return raw * (norm / torch.linalg.matrix_norm(small - small.mT, ord=2))


def moved(layer: nn.Module, norm: float) -> nn.Module:
    """With a raw tensor of the given norm; torch's Householder map keeps signs on the diagonal, which stay."""
    (raw,) = originals(layer)
    with torch.no_grad():
        raw.copy_(tangent(tuple(raw.shape), norm) + raw.tril().triu())
    return layer


def ours(map: str = "auto", norm: float = TYPICAL) -> Make:
    def make(shape: Shape) -> Subject:
        layer = pf.register_parametrization(Weight(shape), "weight", pf.Orthogonal(map))
        return value_and_gradient(moved(layer, norm))

    return make


def torchs(map: str, norm: float = TYPICAL) -> Make:
    def make(shape: Shape) -> Subject:
        return value_and_gradient(moved(orthogonal(Weight(shape), orthogonal_map=map), norm))

    return make


def geotorchs(triv: str, norm: float = TYPICAL) -> Make:
    def make(shape: Shape) -> Subject:
        return value_and_gradient(moved(geotorch.orthogonal(Weight(shape), triv=triv), norm))

    return make


def case(title: str, shape: Shape, bar: float, theirs: Make, ours: Make, **rest: object) -> Case:
    return Case(title, shape, theirs=theirs, ours=ours, constraint=lambda _: pf.Orthogonal(), bar=bar, **rest)  # type: ignore[arg-type]


def square(n: int, map: str, bar: float, norm: float = TYPICAL) -> list[Case]:
    """A square weight against torch and, where it has the map, against geotorch."""
    title = f"Orthogonal({map!r}), |A| = {norm:g}"
    triv = {"matrix_exp": "expm", "cayley": "cayley"}.get(map)
    cases = [case(title, (n, n), bar, torchs(map, norm), ours(map, norm), peer="torch")]
    if triv is not None:
        cases.append(case(title, (n, n), bar, geotorchs(triv, norm), ours(map, norm), peer="geotorch"))
    return cases


def tall(n: int, k: int, bar: float) -> Case:
    theirs, small = torchs("householder"), (12, 3)
    return case("Orthogonal()", (n, k), bar, theirs, ours(), peer="torch householder", small=small)


def seconds_of_one(shape: Shape, seconds: float) -> float:
    return statistics.median(time_together({"ours": ours()(shape).run}, seconds)["ours"])


def growth_with_n(shape: Shape, seconds: float) -> float:
    """The slope of log time over log n, with k as it is."""
    n, k = shape
    sizes = [n // 8, n // 4, n // 2, n]
    times = time_together({str(m): ours()((m, k)).run for m in sizes}, seconds)
    return fitted_slope(sizes, [statistics.median(times[str(m)]) for m in sizes])


def memory_kept(shape: Shape, seconds: float) -> float:
    """What the graph keeps for the backward pass, over the size of the weight."""
    layer = moved(pf.register_parametrization(Weight(shape), "weight", pf.Orthogonal()), TYPICAL)
    return saved_bytes(layer, outside=[*layer.parameters(), *layer.buffers()]) / bytes_of(layer())


def memory_at_peak(shape: Shape, seconds: float) -> float:
    """What value and gradient allocate at the worst moment, the two themselves included, over the size of a weight."""
    layer = moved(pf.register_parametrization(Weight(shape), "weight", pf.Orthogonal()), TYPICAL)
    subject = value_and_gradient(layer)
    return peak_bytes(subject.run) / bytes_of(subject.value())


def bytes_of(x: Tensor) -> int:
    return x.numel() * x.element_size()


def backward_beyond_forward(map: str) -> Callable[[Shape, float], float]:
    """By how many matmuls the backward pass is dearer than the forward pass."""

    def measure(shape: Shape, seconds: float) -> float:
        layer = moved(pf.register_parametrization(Weight(shape), "weight", pf.Orthogonal(map)), TYPICAL)
        calls = {"forward": value(layer).run, "both": value_and_gradient(layer).run, "matmul": matmul(shape)}
        times = calmer_half(time_together(calls, seconds))
        beyond = [both - 2 * forward for both, forward in zip(times["both"], times["forward"], strict=True)]
        return median_ratio(beyond, times["matmul"])

    return measure


CASES = [
    *square(64, "matrix_exp", 2.0),
    *square(64, "matrix_exp", 2.0, FAR),
    *square(256, "matrix_exp", 5.0),
    *square(256, "matrix_exp", 5.0, FAR),
    *square(512, "matrix_exp", 5.0),
    *square(512, "matrix_exp", 5.0, FAR),
    *square(256, "householder", 10.0),
    *square(512, "householder", 10.0),
    *square(256, "cayley", 1.1),
    *square(512, "cayley", 1.1),
    tall(1024, 64, 40.0),
    tall(2048, 32, 100.0),
]

LIMITS = [
    Limit("Orthogonal('cayley'): backward beyond forward", (n, n), backward_beyond_forward("cayley"), "matmuls", 3.0)
    for n in (256, 512)
] + [
    Limit("Orthogonal(): value and gradient", (30000, 50), seconds_of_one, "s", 0.15, small=(12, 3)),
    Limit("Orthogonal(): growth with n", (30000, 50), growth_with_n, "slope", LINEAR, small=(64, 3)),
    Limit("Orthogonal(): kept for the backward pass", (30000, 50), memory_kept, "weights", 3.0, small=(12, 3)),
    Limit("Orthogonal(): allocated at the peak", (30000, 50), memory_at_peak, "weights", small=(12, 3)),
]
