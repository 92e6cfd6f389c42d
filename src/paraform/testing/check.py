"""Hold a parametrization against the laws."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from textwrap import indent
from typing import Any

import torch
from torch import Tensor, nn

from .. import parametrize
from ..parametrize.errors import explain
from .law import InapplicableError, all_laws
from .subject import Subject

LAWS: Mapping[str, str] = {name: law.sentence for name, law in all_laws().items()}
"""The laws: a name and a sentence each."""


class LawError(AssertionError):
    """A parametrization breaks laws; the message has each, with its numbers.

    Attributes:
        broken: the names of the laws that are broken, and what was found.
    """

    def __init__(self, subject: str, seed: int, checked: int, broken: Mapping[str, str]) -> None:
        self.broken = dict(broken)
        lines = "\n".join(f"  {name}: {LAWS[name]}\n{indent(found, '    ')}" for name, found in broken.items())
        super().__init__(f"{subject} (seed {seed}) breaks {len(broken)} of the {checked} laws checked:\n{lines}")


def check_parametrization(
    make: Callable[[], object],
    shape: Sequence[int],
    *,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
    draw: Callable[..., Tensor] = torch.randn,
    engine: Any = parametrize,
    laws: Collection[str] = tuple(LAWS),
    seed: int = 0,
) -> dict[str, str]:
    """Hold a parametrization, a constraint of paraform or your own module, against the laws of :data:`LAWS`.

    A plain module needs a ``forward``, and for most laws a ``right_inverse``. Laws about its set (projection, residual,
    samples, dimension) apply to a module that has the methods ``project``, ``residual``, ``sample`` and ``dof`` of
    :class:`paraform.Constraint`; whether values stay in the set is asked of the first two. Random numbers come
    from ``seed`` alone, and torch's generators are left as they were. Warnings are ignored meanwhile.

    Args:
        make: gives a new parametrization at each call: a class, or a ``lambda`` that has the arguments. What it returns
            is what ``register_parametrization`` takes, a function or a pair ``(function, inverse)`` too. Buffers and
            parameters of a module are brought to the dtype (unless complex) and the device of the tensor.
        shape: of the tensor that it is registered on; small, for derivatives are checked entry by entry.
        dtype: of that tensor, ``torch.float64`` or ``torch.complex128``: laws about other dtypes derive theirs from it.
        device: of that tensor.
        draw: gives the tensor that it is registered on, called as ``torch.randn`` is. For a map that is not defined
            everywhere: ``torch.rand`` for a logarithm.
        engine: what registers it, :mod:`paraform.parametrize` or ``torch.nn.utils.parametrize`` (whose layers cannot be
            pickled).
        laws: the names of those to be checked. ``set(LAWS) - {"nearest"}`` for a projection that is not the nearest
            point, and ``- {"batch"}`` where leading dimensions are no batch.
        seed: where random numbers start.

    Returns:
        Each law with ``"holds"``, or with the reason why it does not apply.

    Raises:
        LawError: with all the laws that are broken, and the numbers. The error of the first is its cause.
        TypeError: ``make`` is a parametrization, where something that makes one is needed; or ``shape`` is an int, or
            ``laws`` a string.
        ValueError: ``laws`` has a name that there is none of, or ``dtype`` is no double precision, or
            ``make`` gives one module twice.

    >>> from torch import nn
    >>> from paraform import Symmetric
    >>> check_parametrization(Symmetric, (3, 3))["nearest"]
    'holds'
    >>> class Wrong(nn.Module):
    ...     def forward(self, raw):
    ...         return raw.triu() + raw.triu().mT
    ...     def right_inverse(self, value):
    ...         return value.triu()
    >>> check_parametrization(Wrong, (3, 3), laws=["round_trip", "vmap"])
    Traceback (most recent call last):
    paraform.testing.check.LawError: Wrong() on shape (3, 3), float64 (seed 0) breaks 1 of the 2 laws checked:
      round_trip: forward(right_inverse(value)) is the value, for a point of the set.
        a point of the set comes back with an error of ...; 1e-10 is allowed
    """
    if isinstance(shape, int) or isinstance(laws, str):
        raise TypeError(f"Expected a shape like (3, 3) and laws like ['start'], got {shape!r} and {laws!r}.")
    unknown = sorted(set(laws) - set(LAWS))
    if unknown:
        raise ValueError(f"Expected laws out of {', '.join(LAWS)}, got {', '.join(unknown)}.")
    if dtype not in (torch.float64, torch.complex128):
        raise ValueError(
            f"Expected torch.float64 or torch.complex128, got {dtype}; other dtypes have laws of their own."
        )
    _require_maker(make)
    subject = Subject(make, tuple(shape), dtype, torch.device(device), draw, engine=engine)
    with _alone(seed):
        try:
            title = str(subject)
            made = [make(), make()]
        except Exception as error:
            explain(error, "while making the parametrization; for a function write lambda: function")
            raise
    if isinstance(made[0], nn.Module) and made[0] is made[1]:
        raise ValueError(f"Expected a new one at each call of make, got one {type(made[0]).__name__} twice.")
    found: dict[str, str] = {}
    broken: dict[str, str] = {}
    errors: list[Exception] = []
    for name, law in all_laws().items():
        if name not in laws:
            continue
        with _alone(seed):
            try:
                law.check(subject)
                found[name] = "holds"
            except InapplicableError as reason:
                found[name] = f"does not apply: {reason}"
            except AssertionError as error:
                broken[name] = str(error) or repr(error)
                errors.append(error)
            except Exception as error:  # what a parametrization raises is what is found
                errors.append(error)
                broken[name] = f"{type(error).__name__}: {' '.join([str(error), *getattr(error, '__notes__', ())])}"
    if broken:
        raise LawError(title, seed, len(found) + len(broken), broken) from errors[0]
    return found


@contextmanager
def _alone(seed: int) -> Iterator[None]:
    """Random numbers from ``seed``, gradients in whatever mode the caller is, no warnings; then all is as it was."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    kind = "cuda" if accelerator is None else accelerator.type
    devices = range(torch.accelerator.device_count())
    with (
        torch.random.fork_rng(devices, device_type=kind),
        torch.inference_mode(False),
        torch.enable_grad(),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # torch's, of missing batching rules and the like, and ours of a projection
        torch.manual_seed(seed)
        yield


def _require_maker(make: object) -> None:
    """Refuse a parametrization itself: each law needs new ones, and would fail with an error of the call."""
    if isinstance(make, nn.Module | tuple):
        got = f"an instance of {type(make).__name__}" if isinstance(make, nn.Module) else "a pair"
        raise TypeError(
            f"Expected a function that makes a new parametrization at each call, got {got}. Write the class, or a "
            "lambda that makes it; for a pair lambda: (function, inverse), for a function lambda: function."
        )
