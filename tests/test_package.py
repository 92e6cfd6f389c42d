"""What a user gets by installing and importing."""

import re
import subprocess
import sys
from importlib.metadata import metadata, requires
from pathlib import Path

import pytest
import torch

import paraform

ROOT = Path(__file__).parents[1]


def test_importing_paraform_loads_nothing_that_importing_torch_does_not() -> None:
    program = (
        "import sys, torch; before = set(sys.modules); import paraform; "
        "print(*sorted(m for m in set(sys.modules) - before if m.partition('.')[0] != 'paraform'))"
    )
    loaded = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []


def test_torch_is_the_only_requirement_without_an_extra() -> None:
    assert [line for line in requires("paraform") or [] if "extra ==" not in line] == ["torch>=2.13"]
    assert metadata("paraform")["Version"] == paraform.__version__


def test_every_name_of_the_face_is_there() -> None:
    for name in paraform.__all__:
        assert hasattr(paraform, name), name
    assert len(set(paraform.__all__)) == len(paraform.__all__)


def test_the_types_are_public() -> None:
    assert (Path(paraform.__file__).parent / "py.typed").is_file()


def test_the_stand_in_has_every_name_of_torchs_module() -> None:
    assert set(torch.nn.utils.parametrizations.__all__) <= set(paraform.parametrizations.__all__)


# The section on whole models has a test of its own, test_whole_models.py, which runs its commands too.
README = re.sub("## Whole models.*?\n## ", "", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
README_CODE = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("number", range(len(README_CODE)))
def test_the_code_of_the_readme_runs(number: int) -> None:
    exec(compile(README_CODE[number], f"README.md, block {number + 1}", "exec"), {})


def test_the_readme_shows_code() -> None:
    assert len(README_CODE) == 3
