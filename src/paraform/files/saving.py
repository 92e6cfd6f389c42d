"""Saving a model with its recipe."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import Module
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from ..parametrize.named import named_chains
from ..parametrize.reads import look
from ..parametrize.state_dict import plain_names
from .entry import KEY, Contents, Entry, Spec, Step
from .errors import FileError
from .keys import grouped
from .layout import CODES
from .names import printable, reason
from .parts import blank
from .recipe import described
from .writing import write_tensors

_PAIRS = {torch.complex128: torch.float64, torch.complex32: torch.float16}
"""Complex numbers that the format does not know, and what they are pairs of."""


def save(model: Module, path: str | os.PathLike[str]) -> None:
    """Save a model: the numbers of its state dict, and its recipe, in one safetensors file.

    The file has what :func:`load` needs to parametrize a plain model in the same way: the raw tensors, the bases and
    estimates of the parametrizations, and as JSON in its metadata which parametrizations are on which tensor, with
    their arguments, and which tensors are tied. It has no code. The ``safetensors`` package reads it as well, and finds
    the keys of ``model.state_dict()``.

    What is tied, or otherwise one tensor, is stored once. Not in the file are the state of the optimizer, whether a
    parameter wants a gradient, and the mode; nor is what a state dict does not have.

    The file is written beside its place and then put there: whoever reads sees the old one or the new one, and a
    failure leaves the old one.

    Args:
        model: any module.
        path: the file; ``model.safetensors``, say.

    Raises:
        FileError: a parametrization is of your own and has no name (:func:`saved_as`), or the state dict has what such
            a file cannot hold. Nothing is written.
        OSError: the system refuses to write.

    >>> import tempfile
    >>> from torch import nn
    >>> from paraform import Orthogonal, register_parametrization
    >>> from paraform.files import load
    >>> layer = register_parametrization(nn.Linear(3, 3), "weight", Orthogonal())
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(layer, f"{folder}/layer.safetensors")
    ...     again = load(f"{folder}/layer.safetensors", nn.Linear(3, 3))
    >>> torch.equal(again.weight, layer.weight)
    True
    """
    if not isinstance(model, Module):
        raise TypeError(f"Expected an nn.Module to save, got {type(model).__name__}.")
    where = f"Cannot save to '{printable(os.fspath(path))}'"
    try:
        contents, tensors = _collected(model)
    except FileError as error:
        raise FileError(f"{where}: {error}") from error
    write_contents(path, contents, tensors)


@torch.no_grad()
def write_contents(path: str | os.PathLike[str], contents: Contents, tensors: Mapping[str, Tensor]) -> None:
    """Write a saved model: what its metadata say, and the tensors that are stored, by key."""
    specs = {key: _stored_spec(tensor) for key, tensor in tensors.items()}
    write_tensors(path, specs, map(_as_stored, tensors.values()), {KEY: contents.as_text()})


def _collected(model: Module) -> tuple[Contents, dict[str, Tensor]]:
    """What the metadata are to say, and the tensors that are stored, by key."""
    state: dict[str, Any] = dict(model.state_dict(keep_vars=True))
    for key, tensor in state.items():
        check_tensor(key, tensor)
    chains = {named.name: named.chain for named in named_chains(model, remove_duplicate=False)}
    for name, parametrized in chains.items():
        if parametrized._non_persistent_buffers_set:
            raise FileError(
                f"'{printable(name)}' is parametrized, but a buffer that a state dict leaves out (persistent=False); "
                f"make it a persistent one, or take its parametrizations off."
            )
    return collected(plain_names(model, state), state, chains)


def collected(
    names: Sequence[str], state: Mapping[str, Tensor], chains: Mapping[str, Any]
) -> tuple[Contents, dict[str, Tensor]]:
    """What the metadata are to say, and the tensors that are stored, by key.

    Args:
        names: those of the plain model's state dict.
        state: the parametrized model's state dict.
        chains: the chains, by the plain name of their tensors.
    """
    from .. import __version__

    groups = grouped(state, names, chains)
    entries: dict[str, Entry] = {}
    ties: dict[str, str] = {}
    shared: dict[str, str] = {}
    stored: dict[object, str] = {}
    kept: dict[str, Tensor] = {}
    for name in names:
        chain: Any = chains.get(name)
        known = stored.setdefault(("name", identity(state[name]) if chain is None else chain), name)
        if known != name:
            ties[name] = known
            continue
        if chain is not None:
            entries[name] = _entry(chain, name, {own: state[key] for own, key in groups[name].items()})
        for key in groups[name].values():
            holder = stored.setdefault(identity(state[key]), key)
            if holder == key:
                kept[key] = state[key]
            else:
                shared[key] = holder
    pairs = tuple(key for key, tensor in kept.items() if tensor.dtype in _PAIRS)
    return Contents(__version__, tuple(names), entries, ties, shared, pairs), kept


def check_tensor(key: str, tensor: Any) -> None:
    """Refuse, in words, what a safetensors file cannot hold."""
    what, advice = "", "convert it, or take it out of the state dict"
    if not isinstance(tensor, Tensor):
        what = f"is no tensor but of type {type(tensor).__name__}"
        advice = "return a tensor from get_extra_state, or keep it in a file of its own"
    elif is_lazy(tensor):
        what, advice = "has no shape yet", "run one forward pass first"
    elif tensor.is_meta or isinstance(tensor, FakeTensor):
        what, advice = "is on the meta device, without numbers", "load or initialise the model first"
    elif is_traceable_wrapper_subclass(tensor):
        what = f"is a {type(tensor).__name__}, made of other tensors"
        advice = "gather the state first (a DTensor's full_tensor()), or fold or dequantize the model"
    elif tensor.is_nested or tensor.layout != torch.strided:
        what, advice = "is nested" if tensor.is_nested else f"has the layout {tensor.layout}", "make it dense"
    elif tensor.is_quantized or (tensor.dtype not in CODES and tensor.dtype not in _PAIRS):
        what = f"is {tensor.dtype}, which safetensors files do not know"
    if what:
        raise FileError(f"'{printable(key)}' {what}; {advice}.")


def identity(tensor: Tensor) -> object:
    """The same for what is one tensor, or lies in the same memory in the same way."""
    if not tensor.numel():
        return id(tensor)
    return tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype


def _entry(chain: Any, name: str, state: dict[str, Tensor]) -> Entry:
    """The recipe of a chain, which is tried before it is written."""
    try:
        entry = entry_of_chain(chain)
        specs = {own: Spec(tuple(tensor.shape), tensor.dtype) for own, tensor in state.items()}
        blank(entry, specs, lambda own: state[own].detach().cpu().clone())
    except MemoryError:
        raise
    except Exception as error:
        raise FileError(f"the parametrizations of '{printable(name)}' cannot be saved: {reason(error)}") from error
    return entry


def entry_of_chain(chain: Any) -> Entry:
    """The recipe of a chain, which may also be one of ``torch.nn.utils.parametrize``.

    Raises:
        FileError: a step has no name, or an argument that is no data.
    """
    shape, dtype = getattr(chain, "shape", None), getattr(chain, "dtype", None)
    if shape is None or dtype is None:
        with torch.no_grad():
            value = look(chain)
        shape, dtype = value.shape, value.dtype
    off = getattr(chain, "_off", ())
    steps = tuple(_step(step, key, key in off, tuple(shape)) for key, step in chain._modules.items())
    return Entry(tuple(shape), dtype, steps, bool(chain.unsafe))


def _step(step: Any, key: str, off: bool, shape: tuple[int, ...]) -> Step:
    learned = getattr(step, "_shape", None)
    own = None if learned is None or tuple(learned) == shape else tuple(learned)
    return Step(described(step), key, off, bool(getattr(step, "learned", True)), own)


def _stored_spec(tensor: Tensor) -> Spec:
    if tensor.dtype in _PAIRS:
        return Spec((*tensor.shape, 2), _PAIRS[tensor.dtype])
    return Spec(tuple(tensor.shape), tensor.dtype)


def _as_stored(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor.resolve_conj()) if tensor.dtype in _PAIRS else tensor
