"""The page in the docs that is generated from the complaints."""

import re

import pytest

from tests.complaints.page import PAGE, on_torch, page, scenarios
from tests.complaints.registry import FIXED, Complaint, Fails, raises, wrong
from tests.complaints.rows import REPOSITORIES, TITLES, UNMET, Unmet, link


def test_the_page_in_the_docs_is_what_the_complaints_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(scenarios(), UNMET), "Run `make docs` and commit the page."


def test_a_page_has_a_line_for_each_scenario_under_its_row_and_the_counts() -> None:
    made = page(
        [
            Complaint(2, ("pytorch#72041",), "it is a | b", wrong("the copy is stale"), lambda engine: None),
            Complaint(
                4, (), "it falls over", raises(RuntimeError, "no <way>\nround"), lambda engine: None, "falls less"
            ),
        ],
        [Unmet(4, "this", "because", "that")],
    )
    assert "Of 2 scenarios torch 2.13 is right in 0, wrong in 1, and raises in 1." in made
    assert "\n## 2. " in made
    assert "\n## 3. " not in made
    thread = "[pytorch#72041](https://github.com/pytorch/pytorch/issues/72041)"
    assert f"\n| it is a \\| b ({thread}) | wrong: the copy is stale | works |\n" in made
    assert '\n| it falls over | raises `RuntimeError`: "no &lt;way>" | falls less |\n' in made
    assert "\n| 4 | this | because | that |\n" in made


@pytest.mark.parametrize(("end", "words"), [(FIXED, "right"), (raises(ValueError, ""), "raises `ValueError`")])
def test_the_end_on_torch_is_told_in_a_few_words(end: Fails | None, words: str) -> None:
    assert on_torch(end) == words


def test_threads_are_linked_where_their_project_is_known() -> None:
    assert link("peft PR#3304") == "[peft PR#3304](https://github.com/huggingface/peft/pull/3304)"
    assert link("NCAR/miles-credit#394").endswith("](https://github.com/NCAR/miles-credit/issues/394)")
    assert link("ZEST#4") == "ZEST#4"
    assert all(re.fullmatch(r"[\w.-]+/[\w.-]+", repository) for repository in REPOSITORIES.values())


def test_every_row_that_is_told_about_has_a_title() -> None:
    assert list(TITLES) == list(range(1, 42))
    assert {each.row for each in (*scenarios(), *UNMET)} <= TITLES.keys()


def test_every_row_is_a_scenario_or_is_named_as_not_met() -> None:
    told = {each.row for each in (*scenarios(), *UNMET)}
    assert [row for row in TITLES if row not in told] == []
