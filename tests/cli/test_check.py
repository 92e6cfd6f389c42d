"""``paraform check`` finds the values that are not where they are to be."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from paraform import register_parametrization
from paraform.files import save, saved_as
from tests.cli.saved import BASE, RAW, RECURRENT, Network, edited, run, saved


@pytest.fixture
def model_and_path(tmp_path: Path) -> tuple[Network, Path]:
    return saved(tmp_path)


@pytest.fixture
def stretched(model_and_path: tuple[Network, Path]) -> tuple[float, Path]:
    """A file whose orthogonal matrix is one times 1.001, and the residual of that: of W^T W - I."""

    def stretch(tensors: dict[str, Tensor], _: Any) -> None:
        tensors[BASE] *= 1.001

    model, path = model_and_path
    value = 1.001 * model.rnn.weight_hh_l0.detach().double().numpy()
    return float(np.linalg.norm(value.T @ value - np.eye(6))), edited(path, stretch)


def test_values_in_their_sets_pass(model_and_path: tuple[Network, Path]) -> None:
    result = run("check", model_and_path[1])
    assert result.exit_code == 0
    assert "3 of 3 parametrized tensors inside their sets" in result.stdout
    assert len(result.stdout.splitlines()) == 1


def test_a_value_outside_its_set_is_named(stretched: tuple[float, Path]) -> None:
    residual, path = stretched
    result = run("check", path)
    assert result.exit_code == 1
    _, line, last = result.stdout.splitlines()
    name, chain, shown, *finding = line.split()
    assert (name, chain, finding) == (RECURRENT, "Orthogonal()", ["outside"])
    assert float(shown) == pytest.approx(residual, rel=0.01)
    assert "2 of 3" in last


def test_json_has_every_verdict(stretched: tuple[float, Path]) -> None:
    residual, path = stretched
    result = run("check", path, "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 1
    assert found["findings"] == [RECURRENT]
    tensors = {each["name"]: each for each in found["tensors"]}
    assert tensors[RECURRENT]["verdict"] == "outside"
    assert tensors[RECURRENT]["residual"] == pytest.approx(residual, rel=0.01)
    assert tensors["head.weight"]["verdict"] == "inside"
    assert tensors["head.bias"]["verdict"] == "unknown"
    assert tensors.keys() == Network().state_dict().keys() - {"decoder.weight"}  # tied


@pytest.mark.parametrize(("factor", "code"), [(1.1, 0), (0.9, 1), (0.0, 1)])
def test_a_tolerance_is_compared_with_the_residual(stretched: tuple[float, Path], factor: float, code: int) -> None:
    residual, path = stretched
    assert run("check", path, "--tolerance", factor * residual).exit_code == code


def test_a_tolerance_is_no_negative_number(stretched: tuple[float, Path]) -> None:
    result = run("check", stretched[1], "--tolerance", "-1")
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


@saved_as("paraform_tests.cli.Doubled")
class Doubled(nn.Module):
    def forward(self, raw: Tensor) -> Tensor:
        return 2 * raw

    def right_inverse(self, value: Tensor) -> Tensor:
        return value / 2


def test_a_chain_of_no_known_set_is_counted_and_passes(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save(register_parametrization(nn.Linear(2, 2), "weight", Doubled()), path)
    result = run("check", path)
    assert result.exit_code == 0
    assert "1 of no set that is known" in result.stdout
