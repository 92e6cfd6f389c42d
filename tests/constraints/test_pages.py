"""The pages in the docs that are generated from the table of sets."""

import doctest
import inspect
import re
from pathlib import Path

import pytest
import torch

from paraform import constraints
from paraform.constraints import Constraint
from tests.constraints.pages import page as pages
from tests.constraints.pages.docstrings import parse
from tests.constraints.pages.pictures import PICTURES
from tests.constraints.sets import FAMILIES

FILES = pages.files()
PAGES = {path: text for path, text in FILES.items() if path.parent == pages.FOLDER}
MEMBERS = [each for family in FAMILIES for each in family.sets]
FOR_ALL = pytest.mark.parametrize("member", MEMBERS, ids=pages.name_of)
MADE = {**PAGES, pages.README: pages.catalogue()}


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]+`", "", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def anchors(text: str) -> list[str]:
    return [pages.anchor(heading) for heading in re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_pages_in_the_docs_are_what_the_table_and_the_docstrings_say(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == FILES[path], "Run `make docs` and commit what it wrote."


def test_no_page_is_left_of_a_family_that_is_gone() -> None:
    assert set(pages.FOLDER.glob("*.md")) == PAGES.keys()


def test_every_public_constraint_is_on_a_page_and_once() -> None:
    kinds = [getattr(constraints, name) for name in constraints.__all__]
    not_sets = [each for each in kinds if isinstance(each, type) and issubclass(each, (Exception, Warning))]
    expected = {each.__name__ for each in kinds if each is not Constraint and each not in not_sets}
    names = [pages.name_of(member) for member in MEMBERS]
    assert sorted(names) == sorted(expected)
    for path, text in PAGES.items():
        assert len(anchors(text)) == len(set(anchors(text))), path


def test_the_catalogue_and_the_overview_have_a_line_for_each_constraint() -> None:
    for text in (pages.catalogue(), pages.index()):
        found = re.findall(r"^\| \[`(\w+)\(", text, flags=re.MULTILINE)
        assert found == [pages.name_of(member) for member in MEMBERS]


@pytest.mark.parametrize("path", MADE, ids=lambda path: path.parent.name + path.name)
def test_every_link_leads_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", MADE[path])
    assert targets
    for target in targets:
        address, _, anchor = target.partition("#")
        aim = (path.parent / address).resolve() if address else path
        assert aim.exists(), target
        assert not anchor or anchor in anchors(PAGES[aim]), target


@pytest.mark.parametrize("path", MADE, ids=lambda path: path.parent.name + path.name)
def test_nothing_of_the_docstrings_own_marks_is_left(path: Path) -> None:
    assert not re.search(r":\w+:`|(?<!`)``(?!`)", MADE[path])
    assert not re.search(r"`|^(Args|Raises|Attributes|Returns):|^\.\. ", without_code(MADE[path]), flags=re.MULTILINE)


@pytest.mark.parametrize("path", MADE, ids=lambda path: path.parent.name + path.name)
def test_every_row_of_a_table_has_the_cells_of_its_heading(path: Path) -> None:
    for table in re.findall(r"(?:^\|.*\n)+", MADE[path] + "\n", flags=re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1


@FOR_ALL
def test_a_docstring_says_what_a_page_needs(member: pages.Public) -> None:
    parsed = parse(member.__doc__ or "")
    assert parsed.summary.endswith("."), "the first paragraph is one sentence"
    assert any(block.startswith(">>>") for block in parsed.example)
    text = member.__doc__ or ""
    for label in ("Shape:", "Freedom", "aw tensor", "ample", "Args:", "Raises:"):
        assert label in text, f"it does not say what it says under {label}"
    # A paper of a year, a function that is mirrored, or another constraint that it stands on.
    assert re.search(r"\b(1[89]|20)\d\d\b|``(torch|scipy)\.|``constraint``|:class:`", text), "it has no source"


@FOR_ALL
def test_the_example_runs_from_the_lines_that_its_page_names(member: pages.Public) -> None:
    space = {"torch": torch, **{name: getattr(constraints, name) for name in constraints.__all__}}
    blocks = [block for block in parse(member.__doc__ or "").example if block.startswith(">>>")]
    text = next(page for page in PAGES.values() if f"\n## {pages.name_of(member)}\n" in page)
    for block in blocks:
        assert f"```python\n{block}\n```" in text
        assert block in inspect.cleandoc(member.__doc__ or "")
    test = doctest.DocTestParser().get_doctest("\n".join(blocks) + "\n", space, pages.name_of(member), None, 0)
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    told: list[str] = []
    assert doctest.DocTestRunner(optionflags=flags).run(test, out=told.append).failed == 0, "".join(told)


def test_every_picture_that_is_shown_exists_and_every_one_that_exists_is_shown() -> None:
    folder = pages.FOLDER / "pictures"
    shown = [name for text in PAGES.values() for name in re.findall(r"\]\(pictures/([\w-]+)\.png\)", text)]
    assert sorted(shown) == sorted(path.stem for path in folder.iterdir())
    assert sorted(shown) == sorted(picture.name for picture in pages.drawn())


def test_pictures_have_words_for_those_who_do_not_see_them() -> None:
    assert all(len(picture.alt) > 40 and picture.alt != picture.caption for picture in PICTURES)


def test_pictures_are_small() -> None:
    sizes = {path.name: path.stat().st_size for path in (pages.FOLDER / "pictures").iterdir()}
    assert {name: size for name, size in sizes.items() if size >= 80_000} == {}
