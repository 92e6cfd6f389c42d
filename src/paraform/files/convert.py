"""Torch's state dicts turned into paraform's files: what torch's hooks and parametrizations left, with its recipe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from .errors import FileError
from .layout import CODES
from .names import printable
from .torch_chains import Converted, chains
from .torch_hooks import hooked, pruned, title
from .torch_steps import OrthogonalMaps

UNKNOWN_MAPS = OrthogonalMaps()
_LONGEST_NAME = 4096


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
        _require_tensor(key, tensor)
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


def _require_tensor(key: object, tensor: object) -> None:
    if not isinstance(key, str) or not isinstance(tensor, Tensor):
        raise FileError(
            f"Expected a state dict, tensors by name, but '{printable(key)}' is of type {type(tensor).__name__}; take "
            f"it out, or name the entry that holds the state dict."
        )
    if len(key) > _LONGEST_NAME:
        raise FileError(f"'{printable(key)}' is a name of {len(key)} characters, which no module has.")
    if type(tensor) not in (Tensor, Parameter):
        raise FileError(f"'{printable(key)}' is a {type(tensor).__name__}; make it a plain tensor before saving.")
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta or tensor.is_nested:
        kind = "quantized" if tensor.is_quantized else "without entries" if tensor.is_meta else str(tensor.layout)
        raise FileError(f"'{printable(key)}' is {kind}: only dense tensors can be converted; make it one.")
    if tensor.dtype not in CODES:
        raise FileError(f"'{printable(key)}' is of {tensor.dtype}, which safetensors files cannot hold; convert it.")


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
