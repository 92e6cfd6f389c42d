"""Raw tensors: can they still train?"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ...parametrize.named import Named
from ...parametrize.switching import originals_of
from .evaluation import copy_of, evaluate, has_numbers
from .finding import Finding
from .values import is_finite

# Adam adds 1e-8 to what it divides by, so a gradient that is a hundredth of it moves nothing any more.
_VANISHED = 1e-10
# Raw numbers up to 1 are those at which maps do what they are made for.
_MODERATE = 1.0


def not_finite(named: Named) -> Iterator[Finding]:
    """PF401, for each raw tensor with an entry that is nan or inf."""
    for name, raw in _raws(named):
        if has_numbers(raw) and not is_finite(raw):
            count = int((~raw.isfinite()).sum())
            yield Finding(
                "PF401",
                "warning",
                named.name,
                f"{count} of {raw.numel()} entries of {name} are nan or inf.",
                "Load an earlier checkpoint, or assign a finite value: module.weight = value. An optimizer that has "
                "seen them has them in its moments: make it anew.",
            )


def derivatives(named: Named) -> Iterator[Finding]:
    """PF402 and PF403, where the derivative of the value vanishes though it would not nearer to zero, or is no number.

    Entries that a map does not read, behind a mask say, have no derivative anywhere and are not counted. Nor is one of
    two factors where the other is zero: it is the same for smaller numbers. What wants no gradient is not to train.
    """
    if not all(has_numbers(raw) and is_finite(raw) for raw in originals_of(named.chain)):
        return
    here = _slopes(named, moderate=False)
    if here is None:
        return
    there = None
    for index, (name, raw) in enumerate(_raws(named)):
        if not raw.requires_grad:
            continue
        slope = here[index]
        bad = int((~slope.isfinite()).sum())
        if bad:
            yield Finding(
                "PF403",
                "warning",
                named.name,
                f"The derivative with respect to {bad} of {raw.numel()} entries of {name} is nan or inf, so that one "
                f"step of an optimizer destroys them.",
                "Move them away from there: module.weight = value, a little inside of the set. Or use a map that has a "
                "derivative there, as a norm with an eps has at zero.",
            )
            continue
        if not bool((slope <= _VANISHED).any()):
            continue
        if there is None:
            there = _slopes(named, moderate=True)
        if there is None:
            return
        vanished = (slope <= _VANISHED * there[index]) & (there[index] > 0) & there[index].isfinite()
        count = int(vanished.sum())
        if count:
            largest = float(raw.detach().abs().max())
            yield Finding(
                "PF402",
                "warning",
                named.name,
                f"The derivative with respect to {count} of {raw.numel()} entries of {name} vanishes (raw numbers up "
                f"to {largest:.3g}): they no longer train.",
                "Assign a value a little inside of the set, module.weight = value, and train with a smaller learning "
                "rate, or with weight decay of this raw tensor. What is meant to stay can be set to "
                "requires_grad_(False).",
            )


def _raws(named: Named) -> Iterator[tuple[str, Tensor]]:
    raws = originals_of(named.chain)
    for index, raw in enumerate(raws):
        yield "original" if named.chain.is_tensor else f"original{index}", raw


def _slopes(named: Named, *, moderate: bool) -> list[Tensor] | None:
    """How much each entry of each raw tensor moves the value, in a random direction; None where there is no graph.

    With ``moderate``, at raw numbers that are no larger than 1, which tells what has no slope anywhere.
    """
    raws = set(map(id, originals_of(named.chain)))

    def own(tensor: Tensor) -> Tensor:
        copy = copy_of(tensor)
        if id(tensor) not in raws:
            return copy
        return (copy / copy.abs().clamp_min(_MODERATE) if moderate else copy).requires_grad_()

    with torch.enable_grad():
        evaluation = evaluate(named.chain, own)
        value = evaluation.value
        if not (has_numbers(value) and value.requires_grad):
            return None
        direction = torch.randn(value.shape, dtype=value.dtype, device=value.device)
        slopes = torch.autograd.grad(value, evaluation.raws, direction, allow_unused=True)
    return [
        torch.zeros_like(raw.detach()) if slope is None else slope.abs()
        for slope, raw in zip(slopes, evaluation.raws, strict=True)
    ]
