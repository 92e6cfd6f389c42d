"""docs/files.md: its example is run, and what it says of the file is held against the file."""

import json
import re
from pathlib import Path

import pytest
from safetensors import safe_open

from paraform.files.costs import GROWTH, LARGEST_SUM, LARGEST_VALUE
from paraform.files.layout import LARGEST_HEADER

PAGE = (Path(__file__).parents[2] / "docs" / "files.md").read_text(encoding="utf-8")


def test_the_page_shows_the_recipe_that_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (recipe,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(code, "docs/files.md", "exec"), {})
    with safe_open("model.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["paraform"]) == json.loads(recipe)


def test_the_page_names_the_limits_of_the_code() -> None:
    assert (LARGEST_HEADER, LARGEST_VALUE, LARGEST_SUM, GROWTH) == (2**25, 2**27, 2**30, 128)
    words = " ".join(PAGE.split())
    assert all(text in words for text in ("at most 32 MiB", "128 MiB or 128 times what", "1 GiB or 128 times the file"))
