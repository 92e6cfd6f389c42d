"""What a reader is told of a file that is none of ours, and that no code comes out of one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import paraform as pf
from paraform.files import FileError, SavedFile, entry, load, printable, save


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save(pf.register_parametrization(nn.Linear(3, 3), "weight", pf.Skew()), tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def edited(path: Path, old: str, new: str) -> Path:
    """The file with something else in its recipe, by hand."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    recipe = header["__metadata__"]["paraform"]
    assert old in recipe
    header["__metadata__"]["paraform"] = recipe.replace(old, new)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])
    return path


@pytest.mark.parametrize("suffix", [".pt", ".bin"])
def test_a_file_of_torch_save_is_sent_to_paraform_convert(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"model{suffix}"
    torch.save(nn.Linear(2, 2).state_dict(), path, _use_new_zipfile_serialization=suffix == ".pt")
    with pytest.raises(FileError, match="paraform convert"):
        SavedFile(path)
    with pytest.raises(FileError, match="paraform convert"):
        load(path, nn.Linear(2, 2))


def test_a_plain_safetensors_file_is_told_from_a_damaged_one(tmp_path: Path) -> None:
    save_file(nn.Linear(2, 2).state_dict(), tmp_path / "plain.safetensors")
    with pytest.raises(FileError, match=r"without a recipe, of plain tensors.*load_file"):
        SavedFile(tmp_path / "plain.safetensors")


def test_what_the_system_refuses_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        SavedFile(tmp_path / "none")
    with pytest.raises(IsADirectoryError):
        SavedFile(tmp_path)


def test_pipes_and_devices_do_not_make_a_reader_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), Path("/dev/null")):
        with pytest.raises(FileError, match="no regular file"):
            SavedFile(path)


def test_a_file_is_closed_again(saved: Path) -> None:
    with SavedFile(saved) as one:
        pass
    with pytest.raises(ValueError, match="closed file"):
        one["bias"].value()
    saved.write_bytes(saved.read_bytes()[:-1])
    with pytest.raises(FileError):  # an unclosed file would be a ResourceWarning here
        SavedFile(saved)


def test_a_name_that_is_not_there_is_a_key_error(saved: Path) -> None:
    with SavedFile(saved) as file:
        assert "weight" in file
        assert "nobody" not in file
        assert len(file) == 2
        with pytest.raises(KeyError):
            file["nobody"]
        with pytest.raises(FileError, match=r"'bias' .* is not parametrized"):
            file["bias"].chain()
        assert (file["bias"].recipe, file.version, file.path) == ([], pf.__version__, saved)


def test_errors_name_the_file_the_tensor_and_the_step(saved: Path) -> None:
    edited(saved, '"name":"Skew","arguments":{}', '"name":"Skew","arguments":{"stric":true}')
    with SavedFile(saved) as file, pytest.raises(FileError) as caught:
        file["weight"].value()
    assert str(caught.value) == (f"Cannot use 'weight' of '{saved}': 'Skew' has no argument 'stric'; it has strict.")
    with pytest.raises(FileError, match=r"'weight': 'Skew' has no argument 'stric'"):
        load(saved, nn.Linear(3, 3))


@pytest.mark.parametrize(
    ("step", "text"),
    [
        ('"name":"Ball","arguments":{"radius":"1"}', "'Ball' expects radius to be float, got 1 (str)"),
        ('"name":"Ball","arguments":{"radius":true}', "'Ball' expects radius to be float, got True (bool)"),
        ('"name":"Ball","arguments":{"radius":-1.0}', "'Ball' cannot be built from radius: Ball expects a positive"),
        ('"name":"LowRank","arguments":{}', "'LowRank' needs an argument 'rank'"),
        (
            '"name":"LowRank","arguments":{"rank":1}',
            "has the raw tensors original0, original1, but 'original' is",
        ),
        ('"name":"Flatten","arguments":{"constraint":1}', "Flatten expects a constraint, got 1"),
        (
            '"name":"Masked","arguments":{"mask":{"tensor":"mask"}}',
            "is the tensor '0.mask', which is not stored",
        ),
        ('"name":"Orthogonal","arguments":{}', "missing: '0.base'"),
        ('"name":"Nobody","arguments":{}', "'Nobody', which is none of paraform's"),
        ('"name":"Skew","arguments":{},"more":1', "has 'more', which this paraform does not know"),
    ],
)
def test_a_recipe_that_was_edited_by_hand_is_told_what_is_wrong(step: str, text: str, saved: Path) -> None:
    edited(saved, '"name":"Skew","arguments":{}', step)
    with pytest.raises(FileError) as caught:
        load(saved, nn.Linear(3, 3))
    assert text in str(caught.value)


def test_a_recipe_may_be_edited_by_hand_to_something_that_fits(saved: Path) -> None:
    edited(saved, '"name":"Skew","arguments":{}', '"name":"Symmetric","arguments":{"strict":true}')
    assert isinstance(load(saved, nn.Linear(3, 3)).parametrizations.weight[0], pf.Symmetric)


def test_a_file_of_a_later_format_says_what_to_do(saved: Path) -> None:
    edited(saved, f'"format":{entry.FORMAT}', f'"format":{entry.FORMAT + 1}')
    with pytest.raises(FileError, match=r"format 2, written by paraform .*Update it"):
        SavedFile(saved)


def test_a_small_file_does_not_ask_for_a_large_value(tmp_path: Path) -> None:
    model = nn.Linear(40_000, 3, bias=False)
    save(pf.register_parametrization(model, "weight", pf.Toeplitz()), tmp_path / "model.safetensors")
    edited(tmp_path / "model.safetensors", '"shape":[3,40000]', '"shape":[40000,40000]')
    with (
        SavedFile(tmp_path / "model.safetensors") as saved,
        pytest.raises(FileError, match="value takes 6400000000"),
    ):
        saved["weight"].chain()


_LOOKS = """
import sys
from torch import nn
from paraform.files import *

for path in sys.argv[1:]:
    saved = SavedFile(path)
    for look in (saved["weight"].value, lambda: load(path, nn.Linear(3, 3))):
        try:
            look()
        except FileError:
            continue
        raise AssertionError
assert "evil" not in sys.modules
"""


def test_looking_into_a_file_imports_nothing_that_it_names(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text("raise SystemExit('executed')")
    paths = []
    for name in ("evil", "evil.Evil", "os.system", "paraform.files.evil"):
        paths.append(tmp_path / f"{name}.safetensors")
        paths[-1].write_bytes(saved.read_bytes())
        edited(paths[-1], '"name":"Skew"', f'"name":"{name}"')
    path = os.pathsep.join([str(Path(pf.__file__).parents[1]), "."])
    arguments = [sys.executable, "-c", _LOOKS, *map(str, paths)]
    subprocess.run(arguments, check=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path})


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("encoder.layers.0.weight", "encoder.layers.0.weight"),
        ("größe", "größe"),
        ("\x1b[31m\x07\x9b", r"\x1b\x5b31m\x07\x9b"),
        ("a\nb\r\t\0", r"a\x0ab\x0d\x09\x00"),
        ("<b>&\"'", r"\x3cb\x3e\x26\x22\x27"),
        ("\u202e\u200b\ufeff", r"\u202e\u200b\ufeff"),
        ("\U000e0041\ud800", r"\U000e0041\ud800"),
        ("x" * 1000, "x" * 100 + "..." + "x" * 100),
    ],
)
def test_names_are_shown_in_characters_that_mean_nothing(name: str, shown: str) -> None:
    assert printable(name) == shown
