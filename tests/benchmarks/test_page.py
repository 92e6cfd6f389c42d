"""``docs/performance.md`` against what was measured."""

import json

import pytest

from benchmarks import page

RESULTS = [json.loads((page.HERE / "results" / f"{name}.json").read_text()) for name in page.NAMES]


def test_the_page_says_what_was_measured() -> None:
    assert page.PAGE.read_text() == page.page(*RESULTS), "run make docs"


def test_a_loser_without_a_reason_is_refused() -> None:
    lost = {"title": "something new", "shape": [2, 2], "met": False, "ratio": 0.5}
    with pytest.raises(KeyError, match="something new"):
        page.losers([lost])
