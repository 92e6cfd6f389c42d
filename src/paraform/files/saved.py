"""A saved model that is open: its tensors by the names of the plain model, without the model's code."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..parametrize import ParametrizationList
from ..parametrize.reads import look
from .costs import GROWTH, LARGEST_SUM, LARGEST_VALUE, bytes_needed, most_work, work_of_measuring, work_of_value
from .entry import KEY, Contents, Entry, Spec, read_contents
from .errors import FileError
from .keys import grouped
from .layout import bytes_of
from .names import printable, reason
from .parts import blank, check_against
from .reading import TensorFile


class SavedFile:
    """A file of :func:`paraform.save`, to look into without the model's code.

    It is a context manager, and keeps the file open until :meth:`close`. What is in it by name is
    checked when it is opened, and no tensor is read before it is asked for.

    Args:
        path: the file.

    Attributes:
        path: the same.
        version: the paraform that wrote it.
        names: those of the plain model's state dict, in its order; iterating gives their :class:`SavedTensor`.
        ties: a further name of a tensor to the name under which it is stored.

    Raises:
        FileError: it is damaged, cut off, too large in some way, or no file of :func:`paraform.save`.
        OSError: it cannot be opened.

    >>> import tempfile
    >>> from torch import nn
    >>> from paraform import Orthogonal, register_parametrization
    >>> from paraform.files import save
    >>> layer = register_parametrization(nn.Linear(3, 3), "weight", Orthogonal())
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(layer, f"{folder}/layer.safetensors")
    ...     with SavedFile(f"{folder}/layer.safetensors") as saved:
    ...         print(saved.names, saved["weight"].recipe, torch.equal(saved["weight"].value(), layer.weight))
    ['weight', 'bias'] [{'name': 'Orthogonal', 'arguments': {}}] True
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = TensorFile(path)
        self._most_work: dict[Callable[[Entry], int], int] = {}
        try:
            self._contents = _contents(self._file)
            self._keys = _keys(self._contents, self._file)
        except FileError as error:
            self._file.close()
            raise FileError(f"{self._file.where}: {error}") from error
        except BaseException:
            self._file.close()
            raise

    @property
    def path(self) -> Path:
        return self._file.path

    @property
    def version(self) -> str:
        return self._contents.version

    @property
    def names(self) -> list[str]:
        return list(self._contents.names)

    @property
    def ties(self) -> dict[str, str]:
        return dict(self._contents.ties)

    def __getitem__(self, name: str) -> SavedTensor:
        stored = self._contents.ties.get(name, name)
        if stored not in self._keys:
            raise KeyError(name)
        return SavedTensor(name, self, self._contents.entries.get(stored), self._keys[stored])

    def __iter__(self) -> Iterator[SavedTensor]:
        return (self[name] for name in self._contents.names)

    def __len__(self) -> int:
        return len(self._contents.names)

    def __contains__(self, name: object) -> bool:
        return name in self._keys or name in self._contents.ties

    def untied(self) -> list[SavedTensor]:
        """The tensors, each under its first name only."""
        return [self[name] for name in self._contents.names if name not in self._contents.ties]

    def close(self) -> None:
        """Close the file. What was read stays."""
        self._file.close()

    def __enter__(self) -> SavedFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def shared(self) -> dict[str, str]:
        """A further key of the state dict to the one that is stored in its place, where no tie says so."""
        return dict(self._contents.shared)

    def parts(self, name: str) -> tuple[Entry | None, dict[str, str]]:
        """The recipe of a name that is stored, and the keys of its tensors by the chain's own."""
        return self._contents.entries.get(name), self._keys[name]

    def spec(self, key: str) -> Spec:
        """Shape and dtype of a key of the state dict."""
        key = self._contents.shared.get(key, key)
        shape, dtype = self._file.specs[key]
        return Spec(shape[:-1], _COMPLEX[dtype]) if key in self._contents.pairs else Spec(shape, dtype)

    def check_sum(self) -> None:
        """Refuse to compute all values, where they take far more room than the file.

        Raises:
            FileError: they do.
        """
        needed = sum(bytes_of(tensor.shape, tensor.dtype) for tensor in self)
        if needed > max(LARGEST_SUM, GROWTH * self._file.size):
            raise FileError(
                f"{self._file.where}: its values take {needed} bytes, and it has {self._file.size}. More than "
                f"{LARGEST_SUM} bytes, or {GROWTH} times its own, are only taken for a model: load it, and fold that."
            )

    def check_work(self, work_of: Callable[[Entry], int], entry: Entry) -> None:
        """Refuse an entry, where the tensors up to its cost take far longer than a file of this size may ask for.

        Raises:
            FileError: they do.
        """
        if work_of not in self._most_work:
            works = {name: work_of(each) for name, each in self._contents.entries.items()}
            # A value is computed for each of its names.
            again = [works[target] for target in self._contents.ties.values() if target in works]
            self._most_work[work_of] = most_work([*works.values(), *again], self._file.size)
        if work_of(entry) > self._most_work[work_of]:
            raise FileError(
                f"it would take about {work_of(entry):.0e} multiplications, which is far more than a file of "
                f"{self._file.size} bytes may ask for. Load it into its model, and work with that."
            )

    def read(self, key: str) -> Tensor:
        """The tensor of a key of the state dict, in memory of its own."""
        key = self._contents.shared.get(key, key)
        tensor = self._file.read(key)
        return torch.view_as_complex(tensor) if key in self._contents.pairs else tensor


