"""The writer: one tensor at a time, wholly or not at all."""

import os
import stat
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from paraform.files import FileError, layout, save, write_tensors, writing
from paraform.files.entry import Spec

SPECS = {"small": ((3,), torch.int8), "wide": ((2, 2), torch.float64), "none": ((0, 2), torch.float32)}
TENSORS = [torch.tensor([1, 2, 3], dtype=torch.int8), torch.eye(2, dtype=torch.float64), torch.ones(0, 2)]


def failing(error: BaseException) -> Iterator[Tensor]:
    yield TENSORS[0]
    raise error


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


def test_the_safetensors_package_reads_it(path: Path) -> None:
    write_tensors(path, SPECS, iter(TENSORS), {"by": "us", "ä": "\n"})
    found = load_file(path)
    assert {key: (tuple(tensor.shape), tensor.dtype) for key, tensor in found.items()} == SPECS
    assert all(torch.equal(found[key], tensor) for key, tensor in zip(SPECS, TENSORS, strict=True))
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == {"by": "us", "ä": "\n"}


def test_every_dtype_of_the_format_is_read_by_the_package(path: Path) -> None:
    specs = {code: ((3,), dtype) for code, dtype in layout.DTYPES.items()}
    tensors = [torch.ones(3 * dtype.itemsize, dtype=torch.uint8).view(dtype) for _, dtype in specs.values()]
    write_tensors(path, specs, tensors, {})
    found = load_file(path)
    for key, tensor in zip(specs, tensors, strict=True):
        assert found[key].dtype == tensor.dtype
        assert torch.equal(found[key].view(torch.uint8), tensor.view(torch.uint8))


@pytest.mark.parametrize("error", [RuntimeError("no more"), KeyboardInterrupt()], ids=["error", "interrupt"])
@pytest.mark.parametrize("before", [b"before", None], ids=["over a file", "anew"])
def test_a_stream_that_fails_leaves_what_was_there(error: BaseException, before: bytes | None, path: Path) -> None:
    if before is not None:
        path.write_bytes(before)
    with pytest.raises(type(error)):
        write_tensors(path, SPECS, failing(error), {})
    assert (path.read_bytes() if path.exists() else None) == before
    assert list(path.parent.iterdir()) == ([path] if before else [])


def test_a_disk_that_fails_leaves_what_was_there(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(b"before")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_tensors(path, SPECS, iter(TENSORS), {})
    assert path.read_bytes() == b"before"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("tensors", "text"),
    [
        (TENSORS[:2], "ended before 'none'"),
        ([*TENSORS, torch.ones(1)], "more tensors than the 3"),
        ([TENSORS[0], torch.eye(2), TENSORS[2]], r"Expected torch\.float64 of shape \(2, 2\) for 'wide'"),
        ([torch.ones(4, dtype=torch.int8)], r"Expected torch\.int8 of shape \(3,\) for 'small'"),
    ],
    ids=["fewer", "more", "dtype", "shape"],
)
def test_a_stream_of_other_tensors_is_refused(tensors: list[Tensor], text: str, path: Path) -> None:
    with pytest.raises(ValueError, match=text):
        write_tensors(path, SPECS, iter(tensors), {})
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("specs", "text"),
    [
        ({"x": ((1,), torch.complex128)}, "'x' is torch.complex128"),
        ({"__metadata__": ((1,), torch.int8)}, "is no name for a tensor"),
        ({"\ud800": ((1,), torch.int8)}, "is no name for a tensor"),
        ({"x" * layout.LARGEST_HEADER: ((1,), torch.int8)}, "would be larger than the"),
    ],
    ids=["dtype", "metadata", "no unicode", "header"],
)
def test_what_the_format_cannot_hold_is_refused(specs: dict[str, Spec], text: str, path: Path) -> None:
    with pytest.raises(FileError, match=text):
        write_tensors(path, specs, iter([]), {})
    assert list(path.parent.iterdir()) == []


def test_one_tensor_is_in_memory_at_a_time(path: Path) -> None:
    def stream() -> Iterator[Tensor]:
        for _ in range(5):
            memory = bytearray(2**20)
            yield torch.frombuffer(memory, dtype=torch.uint8)
            del memory

    tracemalloc.start()
    write_tensors(path, {f"{index}": ((2**20,), torch.uint8) for index in range(5)}, stream(), {})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.5 * 2**20  # the tensor being written, and the next one
    assert path.stat().st_size > 5 * 2**20


def test_a_link_stays_a_link(path: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "elsewhere" / "target"
    path.symlink_to(target)
    for _ in range(2):  # to nothing, then to a file
        write_tensors(path, SPECS, iter(TENSORS), {})
        assert path.is_symlink()
        assert set(load_file(target)) == set(SPECS)
    assert list((tmp_path / "elsewhere").iterdir()) == [target]


def test_permissions_are_those_of_the_file_that_is_replaced_or_of_any_new_one(path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_tensors(path, SPECS, iter(TENSORS), {})
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        path.chmod(0o604)
        write_tensors(path, SPECS, iter(TENSORS), {})
        assert stat.S_IMODE(path.stat().st_mode) == 0o604
    finally:
        os.umask(before)


def test_a_read_only_file_is_not_replaced(path: Path) -> None:
    path.write_bytes(b"before")
    path.chmod(0o444)
    with pytest.raises(PermissionError, match="read-only"):
        write_tensors(path, SPECS, iter(TENSORS), {})
    assert path.read_bytes() == b"before"


def test_places_where_no_file_can_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        write_tensors(tmp_path, SPECS, iter(TENSORS), {})
    with pytest.raises(FileNotFoundError, match="No such folder"):
        write_tensors(tmp_path / "none" / "model", SPECS, iter(TENSORS), {})
    os.mkfifo(tmp_path / "pipe")
    for special in (tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(FileError, match="no regular file"):
            write_tensors(special, SPECS, iter(TENSORS), {})
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(OSError, match="symbolic links"):
        write_tensors(tmp_path / "loop", SPECS, iter(TENSORS), {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["loop", "pipe"]


def test_the_longest_name_that_a_folder_takes_is_no_trouble(tmp_path: Path) -> None:
    save(nn.Linear(1, 1), tmp_path / ("x" * 255))
    assert [len(path.name) for path in tmp_path.iterdir()] == [255]
