"""Reading a safetensors file: every number of it is checked before it decides anything."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from .entry import Spec, checked_shape, load_json
from .errors import FileError
from .layout import DTYPES, LARGEST_HEADER, LENGTH_BYTES, METADATA, bytes_of
from .names import printable


class TensorFile:
    """A safetensors file that is open: what it holds, by name, and a way to read each tensor.

    Args:
        path: a regular file.

    Attributes:
        specs: shape and dtype by key.
        metadata: strings by name.

    Raises:
        FileError: it is no regular file, or no safetensors file, or one that is cut off or damaged.
        OSError: the system refuses to open or read it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.where = f"Cannot read '{printable(path)}'"
        self._file = _opened(self.path, self.where)
        try:
            self.size = os.fstat(self._file.fileno()).st_size
            self._start, header = self._header()
            self.metadata = self._metadata(header.pop(METADATA, {}))
            self.specs: dict[str, Spec] = {}
            self._places: dict[str, tuple[int, int]] = {}
            for key, entry in header.items():
                self.specs[key], self._places[key] = self._checked(key, entry)
            self._check_places()
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        self._file.close()

    def read(self, key: str) -> Tensor:
        """The tensor of a key, in memory of its own."""
        shape, dtype = self.specs[key]
        start, end = self._places[key]
        if start == end:
            return torch.empty(shape, dtype=dtype, device="cpu")
        memory = bytearray(end - start)
        self._file.seek(self._start + start)
        if self._file.readinto(memory) != len(memory):  # type: ignore[attr-defined]
            raise FileError(f"{self.where}: it has become shorter since it was opened; save it again.")
        return torch.frombuffer(memory, dtype=torch.uint8).view(dtype).reshape(shape)

    def _header(self) -> tuple[int, dict[str, Any]]:
        begin, first = self._file.read(LENGTH_BYTES), self._file.read(1)
        foreign = _foreign(begin)
        if foreign and first != b"{":  # else it is a length that happens to look so
            raise FileError(f"{self.where}: {foreign}")
        if len(begin) < LENGTH_BYTES:
            raise FileError(
                f"{self.where}: it has {len(begin)} bytes, where a safetensors file has a length of {LENGTH_BYTES} "
                f"bytes and a header; it is cut off or something else."
            )
        length = int.from_bytes(begin, "little")
        if length > self.size - LENGTH_BYTES:
            raise FileError(
                f"{self.where}: it says that its header has {length} bytes, and has {self.size} in all; it is cut off, "
                f"or no safetensors file."
            )
        if length > LARGEST_HEADER:
            raise FileError(
                f"{self.where}: its header has {length} bytes, and none of more than {LARGEST_HEADER} is read."
            )
        text = first + self._file.read(max(length - 1, 0))
        if len(text) < length or not text.startswith(b"{"):
            raise FileError(f"{self.where}: what stands where its header is to be is no JSON object; it is damaged.")
        header = load_json(text, f"{self.where}: its header")
        return LENGTH_BYTES + length, header

    def _metadata(self, data: Any) -> dict[str, str]:
        if not isinstance(data, dict) or not all(isinstance(value, str) for value in data.values()):
            raise FileError(f"{self.where}: its metadata are to be strings by name; it is damaged.")
        return data

    def _checked(self, key: str, entry: Any) -> tuple[Spec, tuple[int, int]]:
        what = f"{self.where}: tensor '{printable(key)}'"
        if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
            raise FileError(f"{what} is to have dtype, shape and data_offsets in the header; it is damaged.")
        code, shape, places = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not isinstance(code, str) or code not in DTYPES:
            raise FileError(f"{what} has the dtype '{printable(code)}', which is not among {', '.join(DTYPES)}.")
        if not isinstance(shape, list):
            raise FileError(f"{what} is to have a list as its shape, got {type(shape).__name__}.")
        spec = Spec(checked_shape(shape, what), DTYPES[code])
        if not isinstance(places, list) or len(places) != 2 or not all(type(place) is int for place in places):
            raise FileError(f"{what} is to have two numbers as data_offsets, got {printable(places)}.")
        start, end = places
        room = self.size - self._start
        if not 0 <= start <= end <= room:
            raise FileError(
                f"{what} is said to be at bytes {start} to {end} of the data, of which there are {room}; the file is "
                f"cut off or damaged."
            )
        if end - start != bytes_of(*spec):
            raise FileError(
                f"{what} has {end - start} bytes, where {spec.dtype} of shape {spec.shape} takes {bytes_of(*spec)}."
            )
        return spec, (start, end)

    def _check_places(self) -> None:
        """The tensors fill the data one behind the other, as the format asks for: no byte is in two, or in none."""
        reached, before = 0, "the header"
        for key, (start, end) in sorted(self._places.items(), key=lambda item: item[1]):
            if start != reached:
                raise FileError(
                    f"{self.where}: tensor '{printable(key)}' begins at byte {start} of the data, and {before} ends at "
                    f"{reached}; the file is damaged."
                )
            reached, before = end, f"tensor '{printable(key)}'"
        if reached != self.size - self._start:
            raise FileError(
                f"{self.where}: its tensors take {reached} bytes, and there are {self.size - self._start}; the file "
                f"is damaged, or something was appended to it."
            )


def _opened(path: Path, where: str) -> BinaryIO:
    # A pipe would wait for someone to write, and a device may never end, so the kind of file is asked before and after.
    _require_regular(os.stat(path).st_mode, path, where)
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        _require_regular(os.fstat(descriptor).st_mode, path, where)
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _require_regular(mode: int, path: Path, where: str) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(21, "Is a folder, where a saved model is to be", str(path))
    if not stat.S_ISREG(mode):
        raise FileError(f"{where}: it is no regular file but a pipe or a device.")


def _foreign(begin: bytes) -> str:
    """What a file of another kind is, which begins like this; nothing, where it may be a safetensors file."""
    if begin.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x04", b"\x80\x05")):
        return (
            "it is a zip or a pickle, as torch.save writes them (.pt, .pth, .bin), and not a safetensors file. "
            "`paraform convert OLD OUT` makes one of it."
        )
    if begin.startswith(b"\x89HDF"):
        return "it is an HDF5 file, and not a safetensors file."
    return ""
