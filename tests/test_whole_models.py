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


def test_the_readme_leads_from_a_recipe_to_a_plain_model_with_the_same_outputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # One test, for all of it is one way: what is looked at is what the steps before have left behind.
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    assert len(PYTHON) == 2
    assert [command.split()[1] for command in COMMANDS] == ["inspect", "check", "fold", "report"]
    names: dict[str, Any] = {}
    exec(compile(PYTHON[0], "README.md, whole models", "exec"), names)
    assert "lstm.weight_hh_l1" in capsys.readouterr().out  # in the dry run, the summary or both
    for command in COMMANDS:
        done = paraform(*command.split()[1:])
        assert done.returncode == 0, (command, done.stdout, done.stderr)
    trained = names["model"]
    exec(compile(PYTHON[1], "README.md, whole models, the end", "exec"), names)

    x = torch.randn(16, 12, 32)
    with torch.no_grad():
        for model in (names["plain"], names["again"]):
            assert torch.allclose(trained.eval()(x), model.eval()(x), rtol=0, atol=1e-6)
    assert type(names["plain"].lstm) is torch.nn.LSTM

    _assert_in_their_sets(trained)
    found = json.loads(paraform("inspect", "model.safetensors", "--json").stdout)
    assert "lstm.weight_hh_l0" in json.dumps(found)
    assert (tmp_path / "report.html").stat().st_size > 10_000


def _assert_in_their_sets(trained: Any) -> None:
    for gate in trained.lstm.weight_hh_l0.chunk(4):
        assert torch.dist(gate.mT @ gate, torch.eye(32)) < 1e-4
    for block in trained.encoder.layers[1].self_attn.in_proj_weight.chunk(3):
        assert torch.dist(block.mT @ block, torch.eye(32)) < 1e-4
    assert torch.linalg.matrix_norm(trained.encoder.layers[0].linear1.weight, 2) < 1 + 1e-5
    assert torch.linalg.matrix_rank(trained.lstm.weight_ih_l1) == 8
    assert torch.allclose(trained.head.weight.norm(dim=1), torch.ones(10))
