"""Hand an optimizer over when the parameters behind a tensor are exchanged for others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch.nn import Module, Parameter
from torch.optim import Optimizer

from .classes import chain_of
from .errors import title
from .moments import start
from .owners import is_original_elsewhere, is_submodule


@contextmanager
def handed_over(optimizer: Optimizer | None, module: Module, name: str) -> Iterator[None]:
    """Exchange in ``optimizer`` the parameters that the body exchanges behind the tensor ``name`` of ``module``.

    The new ones stand where the old ones stood, in the same group. An old one that still serves another module stays.
    Whatever is new, or means something else than before, starts anew: nothing is remembered of its gradients.

    Raises:
        TypeError: ``optimizer`` is no optimizer.
        ValueError: it does not train the tensor, or keeps its parameters in more places than its groups.
    """
    if optimizer is None:
        yield
        return
    chain = chain_of(module, name)
    # By their identities: the optimizer holds them, and registration counts who else holds a tensor.
    before = {key: id(parameter) for key, parameter in _parameters_behind(module, name).items()}
    if chain is None and not before and module._buffers.get(name) is None:
        yield  # and refuse the name, in better words
        return
    originals = {*before.values()} if chain is None else _ids(chain._parameters.values())
    _check(optimizer, originals, module, name)
    yield
    after = _parameters_behind(module, name)
    if chain is not None and chain_of(module, name) is None:
        after |= _still_used(chain, name)
    _exchange(optimizer, before, after)


def _parameters_behind(module: Module, name: str) -> dict[str, Parameter]:
    """What trains the tensor, by its name in ``module``: the originals, and then what the parametrizations have."""
    chain = chain_of(module, name)
    if chain is not None:
        return dict(chain.named_parameters(f"parametrizations.{name}"))
    plain = module._parameters.get(name)
    return {} if plain is None else {name: plain}


def _still_used(chain: Module, name: str) -> dict[str, Parameter]:
    """Those of a chain that was taken off which serve other modules too: after a transfer, or through a shared step."""
    shared = {id(chain._parameters[key]) for key in chain._parameters if is_original_elsewhere(chain, key)}
    for step in chain.children():
        if is_submodule(step, besides=chain):
            shared |= _ids(step.parameters())
    parameters = chain.named_parameters(f"parametrizations.{name}")
    return {key: parameter for key, parameter in parameters if id(parameter) in shared}


def _check(optimizer: Optimizer, originals: set[int], module: Module, name: str) -> None:
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"Expected a torch.optim.Optimizer to hand over, got {type(optimizer).__name__}.")
    kind, known = type(optimizer).__name__, _known(optimizer)
    if not originals or not originals <= known:
        raise ValueError(
            f"This {kind} does not train '{name}' of {title(module)}. Give the optimizer that does, or leave out "
            "optimizer=."
        )
    for attribute, value in vars(optimizer).items():
        if attribute != "param_groups" and isinstance(value, (list, tuple)) and not known.isdisjoint(_ids(value)):
            raise ValueError(
                f"{kind} keeps its parameters in its '{attribute}' too (as one long vector, for example), so they "
                "cannot be exchanged one by one. Leave out optimizer=, and make a new one afterwards."
            )


def _exchange(optimizer: Optimizer, before: dict[str, int], after: dict[str, Parameter]) -> None:
    known = {id(parameter): parameter for group in optimizer.param_groups for parameter in group["params"]}
    kept = {id(parameter): key for key, parameter in after.items()}
    old = {key: known[identity] for key, identity in before.items() if identity in known}
    new = {key: parameter for key, parameter in after.items() if id(parameter) not in known}
    anew = list(new.values())
    # All lists are changed in place: a scheduler may hold them.
    (first_key, first), *_ = old.items()
    home, place = _place_of(first, optimizer)
    prefix = _prefix(home, place, first_key)
    behind = 1 + max(index for index, each in enumerate(home["params"]) if id(each) in _ids(old.values()))
    home["params"][behind:behind] = new.values()
    if "param_names" in home:
        home["param_names"][behind:behind] = [prefix + key for key in new]
    for key, parameter in old.items():
        group, place = _place_of(parameter, optimizer)
        now = kept.get(id(parameter))
        if now == key:
            continue
        optimizer.state.pop(parameter, None)
        parameter.grad = None
        if now is None:
            for column in {"params", "param_names"} & group.keys():
                del group[column][place]
        else:
            anew.append(parameter)
            if "param_names" in group:
                group["param_names"][place] = prefix + now
    for parameter in anew:
        start(optimizer, home, parameter)


def _place_of(parameter: Parameter, optimizer: Optimizer) -> tuple[dict[str, Any], int]:
    return next(
        (group, index)
        for group in optimizer.param_groups
        for index, each in enumerate(group["params"])
        if each is parameter
    )


def _prefix(group: dict[str, Any], place: int, key: str) -> str:
    """What the optimizer puts before the names of the module's own tensors."""
    name: str = group.get("param_names", {place: key})[place]
    return name.removesuffix(key) if f".{name}".endswith(f".{key}") else f"{name}."


def _known(optimizer: Optimizer) -> set[int]:
    return _ids(parameter for group in optimizer.param_groups for parameter in group["params"])


def _ids(things: Iterable[object]) -> set[int]:
    return {id(thing) for thing in things}
