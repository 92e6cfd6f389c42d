"""A chain from its recipe and from what is known of its tensors, without their numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, Parameter

from ..parametrize import ParametrizationList
from ..parametrize.assembly import assembled
from ..parametrize.steps import as_tensors
from ..parametrize.switching import original_names
from .entry import Entry, Spec
from .errors import FileError
from .known import is_ours
from .names import printable, reason
from .recipe import built


def blank(
    entry: Entry, specs: Mapping[str, Spec], numbers: Callable[[str], Tensor], dtype: torch.dtype | None = None
) -> ParametrizationList:
    """The chain of ``entry``, whose tensors are on the meta device, but for those that a step of the user's was given.

    Args:
        entry: the recipe of the tensor.
        specs: shape and dtype of all that is stored for the chain, by the chain's own keys.
        numbers: reads one of these tensors.
        dtype: that of the value, if it is to be another than the file's.

    Raises:
        FileError: the recipe cannot be built, or it is not one of the tensors that are stored.
    """
    like = torch.empty(entry.shape, dtype=dtype or entry.dtype, device="meta")

    def tensor(key: str, is_read: bool) -> Tensor:
        if key not in specs:
            raise FileError(f"the recipe says that an argument is the tensor '{printable(key)}', which is not stored.")
        return numbers(key) if is_read else _empty(specs[key].shape, specs[key].dtype)

    steps: dict[str, Module] = {}
    raws: Any = None
    for index, step in enumerate(entry.steps):
        steps[step.key] = module = built(step.data, like, tensor, f"{step.key}.")
        seen = like if step.shape is None else _empty(step.shape, like.dtype)
        raw = _taught(module, seen, step.name) if step.learned else None
        if raw is None and is_ours(module):
            raw = seen  # as of what has no inverse, at registration
        if index == 0:
            raws = raw
        elif raw is not None and (isinstance(raw, tuple) or (raw.shape != seen.shape and not entry.unsafe)):
            raise FileError(f"{printable(step.name)} has other raw tensors than its value, so it has to come first.")
        for key in specs:
            if key.startswith(f"{step.key}."):
                _make_room(module, key.removeprefix(f"{step.key}."), specs[key])
    originals = _originals(entry, specs, raws, like.dtype)
    chain = assembled(
        steps,
        originals,
        is_tensor="original" in specs,
        like=like,
        unsafe=entry.unsafe,
        off=[step.key for step in entry.steps if step.off],
    )
    check_against(chain, specs)
    return chain


def _empty(shape: Any, dtype: torch.dtype) -> Tensor:
    return torch.empty(tuple(shape), dtype=dtype, device="meta")


def _taught(step: Module, like: Tensor, name: str) -> Any:
    """What the inverse of ``step`` makes of a value without numbers: it learns a shape, and where tensors are to be."""
    if not hasattr(step, "right_inverse") or not any(hasattr(module, "learned") for module in step.modules()):
        return None
    try:
        with torch.inference_mode(False), torch.no_grad(), _on_meta(step):
            raw = step.right_inverse(like)  # type: ignore[operator]
        as_tensors(raw)
    except MemoryError:
        raise
    except Exception as error:
        raise FileError(
            f"{printable(name)} does not fit a value of {like.dtype} and shape {tuple(like.shape)}: {reason(error)}"
        ) from error
    return raw if isinstance(raw, Tensor) else tuple(raw)


@contextmanager
def _on_meta(step: Module) -> Iterator[None]:
    """Within this context the tensors of ``step`` are on the meta device; those that stay are put back."""
    held: list[tuple[dict[str, Any], str, Tensor]] = [
        (holder, name, tensor)
        for module in step.modules()
        for holder in (module._parameters, module._buffers)
        for name, tensor in holder.items()
        if tensor is not None and not tensor.is_meta
    ]
    stand_ins = []
    for holder, name, tensor in held:
        stand_in = torch.empty_like(tensor, device="meta")
        holder[name] = Parameter(stand_in, tensor.requires_grad) if isinstance(tensor, Parameter) else stand_in
        stand_ins.append(holder[name])
    try:
        yield
    finally:
        for (holder, name, tensor), stand_in in zip(held, stand_ins, strict=True):
            if holder[name] is stand_in:
                holder[name] = tensor


def _make_room(step: Module, path: str, spec: Spec) -> None:
    """A tensor for what is stored, where ``step`` has a place for one and nothing in it yet."""
    *parents, name = path.split(".")
    module: Any = step
    for parent in parents:
        module = None if module is None else module._modules.get(parent)
    if module is not None and name in module._buffers and module._buffers[name] is None:
        module._buffers[name] = _empty(spec.shape, spec.dtype)
    elif module is not None and name in module._parameters and module._parameters[name] is None:
        module._parameters[name] = Parameter(_empty(spec.shape, spec.dtype), _is_differentiable(spec.dtype))


def _originals(entry: Entry, specs: Mapping[str, Spec], raws: Any, dtype: torch.dtype) -> list[Tensor]:
    """The raw tensors: as the first step made them, or where that is not known as they are stored."""
    count = sum(key.startswith("original") for key in specs)
    names = original_names("original" in specs, count)
    if not count or any(name not in specs for name in names):
        raise FileError(f"the raw tensors are not stored: there is {_listed(specs)}.")
    if raws is None:
        found = [specs[name] for name in names]
        raws = [_empty(spec.shape, dtype if spec.dtype == entry.dtype else spec.dtype) for spec in found]
    else:
        expected = original_names(isinstance(raws, Tensor), len(as_tensors(raws)))
        if expected != names:
            raise FileError(
                f"{printable(entry.steps[0].name)} has the raw tensors {', '.join(expected)}, but {_listed(specs)} "
                f"is stored."
            )
        raws = as_tensors(raws)
    return [Parameter(raw.detach(), _is_differentiable(raw.dtype)) for raw in raws]


def _is_differentiable(dtype: torch.dtype) -> bool:
    return dtype.is_floating_point or dtype.is_complex


def check_against(chain: Module, specs: Mapping[str, Spec], *, exactly: bool = False) -> None:
    """Refuse what is stored, where ``chain`` has other tensors.

    Args:
        chain: what is to take it.
        specs: what is stored, by the chain's own keys.
        exactly: whether the precision is to be the same too.

    Raises:
        FileError: there are other keys, shapes, or kinds of numbers.
    """
    own: dict[str, Any] = chain.state_dict(keep_vars=True)
    if own.keys() != specs.keys():
        missing, extra = own.keys() - specs.keys(), specs.keys() - own.keys()
        raise FileError(
            "what is stored is not what the recipe needs"
            + (f"; missing: {_listed(missing)}" if missing else "")
            + (f"; without use: {_listed(extra)}" if extra else "")
            + "."
        )
    for key, tensor in own.items():
        spec = specs[key]
        if not isinstance(tensor, Tensor):
            raise FileError(f"'{printable(key)}' is no tensor in this chain but a {type(tensor).__name__}.")
        is_alike = tensor.dtype == spec.dtype if exactly else kind(tensor.dtype) == kind(spec.dtype)
        if tuple(tensor.shape) != spec.shape or not is_alike:
            raise FileError(
                f"the recipe needs {tensor.dtype} of shape {tuple(tensor.shape)} as '{printable(key)}', but "
                f"{spec.dtype} of shape {spec.shape} is stored."
            )


def kind(dtype: torch.dtype) -> str:
    """Between dtypes of one kind a load may convert, as ``load_state_dict`` does; between others numbers are lost."""
    if dtype.is_complex:
        return "complex"
    return "float" if dtype.is_floating_point else "bool" if dtype == torch.bool else "integer"


def _listed(keys: Any) -> str:
    return ", ".join(f"'{printable(key)}'" for key in sorted(keys)[:10]) + (", ..." if len(keys) > 10 else "")
