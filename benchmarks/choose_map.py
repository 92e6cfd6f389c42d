"""Which map of :class:`paraform.Orthogonal` is the fastest, by shape, dtype and device.

``.venv/bin/python -m benchmarks.choose_map`` prints the milliseconds of value and gradient, raw tensors of spectral
norm 1, and writes ``benchmarks/results/maps.json``: the choice of ``map="auto"`` is made from that. A device that is
not there keeps the numbers that the file has of it.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

import torch

from .cases.case import Shape
from .cases.orthogonal import ours
from .timing import calmer_half, machine, time_together

RESULTS = Path(__file__).parent / "results"
MAPS = ("matrix_exp", "cayley", "householder", "polar")
SQUARES = (8, 32, 128, 512)
NARROWER = (1, 2, 4, 16)
"""How many times fewer columns than rows."""
DTYPES = (torch.float32, torch.float64)
SECONDS, QUICK = 1.5, 0.2  # a shape
ROUNDS = (3, 100)


def shapes() -> list[Shape]:
    """Those with two columns at least."""
    return [(n, n // times) for n in SQUARES for times in NARROWER if n // times >= 2]


def seconds_of_maps(shape: Shape, seconds: float) -> dict[str, float]:
    calls = {}
    for map in MAPS:
        torch.manual_seed(0)
        calls[map] = ours(map)(shape).run
    times = calmer_half(time_together(calls, seconds, ROUNDS))
    return {map: statistics.median(times[map]) for map in MAPS}


def measure(device: str, seconds: float) -> list[dict[str, object]]:
    """One entry a dtype and shape."""
    rows = []
    for dtype in DTYPES:
        print(f"\n{dtype}\n{'':12}" + "".join(f"{map:>12}" for map in MAPS) + "  fastest")
        for shape in shapes():
            torch.set_default_dtype(dtype)
            with torch.device(device):
                found = seconds_of_maps(shape, seconds)
            fastest = min(found, key=found.__getitem__)
            rows.append({"dtype": str(dtype), "shape": shape, "seconds": found, "fastest": fastest})
            cells = "".join(f"{1e3 * found[map]:12.3g}" for map in MAPS)
            print(f"{shape[0]:>5} x {shape[1]:<4}{cells}  {fastest}", flush=True)
    torch.set_default_dtype(torch.float32)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    asked = parser.parse_args()
    path = RESULTS / "maps.json"
    devices = json.loads(path.read_text()) if path.exists() else {}
    for device in ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]:
        about = machine(device)
        print(f"{about}; milliseconds of value and gradient")
        rows = measure(device, QUICK if asked.quick else SECONDS)
        devices[device] = {"machine": about.as_json(), "maps": rows}
    RESULTS.mkdir(exist_ok=True)
    path.write_text(json.dumps(devices, indent=1) + "\n")


if __name__ == "__main__":
    main()
