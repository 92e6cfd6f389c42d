"""Torch's state dicts turned into paraform's files: what torch's hooks and parametrizations left, with its recipe."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..parametrize import ParametrizationList
from ..parametrize.assembly import assembled
from .checkpoints import read_state_dict
from .errors import FileError
from .keys import prefix_of
from .names import printable
from .saving import check_tensor, collected, identity, write_contents
from .torch_chains import ORIGINALS, Converted, chains
from .torch_hooks import hooked, pruned, title
from .torch_steps import OrthogonalMaps

UNKNOWN_MAPS = OrthogonalMaps()
_LONGEST_NAME = 4096


def convert(
    old: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    key: str | None = None,
    orthogonal_maps: OrthogonalMaps = UNKNOWN_MAPS,
) -> list[Converted]:
    """Turn a file with a state dict of torch into a file that :func:`paraform.load` reads.

    Args:
        old: a file of ``torch.save``, or one of safetensors. Nothing in it is run.
        out: the file to write, another one. What was there is replaced when all is written.
        key: the entry of ``old`` that holds the state dict, if there could be several.
        orthogonal_maps: see :func:`convert_state_dict`.

    Returns:
        what was recognised, as :func:`convert_state_dict` says it.

    Raises:
        FileError: ``old`` cannot be read or converted; or ``out`` is ``old``. Nothing is written.
        OSError: the system refuses to read or to write.

    >>> import tempfile
    >>> from torch import nn
    >>> layer = nn.utils.parametrizations.spectral_norm(nn.Linear(3, 2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.save(layer.state_dict(), f"{folder}/old.pt")
    ...     found = convert(f"{folder}/old.pt", f"{folder}/new.safetensors")
    >>> [(tensor.name, tensor.source) for tensor in found]
    [('bias', ''), ('weight', 'spectral_norm')]
    """
    if os.path.exists(out) and os.path.samefile(old, out):
        raise FileError(f"'{printable(out)}' is the file that is read; write to another one.")
    where = f"Cannot convert '{printable(os.fspath(old))}'"
    state_dict = read_state_dict(old, key)
    try:
        found = convert_state_dict(state_dict, orthogonal_maps)
        state = {key: tensor for each in found for key, tensor in _state(each).items()}
        chains = _chains(found, state_dict)
        contents, tensors = collected([each.name for each in found], state, chains)
    except FileError as error:
        raise FileError(f"{where}: {error}") from error
    write_contents(out, contents, tensors)
    return found


def _state(each: Converted) -> dict[str, Tensor]:
    prefix = prefix_of(each.name) if each.chain else each.name
    return {prefix + own: tensor for own, tensor in each.stored.items()}


def _chains(found: Iterable[Converted], state_dict: Mapping[str, Any]) -> dict[str, ParametrizationList]:
    """The chains by name; one for all names whose tensors lie in the same memory."""
    chains: dict[str, ParametrizationList] = {}
    known: dict[object, ParametrizationList] = {}
    for each in found:
        if each.chain:
            key = (repr(each.chain), *(identity(state_dict[key]) for key in each.keys))
            chains[each.name] = known.setdefault(key, _chain(each))
    return chains


def _chain(each: Converted) -> ParametrizationList:
    originals = [each.stored[name] for name in ORIGINALS if name in each.stored]
    like = torch.empty_like(originals[-1], device="meta")
    steps = {str(index): step for index, step in enumerate(each.chain)}
    return assembled(steps, originals, is_tensor="original" in each.stored, like=like)


def convert_state_dict(
    state_dict: Mapping[str, Any], orthogonal_maps: OrthogonalMaps = UNKNOWN_MAPS
) -> list[Converted]:
    """The tensors of the plain model that a state dict of torch stands for, in its order.

    What ``torch.nn.utils``' ``weight_norm``, ``spectral_norm`` and pruning left, and ``weight_norm``, ``spectral_norm``
    and ``orthogonal`` of ``torch.nn.utils.parametrizations``, is told by the names and the shapes. Everything else is
    plain, also what only has a name like theirs. Nothing is copied.

    Args:
        state_dict: tensors by name.
        orthogonal_maps: what is known of the maps of orthogonal tensors, which no state dict tells.

    Raises:
        FileError: something is no tensor, or of a kind that a file cannot hold; or a parametrization is not known, or
            could be one of several; or a map is given for a tensor that is not orthogonal.

    >>> from torch import nn
    >>> layer = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))
    >>> for tensor in convert_state_dict(layer.state_dict()):
    ...     print(tensor.name, tensor.source, tensor.chain, list(tensor.stored))
    bias  () ['']
    weight weight_norm (WeightNorm(),) ['original0', 'original1']
    """
    for key, tensor in state_dict.items():
        if not isinstance(key, str) or len(key) > _LONGEST_NAME:
            raise FileError(
                f"'{printable(key)}' is no name of a tensor: it is of type {type(key).__name__}, or too long."
            )
        check_tensor(key, tensor)
    tensors = dict(state_dict)
    metadata = getattr(state_dict, "_metadata", None)
    modules = metadata if isinstance(metadata, Mapping) else {}
    masked = pruned(tensors)
    # A masked tensor is a computed one: whatever reads it is a further step.
    rest = {**_without(tensors, masked.values()), **{name: each.stored["original"] for name, each in masked.items()}}
    chained = chains(rest, modules, orthogonal_maps)
    old = hooked(_without(rest, chained.values()))
    for each in (*chained.values(), *old.values()):
        if twice := masked.keys() & set(each.keys):
            raise FileError(
                f"'{printable(each.name)}' is parametrized by {each.source} of a pruned tensor, {title(sorted(twice))},"
                f" for which there is no recipe; call torch.nn.utils.prune.remove on the model, and save it again."
            )
    found = [*masked.values(), *chained.values(), *old.values()]
    found += [Converted(key, "", (), {"": tensor}, (key,)) for key, tensor in _without(tensors, found).items()]
    place = {key: index for index, key in enumerate(tensors)}
    found.sort(key=lambda each: min(place[key] for key in each.keys))
    _require_once(found)
    _require_orthogonal(found, orthogonal_maps)
    return found


def _without(tensors: Mapping[str, Tensor], found: Iterable[Converted]) -> dict[str, Tensor]:
    taken = {key for each in found for key in each.keys}
    return {key: tensor for key, tensor in tensors.items() if key not in taken}


def _require_once(found: list[Converted]) -> None:
    seen: dict[str, Converted] = {}
    for each in found:
        if each.name in seen:
            raise FileError(
                f"'{printable(each.name)}' is there more than once, as {title(seen[each.name].keys)} and as "
                f"{title(each.keys)}; keep one of them."
            )
        seen[each.name] = each


def _require_orthogonal(found: list[Converted], orthogonal_maps: OrthogonalMaps) -> None:
    orthogonal = [each.name for each in found if "orthogonal" in each.source]
    for glob in orthogonal_maps.named:
        if not any(OrthogonalMaps(named={glob: "cayley"}).of(name) for name in orthogonal):
            raise FileError(f"An orthogonal map is given for '{printable(glob)}', but no orthogonal tensor has it.")
