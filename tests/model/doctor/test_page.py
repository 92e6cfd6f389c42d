"""docs/doctor.md: each code has a section, whose first example has the trouble and whose second mends it."""

import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import paraform
from paraform.model.doctor import TITLES, Report, doctor

PAGE = (Path(__file__).parents[3] / "docs" / "doctor.md").read_text(encoding="utf-8")
SECTIONS = re.findall(r"^### (PF\d+): (.+)\n((?:(?!^##).*\n?)*)", PAGE, flags=re.MULTILINE)


def test_the_page_has_a_section_for_each_code_in_order_and_none_besides() -> None:
    assert [(code, title) for code, title, _ in SECTIONS] == list(TITLES.items())


def test_codes_are_grouped_by_hundreds_and_none_is_used_twice() -> None:
    assert list(TITLES) == sorted(TITLES)
    assert all(re.fullmatch(r"PF[1-9]\d\d", code) for code in TITLES)
    assert len(set(TITLES.values())) == len(TITLES)


def test_every_code_that_a_check_gives_has_a_title() -> None:
    room = Path(paraform.__file__).parent / "model" / "doctor"
    given = {code for file in room.glob("*.py") for code in re.findall(r'Finding\(\s*"(PF\d+)"', file.read_text())}
    assert given == set(TITLES)


@pytest.mark.parametrize(("code", "text"), [(code, text) for code, _, text in SECTIONS], ids=list(TITLES))
def test_the_example_has_the_finding_and_its_remedy_takes_it_away(code: str, text: str) -> None:
    trouble, remedy = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    names: dict[str, Any] = {**vars(paraform), "torch": torch, "nn": nn, "doctor": doctor, "warnings": warnings}
    exec(trouble, names)
    assert isinstance(names["report"], Report)
    assert code in names["report"].codes
    assert code == "PF901" or "PF901" not in names["report"].codes
    exec(remedy, names)
    assert names["report"].codes == ()
