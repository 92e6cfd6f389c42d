"""Every case that was promised, against its peer: seconds, ratio, matmuls; with what was promised.

``make bench`` prints it, writes ``benchmarks/results/table.json``, and fails with the number of rows past their bar.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import torch

from .cases import CASES, LIMITS, Case, Limit
from .timing import (
    best_device,
    calmer_half,
    machine,
    matmul,
    median_ratio,
    quartiles,
    ratios,
    time_together,
)

RESULTS = Path(__file__).parent / "results"
SECONDS = 2.0  # about what a row takes
QUICK = 0.3
Row = Case | Limit
AnyRow = TypeVar("AnyRow", Case, Limit)


def measure_case(case: Case, seconds: float) -> dict[str, Any]:
    """What a row says, as plain data."""
    torch.manual_seed(0)
    theirs = case.theirs(case.shape)
    torch.manual_seed(0)
    ours = case.ours(case.shape)
    calls = {"theirs": theirs.run, "ours": ours.run, "matmul": matmul(case.shape)}
    times = calmer_half(time_together(calls, seconds))
    ratio = median_ratio(times["theirs"], times["ours"])
    return {
        "title": case.title,
        "shape": case.shape,
        "peer": case.peer,
        "theirs": statistics.median(times["theirs"]),
        "ours": statistics.median(times["ours"]),
        "ratio": ratio,
        "quartiles": quartiles(ratios(times["theirs"], times["ours"])),
        "matmuls": median_ratio(times["ours"], times["matmul"]),
        "rounds": len(times["ours"]),
        "bar": case.bar,
        "met": ratio >= case.bar,
        "note": case.note,
    }


def measure_limit(limit: Limit, seconds: float) -> dict[str, Any]:
    """What a row says, as plain data."""
    torch.manual_seed(0)
    found = limit.measure(limit.shape, seconds)
    return {
        "title": limit.title,
        "shape": limit.shape,
        "found": found,
        "unit": limit.unit,
        "at most": limit.at_most,
        "met": limit.at_most is None or found <= limit.at_most,
        "note": limit.note,
    }


def chosen(rows: Iterable[AnyRow], words: list[str]) -> list[AnyRow]:
    """Those whose line contains every word."""
    return [row for row in rows if all(word.lower() in str(row).lower() for word in words)]


def sizes(row: dict[str, Any]) -> str:
    return " x ".join(map(str, row["shape"]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="only rows that contain all of these; nothing is written then")
    parser.add_argument("--quick", action="store_true", help="fewer rounds; nothing is written")
    parser.add_argument("--device", default=best_device(), choices=["cpu", "cuda"])
    asked = parser.parse_args()
    warnings.simplefilter("ignore")  # the peers' own
    seconds = QUICK if asked.quick else SECONDS
    about = machine(asked.device)
    print(f"{about}; float32; milliseconds of value and gradient, where no other is named; medians")
    with torch.device(asked.device):
        cases = print_cases(chosen(CASES, asked.words), seconds)
        limits = print_limits(chosen(LIMITS, asked.words), seconds)
    for note in dict.fromkeys(f"{row['title']}: {row['note']}." for row in [*cases, *limits] if row["note"]):
        print(f"\n{note}", end="")
    broken = sum(not row["met"] for row in [*cases, *limits])
    print(f"\n{broken} of {len(cases) + len(limits)} rows past their bar")
    if not asked.quick and not asked.words:
        RESULTS.mkdir(exist_ok=True)
        results = {"machine": about.as_json(), "cases": cases, "limits": limits}
        (RESULTS / "table.json").write_text(json.dumps(results, indent=1) + "\n")
    return broken


def print_cases(cases: list[Case], seconds: float) -> list[dict[str, Any]]:
    print(f"\n{'':36}{'':13}{'peer':>20}{'theirs':>9}{'ours':>9}{'ratio':>7}{'half within':>15}{'matmuls':>9}   bar")
    rows = []
    for case in cases:
        row = measure_case(case, seconds)
        rows.append(row)
        low, high = row["quartiles"]
        print(
            f"{case.title:36}{sizes(row):>13}{case.peer:>20}{1e3 * row['theirs']:9.3g}{1e3 * row['ours']:9.3g}"
            f"{row['ratio']:7.2f}{f'{low:.2f}-{high:.2f}':>15}{row['matmuls']:9.1f}  {case.bar:6.2f}"
            f"{'' if row['met'] else '  PAST'}",
            flush=True,
        )
    return rows


def print_limits(limits: list[Limit], seconds: float) -> list[dict[str, Any]]:
    print(f"\n{'':60}{'':13}{'found':>9}  at most")
    rows = []
    for limit in limits:
        row = measure_limit(limit, seconds)
        rows.append(row)
        bar = "" if limit.at_most is None else f"{limit.at_most:8.2f}"
        print(
            f"{limit.title:60}{sizes(row):>13}{row['found']:9.3g}{bar:>9} {limit.unit}{'' if row['met'] else '  PAST'}",
            flush=True,
        )
    return rows


if __name__ == "__main__":
    sys.exit(main())
