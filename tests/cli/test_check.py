"""``paraform check`` finds the values that are not where they are to be."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from paraform import Symmetric, register_parametrization
from paraform.files import save, saved_as
from tests.cli.saved import RAW, RECURRENT, Network, edited, run, saved


@pytest.fixture
def model_and_path(tmp_path: Path) -> tuple[Network, Path]:
    return saved(tmp_path)


@saved_as("paraform_tests.cli.Leaky")
class Leaky(Symmetric):
    """A set that its map leaves: the value is the raw tensor as it is."""

    def forward(self, raw: Tensor) -> Tensor:
        return raw


@pytest.fixture
def outside(tmp_path: Path) -> tuple[float, Path]:
    """A file of three layers, whose middle one has left its set, and the residual of that."""
    model = nn.Sequential(*(nn.Linear(3, 3) for _ in range(3)))
    for layer, constraint in zip(model, (Symmetric(), Leaky(), Symmetric()), strict=True):
        register_parametrization(layer, "weight", constraint)
    value = torch.randn(3, 3)
    with torch.no_grad():
        model[1].parametrizations.weight.original.copy_(value)
    save(model, tmp_path / "outside.safetensors")
    symmetric = (value + value.T).double().numpy() / 2
    return float(np.linalg.norm(value.double().numpy() - symmetric)), tmp_path / "outside.safetensors"


def test_values_in_their_sets_pass(model_and_path: tuple[Network, Path]) -> None:
    result = run("check", model_and_path[1])
    assert result.exit_code == 0
    assert "3 of 3 parametrized tensors inside their sets" in result.stdout
    assert len(result.stdout.splitlines()) == 1


def test_a_value_outside_its_set_is_named(outside: tuple[float, Path]) -> None:
    residual, path = outside
    result = run("check", path)
    assert result.exit_code == 1
    _, line, last = result.stdout.splitlines()
    name, chain, shown, finding = line.split()
    assert (name, chain, finding) == ("1.weight", "paraform_tests.cli.Leaky()", "outside")
    assert float(shown) == pytest.approx(residual, rel=0.01)
    assert "2 of 3" in last


def test_json_has_every_verdict(outside: tuple[float, Path]) -> None:
    residual, path = outside
    result = run("check", path, "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 1
    assert found["findings"] == ["1.weight"]
    tensors = {each["name"]: each for each in found["tensors"]}
    assert [tensors[f"{index}.weight"]["verdict"] for index in range(3)] == ["inside", "outside", "inside"]
    assert tensors["1.weight"]["residual"] == pytest.approx(residual, rel=1e-5)
    assert tensors["0.bias"]["verdict"] == "unknown"


def test_a_tie_is_checked_once(model_and_path: tuple[Network, Path]) -> None:
    tensors = json.loads(run("check", model_and_path[1], "--json").stdout)["tensors"]
    assert sorted(each["name"] for each in tensors) == sorted(Network().state_dict().keys() - {"decoder.weight"})


@pytest.mark.parametrize(("factor", "code"), [(1.1, 0), (0.9, 1), (0.0, 1)])
def test_a_tolerance_is_compared_with_the_residual(outside: tuple[float, Path], factor: float, code: int) -> None:
    residual, path = outside
    assert run("check", path, "--tolerance", factor * residual).exit_code == code


def test_a_tolerance_is_no_negative_number(outside: tuple[float, Path]) -> None:
    result = run("check", outside[1], "--tolerance", "-1")
    assert result.exit_code == 2
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_value_that_is_not_finite_is_named(model_and_path: tuple[Network, Path], bad: float) -> None:
    def break_it(tensors: dict[str, Tensor], _: Any) -> None:
        tensors[RAW][1, 0] = bad

    for options in ((), ("--tolerance", "1e9")):
        result = run("check", edited(model_and_path[1], break_it), *options)
        assert result.exit_code == 1
        assert f"{RECURRENT}" in result.stdout
        assert "not finite" in result.stdout or "nan" in result.stdout


def test_a_plain_tensor_with_nan_is_named_but_an_infinite_mask_is_not(model_and_path: tuple[Network, Path]) -> None:
    def break_it(tensors: dict[str, Tensor], _: Any) -> None:
        assert tensors["mask"].isinf().any()
        tensors["head.bias"][0] = torch.nan

    result = run("check", edited(model_and_path[1], break_it))
    assert result.exit_code == 1
    assert "head.bias" in result.stdout
    assert "mask" not in result.stdout


def test_a_value_that_cannot_be_computed_is_named(model_and_path: tuple[Network, Path]) -> None:
    def break_it(_: Any, recipe: Any) -> None:
        recipe["parametrized"][RECURRENT]["chain"][0]["name"] = "mylab.Strange"

    result = run("check", edited(model_and_path[1], break_it))
    assert result.exit_code == 1
    assert "mylab.Strange" in result.stdout
    assert "2 of 3" in result.stdout


def doubled(raw: Tensor) -> Tensor:
    return 2 * raw


def test_a_chain_of_no_known_set_is_counted_and_passes(tmp_path: Path) -> None:
    saved_as("paraform_tests.cli.doubled", doubled)
    path = tmp_path / "model.safetensors"
    save(register_parametrization(nn.Linear(2, 2), "weight", doubled), path)
    result = run("check", path)
    assert result.exit_code == 0
    assert "1 of no set that is known" in result.stdout
