"""Values: is each in its set, and if not, who took it out?"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, finfo

from ...constraints import Constraint, Correlation, Invertible, PositiveDefinite, SpecialLinear
from ...parametrize.named import Named
from ..measure import condition, wide
from .evaluation import WIDER, Evaluation, evaluate, has_numbers, widened
from .finding import Finding


def not_finite(named: Named, evaluation: Evaluation) -> Iterator[Finding]:
    """PF301, where the raw tensors are finite and the value is not."""
    value = evaluation.value
    if has_numbers(value) and not is_finite(value) and all(map(is_finite, evaluation.raws)):
        count = int((~value.isfinite()).sum())
        yield Finding(
            "PF301",
            "warning",
            named.name,
            f"{count} of {value.numel()} entries of the value are nan or inf, though the raw tensors are finite.",
            "Assign a finite value, which gives the raw tensors new numbers: module.weight = value. And look for what "
            "drove them there: a step too large, or a map that does not take all numbers.",
        )


def undone(named: Named, evaluation: Evaluation) -> Iterator[Finding]:
    """PF302, where steps that leave the space of values alone take the value out of the set of an earlier one."""
    value = evaluation.value
    if not (has_numbers(value) and is_finite(value)):
        return
    steps, outputs = evaluation.steps, evaluation.outputs
    for index in reversed(range(len(steps) - 1)):
        if not leaves_its_values(evaluation, index + 1):
            return  # before this step other things were meant by the numbers
        step = steps[index]
        if _has_set(step, value) and contains(step, outputs[index]) and not contains(step, value):
            later = ", ".join(type(each).__name__ for each in steps[index + 1 :])
            yield Finding(
                "PF302",
                "warning",
                named.name,
                f"{later} takes the value out of the set of {step}, which stands before: it is "
                f"{_outside(step, value):.3g} outside.",
                f"Register one constraint that means both, or take off the one that is not meant: "
                f"module.parametrizations.{named.tensor_name}.remove(index, leave_parametrized=False).",
            )


def outside(named: Named, evaluation: Evaluation) -> Iterator[Finding]:
    """PF303 and PF304, where the value is outside the set of the last step; the latter where more digits mend it."""
    value = evaluation.value
    if not (evaluation.steps and has_numbers(value) and is_finite(value)):
        return
    last = evaluation.steps[-1]
    if not _has_set(last, value) or contains(last, value):
        return
    dtype, finer = str(value.dtype).removeprefix("torch."), _in_more_digits(named)
    what = f"The value is {_outside(last, value):.3g} outside the set of {last}, which is more than rounding to {dtype}"
    if finer is not None and contains(finer.steps[-1], finer.value):
        more = str(finer.value.dtype).removeprefix("torch.")
        yield Finding(
            "PF304",
            "warning",
            named.name,
            f"{what}; computed in {more} it is in the set.",
            f"Compute it in {more} and round the result, as the constraints of paraform do for half precision; or keep "
            f"this module in it, module.to(torch.{more}).",
        )
    else:
        yield Finding(
            "PF303",
            "warning",
            named.name,
            f"{what}.",
            f"The map of {type(last).__name__} is wrong for these raw numbers: hold it against "
            f"paraform.testing.check_parametrization, which says where. Until it is right, assign a value of the set.",
        )


def switched_off(named: Named, evaluation: Evaluation) -> Iterator[Finding]:
    """PF305, for each step that is switched off."""
    for key in getattr(named.chain, "_off", ()):
        index = list(named.chain._modules).index(key)
        yield Finding(
            "PF305",
            "note",
            named.name,
            f"{named.chain[index]}, step {index} of its chain, is switched off: the value is computed without it.",
            f"module.parametrizations.{named.tensor_name}.switch_on({index}), or remove({index}) for good.",
        )


def ill_conditioned(named: Named, evaluation: Evaluation) -> Iterator[Finding]:
    """PF306, where a matrix of a set of invertible ones can no longer be inverted in its precision."""
    value = evaluation.value
    last = evaluation.steps[-1] if evaluation.steps else None
    if not (isinstance(last, _INVERTIBLE) and has_numbers(value) and value.numel() and is_finite(value)):
        return
    found = condition(wide(value))
    limit = 1 / finfo(wide(value).dtype).eps
    if found is not None and found > limit:
        yield Finding(
            "PF306",
            "note",
            named.name,
            f"Its condition number is {found:.3g}. From {limit:.3g} on its precision does not tell it from a singular "
            f"one: an inverse of it may have no correct digit.",
            "Assign a value that is better conditioned, module.weight = value, and train with a smaller learning "
            "rate; or compute in double precision, module.double().",
        )


# Sets of matrices that are invertible by definition. In others (of low rank, skew, masked) singular is what they are.
_INVERTIBLE = (PositiveDefinite, Correlation, Invertible, SpecialLinear)


def leaves_its_values(evaluation: Evaluation, index: int) -> bool:
    """Whether a step, given its own output, gives it back: it maps within one space, as a mask does, or a projection.

    A matrix exponential or a softplus does not: what it takes and what it gives are different things.
    """
    step, output = evaluation.steps[index], evaluation.outputs[index]
    try:
        again = step(output)
    except Exception:
        return False  # it takes something else than it gives
    if not (has_numbers(again) and again.shape == output.shape and again.dtype == output.dtype):
        return False
    distance, size = float((again - output).abs().max()), float(output.abs().max())
    return distance <= _REPEATED * finfo(output.dtype).eps * size


# How often the rounding of a number a step may move it that otherwise leaves it alone.
_REPEATED = 100


def _in_more_digits(named: Named) -> Evaluation | None:
    if not any(tensor.dtype in WIDER for tensor in named.chain.parameters()):
        return None
    try:
        finer = evaluate(named.chain, widened)
    except Exception:
        return None  # something in it has but one precision
    return finer if has_numbers(finer.value) and is_finite(finer.value) else None


def _has_set(step: object, value: Tensor) -> bool:
    """Whether the step knows a set that tensors like the value can be in."""
    if not isinstance(step, Constraint) or value.numel() == 0:
        return False
    try:
        step._check(value.shape, value.dtype)
    except ValueError:
        return False
    return True


def contains(step: object, value: Tensor) -> bool:
    assert isinstance(step, Constraint)
    return bool(step.contains(value).all())


def _outside(step: object, value: Tensor) -> float:
    assert isinstance(step, Constraint)
    return float(step.residual(value).max())


def is_finite(tensor: Tensor) -> bool:
    return bool(tensor.isfinite().all())
