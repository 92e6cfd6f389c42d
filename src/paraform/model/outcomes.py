"""What becomes of the tensors that a recipe names: constrained, or refused for a reason; and how that is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch.nn import Module
from torch.optim import Optimizer

from ..constraints import Constraint, ConstraintError
from ..constraints.rounding import relative_tolerance
from ..parametrize.errors import explain, title
from ..parametrize.lazy import becomes_another
from ..parametrize.registration import register_chain
from ..parametrize.tensors import numbers_of
from .measure import step_text
from .recipe import Place, Rule


@dataclass
class Target:
    """A tensor under all its names, and the rules that name it."""

    places: list[Place]
    rules: list[Rule] = field(default_factory=list)


@dataclass
class Outcome:
    """What became of a tensor."""

    name: str
    """All its names."""
    shape: str
    steps: Sequence[Module] = ()
    rule: str = ""
    moved: str = ""
    """How far its value moved, if that is known."""
    refusal: Exception | None = None


def put_on(target: Target, optimizer: Optimizer | None, strict: bool) -> Outcome | None:
    """Put on a tensor what its rules say; None if that is nothing. A refusal is returned, and nothing is undone."""
    place = target.places[0]
    outcome = Outcome(" = ".join(each.name for each in target.places), _shape_of(place))
    try:
        claims = [(rule, steps) for rule in target.rules if (steps := rule.steps_for(place)) is not None]
        if not claims:
            return None
        outcome.rule = " and ".join(rule.text for rule, _ in claims)
        outcome.steps = claims[0][1] if len(claims) == 1 else ()
        _check_claims(place, [rule for rule, _ in claims], strict)
        norm = _norm(place)
        register_chain(place.module, place.tensor_name, outcome.steps, optimizer=optimizer)
        outcome.moved = _moved(place, outcome.steps, norm, strict)
    except Exception as error:
        outcome.rule = outcome.rule or " and ".join(rule.text for rule in target.rules)
        outcome.refusal = error
    return outcome


def _check_claims(place: Place, rules: list[Rule], strict: bool) -> None:
    if len(rules) > 1:
        raise ValueError(
            f"{len(rules)} rules name it: {' and '.join(rule.text for rule in rules)}. Narrow them down to one; if a "
            "chain is meant, give one of them a list, [First(), Second()]."
        )
    if place.steps:
        name = place.tensor_name
        raise ValueError(
            f"{', '.join(map(step_text, place.steps))} is on it already. Leave it out of the recipe, or take that off "
            f"first: remove_parametrizations(module, '{name}'). (To put a parametrization behind it, call "
            f"register_parametrization(module, '{name}', parametrization).)"
        )
    if strict and (place.is_lazy or becomes_another(place.module)):
        raise RuntimeError(
            f"'{place.tensor_name}' of {title(place.module)} has no entries yet, so nobody can say whether it would "
            "move. Run one forward pass first, or leave out strict=True."
        )


def _moved(place: Place, steps: Sequence[Module], norm: float | None, strict: bool) -> str:
    """How far the value moved, to be read.

    Raises:
        ConstraintError: it did, and ``strict``.
    """
    chain = place.chain
    if chain is None:
        return "put off until the first forward pass"
    if chain.moved is None or norm is None:
        return ""
    distance = float(chain.moved)
    if not _is_move(place, steps, distance, norm):
        return "0"
    text = f"{distance:.3g}" + (f" ({distance / norm:.2g} of its norm)" if norm else "")
    if strict:
        raise ConstraintError(
            f"It is outside of {', '.join(map(step_text, steps))} and would move by {text}. Leave out strict=True to "
            "let it move."
        )
    return text


def _is_move(place: Place, steps: Sequence[Module], distance: float, norm: float) -> bool:
    """Whether a value moved by more than rounding. A constraint tells the two apart in each precision."""
    counted = [step.distance for step in steps if isinstance(step, Constraint)]
    if len(counted) == len(steps) and None not in counted:
        return any(bool(each > 0) for each in counted if each is not None)
    value = place.value()
    return distance > relative_tolerance(value, range(value.ndim)) * norm


def _norm(place: Place) -> float | None:
    """The Frobenius norm of the value; None where there is nothing to measure."""
    numbers = None if place.is_lazy else numbers_of(place.value())
    return None if numbers is None else float(torch.linalg.vector_norm(numbers))


def _shape_of(place: Place) -> str:
    return "none yet" if place.is_lazy else str(tuple(place.value().shape))


_PLAIN = (TypeError, ValueError, RuntimeError, ConstraintError)
"""Exceptions that are made of a sentence and nothing else."""


def raise_refusals(outcomes: list[Outcome]) -> None:
    """Raise what was refused: one error that lists all tensors with their reasons, of the type that all have."""
    refused = [outcome for outcome in outcomes if outcome.refusal is not None]
    if not refused:
        return
    error = refused[0].refusal
    assert error is not None
    kinds = {type(outcome.refusal) for outcome in refused}
    if len(refused) == 1 and kinds.isdisjoint(_PLAIN):
        explain(error, f"while constraining '{refused[0].name}' by the rule {refused[0].rule}; nothing was changed")
        raise error
    kind = type(error) if len(kinds) == 1 and not kinds.isdisjoint(_PLAIN) else ValueError
    count = "A tensor is" if len(refused) == 1 else f"{len(refused)} tensors are"
    raise kind("\n".join([f"{count} refused, and nothing was changed:", *_reasons(refused, kind)])) from error


def _reasons(refused: list[Outcome], said: type[Exception] = ValueError) -> list[str]:
    """A line for each reason, and one below it for each tensor that was refused for it. ``said`` need not be named."""
    tensors: dict[str, list[str]] = {}
    for outcome in refused:
        error = outcome.refusal
        kind = "" if isinstance(error, (ValueError, said)) else f"{type(error).__name__}: "
        text = str(error).strip()
        is_told = any(f"{words} {outcome.rule}" in text for words in ("The rule", "rules name it:"))
        rule = "" if is_told else f" (the rule {outcome.rule})"
        reason = f"{kind}{text}{rule}:"
        tensors.setdefault(reason, []).append(f"    {outcome.name}, shape {outcome.shape}")
    return [line for reason, names in tensors.items() for line in (f"- {reason}", *names)]


def table(outcomes: list[Outcome]) -> str:
    """What would be done, a line for each tensor, and what would be refused for which reason."""
    head = ("tensor", "shape", "gets", "moves by", "rule")
    rows = [head] + [
        (
            outcome.name,
            outcome.shape,
            ", ".join(map(step_text, outcome.steps)),
            outcome.moved if outcome.refusal is None else "is refused",
            outcome.rule,
        )
        for outcome in outcomes
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    refused = [outcome for outcome in outcomes if outcome.refusal is not None]
    if refused:
        lines += ["", f"Refused, so that nothing would be changed ({len(refused)} of {len(outcomes)}):"]
        lines += _reasons(refused)
    return "\n".join(lines if outcomes else ["The recipe puts nothing on any tensor."])
