"""Writing a safetensors file, one tensor in memory at a time, wholly or not at all."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from .errors import FileError
from .layout import CODES, LARGEST_HEADER, LENGTH_BYTES, METADATA, bytes_of
from .names import printable


def write_tensors(
    path: str | os.PathLike[str],
    specs: Mapping[str, tuple[Iterable[int], torch.dtype]],
    tensors: Iterable[Tensor],
    metadata: Mapping[str, str],
) -> None:
    """Write a safetensors file from a stream of tensors.

    It is written to a file beside ``path``, brought to the disk, and then takes the place of what was there. If
    anything fails, an error of the stream included, what was there is as it was. A link stays one: the file that it
    leads to is replaced. A file that is replaced hands on its permissions.

    Args:
        path: where to.
        specs: the shape and dtype of each tensor by its key, known ahead. The file has them in this order, but that
            those of wide entries come first, as readers that map files into memory ask for.
        tensors: the tensors in the order of ``specs``, on any device; the next is asked for when one is written.
        metadata: strings by name.

    Raises:
        FileError: the format cannot hold a dtype or a name, or the header would be larger than is ever read;
            or ``path`` is something else than a regular file.
        ValueError: the stream has other tensors than ``specs``, or more, or fewer.
        OSError: what the system refuses; a read-only file is not replaced either.

    >>> import tempfile
    >>> from safetensors.torch import load_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_tensors(f"{folder}/new.safetensors", {"x": ((2,), torch.int64)}, iter([torch.arange(2)]), {})
    ...     load_file(f"{folder}/new.safetensors")
    {'x': tensor([0, 1])}
    """
    known = {key: (tuple(shape), dtype) for key, (shape, dtype) in specs.items()}
    header, offsets = _header(path, known, metadata)
    with replacing(path) as file:
        file.write(len(header).to_bytes(LENGTH_BYTES, "little") + header)
        start = file.tell()
        stream = iter(tensors)
        for key, (shape, dtype) in known.items():
            tensor = next(stream, None)
            if tensor is None:
                raise ValueError(f"The stream of tensors ended before '{printable(key)}'; it has to give all of specs.")
            if (tuple(tensor.shape), tensor.dtype) != (shape, dtype):
                raise ValueError(
                    f"Expected {dtype} of shape {shape} for '{printable(key)}', as specs say, got {tensor.dtype} of "
                    f"shape {tuple(tensor.shape)}."
                )
            file.seek(start + offsets[key])
            _write_entries(file, tensor)
            del tensor  # the stream may need the memory for the next
        if next(stream, None) is not None:
            raise ValueError(f"The stream gives more tensors than the {len(known)} of specs.")


def _header(
    path: str | os.PathLike[str], specs: Mapping[str, tuple[tuple[int, ...], torch.dtype]], metadata: Mapping[str, str]
) -> tuple[bytes, dict[str, int]]:
    """The header, and where each tensor starts behind it."""
    where = f"Cannot write '{printable(os.fspath(path))}'"
    offsets, end = {}, 0
    for key, (_, dtype) in specs.items():
        if dtype not in CODES:
            raise FileError(f"{where}: '{printable(key)}' is {dtype}, which safetensors files cannot hold; convert it.")
        if key == METADATA or not _is_unicode(key):
            raise FileError(f"{where}: '{printable(key)}' is no name for a tensor of a safetensors file; rename it.")
    for key in sorted(specs, key=lambda key: -specs[key][1].itemsize):
        offsets[key], end = end, end + bytes_of(*specs[key])
    entries = {
        key: {
            "dtype": CODES[dtype],
            "shape": list(shape),
            "data_offsets": [offsets[key], offsets[key] + bytes_of(shape, dtype)],
        }
        for key, (shape, dtype) in specs.items()
    }
    text = json.dumps({**({METADATA: dict(metadata)} if metadata else {}), **entries}, separators=(",", ":"))
    header = text.encode()
    header += b" " * (-len(header) % LENGTH_BYTES)
    if len(header) > LARGEST_HEADER:
        raise FileError(
            f"{where}: a header of {len(header)} bytes for {len(specs)} tensors would be larger than the "
            f"{LARGEST_HEADER} that are read; save parts of the model in files of their own."
        )
    return header, offsets


def _is_unicode(key: str) -> bool:
    with suppress(UnicodeEncodeError):
        key.encode()
        return True
    return False


def _write_entries(file: BinaryIO, tensor: Tensor) -> None:
    count = bytes_of(tensor.shape, tensor.dtype)
    if count:
        held = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
        # The memory itself, without a copy; torch alone, without NumPy, has no other way to it.
        file.write((ctypes.c_char * count).from_address(held.data_ptr()))


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A new file to write to, which takes the place of ``path`` if the body ends without an error."""
    target = Path(os.path.realpath(path))
    mode = _mode(target)
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "No such folder to write into", str(target.parent))
    # A short name of its own: the longest that a folder takes is then free for the file itself.
    new = target.with_name(f".paraform-{os.urandom(8).hex()}.tmp")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        with open(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if mode is not None:
            os.chmod(new, mode)
        os.replace(new, target)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(new)
        raise
    _sync(target.parent)


def _mode(target: Path) -> int | None:
    """The permissions of the file that is to be replaced, or None where there is none yet."""
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "Cannot write a file over a folder", str(target))
    if not stat.S_ISREG(mode):
        raise FileError(f"Cannot write '{printable(target)}': it is no regular file but a pipe or a device.")
    if not mode & 0o222 or not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, "Cannot replace a file that is read-only", str(target))
    return stat.S_IMODE(mode)


def _sync(folder: Path) -> None:
    """Bring the folder's entry to the disk too, where the system knows of that."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
