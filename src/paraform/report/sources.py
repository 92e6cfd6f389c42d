"""What a report is made of: the tensors of a model, or of a saved one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.nn import Module

from ..parametrize.named import Named, named_chains

if TYPE_CHECKING:
    from ..files import SavedFile


@dataclass(frozen=True)
class Parametrized:
    """A tensor with a chain, which is made when it is asked for: the report holds one at a time."""

    name: str
    also: tuple[str, ...]
    """Further names of the same tensor, where modules share it."""
    shape: tuple[int, ...]
    dtype: str
    chain: Callable[[], Any]


@dataclass(frozen=True)
class Plain:
    """A tensor of the model that has no parametrization."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Source:
    """The tensors of a model."""

    title: str
    version: str
    """The paraform that wrote it, or that it is in memory with."""
    parametrized: list[Parametrized]
    plain: list[Plain]


def source_of(model: Module | SavedFile) -> Source:
    """The tensors of a model in memory, or of a saved one."""
    return _of_model(model) if isinstance(model, Module) else _of_file(model)


def _of_model(model: Module) -> Source:
    from .. import __version__

    names: dict[Module, list[Named]] = {}
    prefixes = []
    for named in named_chains(model, remove_duplicate=False):
        names.setdefault(named.chain, []).append(named)
        prefixes.append(f"{named.name.removesuffix(named.tensor_name)}parametrizations.")
    parametrized = [
        Parametrized(
            first.name,
            tuple(named.name for named in others),
            tuple(first.chain.shape or ()) if hasattr(first.chain, "shape") else (),
            "",
            lambda chain=first.chain: chain,  # type: ignore[misc]
        )
        for first, *others in names.values()
    ]
    plain = [
        Plain(key, tuple(tensor.shape), dtype_name(tensor.dtype))
        for key, tensor in model.state_dict().items()
        if isinstance(tensor, Tensor) and not key.startswith(tuple(prefixes) or "\0")
    ]
    return Source(type(model).__name__, __version__, parametrized, plain)


def _of_file(saved: SavedFile) -> Source:
    also: dict[str, list[str]] = {}
    for further, name in saved.ties.items():
        also.setdefault(name, []).append(further)
    tensors = saved.untied()
    return Source(
        saved.path.name,
        saved.version,
        [
            Parametrized(
                tensor.name, tuple(also.get(tensor.name, ())), tensor.shape, dtype_name(tensor.dtype), tensor.chain
            )
            for tensor in tensors
            if tensor.is_parametrized
        ],
        [
            Plain(tensor.name, tensor.shape, dtype_name(tensor.dtype))
            for tensor in tensors
            if not tensor.is_parametrized
        ],
    )


def dtype_name(dtype: Any) -> str:
    """A dtype as it is said.

    >>> import torch
    >>> dtype_name(torch.float32)
    'float32'
    """
    return str(dtype).removeprefix("torch.")
