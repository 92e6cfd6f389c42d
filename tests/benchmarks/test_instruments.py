"""What the benchmarks compute from times and bytes, on numbers that are known."""

import pytest
import torch
from torch import Tensor

from benchmarks import timing
from benchmarks.cases.orthogonal import tangent
from benchmarks.growth import power
from benchmarks.memory import peak_bytes, saved_bytes


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.5])
def test_the_fitted_slope_is_the_power_that_the_times_grow_with(exponent: float) -> None:
    sizes = [3, 10, 70, 500]
    assert timing.fitted_slope(sizes, [4e-6 * n**exponent for n in sizes]) == pytest.approx(exponent)


def test_the_power_in_a_plot_is_that_of_the_larger_sizes() -> None:
    overhead = {1: 1.0, 2: 1.0}
    assert power(overhead | {n: 1e-3 * n**2 for n in (100, 200, 400, 800)}) == pytest.approx(2)


def test_the_ratio_is_that_of_neighbours_however_the_machine_drifts() -> None:
    ours = [1.0, 2.0, 50.0]
    assert timing.median_ratio([3 * t for t in ours], ours) == pytest.approx(3)


def test_rounds_that_anything_disturbed_are_left_out() -> None:
    times = {"ours": [1.0, 9.0, 1.1, 1.0], "theirs": [2.0, 2.0, 2.1, 30.0]}
    assert timing.calmer_half(times) == {"ours": [1.0, 1.1], "theirs": [2.0, 2.1]}


def test_one_round_is_kept() -> None:
    assert timing.calmer_half({"ours": [1.0]}) == {"ours": [1.0]}


def test_times_come_in_rounds_of_all_and_every_second_one_backwards() -> None:
    calls: list[str] = []
    times = timing.time_together({name: lambda name=name: calls.append(name) for name in "ab"}, 0.0, (3, 9))
    assert {name: len(column) for name, column in times.items()} == {"a": 3, "b": 3}
    order = "".join(name for name, before in zip(calls, [None, *calls], strict=False) if name != before)
    assert order == "abab"  # ab, ba and ab, with what follows itself written once


@pytest.mark.parametrize("shape", [(6, 6), (12, 4), (5, 1)])
def test_a_raw_tensor_stands_for_a_skew_matrix_of_the_norm_asked_for(shape: tuple[int, int]) -> None:
    raw = tangent(shape, 7.0)
    n, k = shape
    A = torch.zeros(n, n)
    A[:, :k] = raw
    assert torch.linalg.matrix_norm(A - A.mT, ord=2) == pytest.approx(7.0, rel=1e-5)
    assert torch.equal(raw, raw.tril(-1))


def test_bytes_kept_for_backward_are_counted_once_and_without_those_that_were_there() -> None:
    x, w = torch.ones(100, requires_grad=True), torch.ones(100)

    def forward() -> Tensor:
        e = x.exp()  # keeps its result: 400 bytes
        return (e * e[:50].sum()) * w  # keeps e again, a sum of 4 bytes, and the product with it no more

    assert saved_bytes(forward, outside=[x, w]) == 404


def test_the_peak_counts_what_was_freed_again() -> None:
    def call() -> Tensor:
        return (torch.ones(10_000) + torch.ones(10_000)).sum()  # three of 40 kB at once

    assert 120_000 <= peak_bytes(call) < 121_000
