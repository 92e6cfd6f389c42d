"""``Orthogonal(map="auto")`` against what was measured."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from paraform import Orthogonal, register_parametrization

MEASURED = json.loads((Path(__file__).parents[2] / "benchmarks" / "results" / "maps.json").read_text())
# The others do not reach all that the base is connected to, or multiply reflections, whose order counts.
CANDIDATES = ("matrix_exp", "cayley")
A_TIE = 1.25


@pytest.mark.parametrize("device", MEASURED)
def test_auto_takes_the_fastest_map_that_was_measured(device: str) -> None:
    layer = register_parametrization(nn.Linear(4, 4), "weight", Orthogonal())
    (chosen,) = (map for map in CANDIDATES if f"map='auto' -> '{map}'" in repr(layer))
    rows = MEASURED[device]["maps"]
    assert len(rows) >= 20
    for row in rows:
        seconds = row["seconds"]
        assert seconds[chosen] <= A_TIE * min(seconds[map] for map in CANDIDATES), (row["dtype"], row["shape"])


def test_the_choice_is_shown_and_is_that_of_the_forward_pass() -> None:
    auto, named = (Orthogonal(*arguments) for arguments in ((), ("cayley",)))
    base, raw = torch.eye(5), torch.randn(5, 5)
    for constraint in (auto, named):
        constraint.right_inverse(base)
    assert torch.equal(auto(raw), named(raw))
    special = Orthogonal(special=True)
    special.right_inverse(base + 0j)
    assert "map='auto' -> 'matrix_exp'" in repr(special)
