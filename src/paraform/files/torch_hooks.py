"""What torch's older hooks leave in a state dict: ``weight_norm``, ``spectral_norm`` and the pruning methods."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .. import maps
from ..constraints import Masked
from ..maps.precision import working_dtype
from .errors import FileError
from .names import printable
from .torch_chains import Converted
from .torch_steps import SpectralVectors, dims_of, is_number, matrix, spectral_norm, weight_norm

# What is appended to the name of a tensor, by hook. Torch 0.4 and before saved no singular vector v, but the value too.
_WEIGHT_NORM = "_g", "_v"
_SPECTRAL_NORM = "_orig", "_u", "_v", ""
_PRUNED = "_orig", "_mask"
# The saved value may be away from the weight divided by a number by so much and be taken for one: half precision.
_SAME = 0.01


def pruned(tensors: Mapping[str, Tensor]) -> dict[str, Converted]:
    """The tensors that ``torch.nn.utils.prune`` has masked, by name.

    Raises:
        FileError: a mask has other numbers than 0 and 1.
    """
    found = {}
    for key, weight in tensors.items():
        name = key.removesuffix("_orig")
        mask = tensors.get(f"{name}_mask")
        if name == key or not _is_name(name) or mask is None or mask.shape != weight.shape or not is_number(weight):
            continue
        keys = tuple(name + suffix for suffix in _PRUNED)
        if name in tensors or f"{name}_u" in tensors:
            raise FileError(
                f"{title(keys)} are what pruning saves, but '{printable(name)}' is there in another way too."
            )
        if not bool(((mask == 0) | (mask == 1)).all()):
            raise FileError(
                f"'{printable(name)}_mask' has other numbers than 0 and 1, which torch multiplies with and a mask does "
                f"not have; call torch.nn.utils.prune.remove on the model, and save it again."
            )
        step = Masked(mask)
        step._shape = weight.shape  # as registration would have it
        found[name] = Converted(name, "prune", (step,), {"original": weight, "0.mask": step.mask}, keys)
    return found


def hooked(tensors: Mapping[str, Tensor]) -> dict[str, Converted]:
    """The tensors that the older ``weight_norm`` and ``spectral_norm`` have taken over, by name.

    Raises:
        FileError: what they have left can be read in more than one way.
    """
    found: dict[str, Converted] = {}
    for key in tensors:
        name = key.removesuffix("_g") if key.endswith("_g") else key.removesuffix("_orig")
        if name == key or not _is_name(name):
            continue
        converted = (_weight_norm if key.endswith("_g") else _spectral_norm)(tensors, name)
        if converted is not None and name in found:
            raise FileError(
                f"{title(found[name].keys)} are what weight_norm saves, and {title(converted.keys)} what spectral_norm "
                f"does: '{printable(name)}' can be one of them only."
            )
        if converted is not None:
            found[name] = converted
    return found


def title(keys: tuple[str, ...] | list[str]) -> str:
    """Names of a file, quoted."""
    return ", ".join(f"'{printable(key)}'" for key in keys)


def _is_name(name: str) -> bool:
    return not name.endswith(".") and name != ""


def _weight_norm(tensors: Mapping[str, Tensor], name: str) -> Converted | None:
    keys = tuple(name + suffix for suffix in _WEIGHT_NORM)
    if name in tensors or any(key not in tensors for key in keys):
        return None  # the hook never leaves the value in the state dict
    g, v = (tensors[key] for key in keys)
    step = weight_norm(g, v)
    return step and Converted(name, step.source, (step.module,), {"original0": g, "original1": v}, keys)


def _spectral_norm(tensors: Mapping[str, Tensor], name: str) -> Converted | None:
    weight, u, v, value = (tensors.get(name + suffix) for suffix in _SPECTRAL_NORM)
    if weight is None or u is None or weight.ndim < 2 or not (dims := dims_of(weight, u, v)):
        return None
    keys = tuple(name + suffix for suffix in _SPECTRAL_NORM if name + suffix in tensors)
    if weight.is_complex():
        raise FileError(
            f"'{printable(name)}_orig' is complex, of which torch's older spectral_norm made no norm; use "
            f"torch.nn.utils.parametrizations.spectral_norm."
        )
    if v is not None and value is not None:
        raise FileError(
            f"{title(keys[:-1])} are what spectral_norm saves, but '{printable(name)}' is there too; keep one of them."
        )
    vectors, notes = (SpectralVectors(u, v, dims), ()) if v is not None else _completed(weight, u, dims, value)
    step = spectral_norm(name, weight, vectors)
    stored = {"original": weight, "0._u": vectors.u, "0._v": vectors.v}
    return Converted(name, step.source, (step.module,), stored, keys, (*step.notes, *notes))


def _completed(
    weight: Tensor, u: Tensor, dims: tuple[int, ...], value: Tensor | None
) -> tuple[SpectralVectors, tuple[str, ...]]:
    """The vectors of a state dict that has no ``v``, and what is to be said of it.

    Where the value was saved, the unit ``v`` is the one nearest to ``M^H u`` with ``u^H M v = sigma``, where sigma is
    what the weight was divided by.
    """
    wide = working_dtype(weight.dtype)
    images = {dim: matrix(weight, dim).mH @ u.to(wide) for dim in dims}
    dim = max(images, key=lambda dim: float(torch.linalg.vector_norm(images[dim])))
    length = torch.linalg.vector_norm(images[dim])
    along = images[dim] / torch.where(length > 0, length, 1)
    vectors = SpectralVectors(u, along.to(u.dtype), (dim,))
    if value is None or value.shape != weight.shape or not maps.is_finite(value):
        return vectors, ("no v was saved: it is computed from the weight and u",)
    W, X = weight.to(wide), value.to(wide)
    sigma = (W * X).sum() / X.square().sum()
    share = sigma / length
    if not bool(torch.linalg.vector_norm(W - sigma * X) <= _SAME * torch.linalg.vector_norm(W)) or share > 1 + _SAME:
        return vectors, ("the value saved is not of this weight: v is computed from the weight and u",)
    share = share.clamp(max=1)
    index = int(along.abs().argmin())
    across = -along[index] * along
    across[index] += 1
    across = across / torch.linalg.vector_norm(across).clamp_min(torch.finfo(wide).tiny)
    return SpectralVectors(u, (share * along + (1 - share.square()).sqrt() * across).to(u.dtype), (dim,)), ()
