"""State dicts as torch saves them, read without running anything that a file says."""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .entry import KEY
from .errors import FileError
from .layout import LENGTH_BYTES, bytes_of
from .names import printable
from .reading import TensorFile, _opened

_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
# Tensors that share memory, or repeat it, are written apart. A file that grows more than that is made to fill disks.
_GROWTH = 4
_ALWAYS = 2**20
_SAVE = "in the program that made it, torch.save(model.state_dict(), path)"


def read_state_dict(path: str | os.PathLike[str], key: str | None = None) -> Mapping[str, Any]:
    """The state dict in a file of ``torch.save`` or in a safetensors file, mapped into memory where that is possible.

    Args:
        path: a regular file.
        key: the entry that holds the state dict. By default it is the file's content, or its only entry that is a
            dictionary of tensors.

    Raises:
        FileError: the file is damaged, compressed, or holds other things than plain data and tensors, which are never
            loaded; or a state dict is not found in it, or several are; or it would take much more room than it has.
        OSError: what the system refuses.
    """
    where = printable(os.fspath(path))
    with _opened(Path(path), f"Cannot read '{where}'") as file:
        head, size = file.read(LENGTH_BYTES + 1), os.fstat(file.fileno()).st_size
    is_zip = head.startswith(_ZIP)
    is_named_so = Path(path).suffix.lower() == ".safetensors"
    if not is_zip and head.endswith(b"{"):  # behind the length of a header of JSON
        loaded: Any = _safetensors(path, where)
    elif is_named_so and (is_zip or head.startswith(_PICKLE)):
        raise FileError(f"'{where}' is a file of torch.save and no safetensors file; call it .pt, as torch does.")
    elif is_named_so:
        loaded = _safetensors(path, where)
    else:
        if is_zip:
            _require_no_bomb(path, where, size)
        loaded = _torch(path, where, is_zip=is_zip)
    found = _state_dict_in(loaded, key, where)
    _require_room(found, where, size)
    return found


def _safetensors(path: str | os.PathLike[str], where: str) -> dict[str, Tensor]:
    with closing(TensorFile(path)) as file:
        if KEY in file.metadata:
            raise FileError(f"'{where}' is a file of paraform.save already, with its recipe; load it as it is.")
        return {key: file.read(key) for key in file.specs}


def _torch(path: str | os.PathLike[str], where: str, *, is_zip: bool) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except OSError:
        raise
    except Exception as error:  # a damaged file makes torch raise whatever it likes
        text = str(error)
        found = re.search(r"GLOBAL (\S+)", text) if isinstance(error, pickle.UnpicklingError) else None
        if found is not None:
            raise FileError(
                f"'{where}' holds more than tensors, {printable(found[1])}, which paraform never loads; save the state "
                f"dict alone: {_SAVE}."
            ) from error
        if "tar format" in text:
            raise FileError(f"'{where}' is a tar archive, from before torch 0.4; save it anew.") from error
        # torch's own advice would be to run what the file says
        reason = "" if "weights_only" in text else f" ({_reason(error)})"
        raise FileError(f"'{where}' is no file of torch.save, or a damaged one{reason}.") from error


def _require_no_bomb(path: str | os.PathLike[str], where: str, size: int) -> None:
    """Refuse an archive that holds more than the file has bytes, before anything of it is unpacked."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, IndexError) as error:
        raise FileError(f"'{where}' is a damaged or truncated archive: {_reason(error)}.") from error
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise FileError(f"'{where}' is compressed, as torch.save never does; unpack and pack it without compression.")
    if sum(entry.file_size for entry in entries) > size:
        raise FileError(f"'{where}' claims to hold more than its {size} bytes; it is damaged, or made to harm.")


def _state_dict_in(loaded: Any, key: str | None, where: str) -> Mapping[str, Any]:
    if key is not None:
        if not isinstance(loaded, Mapping) or not isinstance(loaded.get(key), Mapping):
            raise FileError(f"'{where}' has no dictionary '{printable(key)}'; it has {_entries(loaded)}.")
        found: Mapping[str, Any] = loaded[key]
        return found
    if _is_state_dict(loaded):
        return loaded  # type: ignore[no-any-return]
    inner = [name for name, value in loaded.items() if _is_state_dict(value)] if isinstance(loaded, Mapping) else []
    if len(inner) == 1:
        return loaded[inner[0]]  # type: ignore[no-any-return]
    names = ", ".join(f"'{printable(name)}'" for name in inner)
    reason = f"more than one state dict, {names}" if inner else f"no state dict, but {_entries(loaded)}"
    remedy = "name one with --key" if inner else f"name the entry that is one with --key, or save one: {_SAVE}"
    raise FileError(f"'{where}' has {reason}; {remedy}.")


def _is_state_dict(thing: Any) -> bool:
    return (
        isinstance(thing, Mapping)
        and len(thing) > 0
        and all(isinstance(name, str) and isinstance(value, Tensor) for name, value in thing.items())
    )


def _entries(loaded: Any) -> str:
    if not isinstance(loaded, Mapping):
        return f"a single {type(loaded).__name__}"
    names = [f"'{printable(name)}' ({type(value).__name__})" for name, value in list(loaded.items())[:10]]
    return ", ".join(names + (["..."] if len(loaded) > len(names) else [])) or "nothing"


def _require_room(state_dict: Mapping[str, Any], where: str, size: int) -> None:
    """Refuse tensors that repeat a little memory many times, which would be written out."""
    needed = sum(bytes_of(tensor.shape, tensor.dtype) for tensor in state_dict.values() if isinstance(tensor, Tensor))
    if needed > _GROWTH * size + _ALWAYS:
        raise FileError(f"The tensors of '{where}' would take {needed} bytes, far more than the file's {size}.")


def _reason(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return printable(text.splitlines()[0]).rstrip(".")
