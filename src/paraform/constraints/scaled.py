"""Points of a set times a trained factor."""

from typing import Any

import torch
from torch import Tensor, nn

from .. import maps
from .base import Constraint
from .rounding import relative_tolerance
from .view import require_constraint

# Rounds of the search for a factor at most. Where the projection does not depend on the size of what is projected
# (orthogonal matrices, unit vectors) the first finds it; a bisection in float64 finds no more than 53 binary digits.
_ROUNDS = 64


class Scaled(Constraint):
    r"""Points of the set of another constraint times a trained factor, :math:`X = s \, Q`, a real number for each.

    Shape: that of ``constraint``. Freedom: one more for each point (matrix or vector, or whole tensor under
    :class:`Flatten` and :class:`Blocks`) where ``constraint`` fixes the size of its points, as orthogonal matrices and
    unit vectors do; else no more, for a factor only moves what is bounded (with ``SpectralNorm()`` all matrices are
    reached, and ``s`` is a bound that is trained). Raw tensors: ``original0`` is ``s``, of the shape of the batch (0-d
    for one matrix), and the others are those of ``constraint``. Training may take ``s`` through zero; weight decay of
    it is one of the value. Samples: a standard normal number times a sample of ``constraint``.

    The nearest point: ``Q`` is the projection of ``X / s``, and ``s`` minimises ``|X - s Q|``, in turns. For orthogonal
    matrices and unit vectors that is the nearest point, found in one turn, and for convex sets, where the turns go on
    to the least distance, it is approached. Other sets may have a nearer one. Where ``constraint`` does not fix the
    size, ``s`` is 1 if ``X`` is in its set, and else the least ``s > 1`` for which ``X / s`` is (for :class:`Schur`, 5
    % more: at the edge rounding is magnified).

    (With orthogonal matrices, the factor of the Procrustes problem: P. Schönemann and R. Carroll, *Fitting one matrix
    to another under choice of a central dilation and a rigid motion*, 1970.)

    Args:
        constraint: the set of ``Q``; with ``strict=True`` or not.

    Attributes:
        constraint: the same.

    Raises:
        TypeError: ``constraint`` is no :class:`Constraint`.
        ValueError: ``constraint`` refuses the tensor.
        RuntimeError: it stands behind another parametrization, where there is one tensor only.

    A layer that keeps the angles between its inputs, and learns how much it amplifies:

    >>> from torch import nn
    >>> from paraform.constraints import Orthogonal
    >>> from paraform.parametrize import register_parametrization
    >>> layer = register_parametrization(nn.Linear(3, 3), "weight", Scaled(Orthogonal()))
    >>> layer.weight = 2 * torch.eye(3)  # any multiple of an orthogonal matrix is in the set
    >>> layer.parametrizations.weight.original0.detach().round(decimals=4)
    tensor(2.)
    """

    stacks = True

    def __init__(self, constraint: Constraint) -> None:
        require_constraint("Scaled", constraint)
        super().__init__(strict=constraint.strict)
        self.constraint = constraint
        self._note_decays(1)

    def _note_decays(self, raws: int) -> None:
        """Say what weight decay means for the factor and so many raw tensors of ``constraint``."""
        inner = self.constraint.decays
        self.decays = (True, *(inner if isinstance(inner, tuple) else (inner,) * raws))

    def forward(self, s: Tensor, *raws: Tensor) -> Tensor:
        if not raws:
            raise RuntimeError(
                f"{self} expects a factor and the raw tensors of {self.constraint}, got one tensor: it cannot stand "
                f"behind another parametrization. Register it before the others."
            )
        kept, wide = raws[-1].dtype, maps.working_dtype(raws[-1].dtype)
        # The product is rounded once: in half precision the point of the set is not rounded before.
        Q: Tensor = self.constraint(*(raw.to(wide) if raw.dtype == kept else raw for raw in raws))
        value: Tensor = self._spread(s.to(maps.working_dtype(s.dtype)), Q) * Q
        return value.to(kept) if kept != wide else value

    @property
    def has_base(self) -> bool:
        """Whether ``constraint`` has one."""
        return self.constraint.has_base

    def rebase(self, *raws: Tensor) -> tuple[Tensor, ...]:
        """That of ``constraint``; the factor stays."""
        return (raws[0], *self.constraint.rebase(*raws[1:]))  # type: ignore[operator]

    def project(self, value: Tensor) -> Tensor:
        """``s Q``, with ``Q`` and ``s`` as the class says."""
        s, Q = self._fit(value)
        return (self._spread(s, Q) * Q).to(value.dtype)

    def residual(self, value: Tensor) -> Tensor:
        """The distance to :meth:`project` of it."""
        s, Q = self._fit(value)
        return self._distance(value.to(Q.dtype), s, Q)

    def _fit(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """``s`` and ``Q``, in the working precision."""
        wide = value.to(maps.working_dtype(value.dtype))
        if not self.constraint.fixed_size:
            s = self._least_factor(wide)
            return s, self.constraint.project(wide / self._spread(s, wide))
        length = maps.size(wide, self._dims(wide))
        unit = wide / self._spread(torch.where(length > 0, length, 1), wide)
        (s, Q), (t, R) = self._in_turns(unit), self._in_turns(-unit)
        behind = self._distance(unit, -t, R) < self._distance(unit, s, Q) - relative_tolerance(value)
        return torch.where(behind, -t, s) * length, torch.where(self._spread(behind, Q), R, Q)

    def _in_turns(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """A factor, not negative, and a point that bring ``X`` as near as turns do."""
        s = self._turn(X, torch.ones_like(maps.size(X, self._dims(X))))
        for _ in range(_ROUNDS):
            once = self._turn(X, s)
            twice = self._turn(X, once)
            # Steffensen's method: the limit of a geometric sequence that begins like this one.
            bend = twice - 2 * once + s
            limit = s - (once - s).square() / torch.where(bend == 0, 1, bend)
            before, s = s, torch.where((bend != 0) & (limit > 0), limit, twice)
            if not maps.has_entries(s) or bool(((s - before).abs() <= torch.finfo(s.dtype).eps * s).all()):
                break
        Q = self._at(X, s)
        return self._factor(X, Q), Q

    def _at(self, X: Tensor, s: Tensor) -> Tensor:
        return self.constraint.project(X / self._spread(torch.where(s > 0, s, 1), X))

    def _turn(self, X: Tensor, s: Tensor) -> Tensor:
        return self._factor(X, self._at(X, s))

    def _factor(self, X: Tensor, Q: Tensor) -> Tensor:
        dims = self._dims(X)
        square = maps.size(Q, dims).square()
        along = (X.conj() * Q).real
        product = along.sum(dims) if dims else along  # a sum over no dimensions would be one over all of them
        return (product / torch.where(square > 0, square, 1)).clamp_min(0)

    def _distance(self, X: Tensor, s: Tensor, Q: Tensor) -> Tensor:
        return maps.size(X - self._spread(s, X) * Q, self._dims(X))

    def _least_factor(self, X: Tensor) -> Tensor:
        """1, or the least ``s > 1`` for which ``X / s`` is in the set, where there is one."""
        inside = self.constraint._contains(X)
        low = torch.ones_like(maps.size(X, self._dims(X)))
        if not maps.has_entries(X) or bool(inside.all()):
            return low
        high = 2 * maps.size(X, self._dims(X)).clamp_min(1)
        reached = self.constraint._contains(X / self._spread(high, X))
        for _ in range(_ROUNDS):
            middle = low + (high - low) / 2
            within = self.constraint._contains(X / self._spread(middle, X))
            low, high = torch.where(within, low, middle), torch.where(within, middle, high)
        # A little more, so that X / s is inside without the tolerance for rounding.
        more = max(2 * relative_tolerance(X, self._dims(X)), self.constraint._clearance)
        return torch.where(reached & ~inside, high * (1 + more), 1)

    def _spread(self, per_point: Tensor, like: Tensor) -> Tensor:
        """One number a point, in a shape that broadcasts to the points."""
        return maps.spread(per_point, like, self._dims(like))

    def _dims(self, value: Tensor) -> tuple[int, ...]:
        return self.constraint._dims(value)

    def _raw(self, value: Tensor) -> tuple[Tensor, ...]:
        if not maps.has_entries(value):
            s, Q = torch.ones_like(maps.size(value, self._dims(value))), value
        else:
            s, Q = self._fit(value)
        factor = s.to(value.abs().dtype)
        self._require_finite_raw(factor)  # before the constraint learns anything
        raw = self.constraint.right_inverse(Q.to(value.dtype))
        raws = raw if isinstance(raw, tuple) else (raw,)
        self._note_decays(len(raws))
        return factor, *raws

    def _draw(self, shape: torch.Size, **options: Any) -> Tensor:
        Q = self.constraint._draw(shape, **options)
        number = maps.standard_normal(maps.size(Q, self._dims(Q)).shape, **{**options, "dtype": Q.abs().dtype})
        return self._spread(number, Q) * Q

    def _dof(self, shape: torch.Size, reals: int) -> int:
        like = torch.empty(shape, device="meta")
        points = maps.size(like, self._dims(like)).numel() if self.constraint.fixed_size and like.numel() else 0
        return self.constraint._dof(shape, reals) + points

    def _check(self, shape: torch.Size, dtype: torch.dtype) -> None:
        self.constraint._check(shape, dtype)

    def check_layer(self, layer: nn.Module, tensor_name: str) -> None:
        """Ask ``constraint``, which the engine does before it registers."""
        if hasattr(self.constraint, "check_layer"):
            self.constraint.check_layer(layer, tensor_name)  # type: ignore[operator]

    def __repr__(self) -> str:
        return f"Scaled({self.constraint!r})"
