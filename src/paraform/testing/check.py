"""Hold a parametrization against the laws."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import torch
from torch import Tensor

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
        lines = "\n".join(f"  {name}: {LAWS[name]}\n    {found}" for name, found in broken.items())
        super().__init__(f"{subject} (seed {seed}) breaks {len(broken)} of the {checked} laws checked:\n{lines}")


def check_parametrization(
    make: Callable[[], object],
    shape: Sequence[int],
    *,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
    draw: Callable[..., Tensor] = torch.randn,
    laws: Collection[str] = tuple(LAWS),
    seed: int = 0,
) -> dict[str, str]:
    """Hold a parametrization, a constraint of paraform or your own module, against the laws of :data:`LAWS`.

    A plain module needs a ``forward``, and for most laws a ``right_inverse``. Laws about its set (projection, residual,
    samples, dimension) apply to a module that has the methods ``project``, ``residual``, ``sample`` and ``dof`` of
    :class:`paraform.Constraint`; whether values stay in the set is asked of the first two. Random numbers come
    from ``seed`` alone, and torch's generators are left as they were.

    Args:
        make: gives a new parametrization at each call: a class, or a ``lambda`` that has the arguments. What it returns
            is what ``register_parametrization`` takes, a function or a pair ``(function, inverse)`` too.
        shape: of the tensor that it is registered on; small, for derivatives are checked entry by entry.
        dtype: of that tensor, ``torch.float64`` or ``torch.complex128``: laws about other dtypes derive theirs from it.
        device: of that tensor.
        draw: gives the tensor that it is registered on, called as ``torch.randn`` is. For a map that is not defined
            everywhere: ``torch.rand`` for a logarithm.
        laws: the names of those to be checked. ``set(LAWS) - {"nearest"}`` for a projection that is not the nearest
            point, and ``- {"batch"}`` where leading dimensions are no batch.
        seed: where random numbers start.

    Returns:
        Each law with ``"holds"``, or with the reason why it does not apply.

    Raises:
        LawError: with all the laws that are broken, and the numbers.
        TypeError: ``make`` is a parametrization itself, or nothing to call; or ``laws`` is a single string.
        ValueError: ``laws`` has a name that there is none of, or ``dtype`` is no double precision.

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
    if isinstance(make, torch.nn.Module) or not callable(make):
        raise TypeError(f"Expected what makes a parametrization, got {make!r}; give its class, or lambda: ... of it.")
    if isinstance(laws, str):
        raise TypeError(f"Expected several names of laws, got {laws!r}; give [{laws!r}].")
    unknown = sorted(set(laws) - set(LAWS))
    if unknown:
        raise ValueError(f"Expected laws out of {', '.join(LAWS)}, got {', '.join(unknown)}.")
    if dtype not in (torch.float64, torch.complex128):
        raise ValueError(
            f"Expected torch.float64 or torch.complex128, got {dtype}; other dtypes have laws of their own."
        )
    subject = Subject(make, tuple(shape), dtype, torch.device(device), draw)
    found, broken = {}, {}
    for name, law in all_laws().items():
        if name not in laws:
            continue
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            try:
                law.check(subject)
                found[name] = "holds"
            except InapplicableError as reason:
                found[name] = f"does not apply: {reason}"
            except AssertionError as error:
                broken[name] = str(error)
            except Exception as error:  # what a parametrization raises is what is found
                broken[name] = f"{type(error).__name__}: {' '.join([str(error), *getattr(error, '__notes__', ())])}"
    if broken:
        raise LawError(str(subject), seed, len(found) + len(broken), broken)
    return found
