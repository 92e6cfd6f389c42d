"""``paraform convert``: from torch's state dict on disk to a plain model that has torch's outputs."""

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations as new
from torch.nn.utils import prune
from typer.testing import CliRunner

from paraform.cli import app
from paraform.files import SavedFile, load


class Model(nn.Module):
    """A layer of each kind that torch's functions are put on."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.lstm = nn.LSTM(4, 4, batch_first=True)
        self.convolution = nn.Conv1d(4, 6, 3)
        self.back = nn.ConvTranspose1d(6, 6, 3)
        self.norm = nn.BatchNorm1d(6)
        self.square = nn.Linear(6, 6)
        self.tall = nn.Linear(6, 9)
        self.head = nn.Linear(9, 2)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.lstm(self.embedding(x))
        z = self.norm(self.back(torch.tanh(self.convolution(y.mT)))).mT
        out: Tensor = self.head(self.tall(torch.relu(self.square(z))))
        return out


def with_hooks() -> nn.Module:
    model = Model()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # deprecated, which is why it is converted
        nn.utils.weight_norm(model.lstm, "weight_hh_l0")
        nn.utils.weight_norm(model.convolution)
        nn.utils.weight_norm(model.square, dim=None)
    nn.utils.spectral_norm(model.back)
    nn.utils.spectral_norm(model.embedding)
    prune.l1_unstructured(model.tall, "weight", 0.4)
    return model


def with_parametrizations() -> nn.Module:
    model = Model()
    new.weight_norm(model.lstm, "weight_hh_l0")
    new.weight_norm(model.convolution)
    new.spectral_norm(model.back)
    new.orthogonal(model.square)
    new.orthogonal(model.tall)
    new.spectral_norm(model.embedding)
    prune.l1_unstructured(model.head, "weight", 3)
    return model


BUILDS: dict[str, tuple[Callable[[], nn.Module], int]] = {"hooks": (with_hooks, 6), "new": (with_parametrizations, 7)}
X = torch.arange(14).reshape(2, 7) % 7


def trained(model: nn.Module) -> nn.Module:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(X).square().mean().backward()
        optimizer.step()
    return model


def convert(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app(), ["convert", *map(str, arguments)])


@pytest.mark.parametrize("kind", BUILDS)
def test_a_plain_model_loads_what_was_converted_and_has_torchs_outputs(tmp_path: Path, kind: str) -> None:
    build, count = BUILDS[kind]
    model = trained(build())
    torch.save({"state_dict": model.state_dict(), "epoch": 3}, tmp_path / "old.ckpt")
    result = convert(tmp_path / "old.ckpt", tmp_path / "new.safetensors")
    assert result.exit_code == 0, result.output
    assert f"{count} tensors recognised" in result.stdout
    loaded = load(tmp_path / "new.safetensors", Model())
    with torch.no_grad():
        torch.testing.assert_close(loaded.eval()(X), model.eval()(X), rtol=1e-5, atol=1e-6)
    trained(loaded.train())  # and goes on


def test_a_real_process_says_what_it_recognised_and_what_it_assumed(tmp_path: Path) -> None:
    torch.save(trained(with_parametrizations()).state_dict(), tmp_path / "old.pt")
    command = [sys.executable, "-c", "from paraform.cli import main; main()", "convert"]
    done = subprocess.run(
        [*command, str(tmp_path / "old.pt"), str(tmp_path / "new.safetensors")],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"COLUMNS": "200"},
    )
    for name in ("back.weight", "convolution.weight", "square.weight", "spectral_norm", "orthogonal", "Masked"):
        assert name in done.stdout
    assert "square.weight: its map is not saved: matrix_exp, torch's default, is assumed." in done.stderr
    with SavedFile(tmp_path / "new.safetensors") as saved:
        assert set(saved.names) == set(Model().state_dict())


def test_json_is_one_document_that_says_all(tmp_path: Path) -> None:
    torch.save(trained(with_parametrizations()).state_dict(), tmp_path / "old.pt")
    options = ["--json", "--orthogonal-map", "householder", "--orthogonal-map", "sq*=cayley"]
    result = convert(tmp_path / "old.pt", tmp_path / "new.safetensors", *options)
    document = json.loads(result.stdout)
    assert result.stderr == ""
    assert document["bytes"] == (tmp_path / "new.safetensors").stat().st_size
    found = {each["name"]: each for each in document["converted"]}
    assert len(found) + document["copied"] == len(Model().state_dict())
    assert found["square.weight"]["recipe"][0]["arguments"]["orthogonal_map"] == "cayley"
    assert found["tall.weight"]["recipe"][0]["arguments"]["orthogonal_map"] == "householder"
    assert found["back.weight"] == {
        "name": "back.weight",
        "shape": [6, 6, 3],
        "dtype": "float32",
        "source": "spectral_norm",
        "chain": found["back.weight"]["chain"],
        "recipe": found["back.weight"]["recipe"],
        "keys": [f"back.parametrizations.weight.{own}" for own in ("original", "0._u", "0._v")],
        "notes": [],
    }
    assert found["back.weight"]["recipe"][0]["arguments"]["dim"] == 1


@pytest.mark.parametrize("dtype", [torch.half, torch.bfloat16, torch.double, torch.cfloat, torch.cdouble])
def test_any_precision_is_kept(tmp_path: Path, dtype: torch.dtype) -> None:
    working = dtype if dtype not in (torch.half, torch.bfloat16) else torch.float
    model = nn.Sequential(
        new.spectral_norm(nn.Linear(4, 4, dtype=working)),
        new.orthogonal(nn.Linear(4, 6, dtype=working), orthogonal_map="cayley"),
    )
    model = model if dtype is working else model.to(dtype)
    torch.save(model.state_dict(), tmp_path / "old.pt")
    result = convert(tmp_path / "old.pt", tmp_path / "new.safetensors", "--orthogonal-map", "cayley")
    assert result.exit_code == 0, result.output
    # Torch inverts no half precision on the CPU, so its map is taken in single precision.
    plain = model if dtype is working else model.to(working)
    with SavedFile(tmp_path / "new.safetensors") as saved:
        rounding = 16 * torch.finfo(dtype).eps
        for name in ("0.weight", "1.weight"):
            value = saved[name].value()
            assert value.dtype == dtype
            wanted = plain.eval().get_submodule(name[0]).weight.detach().to(dtype)
            torch.testing.assert_close(value, wanted, rtol=rounding, atol=rounding)


def test_tied_tensors_stay_tied(tmp_path: Path) -> None:
    model = nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3), "c": new.weight_norm(nn.Linear(3, 3))})
    model["b"].weight = model["a"].weight  # type: ignore[assignment]
    prune.l1_unstructured(model["c"], "bias", 1)
    model["d"] = model["c"]
    torch.save(model.state_dict(), tmp_path / "old.pt")
    assert convert(tmp_path / "old.pt", tmp_path / "new.safetensors").exit_code == 0
    with SavedFile(tmp_path / "new.safetensors") as saved:
        assert saved.ties == {"b.weight": "a.weight", "d.weight": "c.weight", "d.bias": "c.bias"}
    plain = nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3), "c": nn.Linear(3, 3)})
    plain["b"].weight, plain["d"] = plain["a"].weight, plain["c"]  # type: ignore[assignment]
    loaded = load(tmp_path / "new.safetensors", plain)
    x = torch.ones(1, 3)
    for name in "abcd":
        torch.testing.assert_close(loaded.get_submodule(name)(x), model.get_submodule(name)(x))


def test_what_cannot_be_converted_is_one_sentence_and_leaves_out_as_it_was(tmp_path: Path) -> None:
    class Own(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x

    layer = nn.Linear(2, 2)
    nn.utils.parametrize.register_parametrization(layer, "weight", Own())
    old, out = tmp_path / "old.pt", tmp_path / "new.safetensors"
    torch.save(layer.state_dict(), old)
    out.write_text("as it was")
    torch.save({"x": torch.ones(1)}, tmp_path / "plain.pt")
    (tmp_path / "cut.pt").write_bytes(old.read_bytes()[:200])
    plain = tmp_path / "plain.pt"
    for arguments, reason in {
        (old, out): "'weight' is not known: step 0 keeps nothing",
        (tmp_path / "cut.pt", out): "damaged",
        (tmp_path / "none.pt", out): "No such file",
        (plain, plain): "is the file that is read",
        (plain, out, "--key", "model"): "no dictionary 'model'",
        (plain, out, "--orthogonal-map", "qr"): "got 'qr'",
        (plain, out, "--orthogonal-map", "x=cayley"): "no orthogonal tensor",
        (plain, tmp_path / "none" / "new.safetensors"): "a folder that exists",
        (plain, tmp_path): "over a folder",
    }.items():
        result = convert(*arguments)
        assert result.exit_code == 2, arguments
        assert result.stdout == ""
        assert reason in result.stderr
        assert len(result.stderr.splitlines()) == 1
    assert out.read_text() == "as it was"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut.pt", "new.safetensors", "old.pt", "plain.pt"]


def test_names_of_a_file_are_shown_without_control_characters(tmp_path: Path) -> None:
    bad = "\x1b[31m[bold]\n.weight"
    torch.save({f"{bad}_g": torch.ones(2, 1), f"{bad}_v": torch.ones(2, 2)}, tmp_path / "old.pt")
    result = convert(tmp_path / "old.pt", tmp_path / "new.safetensors")
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    assert "1 tensors recognised" in result.stdout
    assert r"\x1b\x5b31m\x5bbold\x5d\x0a.weight" in result.stdout.replace("\n", "").replace(" ", "")
