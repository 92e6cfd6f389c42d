"""Put constraints on the tensors of a whole model by a recipe."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from torch.nn import Module
from torch.optim import Optimizer

from ..parametrize.errors import title
from ..parametrize.together import unchanged_modules
from .near_misses import near_misses
from .outcomes import Outcome, Target, put_on, raise_refusals, table
from .randomness import kept_randomness
from .recipe import Rule, places_of, rules_of, title_of


def constrain(
    model: Module,
    recipe: Mapping[Any, Any],
    *,
    optimizer: Optimizer | None = None,
    strict: bool = False,
    dry_run: bool = False,
) -> Module:
    """Put constraints on tensors of ``model``, as a recipe says: all that it names, or none.

    A recipe is a dict. Each of its rules says for which tensors it is, and what it puts on them:

    ===========================================  ======================================================================
    key                                          the tensors
    ===========================================  ======================================================================
    ``"encoder.layers.0.linear1.weight"``        the parameter or buffer of this full name, that of the state dict
    ``"encoder.*.linear?.weight"``               the parameters whose full name fits, as in ``fnmatch.fnmatchcase``:
                                                 ``*`` is any text, with or without dots, ``?`` any one character
    ``(nn.Linear, "weight")``,                   the parameters whose own name is, or fits, the second, in modules of
    ``((nn.RNN, nn.GRU), "weight_hh_l*")``       the type, of a subclass, or of one of several; an exact name may be a
                                                 buffer's
    ``lambda name, tensor: tensor.ndim == 2``    the parameters of which the function says so, asked with full names
    ===========================================  ======================================================================

    ===========================================  ======================================================================
    value                                        what each of them gets
    ===========================================  ======================================================================
    ``Orthogonal()``, any ``nn.Module``          a copy of it
    ``[Skew(), Function(torch.matrix_exp)]``     a chain of copies, the first one first (nearest to the raw tensor)
    ``lambda tensor: Orthogonal()``              one of the above that the function gives, or nothing if that is None.
                                                 (A function that *is* the parametrization is written ``Function(f)``.)
    ===========================================  ======================================================================

    Values are kept where they are in the set, through all the steps of a chain, and move to the nearest point that the
    constraints know otherwise. Tied tensors are one tensor, which all its modules have constrained. On a lazy module
    the registration is put off, a step at a time, until its first forward pass.

    If anything is refused, or the call is interrupted, the model and its optimizers are as before, to the bit. (It
    remembers the tensors that are named, in as much memory again. What a function of the recipe writes to is not
    undone. An undone call, a dry run too, has written to the tensors, so that ``backward()`` refuses a graph that was
    made before it and needs them.)

    Args:
        model: the model, or any module.
        recipe: the rules. Each must name a tensor, and no tensor may get something from two of them.
        optimizer: one that trains the tensors; see :func:`~paraform.register_parametrization`.
        strict: refuse to move a value: for a trained model whose weights are thought to be in the sets already. What
            is nothing but rounding does not count, nor where there are no entries to compare (on the meta device).
        dry_run: change nothing, and print what would be done: tensors, shapes, chains, how far the values would move
            (absolutely, and relative to their norms), by which rule, and what would be refused for which reason.

    Returns:
        ``model`` itself.

    Raises:
        TypeError: ``model``, ``recipe``, a key or a value is something else than what is said here.
        ValueError: a rule names no tensor (near misses are named), or two rules one; or a tensor is parametrized
            already; or a constraint does not suit a tensor, or ``optimizer`` does not train it. If more than one
            tensor is refused, the error lists them all, each with the reason.
        ConstraintError: ``strict``, and values are outside of their sets; how far is said of each.
        RuntimeError: a function is to be asked of a tensor that has no shape yet, or a module cannot be parametrized.
        Exception: what functions of the recipe raise; and what :func:`~paraform.register_parametrization` raises, if
            one tensor is refused.

    >>> import torch
    >>> from torch import nn
    >>> from paraform.constraints import Blocks, Orthogonal, WeightNorm
    >>> model = nn.TransformerEncoderLayer(d_model=4, nhead=2, dim_feedforward=8)
    >>> recipe = {"self_attn.in_proj_weight": Blocks(Orthogonal(), 3), (nn.Linear, "weight"): WeightNorm()}
    >>> model = constrain(model, recipe, dry_run=True)
    tensor                     shape    gets                       moves by                  rule
    self_attn.in_proj_weight   (12, 4)  Blocks(Orthogonal(...), 3) ... (... of its norm)     'self_attn.in_proj_weight'
    self_attn.out_proj.weight  (4, 4)   WeightNorm()               0                         (Linear, 'weight')
    linear1.weight             (8, 4)   WeightNorm()               0                         (Linear, 'weight')
    linear2.weight             (4, 8)   WeightNorm()               0                         (Linear, 'weight')
    >>> query, key, value = constrain(model, recipe).self_attn.in_proj_weight.chunk(3)
    >>> torch.dist(key @ key.T, torch.eye(4)) < 1e-5
    tensor(True)
    """
    if not isinstance(model, Module):
        raise TypeError(f"Expected an nn.Module to constrain, got {title_of(model)}.")
    if optimizer is not None and not isinstance(optimizer, Optimizer):
        raise TypeError(f"Expected a torch.optim.Optimizer to hand over, got {title_of(optimizer)}.")
    targets = _targets(model, rules_of(recipe))
    modules = [place.module for target in targets for place in target.places]
    if dry_run:
        devices = {tensor.device for tensor in (*model.parameters(), *model.buffers())}
        with contextlib.suppress(_RehearsalEnd), kept_randomness(devices), unchanged_modules(modules, optimizer):
            outcomes = _put_on(targets, optimizer, strict)
            raise _RehearsalEnd
        print(table(outcomes))
        return model
    with unchanged_modules(modules, optimizer):
        raise_refusals(_put_on(targets, optimizer, strict))
    return model


class _RehearsalEnd(Exception):  # noqa: N818 (nothing went wrong)
    """Everything was tried, and is to be undone."""


def _targets(model: Module, rules: list[Rule]) -> list[Target]:
    """What the rules name, in the order of the model."""
    places = places_of(model)
    targets: dict[int, Target] = {}
    for place in places:
        targets.setdefault(place.identity, Target([])).places.append(place)
    lost = []
    for rule in rules:
        matches = rule.matching(places)
        for place in matches:
            target = targets[place.identity]
            if rule not in target.rules:
                target.rules.append(rule)
        if not matches:
            lost.append(f"The rule {rule.text} names no tensor of {title(model)}.{near_misses(rule, places)}")
    if lost:
        raise ValueError("\n".join(lost))
    return [target for target in targets.values() if target.rules]


def _put_on(targets: list[Target], optimizer: Optimizer | None, strict: bool) -> list[Outcome]:
    outcomes = (put_on(target, optimizer, strict) for target in targets)
    return [outcome for outcome in outcomes if outcome is not None]
