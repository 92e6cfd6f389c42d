"""Loading checkpoints under other names than the chain's own: plain ones, and those of torch's older hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Module, Parameter

from .errors import title
from .state_dict import chains_in
from .switching import originals_of
from .twin import take_over, twin_of

# What torch's older hooks (weight_norm, spectral_norm, prune) append to the name of the tensor that they take over.
_OLD_SUFFIXES = ("_g", "_v", "_orig", "_u", "_mask")


def loading(load: Callable[..., None]) -> Callable[..., None]:
    """The ``_load_from_state_dict`` of a parametrized class, on top of that of its base class.

    A parametrized tensor ``weight`` also takes a plain key ``weight`` and the keys of torch's older hooks. They are
    turned into those of its chain before ``nn.Module`` compares and copies, so that strict loading, ``assign=True`` and
    the meta device are what they always are.
    """

    def _load_from_state_dict(self: Module, *arguments: Any) -> None:
        # As the last hook: the base class and the hooks of others may rename keys before.
        hook = self.register_load_state_dict_pre_hook(_convert)  # type: ignore[no-untyped-call]
        try:
            load(self, *arguments)
        finally:
            hook.remove()

    return _load_from_state_dict


class _Found(NamedTuple):
    """What a state dict has for a chain, under other keys or in another layout than its own."""

    keys: list[str]
    """The keys that are read."""
    value: Any = None
    """A value of the chain's first ``start`` parametrizations, or None where there is nothing to invert."""
    start: int = 0
    state: Mapping[str, Tensor] = {}
    """What is taken as it is, by its key in the chain."""


def _convert(module: Module, state_dict: dict[str, Any], prefix: str, metadata: dict[str, Any], *rest: Any) -> None:
    assign = bool(metadata.get("assign_to_params_buffers", False))
    errors: list[str] = rest[-1]
    chains, twins, refusals = chains_in(module), {}, []
    for name, chain in chains.items():
        try:
            found = _find(module, name, chain, state_dict, prefix)
            if found is not None:
                twins[name] = found, *_converted(chain, found, assign)
        except Exception as error:
            reason = " ".join([str(error), *getattr(error, "__notes__", ())])
            steps = ", ".join(title(step) for step in chain)
            refusals.append(
                f"'{prefix}{name}' of {title(module)}, parametrized by {steps}, cannot take what the state dict has "
                f"for it: {reason}"
            )
    if refusals:
        errors += refusals
        _keep(module, state_dict, prefix)
        return
    for name, (found, twin, state) in twins.items():
        take_over(chains[name], twin)
        for key in found.keys:
            del state_dict[key]
        state_dict.update({f"{_chain_prefix(prefix, name)}{key}": tensor for key, tensor in state.items()})


def _find(module: Module, name: str, chain: Any, state_dict: dict[str, Any], prefix: str) -> _Found | None:
    """What is to be converted, or None where the state dict has the chain's own keys, or nothing.

    Raises:
        ValueError: it has the tensor twice, or in a form that no parametrization of the chain can read.
    """
    if chain._non_persistent_buffers_set:
        return None  # it is on a buffer that is not saved
    own = _chain_prefix(prefix, name)
    keys = [key for key in state_dict if key.startswith(own)]
    old = _old_names(module, name, chain, state_dict, prefix)
    plain = [prefix + name] if prefix + name in state_dict and (old is None or prefix + name not in old.keys) else []
    ways = [way for way in (plain, old.keys if old else [], keys) if way]
    if len(ways) > 1:
        raise ValueError(f"it is there more than once, as {' and as '.join(_quoted(way) for way in ways)}. Keep one.")
    if plain:
        return _Found(plain, state_dict[plain[0]], len(chain))
    if old is not None:
        return old
    (first, step), *_ = chain._modules.items()
    state = {key.removeprefix(own).removeprefix(f"{first}."): key for key in keys}
    value = _foreign_value(step, {short: state_dict[key] for short, key in state.items()})
    if value is None:
        return None
    return _Found([key for short, key in state.items() if "." not in short], value, 1)


def _old_names(module: Module, name: str, chain: Any, state_dict: dict[str, Any], prefix: str) -> _Found | None:
    held = {*module._parameters, *module._buffers, *chains_in(module)}
    suffixes = [
        suffix for suffix in _OLD_SUFFIXES if prefix + name + suffix in state_dict and name + suffix not in held
    ]
    if not suffixes:
        return None
    found = _quoted(prefix + name + suffix for suffix in suffixes)
    for index, (step_name, step) in enumerate(chain._modules.items()):
        names: Mapping[str, str | None] = getattr(step, "old_names", {})
        if not names.keys() >= set(suffixes):
            continue
        keys = [prefix + name + suffix for suffix in names if prefix + name + suffix in state_dict]
        targets = {target: prefix + name + suffix for suffix, target in names.items() if target is not None}
        state = {target: state_dict[key] for target, key in targets.items() if key in keys}
        value = _foreign_value(step, state)
        if value is not None:
            return _Found(keys, value, index + 1)
        missing = _quoted(key for key in targets.values() if key not in keys)
        if missing:
            raise ValueError(f"it has {found}, but not {missing}.")
        originals = {target for target in state if target.startswith("original")}
        own = {(t if t in originals else f"{step_name}.{t}"): tensor for t, tensor in state.items()}
        return _Found(keys, None, 0, own) if index == 0 else _Found(keys, own.pop("original"), index, own)
    raise ValueError(
        f"{found} are names of torch's older hooks that none of its parametrizations reads. Parametrize it by what the "
        f"checkpoint was saved with, or convert the checkpoint to '{prefix}{name}', the value."
    )


