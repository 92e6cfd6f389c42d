"""Matrices with orthonormal columns or rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .. import maps
from .base import Constraint
from .buffers import Checked, is_of_a_transform
from .rounding import tolerance
from .shapes import batch_size, require_matrix, require_no_convolution, require_no_kernel

_MAPS = {
    "matrix_exp": maps.matrix_exp_at,
    "cayley": maps.cayley_at,
    "householder": maps.householder_at,
}


class Orthogonal(Constraint):
    r"""Matrices with orthonormal columns, :math:`Q^\top Q = I`, or rows if wide; unitary for complex tensors.

    Shape: ``(n, k)``, ``(k, n)`` or a batch ``(b, n, k)`` to the same. More than three dimensions are refused: that is
    mostly a convolution's kernel, which :class:`Flatten` takes as one matrix. (The engine tells that of ``Conv1d`` from
    a batch by the layer.) With ``n >= k`` the freedom is
    ``n k - k (k + 1) / 2`` a matrix (complex: ``2 n k - k^2``), the work ``O(n k^2)`` and the memory ``O(n k)``.
    Samples: the uniform (Haar) law.

    The value is :attr:`base`, a point of the set, moved by a map of the raw tensor, which is zero where the value is
    the base (a trivialization; M. Lezcano-Casado, *Trivializations for gradient-based optimization on manifolds*,
    2019). So weight decay draws the value to the base, and cannot take it out of the set. Registration and assignment
    make the given value the base, and the raw tensor zero.

    Raw tensor: with ``"householder"`` all of it is read, but for the part of column i along the columns of the base up
    to i, which has no effect. The other maps read all of it where the weight is not square, and of a square one the
    lower triangle, as ``torch.nn.utils.parametrizations.orthogonal`` does. (Its checkpoints of weights that are not
    square, or of its Householder map, have another layout: load them into :mod:`paraform.parametrizations`.)
    :mod:`paraform.maps.stiefel` says how large the raw tensor may become.

    A base that has left the set is replaced by the nearest point of the set: after it went through a narrower dtype,
    on its way to a wider one or in a checkpoint, and after an average over models (``AveragedModel`` with
    ``use_buffers=True``), at the next read. Compiled code takes the base as it is: read an averaged weight once before.

    Args:
        map: how the raw tensor moves the base. ``"matrix_exp"`` follows geodesics and reaches everything that the base
            is connected to. ``"cayley"`` is the fastest, and reaches all of it but a set of measure zero.
            ``"householder"`` multiplies reflections, one a column, and is real only. None of the three changes the
            sign of the determinant of a square matrix: it is that of the base.
        slices: allow any number of dimensions in front of the last two. Of a kernel that makes each ``kh x kw`` slice
            orthogonal.
        strict: see :class:`Constraint`.

    Attributes:
        base: where the raw tensor is zero; None before registration. A buffer, saved with the state.

    Raises:
        ValueError: ``map`` is none of the three, the tensor has fewer than two dimensions, or more than three without
            ``slices=True``, or it is complex and the map is ``"householder"``.

    >>> from torch import nn
    >>> from paraform.parametrize import register_parametrization
    >>> layer = register_parametrization(nn.Linear(3, 5), "weight", Orthogonal())
    >>> torch.dist(layer.weight.T @ layer.weight, torch.eye(3)) < 1e-5  # now, and after every optimizer step
    tensor(True)
    >>> layer.weight = torch.eye(5, 3)
    >>> torch.equal(layer.weight, torch.eye(5, 3)), layer.parametrizations.weight.original.count_nonzero()
    (True, tensor(0))
    """

    base: Tensor | None
    fixed_size = True

    def __init__(self, map: str = "matrix_exp", *, slices: bool = False, strict: bool = False) -> None:
        if map not in _MAPS:
            raise ValueError(f"Orthogonal expects a map out of {', '.join(_MAPS)}, got {map!r}; name one of them.")
        super().__init__(strict=strict)
        self.map = map
        self.slices = slices
        self.register_buffer("base", None)
        self._checked = Checked()

    def forward(self, raw: Tensor) -> Tensor:
        base = self._base_in_set()
        if base is None:
            raise RuntimeError(
                f"{self} has no base yet: it takes its base from the tensor that it is registered on, as the first "
                f"parametrization there. Register it before the others, or call right_inverse with a value first."
            )
        turn = _MAPS[self.map]
        if raw.shape[-2] < raw.shape[-1]:
            return turn(base.mT, raw.mT).mT
        return turn(base, raw)

    def _base_in_set(self) -> Tensor | None:
        """The base; if it has changed and is outside the set, the nearest point takes its place."""
        base = self.base
        if base is None or self._checked.is_needless(base):
            return base
        # What is neither in the set nor away from it (nan, or memory that a load is yet to fill) stays as it is.
        if bool((maps.orthogonality_error(base) > tolerance(base)).any()):
            with torch.inference_mode(False), torch.no_grad():
                base = maps.polar(base)
            if is_of_a_transform(base):  # what a transform made ends with it
                return base
            self.base = base
        self._checked.note(base)
        return base

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Orthogonal:
        before = self.base
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.base is not None and before is not None and _eps(self.base) < _eps(before):
            self._base_in_set()
        return self

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        self._base_in_set()

    def project(self, value: Tensor) -> Tensor:
        """The polar factor; where ``value`` has not full rank, one of the nearest points."""
        require_matrix(self, value.shape)
        return maps.polar(value)

    def residual(self, value: Tensor) -> Tensor:
        """``|Q^H Q - I|`` in Frobenius norm, or ``|Q Q^H - I|`` if wide."""
        require_matrix(self, value.shape)
        return maps.orthogonality_error(value)

    def foreign_value(self, state: Mapping[str, Tensor]) -> Tensor | None:
        """None; torch's state does not say which of its maps it belongs to.

        Raises:
            ValueError: the state is one of ``torch.nn.utils.parametrizations.orthogonal`` that means something else
                here: its base is square where the weight is not, or the map is ``"householder"``.
        """
        raw, base = state.get("original"), state.get("base")
        if raw is None or base is None or raw.ndim < 2:
            return None
        # torch's raw tensor has signs on its diagonal, and nothing above it.
        signed = maps.has_entries(raw) and bool((raw.diagonal(dim1=-2, dim2=-1) != 0).all())
        of_torch = self.map == "householder" and signed and not bool(raw.triu(1).any())
        if base.shape == raw.shape and not of_torch:
            return None
        raise ValueError(
            f"{self} reads a raw tensor and a base of the weight's shape; these, {tuple(raw.shape)} and "
            f"{tuple(base.shape)}, look like those of torch.nn.utils.parametrizations.orthogonal. Load them into a "
            f"layer of paraform.parametrizations.orthogonal with the map that they were made with, and then its "
            f"plain_state_dict here."
        )

    def _draw(self, shape: torch.Size, **options: Any) -> Tensor:
        return maps.haar(shape, **options)

    def _dof(self, shape: torch.Size, reals: int) -> int:
        k, n = sorted(shape[-2:])
        hermitian = k + reals * k * (k - 1) // 2  # the number of real equations in Q^H Q = I
        return batch_size(shape) * (reals * k * n - hermitian)

    def _check(self, shape: torch.Size, dtype: torch.dtype) -> None:
        require_matrix(self, shape)
        if not self.slices:
            require_no_kernel(self, shape)
        if dtype.is_complex and self.map == "householder":
            raise ValueError(f"{self} expects real numbers, got {dtype}; use map='matrix_exp' or 'cayley'.")

    def check_layer(self, layer: nn.Module, tensor_name: str) -> None:
        """Refuse a convolution's kernel, which the engine asks before it registers."""
        if not self.slices:
            require_no_convolution(self, layer, tensor_name)

    def _raw(self, value: Tensor) -> Tensor:
        self._hold(value.detach().clone())
        return torch.zeros_like(value)

    def _hold(self, base: Tensor) -> None:
        """Take ``base``, which is in the set."""
        self.base = base
        self._checked.note(base)


def _eps(x: Tensor) -> float:
    return torch.finfo(x.dtype).eps
