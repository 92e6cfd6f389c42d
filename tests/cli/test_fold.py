"""``paraform fold`` writes the plain model's weights, from the file alone."""

import json
import os
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from paraform import Symmetric, register_parametrization
from paraform.files import SavedTensor, save
from paraform.files.reading import TensorFile
from tests.cli.saved import RAW, RECURRENT, Network, edited, only_sentence, run, saved


@pytest.fixture
def model_and_path(tmp_path: Path) -> tuple[Network, Path]:
    return saved(tmp_path)


def test_the_plain_model_loads_it_and_gives_the_same_outputs(
    model_and_path: tuple[Network, Path], tmp_path: Path
) -> None:
    model, path = model_and_path
    result = run("fold", path, tmp_path / "plain.safetensors")
    assert result.exit_code == 0, result.output
    plain = Network().eval()
    plain.load_state_dict(load_file(tmp_path / "plain.safetensors"))
    sequence = torch.randn(7, 3, 6)
    assert type(plain.rnn) is nn.RNN
    assert torch.allclose(plain(sequence), model(sequence), atol=1e-6)


def test_it_has_the_names_of_the_plain_model_in_their_order(
    model_and_path: tuple[Network, Path], tmp_path: Path
) -> None:
    run("fold", model_and_path[1], tmp_path / "plain.safetensors")
    header = (tmp_path / "plain.safetensors").read_bytes()
    names = list(json.loads(header[8 : 8 + int.from_bytes(header[:8], "little")]))
    assert [name for name in names if name != "__metadata__"] == list(Network().state_dict())
    with safe_open(tmp_path / "plain.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_json_says_what_was_written(model_and_path: tuple[Network, Path], tmp_path: Path) -> None:
    out = tmp_path / "plain.safetensors"
    found = json.loads(run("fold", model_and_path[1], out, "--json").stdout)
    expected = {"file": str(model_and_path[1]), "out": str(out), "parametrized": 3}
    assert found == expected | {"tensors": len(Network().state_dict()), "bytes": out.stat().st_size}


def test_every_dtype_of_the_format_is_copied_to_the_bit(tmp_path: Path) -> None:
    model = register_parametrization(nn.Linear(3, 3, dtype=torch.bfloat16), "weight", Symmetric())
    dtypes = (torch.float16, torch.float64, torch.complex64, torch.int8, torch.bool, torch.float8_e5m2)
    for index, dtype in enumerate(dtypes):
        model.register_buffer(f"extra{index}", torch.randn(2, 3).to(dtype))
    model.register_buffer("none", torch.empty(0, 4))
    save(model, tmp_path / "model.safetensors")
    assert run("fold", tmp_path / "model.safetensors", tmp_path / "plain.safetensors").exit_code == 0
    folded = load_file(tmp_path / "plain.safetensors")
    assert folded["weight"].dtype == torch.bfloat16
    assert torch.equal(folded["weight"], model.weight)
    for name, buffer in model.named_buffers(recurse=False):
        assert folded[name].dtype == buffer.dtype
        assert torch.equal(folded[name].view(torch.uint8), buffer.view(torch.uint8))


@pytest.mark.parametrize("kind", ["same", "symbolic", "hard"])
def test_out_is_another_file(model_and_path: tuple[Network, Path], tmp_path: Path, kind: str) -> None:
    path = model_and_path[1]
    before, out = path.read_bytes(), tmp_path / "link.safetensors"
    if kind == "same":
        out = path.parent / "." / path.name
    else:
        (out.symlink_to if kind == "symbolic" else out.hardlink_to)(path)
    assert "another file" in only_sentence(run("fold", path, out))
    assert path.read_bytes() == before


def test_a_value_that_is_not_finite_is_not_written(model_and_path: tuple[Network, Path], tmp_path: Path) -> None:
    def break_it(tensors: dict[str, Tensor], _: Any) -> None:
        tensors[RAW][1, 0] = torch.nan

    out = tmp_path / "out" / "plain.safetensors"
    out.parent.mkdir()
    out.write_bytes(b"before")
    assert RECURRENT in only_sentence(run("fold", edited(model_and_path[1], break_it), out))
    assert out.read_bytes() == b"before"
    assert os.listdir(out.parent) == [out.name]


def test_a_file_that_is_written_to_meanwhile_gives_no_mixture(
    model_and_path: tuple[Network, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = model_and_path[1], tmp_path / "plain.safetensors"
    read = TensorFile.read

    def meddle(file: TensorFile, key: str) -> Tensor:
        if key == RAW:
            other = bytearray(path.read_bytes())
            other[-4:] = bytes(4)
            path.write_bytes(other)
            os.utime(path, ns=(1, 1))  # a clock may be too coarse to tell
        return read(file, key)

    monkeypatch.setattr(TensorFile, "read", meddle)
    assert "while it was read" in only_sentence(run("fold", path, out))
    assert not out.exists()


def test_a_file_that_is_replaced_meanwhile_is_folded_as_it_was(
    model_and_path: tuple[Network, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, path = model_and_path
    read = TensorFile.read

    def meddle(file: TensorFile, key: str) -> Tensor:
        if path.exists():
            os.replace(path, tmp_path / "moved")
            path.with_name("new").write_bytes(b"new")
        return read(file, key)

    monkeypatch.setattr(TensorFile, "read", meddle)
    assert run("fold", path, tmp_path / "plain.safetensors").exit_code == 0
    assert torch.equal(load_file(tmp_path / "plain.safetensors")[RECURRENT], model.rnn.weight_hh_l0)


def test_a_file_cut_off_meanwhile_is_refused(
    model_and_path: tuple[Network, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, read = model_and_path[1], TensorFile.read

    def meddle(file: TensorFile, key: str) -> Tensor:
        os.truncate(path, 2000)
        return read(file, key)

    monkeypatch.setattr(TensorFile, "read", meddle)
    only_sentence(run("fold", path, tmp_path / "plain.safetensors"))
    assert not (tmp_path / "plain.safetensors").exists()


def test_no_value_is_kept_while_the_next_is_computed(
    model_and_path: tuple[Network, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: list[weakref.ref[Tensor]] = []
    value = SavedTensor.value

    def counted(tensor: SavedTensor) -> Tensor:
        assert all(each() is None for each in alive)
        made = value(tensor)
        alive.append(weakref.ref(made))
        return made

    monkeypatch.setattr(SavedTensor, "value", counted)
    assert run("fold", model_and_path[1], tmp_path / "plain.safetensors").exit_code == 0
    assert len(alive) == len(Network().state_dict())


LAYERS, SIZE = 128, 512
FILE = LAYERS * SIZE * SIZE * 4

MEASURED = """
import sys
from paraform.cli import app

def status(key):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))

small, big, out = sys.argv[1:]
app()(["fold", small, out], standalone_mode=False)  # so that what is imported and started only once is there
before = status("VmRSS")
app()(["fold", big, out], standalone_mode=False)
print(status("VmHWM") - before, file=sys.stderr)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="lifted where the system tells the peak of memory")
def test_memory_is_that_of_a_tensor_not_that_of_the_file(model_and_path: tuple[Network, Path], tmp_path: Path) -> None:
    big, out = tmp_path / "big.safetensors", tmp_path / "plain.safetensors"
    layers = [nn.Linear(SIZE, SIZE, bias=False) for _ in range(LAYERS)]
    for layer in layers[::2]:
        register_parametrization(layer, "weight", Symmetric())
    save(nn.Sequential(*layers), big)
    assert big.stat().st_size > FILE
    folded = subprocess.run(
        [sys.executable, "-c", MEASURED, model_and_path[1], big, out],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert out.stat().st_size > FILE
    assert int(folded.stderr.splitlines()[-1]) < 0.75 * FILE
    expected = layers[0].weight
    with safe_open(out, "pt") as file:
        assert torch.equal(file.get_tensor("0.weight"), expected)
