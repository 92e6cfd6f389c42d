"""The pages in docs/sets and the README's catalogue, which are generated from the docstrings."""

import re
from pathlib import Path

import pytest

from paraform import constraints
from paraform.constraints import Constraint
from tests.constraints.markdown import docstring, first_sentence
from tests.constraints.pages import README, SETS, call, links, members, pages, readme
from tests.constraints.sets import FAMILIES

FILES = pytest.mark.parametrize("path", [README, *pages()], ids=lambda path: f"{path.parent.name}/{path.name}")
HEADINGS = re.compile(r"(?m)^#+ (.+)$")
LINKS = re.compile(r"\]\(([^)\s]+)\)")


def prose(text: str) -> str:
    """``text`` without its blocks of code."""
    return re.sub(r"(?ms)^```.*?^```$", "", text)


def anchors(path: Path) -> set[str]:
    """As GitHub makes them: small letters and digits of each heading, with hyphens for spaces."""
    headings = HEADINGS.findall(prose(path.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_pages_are_what_the_docstrings_say() -> None:
    for path, text in pages().items():
        assert path.read_text(encoding="utf-8") == text, "Run `make docs` and commit the pages."
    assert {path.name for path in SETS.glob("*.md")} == {path.name for path in pages()}


def test_the_catalogue_of_the_readme_is_what_the_docstrings_say() -> None:
    text = README.read_text(encoding="utf-8")
    assert readme(text) == text, "Run `make docs` and commit the README."
    assert text.count("<!-- catalogue -->\n") == text.count("<!-- /catalogue -->\n") == 1


@FILES
def test_every_link_leads_to_a_file_and_a_heading(path: Path) -> None:
    for link in LINKS.findall(prose(path.read_text(encoding="utf-8"))):
        if link.startswith("https://"):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@FILES
def test_nothing_of_another_markup_is_left(path: Path) -> None:
    text = prose(path.read_text(encoding="utf-8"))
    assert re.findall(r":\w+:`|``|(?m:::$)|^\.\. ", text) == []


def test_every_constraint_is_on_one_page() -> None:
    exported = {
        each
        for each in vars(constraints).values()
        if isinstance(each, type) and issubclass(each, Constraint) and each is not Constraint
    }
    told = [each for family in FAMILIES for each in family.sets]
    assert set(told) >= exported
    assert len(told) == len(set(told))


def test_every_name_in_the_catalogue_has_a_first_sentence_of_one_line() -> None:
    for family in FAMILIES:
        for each in members(family):
            assert 10 < len(first_sentence(each.__doc__)) < 120, each


def test_a_docstring_becomes_paragraphs_lists_and_examples() -> None:
    made = docstring(
        """Numbers, :math:`x_1 < 2`; see :class:`Ball` and :meth:`~a.b`.

        Args:
            a: one and
                a half of ``b``.

        >>> 1 + 1
        2
        """,
        {"Ball": "vectors.md#ball"},
    )
    assert made == (
        "Numbers, $`x_1 < 2`$; see [`Ball`](vectors.md#ball) and `a.b`.\n\n"
        "Arguments:\n\n- `a`: one and\n  a half of `b`.\n\n"
        "```python\n>>> 1 + 1\n2\n```"
    )


def test_a_call_is_written_without_types_and_strict() -> None:
    assert call(constraints.Banded) == "Banded(lower, upper)"
    assert call(constraints.SpectralNorm) == "SpectralNorm(bound=1.0, *, exact=False, slices=False)"
    assert links("docs/")["Ball"] == "docs/vectors.md#ball"
