"""Any sequence of edits leaves what a plain list of the steps says."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import torch
from hypothesis import given, settings

from paraform import parametrize
from tests.parametrize.test_editing import Plus, Times, chained

EDITS = ["register", "insert", "replace", "remove", "drop", "off", "on"]
edits = st.lists(
    st.tuples(st.sampled_from(EDITS), st.integers(0, 4), st.sampled_from([Times, Plus]), st.sampled_from([0.5, -2.0])),
    max_size=12,
)


@settings(deadline=None, max_examples=50)
@given(edits=edits)
def test_after_any_edits_the_value_is_that_of_the_steps_that_are_on(edits: list[Any]) -> None:
    layer, chain = chained(Times(2.0))
    steps, names, off = list(chain), ["0"], set()
    for edit, place, kind, number in edits:
        value, step, index = layer.weight.detach().clone(), kind(number), place % len(steps)
        free = str(1 + max(map(int, names)))
        kept = True
        if edit == "register":
            parametrize.register_parametrization(layer, "weight", step)
            steps, names, kept = [*steps, step], [*names, free], False
        elif edit == "insert":
            chain.insert(index, step)
            steps.insert(index, step)
            names.insert(index, free)
        elif edit == "replace":
            chain[index] = step
            off.discard(steps[index])
            steps[index] = step
        elif edit in ("remove", "drop") and len(steps) > 1:
            kept = edit == "remove"
            chain.remove(index, leave_parametrized=kept)
            off.discard(steps.pop(index))
            names.pop(index)
        elif edit == "off":
            chain.switch_off(index)
            off.add(steps[index])
            kept = False
        elif edit == "on":
            chain.switch_on(steps[index])
            off.discard(steps[index])
            kept = False
        assert list(chain) == steps
        assert [key for key, _ in chain.named_children()] == names
        expected = chain.original
        for part in steps:
            expected = expected if part in off else part(expected)
        assert torch.equal(layer.weight, expected)
        if kept:
            torch.testing.assert_close(layer.weight.detach(), value)
        layer.weight = value
        torch.testing.assert_close(layer.weight.detach(), value)
