"""``paraform inspect`` shows what is in a file, from the file alone."""

import json
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn

from paraform import Skew, register_parametrization
from paraform.files import SavedTensor, save
from paraform.files.reading import TensorFile
from tests.cli.saved import RECURRENT, Network, edited, run, saved


@pytest.fixture
def model_and_path(tmp_path: Path) -> tuple[Network, Path]:
    return saved(tmp_path)


def document(path: Path, *options: str) -> dict[str, Any]:
    result = run("inspect", path, "--json", *options)
    assert result.exit_code == 0
    return json.loads(result.stdout)


def test_json_has_the_numbers_of_each_value(model_and_path: tuple[Network, Path]) -> None:
    model, path = model_and_path
    found = {each["name"]: each for each in document(path)["parametrized"]}
    assert list(found) == [RECURRENT, "convolution.weight", "head.weight"]

    recurrent = found[RECURRENT]
    value = model.rnn.weight_hh_l0.detach().double().numpy()
    assert (recurrent["shape"], recurrent["dtype"], recurrent["chain"]) == ([6, 6], "float32", ["Orthogonal()"])
    assert recurrent["dof"] == 6 * 5 / 2
    assert recurrent["trained"] == 36
    assert recurrent["residual"] == pytest.approx(np.linalg.norm(value.T @ value - np.eye(6)), abs=2e-6)
    assert recurrent["condition"] == pytest.approx(1, abs=1e-5)
    assert recurrent["is_inside"] is True
    assert recurrent["is_finite"] is True

    kernel = found["convolution.weight"]
    singular = np.linalg.svd(model.convolution.weight.detach().reshape(4, 6).numpy(), compute_uv=False)
    assert kernel["chain"] == ["Flatten(SpectralNorm())"]
    assert kernel["condition"] == pytest.approx(singular[0] / singular[-1], rel=1e-4)

    singular = np.linalg.svd(model.head.weight.detach().numpy(), compute_uv=False)
    assert found["head.weight"]["condition"] == pytest.approx(singular[0] / singular[-1], rel=1e-4)


def test_json_has_what_the_file_has(model_and_path: tuple[Network, Path]) -> None:
    path = model_and_path[1]
    found = document(path)
    stored = {key: spec for each in found["parametrized"] for key, spec in each["stored"].items()}
    plain = {each["name"]: each for each in found["plain"]}
    with safe_open(path, "pt") as file:
        assert set(file.keys()) == stored.keys() | plain.keys()
        for key, spec in (stored | plain).items():
            tensor = file.get_tensor(key)
            assert (spec["shape"], f"torch.{spec['dtype']}") == (list(tensor.shape), str(tensor.dtype))
    assert found["ties"] == {"decoder.weight": "embedding.weight"}
    assert found["bytes"] == path.stat().st_size
    assert {*plain, *found["ties"], *(each["name"] for each in found["parametrized"])} == set(Network().state_dict())
    first = found["parametrized"][0]
    assert first["stored_numbers"] == sum(np.prod(spec["shape"]) for spec in first["stored"].values())


def test_the_table_has_a_line_for_each_value(model_and_path: tuple[Network, Path]) -> None:
    lines = run("inspect", model_and_path[1]).stdout.splitlines()
    (kernel,) = (line.split() for line in lines if line.startswith("convolution.weight"))
    assert kernel[1:4] == ["4x2x3", "float32", "Flatten(SpectralNorm())"]
    (recurrent,) = (line.split() for line in lines if line.startswith(RECURRENT))
    assert recurrent[3:6] == ["Orthogonal()", "15", "72"]  # the base is stored too
    assert not any(line.startswith("head.bias") for line in lines)
    assert any(line.split() == ["decoder.weight", "embedding.weight"] for line in lines)


def test_all_lists_the_plain_tensors(model_and_path: tuple[Network, Path]) -> None:
    lines = [line.split() for line in run("inspect", model_and_path[1], "--all").stdout.splitlines()]
    assert ["head.bias", "5", "float32"] in lines
    assert ["norm.num_batches_tracked", "number", "int64"] in lines