@dataclass(frozen=True)
class SavedTensor:
    """One tensor of the plain model, in a file."""

    name: str
    """Its name in the plain model's state dict."""
    _saved: SavedFile
    _entry: Entry | None
    _keys: dict[str, str]
    """The keys of the file by the chain's own, or by nothing for a plain tensor."""

    @property
    def is_parametrized(self) -> bool:
        """Whether its value is computed from what is stored."""
        return self._entry is not None

    @property
    def shape(self) -> tuple[int, ...]:
        return self._stored[""].shape if self._entry is None else self._entry.shape

    @property
    def dtype(self) -> torch.dtype:
        return self._stored[""].dtype if self._entry is None else self._entry.dtype

    @property
    def recipe(self) -> list[dict[str, Any]]:
        """The chain as JSON data: name and arguments of each parametrization; empty where there is none."""
        return [] if self._entry is None else self._entry.recipe()

    @property
    def stored(self) -> dict[str, Spec]:
        """Shape and dtype of what the file holds for it, by key. Nothing is read."""
        return {self._keys[own]: spec for own, spec in self._stored.items()}

    @property
    def _stored(self) -> dict[str, Spec]:
        return {own: self._saved.spec(key) for own, key in self._keys.items()}

    def chain(self) -> ParametrizationList:
        """Its parametrizations on the raw tensors, which are read for it: in evaluation mode, and without gradients.

        Raises:
            FileError: it is not parametrized, or the recipe cannot be built, or is not one of what is stored, or
                measuring it would take too much memory or time for what is stored (:mod:`paraform.files.costs`).
        """
        if self._entry is None:
            raise FileError(f"'{printable(self.name)}' of '{printable(self._saved.path)}' is not parametrized.")
        with self._explained(), torch.inference_mode(False):
            self._check_size()
            self._saved.check_work(work_of_measuring, self._entry)
            return self._chain()

    def value(self) -> Tensor:
        """Its value.

        Raises:
            FileError: see :meth:`chain`; products and copies, as those of ``LowRank``, are made where they cannot be
                measured.
        """
        if self._entry is None:
            return self._read("")
        with self._explained(), torch.inference_mode(False), torch.no_grad():
            self._check_size()
            self._saved.check_work(work_of_value, self._entry)
            value = look(self._chain())
            if (tuple(value.shape), value.dtype) != (self.shape, self.dtype):
                raise FileError(
                    f"its value is {value.dtype} of shape {tuple(value.shape)}, where the recipe says {self.dtype} of "
                    f"shape {self.shape}."
                )
        return value

    def _chain(self) -> ParametrizationList:
        assert self._entry is not None
        chain = blank(self._entry, self._stored, self._read)
        check_against(chain, self._stored, exactly=True)
        state = {own: self._read(own) for own in self._keys}
        chain.load_state_dict(state, assign=True)
        chain.to("cpu")  # what a step holds beside its tensors
        return chain.eval().requires_grad_(False)

    def _read(self, own: str) -> Tensor:
        return self._saved.read(self._keys[own])

    def _check_size(self) -> None:
        assert self._entry is not None
        needed, stored = bytes_needed(self._entry), sum(bytes_of(*spec) for spec in self._stored.values())
        if needed > max(LARGEST_VALUE, GROWTH * stored):
            raise FileError(
                f"its value takes {needed} bytes, and {stored} are stored for it. More than {LARGEST_VALUE} bytes, or "
                f"{GROWTH} times what is stored, are only taken for a model that has a tensor of this shape: load it."
            )

    def _explained(self) -> _Explained:
        return _Explained(f"Cannot use '{printable(self.name)}' of '{printable(self._saved.path)}'")


class _Explained:
    """A context in which whatever goes wrong is an error of the file's, which says where."""

    def __init__(self, where: str) -> None:
        self.where = where

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, OSError | MemoryError):
            raise FileError(f"{self.where}: {reason(error)}") from error


_COMPLEX = {torch.float64: torch.complex128, torch.float32: torch.complex64, torch.float16: torch.complex32}


def _contents(file: TensorFile) -> Contents:
    if KEY not in file.metadata:
        raise FileError(
            "it is a safetensors file without a recipe, of plain tensors. Load it with safetensors.torch.load_file and "
            "load_state_dict, which parametrized models of paraform take as well."
        )
    contents = read_contents(file.metadata[KEY])
    for key in contents.pairs:
        stored = file.specs.get(key)
        if stored is None or stored.dtype not in _COMPLEX or stored.shape[-1:] != (2,):
            raise FileError(f"its recipe says that '{printable(key)}' has pairs of real numbers, which it has not.")
    return contents


def _keys(contents: Contents, file: TensorFile) -> dict[str, dict[str, str]]:
    """The keys of each name that is stored, by the chain's own; all that is in the file is of one name."""
    names = set(contents.names)
    for name, target in contents.ties.items():
        if name not in names or target not in names:
            raise FileError(f"its recipe ties '{printable(name)}' to '{printable(target)}', of which one is not there.")
    for name in contents.entries:
        if name not in names or name in contents.ties:
            raise FileError(f"its recipe has parametrizations of '{printable(name)}', which is not among its names.")
    for key, target in contents.shared.items():
        if key in file.specs or target not in file.specs:
            raise FileError(f"its recipe says that '{printable(key)}' is stored as '{printable(target)}': it is not.")
    stored = [name for name in contents.names if name not in contents.ties]
    keys = grouped((*file.specs, *contents.shared), stored, contents.entries)
    for name, held in keys.items():
        if not held:
            raise FileError(f"its recipe has '{printable(name)}', of which nothing is stored.")
    return keys
