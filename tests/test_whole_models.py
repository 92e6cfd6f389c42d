"""A whole model as a new user would take it from the README: constrain, train, look, save, fold on the command line."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[1]
SECTION = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Whole models")[2].partition("\n## ")[0]
PYTHON = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)
COMMANDS = re.findall(r"^paraform .*?(?=\s*(?:#|$))", SECTION, re.MULTILINE)


def paraform(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", "from paraform.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def readme(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The folder and the names that the README's code leaves behind, with its commands run in between."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("readme")
        patch.chdir(folder)
        torch.manual_seed(0)
        names: dict[str, Any] = {}
        exec(compile(PYTHON[0], "README.md, whole models", "exec"), names)
        for command in COMMANDS:
            done = paraform(*command.split()[1:])
            assert done.returncode == 0, (command, done.stdout, done.stderr)
        trained = names["model"]
        exec(compile(PYTHON[1], "README.md, whole models, the end", "exec"), names)
        yield folder, trained, names


def test_the_readme_shows_code_and_commands() -> None:
    assert len(PYTHON) == 2
    assert [command.split()[1] for command in COMMANDS] == ["inspect", "check", "fold", "report"]


def test_weights_folded_on_the_command_line_give_a_plain_model_the_same_outputs(readme: Any) -> None:
    _, trained, names = readme
    x = torch.randn(16, 12, 32)
    with torch.no_grad():
        for model in (names["plain"], names["again"]):
            assert torch.allclose(trained.eval()(x), model.eval()(x), rtol=0, atol=1e-6)
    assert type(names["plain"].lstm) is torch.nn.LSTM


def test_the_weights_are_in_their_sets_after_training(readme: Any) -> None:
    _, trained, _ = readme
    for gate in trained.lstm.weight_hh_l0.chunk(4):
        assert torch.dist(gate.mT @ gate, torch.eye(32)) < 1e-4
    for block in trained.encoder.layers[1].self_attn.in_proj_weight.chunk(3):
        assert torch.dist(block.mT @ block, torch.eye(32)) < 1e-4
    assert torch.linalg.matrix_norm(trained.encoder.layers[0].linear1.weight, 2) < 1 + 1e-5
    assert torch.linalg.matrix_rank(trained.lstm.weight_ih_l1) == 8
    assert torch.allclose(trained.head.weight.norm(dim=1), torch.ones(10))


def test_the_file_tells_its_contents_without_the_model(readme: Any) -> None:
    folder, _, _ = readme
    found = json.loads(paraform("inspect", str(folder / "model.safetensors"), "--json").stdout)
    assert "lstm.weight_hh_l0" in json.dumps(found)
    assert (folder / "report.html").stat().st_size > 10_000
