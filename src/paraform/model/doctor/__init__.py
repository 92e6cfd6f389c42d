"""What is wrong with a constrained model, or will be, and what to do about it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import Module
from torch.optim import Optimizer

from ...parametrize import cache
from ...parametrize.named import Named, named_chains
from ..randomness import every_accelerator, kept_randomness
from . import engines, forward, lagging, layers, optimizers, raws, ties, values
from .evaluation import Evaluation, evaluate
from .finding import TITLES, Finding, Report
from .patient import Patient

__all__ = ["TITLES", "Finding", "Report", "doctor"]

_OF_A_MODEL: tuple[Callable[[Patient], Iterable[Finding]], ...] = (
    optimizers.weight_decay,
    optimizers.unknown,
    optimizers.strangers,
    ties.raw_elsewhere,
    ties.shared_raw,
    ties.copies,
    engines.mixed,
    lagging.averaged_bases,
)
_OF_A_CHAIN: tuple[Callable[[Named, Evaluation], Iterable[Finding]], ...] = (
    values.not_finite,
    values.undone,
    values.outside,
    values.switched_off,
    values.ill_conditioned,
    lagging.spectral_norm,
    layers.packed,
)


def doctor(model: Module, optimizer: Optimizer | None = None, sample: Any = None) -> Report:
    """Examine the parametrized tensors of ``model``, and how it and ``optimizer`` use them.

    Nothing is changed: not a number, an estimate, a mode, a gradient or a random state. Values are computed on copies
    of the chains, and the forward pass is one of a copy of the model that shares its parameters. A check that raises
    becomes a finding itself.

    What can be found, and what to do about it, is in ``docs/doctor.md``, by the code of each finding. Warnings are for
    what makes results wrong, notes for what costs time or may be meant.

    Args:
        model: any module. One that ``torch.compile`` gave is taken as what was compiled.
        optimizer: the one that trains it, if it is to be looked at.
        sample: arguments of one forward pass, if that is to be looked at: a tensor, a tuple of arguments or a
            dictionary of named ones.

    Returns:
        The findings, warnings first: a sequence that prints, shows itself in a notebook, and has ``to_dict()``.

    Raises:
        TypeError: ``model`` is no module, or ``optimizer`` no optimizer.

    >>> from torch import nn
    >>> from paraform import Orthogonal, register_parametrization
    >>> layer = register_parametrization(nn.Linear(4, 4), "weight", Orthogonal())
    >>> doctor(layer)
    Nothing found. 1 parametrized tensor looked at.
    >>> print(doctor(layer, torch.optim.AdamW(layer.parameters()))[0])
    PF101 warning: Weight decay where it has no meaning: weight
      weight_decay is 0.01 for original, of which the chain says that shrinking it does not shrink the value.
      Remedy: Make the optimizer of groups: torch.optim.AdamW(paraform.param_groups(model, weight_decay=0.01), ...).
    """
    if not isinstance(model, Module):
        raise TypeError(f"Expected an nn.Module for doctor, got {type(model).__name__}.")
    if optimizer is not None and not isinstance(optimizer, Optimizer):
        raise TypeError(
            f"Expected a torch.optim.Optimizer for doctor, got {type(optimizer).__name__}; a sample goes to sample=."
        )
    model = getattr(model, "_orig_mod", model)
    chains = tuple(named_chains(model))
    kept = frozenset(named.name for named in chains if engines.is_ours(named.chain) and cache.is_kept(named.chain))
    patient = Patient(model, optimizer, sample, chains, kept)
    with _undisturbed():
        findings = list(_findings(patient))
    return Report(findings, len(chains))


def _findings(patient: Patient) -> Iterator[Finding]:
    for check in _OF_A_MODEL:
        yield from _guarded("", check, patient)
    for named in patient.chains:
        sick = list(_guarded(named.name, raws.not_finite, named))
        yield from sick
        try:
            evaluation = evaluate(named.chain)
        except Exception as error:
            yield _unexaminable(named.name, error)
            continue
        for examine in _OF_A_CHAIN:
            yield from _guarded(named.name, examine, named, evaluation)
        if not sick:
            yield from _guarded(named.name, raws.derivatives, named)
    try:
        yield from forward.forward_pass(patient)
    except Exception as error:
        yield Finding(
            "PF902",
            "note",
            "",
            f"One forward pass of a copy of the model raises {_said(error)}",
            "Give a sample that model(...) takes: a tensor, a tuple of arguments or a dictionary of named ones. If the "
            "model cannot be copied (copy.deepcopy), leave the sample out.",
        )


def _guarded(name: str, check: Callable[..., Iterable[Finding]], *args: Any) -> Iterator[Finding]:
    try:
        yield from check(*args)
    except Exception as error:
        yield _unexaminable(name, error)


def _unexaminable(name: str, error: Exception) -> Finding:
    return Finding(
        "PF901",
        "warning",
        name,
        f"To examine it raises {_said(error)}",
        "Read it, module.weight, to see where. A parametrization that does not take the dtype, the device or the shape "
        "that its tensor has now is the usual reason; paraform.testing.check_parametrization finds it.",
    )


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Random numbers of its own, no warnings, and a graph only where it is asked for; then all is as it was."""
    with (
        kept_randomness(every_accelerator()),
        torch.inference_mode(False),
        torch.no_grad(),
        cache.outside(),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        torch.manual_seed(_SEED)
        yield


# None that a user takes: a direction that is drawn by the same numbers as a weight is no random one for it.
_SEED = 0x70617261666F726D
