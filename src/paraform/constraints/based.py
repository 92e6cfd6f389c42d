"""Sets whose values are a base, moved by a map of the raw tensor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import maps
from .base import Constraint
from .buffers import Checked
from .rounding import tolerance

# So many moves of a base in float32 add up to a rounding error that one Newton-Schulz step takes away.
_UNREFINED = 16


class Based(Constraint):
    """A trivialization: the value is :attr:`base`, a point of the set, moved by a map of a raw tensor that starts at 0.

    Registration and assignment make the given value the base (M. Lezcano-Casado, *Trivializations for gradient-based
    optimization on manifolds*, 2019). A base that has left the set, by a narrower dtype or by an average over models,
    is replaced by the nearest point of the set at the next read.

    Attributes:
        base: where the raw tensor is zero; None before registration. A buffer, saved with the state.
        moves: whether :meth:`rebase` can take what ``forward`` gives for a base. It is not inherited, for it is a
            promise about one ``forward``: a class says so itself.
    """

    base: Tensor | None
    moves: bool = False

    def __init__(self, *, strict: bool = False) -> None:
        super().__init__(strict=strict)
        self.register_buffer("base", None)
        self._checked = Checked()
        self._moves = 0

    def _required_base(self) -> Tensor:
        """The base, in the set."""
        base = self._base_in_set()
        if base is None:
            raise RuntimeError(
                f"{self} has no base yet: it takes its base from the tensor that it is registered on, as the first "
                f"parametrization there. Register it before the others, or call right_inverse with a value first."
            )
        return base

    def _base_in_set(self) -> Tensor | None:
        """The base; if it has changed and is outside the set, the nearest point takes its place."""
        base = self.base
        if base is None or self._checked.is_needless(base):
            return base
        # What is neither in the set nor away from it (nan, or memory that a load is yet to fill) stays as it is.
        if bool(self._strays(base).any()):
            with torch.inference_mode(False), torch.no_grad():
                base = self._nearest_base(base)
            if maps.is_of_a_transform(base):  # what a transform made ends with it
                return base
            self.base = base
        self._checked.note(base)
        return base

    def stack_key(self) -> object:
        """As ever; None while the base is still to be looked at, which replaces it here."""
        base = self._buffers["base"]  # at hand sooner than by its name
        return super().stack_key() if base is not None and self._checked.is_needless(base) else None

    def hold_stack(self) -> None:
        """Take the bases, each of which was looked at, for bases in the set."""
        if self.base is not None:
            self._checked.note(self.base)

    def _strays(self, base: Tensor) -> Tensor:
        """Whether a base is outside of the set of bases."""
        return self.residual(base) > tolerance(base, self._dims(base))

    def _nearest_base(self, base: Tensor) -> Tensor:
        return self.project(base)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Based:
        before = self.base
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.base is not None and before is not None and _eps(self.base) < _eps(before):
            self._base_in_set()
        return self

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        self._base_in_set()

    def _raw(self, value: Tensor) -> Tensor | tuple[Tensor, ...]:
        self._hold(value.detach().clone())
        return torch.zeros_like(value)

    @property
    def has_base(self) -> bool:
        """Whether there is a base that can move, as there is from registration on."""
        return self.base is not None and bool(vars(type(self)).get("moves", False))

    def rebase(self, *raws: Tensor) -> tuple[Tensor, ...]:
        """Move the base to the value of ``raws``: the raw tensors that stand for it then. :func:`paraform.rebase` asks.

        Every 16th time the value is brought nearer to the set, which rounding would leave in the long run.

        Raises:
            ValueError: the value is not finite; nothing has changed.
        """
        with torch.inference_mode(False), torch.no_grad():
            value = self(*raws)
            if maps.has_entries(value) and not maps.is_finite(value):
                raise ValueError(
                    f"{self} expects a finite value to move its base to, got entries that are nan or inf: training has "
                    f"diverged. Nothing was changed; go back to a checkpoint, and make smaller steps."
                )
            moves = self._moves + 1
            raw = self._raw(self._refined(value) if moves % _UNREFINED == 0 else value)
        self._moves = moves
        return raw if isinstance(raw, tuple) else (raw,)

    def _refined(self, value: Tensor) -> Tensor:
        """``value``, a point of the set but for rounding, with less of it."""
        return value if bool(self._contains(value).all()) else self.project(value)

    def _hold(self, base: Tensor) -> None:
        """Take ``base``, which is in the set."""
        self.base = base
        self._checked.note(base)


def _eps(x: Tensor) -> float:
    return torch.finfo(x.dtype).eps