def _foreign_value(step: Any, state: dict[str, Any]) -> Any:
    tensors = {name: tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}
    return step.foreign_value(tensors) if tensors and hasattr(step, "foreign_value") else None


def _converted(chain: Any, found: _Found, assign: bool) -> tuple[Module, dict[str, Tensor]]:
    """A twin of ``chain`` that has what was found, and its state."""
    given = [found.value] if found.value is not None else list(found.state.values())
    for tensor in given:
        if not isinstance(tensor, Tensor):
            raise TypeError(f"expected a tensor, got {type(tensor).__name__}.")
    like = given[0].detach()
    if not assign and not like.is_meta and any(original.is_meta for original in originals_of(chain)):
        raise ValueError("the model is on the meta device. Load with assign=True, or call model.to_empty(...) before.")

    def moved(tensor: Tensor) -> Tensor:
        dtype = like.dtype if _kind(tensor) == _kind(like) else tensor.dtype
        if tensor.is_meta:
            return torch.zeros_like(tensor, device=like.device, dtype=dtype)
        return tensor.to(like.device, dtype)

    with torch.inference_mode(False), torch.no_grad():
        twin = twin_of(chain, _copy)
        meta = [key for key, tensor in _held(twin).items() if tensor.is_meta and not like.is_meta]
        if assign:
            twin._apply(moved)
        empty = {key: (tensor, tensor._version) for key, tensor in _held(twin).items() if key in meta}
        if found.value is not None:
            steps = twin._modules
            twin._modules = dict(list(steps.items())[: found.start])
            for step in twin._modules.values():
                if hasattr(step, "start_anew"):  # a step may keep what an assignment must not change: a load does
                    step.start_anew()
            twin.right_inverse(like if assign else _as_held(like, originals_of(twin)))
            twin._modules = steps
    filled = _held(twin)
    unknown = [key for key, (tensor, version) in empty.items() if filled[key] is tensor and tensor._version == version]
    if unknown := [key for key in unknown if key not in found.state]:
        raise ValueError(
            f"it says nothing about {_quoted(unknown)} of the parametrizations, which are on the meta device. "
            f"Load a state dict of the parametrized model, or build the parametrizations on a real device."
        )
    return twin, {**twin.state_dict(), **found.state}


def _copy(tensor: Tensor) -> Tensor:
    copy = tensor.detach().clone()
    return Parameter(copy, tensor.requires_grad) if isinstance(tensor, Parameter) else copy


def _held(module: Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _as_held(value: Tensor, originals: tuple[Tensor, ...]) -> Tensor:
    """``value`` where the originals are and, as a load without ``assign`` has it, in their dtype."""
    like = originals[0] if len(originals) == 1 else next((x for x in originals if _kind(x) == _kind(value)), None)
    if like is None:  # a value of another kind than all of several originals: complex from real ones, say
        return value.to(originals[0].device)
    if value.is_complex() and not like.is_complex():
        raise ValueError(f"expected {like.dtype}, got {value.dtype}, whose imaginary part would be lost.")
    return value.to(like.device, like.dtype)


def _kind(tensor: Tensor) -> tuple[bool, bool]:
    return tensor.is_floating_point(), tensor.is_complex()


def _keep(module: Module, state_dict: dict[str, Any], prefix: str) -> None:
    """Put what ``module`` has in place of what the state dict has for it: nn.Module goes on loading after an error."""
    own = (*module._parameters, *module._buffers, *chains_in(module))
    kept: dict[str, Any] = {
        prefix + name: tensor
        for name, tensor in (*module._parameters.items(), *module._buffers.items())
        if tensor is not None and name not in module._non_persistent_buffers_set
    }
    for name, chain in chains_in(module).items():
        kept.update(chain.state_dict(prefix=_chain_prefix(prefix, name), keep_vars=True))
    names = {name + suffix for name in own for suffix in ("", *_OLD_SUFFIXES)}
    for key in list(state_dict):
        if key.removeprefix(prefix) in names or key.startswith(f"{prefix}parametrizations."):
            del state_dict[key]
    state_dict.update(kept)


def _chain_prefix(prefix: str, name: str) -> str:
    return f"{prefix}parametrizations.{name}."


def _quoted(keys: Iterable[str]) -> str:
    return ", ".join(f"'{key}'" for key in keys)