def test_without_values_no_tensor_is_read(
    model_and_path: tuple[Network, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a tensor was read")

    monkeypatch.setattr(TensorFile, "read", refuse)
    (first, *_) = document(model_and_path[1], "--no-values")["parametrized"]
    assert first["chain"] == ["Orthogonal()"]
    assert "residual" not in first
    result = run("inspect", model_and_path[1], "--no-values")
    assert result.exit_code == 0
    assert "residual" not in result.stdout


def test_one_chain_is_in_memory_at_a_time(
    model_and_path: tuple[Network, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: weakref.WeakSet[nn.Module] = weakref.WeakSet()
    chain = SavedTensor.chain

    def counted(tensor: SavedTensor) -> nn.Module:
        assert not alive
        made = chain(tensor)
        alive.add(made)
        return made

    monkeypatch.setattr(SavedTensor, "chain", counted)
    assert len(document(model_and_path[1])["parametrized"]) == 3


def test_a_value_that_cannot_be_computed_hides_no_other(model_and_path: tuple[Network, Path]) -> None:
    def strange(_: Any, recipe: Any) -> None:
        recipe["parametrized"]["head.weight"]["chain"][0]["name"] = "mylab.[red]Strange"

    path = edited(model_and_path[1], strange)
    result = run("inspect", path)
    assert result.exit_code == 1
    assert "mylab" in result.stderr
    assert "Traceback" not in result.stderr
    assert RECURRENT in result.stdout
    (line,) = (line.split() for line in result.stdout.splitlines() if line.startswith("head.weight"))
    assert line[3:] == ["mylab.[red]Strange()", "-", "35", "-", "-"]

    result = run("inspect", path, "--json")
    found = json.loads(result.stdout)["parametrized"]
    assert result.exit_code == 1
    assert [each["name"] for each in found if "error" in each] == ["head.weight"]


def test_a_singular_value_and_a_broken_one_are_null_in_json(model_and_path: tuple[Network, Path]) -> None:
    def broken(tensors: dict[str, torch.Tensor], _: Any) -> None:
        tensors["head.parametrizations.weight.original1"][0, 0] = torch.nan
        tensors["convolution.parametrizations.weight.original"].zero_()

    found = {each["name"]: each for each in document(edited(model_and_path[1], broken))["parametrized"]}
    assert found["head.weight"]["is_finite"] is False
    assert found["head.weight"]["residual"] is None
    assert found["convolution.weight"]["is_finite"] is True
    assert found["convolution.weight"]["condition"] is None


HOSTILE = [
    "[red]bold[/red]",
    "\x1b[31mred\x1b[0m",
    "two\nlines",
    "\u202egnp.exe",
    "long" * 5000,
    "<script>",
    "bell\x07",
]


def test_names_of_a_file_say_nothing_to_the_terminal(tmp_path: Path) -> None:
    model = nn.Module()
    for name in HOSTILE:
        layer = register_parametrization(nn.Linear(2, 2), "weight", Skew())
        model.add_module(name.replace(".", "_"), layer)
    save(model, tmp_path / "hostile.safetensors")
    for environment in ({}, {"FORCE_COLOR": "1", "NO_COLOR": "1"}):
        result = run("inspect", tmp_path / "hostile.safetensors", "--all", **environment)
        assert result.exit_code == 0
        shown = result.stdout.replace("\x1b[1;4m", "").replace("\x1b[0m", "") if environment else result.stdout
        assert not any(sign in shown for sign in ("\x1b", "\x07", "\u202e", "<script>"))
        assert shown.count("Skew()") == len(HOSTILE)
        assert "bold" in shown
        assert max(map(len, shown.splitlines())) < 1000
    result = run("inspect", tmp_path / "hostile.safetensors", "--json")
    assert result.stdout.isascii()
    assert len(json.loads(result.stdout)["parametrized"]) == len(HOSTILE)


def test_markup_of_a_path_or_a_chain_is_text(model_and_path: tuple[Network, Path]) -> None:
    def strange(_: Any, recipe: Any) -> None:
        recipe["parametrized"]["head.weight"]["chain"][0]["name"] = "mylab.[red]Strange"

    path = edited(model_and_path[1], strange)
    path = path.rename(path.with_name("[bold]named"))
    for columns in ("300", "60"):  # as a table, and as paragraphs
        shown = run("inspect", path, FORCE_COLOR="1", NO_COLOR="1", COLUMNS=columns).stdout
        assert "[bold]named" in shown.replace("\n", "")
        assert "mylab.[red]Strange()" in shown
