"""State dicts are read from files of torch.save and safetensors files; whatever else a file is, it is refused."""

import os
import random
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from paraform import Skew, register_parametrization
from paraform.files import FileError, save
from paraform.files.checkpoints import read_state_dict


@pytest.fixture
def state() -> dict[str, Any]:
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).state_dict()


def written(path: Path, thing: Any, **options: Any) -> Path:
    torch.save(thing, path, **options)
    return path


def same(found: Any, state: dict[str, Any]) -> bool:
    return list(found) == list(state) and all(torch.equal(found[key], state[key]) for key in state)


@pytest.mark.parametrize("name", ["a.pt", "a.pth", "a.bin", "a.ckpt", "a"])
@pytest.mark.parametrize("is_zip", [True, False])
def test_torchs_files_of_today_and_of_before_are_read(
    tmp_path: Path, state: dict[str, Any], name: str, is_zip: bool
) -> None:
    path = written(tmp_path / name, state, _use_new_zipfile_serialization=is_zip)
    assert same(read_state_dict(path), state)


@pytest.mark.parametrize("name", ["a.safetensors", "A.SAFETENSORS", "a.bin"])
def test_safetensors_files_are_read_whatever_their_name(tmp_path: Path, state: dict[str, Any], name: str) -> None:
    save_file(state, tmp_path / name)
    found = read_state_dict(tmp_path / name)
    assert same({key: found[key] for key in state}, state)


@pytest.mark.parametrize("key", ["state_dict", "model", "a b"])
def test_the_only_state_dict_one_level_down_is_found(tmp_path: Path, state: dict[str, Any], key: str) -> None:
    optimizer = torch.optim.Adam(nn.Linear(2, 2).parameters()).state_dict()
    path = written(tmp_path / "a.ckpt", {"epoch": 3, "lr": 0.1, "optimizer": optimizer, key: state, "hparams": {}})
    assert same(read_state_dict(path), state)


def test_of_two_state_dicts_one_has_to_be_named(tmp_path: Path, state: dict[str, Any]) -> None:
    path = written(tmp_path / "a.ckpt", {"model": state, "ema\x1b[2J": {"x": torch.ones(1)}})
    with pytest.raises(FileError, match=r"more than one state dict, 'model', 'ema.x1b.x5b2J'; name one with --key"):
        read_state_dict(path)
    assert same(read_state_dict(path, "model"), state)
    with pytest.raises(FileError, match=r"no dictionary 'net'; it has 'model' \(OrderedDict\)"):
        read_state_dict(path, "net")


class Thing:
    pass


NOT_ONE: dict[str, tuple[Any, str]] = {
    "a whole model": (nn.Linear(2, 2), "holds more than tensors, torch.nn.modules.linear.Linear, which .* never loads"),
    "an object beside it": (
        {"state_dict": {"x": torch.ones(1)}, "args": Thing()},
        r"Thing, which paraform never loads",
    ),
    "a function": ({"x": os.system}, r"system, which paraform never loads"),
    "a tensor": (torch.ones(2), "no state dict, but a single Tensor"),
    "a list": ([torch.ones(2)], "no state dict, but a single list"),
    "nothing": ({}, "no state dict, but nothing"),
    "numbers": ({"epoch": 1}, r"no state dict, but 'epoch' \(int\)"),
    "tensors and numbers": ({"x": torch.ones(1), "epoch": 1}, r"no state dict, but 'x' \(Tensor\), 'epoch' \(int\)"),
    "one that is expanded": ({"x": torch.ones(1).expand(10**6, 10**6)}, "would take 4000000000000 bytes"),
}


@pytest.mark.parametrize("case", NOT_ONE)
@pytest.mark.parametrize("is_zip", [True, False])
def test_what_is_no_state_dict_is_refused_and_nothing_of_it_is_run(tmp_path: Path, case: str, is_zip: bool) -> None:
    thing, reason = NOT_ONE[case]
    path = written(tmp_path / "a.pt", thing, _use_new_zipfile_serialization=is_zip)
    with pytest.raises(FileError, match=reason) as caught:
        read_state_dict(path)
    assert "weights_only" not in str(caught.value)  # torch's advice would be to run it


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "harm"),)

    for is_zip in (True, False):
        path = written(tmp_path / "a.pt", {"x": Harmful()}, _use_new_zipfile_serialization=is_zip)
        with pytest.raises(FileError, match="mkdir, which paraform never loads"):
            read_state_dict(path)
    assert not (tmp_path / "harm").exists()


def test_a_compressed_archive_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", bytes(10**7))
    with pytest.raises(FileError, match="is compressed"):
        read_state_dict(tmp_path / "a.pt")


def test_an_archive_that_claims_more_than_the_file_has_is_refused(tmp_path: Path, state: dict[str, Any]) -> None:
    path = written(tmp_path / "a.pt", state)
    with zipfile.ZipFile(path) as archive:
        entry = archive.infolist()[0]
    true, false = entry.file_size.to_bytes(4, "little"), (2**31).to_bytes(4, "little")
    content = path.read_bytes()
    directory = content.index(b"PK\x01\x02")
    place = content.index(true + true, directory)
    path.write_bytes(content[:place] + false + false + content[place + 8 :])
    with pytest.raises(FileError, match=r"more than its|damaged"):
        read_state_dict(path)


def test_other_files_are_refused_in_a_sentence(tmp_path: Path, state: dict[str, Any]) -> None:
    archive = tmp_path / "tar.pt"
    with tarfile.open(archive, "w") as tar:
        for name in ("storages", "tensors", "pickle"):
            tar.add(written(tmp_path / "a.pt", state), name)
    with pytest.raises(FileError, match="tar archive"):
        read_state_dict(archive)
    (tmp_path / "renamed.safetensors").write_bytes((tmp_path / "a.pt").read_bytes())
    with pytest.raises(FileError, match=r"a file of torch\.save and no safetensors file"):
        read_state_dict(tmp_path / "renamed.safetensors")
    save(register_parametrization(nn.Linear(2, 2), "weight", Skew()), tmp_path / "saved.safetensors")
    with pytest.raises(FileError, match=r"is a file of paraform\.save already"):
        read_state_dict(tmp_path / "saved.safetensors")
    os.mkfifo(tmp_path / "pipe.pt")
    with pytest.raises(FileError, match="no regular file"):
        read_state_dict(tmp_path / "pipe.pt")
    with pytest.raises(FileNotFoundError):
        read_state_dict(tmp_path / "none.pt")
    with pytest.raises(IsADirectoryError):
        read_state_dict(tmp_path)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_damaged_files_are_refused_or_read_and_nothing_else(tmp_path: Path, state: dict[str, Any], kind: str) -> None:
    path = tmp_path / ("a.safetensors" if kind == "safetensors" else "a.pt")
    if kind == "safetensors":
        save_file(state, path)
    else:
        written(path, state, _use_new_zipfile_serialization=kind == "zip")
    content = path.read_bytes()
    draw = random.Random(0)
    damaged = [content[: len(content) * part // 20] for part in range(20)]
    for _ in range(60):
        place = draw.randrange(len(content))
        damaged.append(content[:place] + bytes([content[place] ^ (1 << draw.randrange(8))]) + content[place + 1 :])
    sentences = []
    for each in damaged:
        path.write_bytes(each)
        try:
            found = read_state_dict(path)
            assert sum(tensor.numel() for tensor in found.values()) < 1000
        except FileError as error:
            sentences.append(str(error))
    assert len(sentences) >= 20
    assert all(sentence.isprintable() for sentence in sentences)  # one line each
