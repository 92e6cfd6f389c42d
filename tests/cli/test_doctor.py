"""``paraform doctor`` examines what the user's own function gives."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.saved import only_sentence, run

HEAD = """
import torch
from torch import nn
from paraform import Orthogonal, param_groups, register_parametrization

def model():
    return register_parametrization(nn.Linear(4, 4), "weight", Orthogonal())
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """Writes a module into the current folder, and gives its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    name = "paraform_doctor_subject"
    monkeypatch.delitem(sys.modules, name, raising=False)

    def write(text: str) -> str:
        (tmp_path / f"{name}.py").write_text(HEAD + text)
        return name

    yield write
    sys.modules.pop(name, None)


def test_a_healthy_model_ends_with_0(module: Callable[[str], str]) -> None:
    result = run("doctor", f"{module('')}:model")
    assert result.exit_code == 0
    assert "Nothing found" in result.stdout


def test_a_warning_ends_with_1(module: Callable[[str], str]) -> None:
    name = module("def build():\n    one = model()\n    return one, torch.optim.AdamW(one.parameters())\n")
    result = run("doctor", f"{name}:build")
    assert result.exit_code == 1
    assert "PF101 warning" in result.stdout
    assert "Remedy: " in result.stdout


def test_json_has_the_findings_and_nothing_that_the_code_prints(module: Callable[[str], str]) -> None:
    name = module(
        "print('imported')\n"
        "def build():\n    print('built')\n    one = model()\n"
        "    return one, torch.optim.AdamW(one.parameters()), torch.zeros(2, 4)\n"
    )
    result = run("doctor", f"{name}:build", "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 1
    assert found["looked_at"] == 1
    assert [each["tensor"] for each in found["findings"] if each["code"] == "PF101"] == ["weight"]
    assert "imported\nbuilt" in result.stderr


def test_notes_alone_end_with_0(module: Callable[[str], str]) -> None:
    name = module(
        "def build():\n    one = model()\n    one.forward = None\n    return one, None, 'no sample that runs'\n"
    )
    result = run("doctor", f"{name}:build", "--json")
    assert {each["severity"] for each in json.loads(result.stdout)["findings"]} == {"note"}
    assert result.exit_code == 0


def test_a_model_itself_and_a_dotted_path_are_taken(module: Callable[[str], str]) -> None:
    name = module("class lab:\n    build = staticmethod(model)\nready = model()\n")
    for path in ("lab.build", "ready"):
        assert run("doctor", f"{name}:{path}").exit_code == 0


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        ("", "missing", "has no 'missing'"),
        ("number = 3\n", "number", "is to be a function"),
        ("def build():\n    return 3\n", "build", "got int"),
        ("def build():\n    return model(), 3\n", "build", "got int"),
        ("def build():\n    return ()\n", "build", "got ()"),
        ("def build():\n    return model(), None, None, None\n", "build", "(ParametrizedLinear, NoneType"),
        ("def build():\n    raise ValueError('no [red]data\\n')\n", "build", "ValueError: no [red]data ("),
        ("def build(argument):\n    return model()\n", "build", "argument"),
        ("raise OSError(2, 'no data')\n", "build", "cannot be imported: FileNotFoundError"),
        ("import no_such_module_of_mine\n", "build", "no_such_module_of_mine"),
        ("raise SystemExit(0)\n", "build", "SystemExit"),
        ("def build(:\n", "build", "SyntaxError"),
    ],
)
def test_what_gives_no_model_is_one_sentence(module: Callable[[str], str], text: str, path: str, words: str) -> None:
    assert words in only_sentence(run("doctor", f"{module(text)}:{path}"))


def test_the_line_that_raised_is_named(module: Callable[[str], str], tmp_path: Path) -> None:
    name = module("def build():\n    return 1 / 0\n")
    line = HEAD.count("\n") + 2
    assert f"({tmp_path / name}.py, line {line})." in only_sentence(run("doctor", f"{name}:build"))


@pytest.mark.parametrize("text", ["", "model", ":model", "model:", "no_such_module:build", "\x1b[31m:x", "a..b:c"])
def test_what_is_no_module_and_factory_is_one_sentence(module: Callable[[str], str], text: str) -> None:
    assert only_sentence(run("doctor", text)).isprintable()


@pytest.mark.parametrize("folder", ["", "./"])
def test_a_file_in_the_place_of_a_module_is_named(module: Callable[[str], str], folder: str) -> None:
    file = f"{folder}{module('')}.py"
    assert f"the name of a module, as in mylab.training:build, got the file '{file}'" in only_sentence(
        run("doctor", f"{file}:build")
    )
