"""Matrices with orthonormal columns or rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .. import maps
from .based import Based
from .shapes import batch_size, require_matrix, require_no_convolution, require_no_kernel

_MAPS = {
    "matrix_exp": maps.matrix_exp_at,
    "cayley": maps.cayley_at,
    "householder": maps.householder_at,
    "polar": maps.polar_at,
}
# Held against benchmarks/results/maps.json by a test.
_FASTEST = "cayley"


class Orthogonal(Based):
    r"""Matrices with orthonormal columns, :math:`Q^\top Q = I`, or rows if wide; unitary for complex tensors.

    Shape: ``(n, k)``, ``(k, n)`` or a batch ``(b, n, k)`` to the same. More than three dimensions are refused: that is
    mostly a convolution's kernel, which :class:`Flatten` takes as one matrix. (The engine tells that of ``Conv1d`` from
    a batch by the layer.)
    Freedom: with ``n >= k``, ``n k - k (k + 1) / 2`` a matrix (complex: ``2 n k - k^2``). The work is ``O(n k^2)``, and
    the memory ``O(n k)``.
    Samples: the uniform (Haar) law.

    The value is :attr:`base`, a point of the set, moved by a map of the raw tensor, which is zero where the value is
    the base (a trivialization; M. Lezcano-Casado, *Trivializations for gradient-based optimization on manifolds*,
    2019). So weight decay draws the value to the base, and cannot take it out of the set. Registration and assignment
    make the given value the base, and the raw tensor zero.

    Raw tensor: of a square one the lower triangle is read, in the coordinates of the base, as
    ``torch.nn.utils.parametrizations.orthogonal`` does; of others all of it (with ``"householder"`` but for the part of
    column i along the columns of the base up to i, which has no effect). Torch's checkpoints of weights that are not
    square, or of its Householder map, have another layout: load them into :mod:`paraform.parametrizations`.
    :mod:`paraform.maps.stiefel` says how large the raw tensor may become.

    A base that has left the set is replaced by the nearest point of the set: after it went through a narrower dtype,
    on its way to a wider one or in a checkpoint, and after an average over models (``AveragedModel`` with
    ``use_buffers=True``), at the next read. Compiled code takes the base as it is: read an averaged weight once before.

    Args:
        map: how the raw tensor moves the base. ``"matrix_exp"`` follows geodesics and reaches everything that the base
            is connected to. ``"cayley"`` reaches all of it but a set of measure zero, half turns, and is the fastest of
            these two at every shape, dtype and device that ``benchmarks/choose_map.py`` has measured: it is what
            ``"auto"`` takes, but for special complex matrices, which need ``"matrix_exp"``.
            ``"householder"`` multiplies reflections, one a column, and is real only. ``"polar"`` goes straight and
            comes back to the nearest point, and reaches a neighbourhood: what is less than a quarter turn away. None
            of them changes the sign of the determinant of a square matrix: it is that of the base. (The choice does not
            depend on dtype or device: raw tensors of a checkpoint have to mean the same everywhere.)
        special: for square matrices, keep the determinant at 1: rotations, SO(n). A weight of determinant -1 moves to
            the nearest rotation. Of complex ones it is SU(n), reached by ``"matrix_exp"`` only. Samples are from the
            uniform (Haar) law on that group.
        slices: allow any number of dimensions in front of the last two. Of a kernel that makes each ``kh x kw`` slice
            orthogonal.
        strict: see :class:`Constraint`.

    Attributes:
        base: where the raw tensor is zero; None before registration. A buffer, saved with the state.

    Raises:
        ValueError: ``map`` is none of these, the tensor has fewer than two dimensions, or more than three without
            ``slices=True``, or it is complex and the map is ``"householder"``; or ``special=True`` and it is not
            square, or complex with another map than ``"matrix_exp"``.

    >>> from torch import nn
    >>> from paraform.parametrize import register_parametrization
    >>> layer = register_parametrization(nn.Linear(3, 5), "weight", Orthogonal())
    >>> torch.dist(layer.weight.T @ layer.weight, torch.eye(3)) < 1e-5  # now, and after every optimizer step
    tensor(True)
    >>> layer.weight = torch.eye(5, 3)
    >>> torch.equal(layer.weight, torch.eye(5, 3)), layer.parametrizations.weight.original.count_nonzero()
    (True, tensor(0))
    """

    fixed_size = True
    stacks = True
    moves = True

    def __init__(self, map: str = "auto", special: bool = False, *, slices: bool = False, strict: bool = False) -> None:
        if map != "auto" and map not in _MAPS:
            raise ValueError(
                f"Orthogonal expects a map out of auto, {', '.join(_MAPS)}, got {map!r}; name one of them."
            )
        super().__init__(strict=strict)
        self.map = map
        self.special = special
        self.slices = slices

    def forward(self, raw: Tensor) -> Tensor:
        base = self._required_base()
        if self.special and raw.is_complex():
            return maps.special_unitary_at(base, raw)
        turn = _MAPS[_FASTEST if self.map == "auto" else self.map]
        if raw.shape[-2] < raw.shape[-1]:
            return turn(base.mT, raw.mT).mT
        return turn(base, raw)

    def project(self, value: Tensor) -> Tensor:
        """The polar factor, or with ``special`` the nearest one of determinant 1; one of them, if there are several."""
        require_matrix(self, value.shape)
        return maps.special_polar(value) if self.special else maps.polar(value)

    def residual(self, value: Tensor) -> Tensor:
        """``|Q^H Q - I|`` in Frobenius norm, or ``|Q Q^H - I|`` if wide; if special, ``hypot`` with ``|det Q - 1|``."""
        require_matrix(self, value.shape)
        error = maps.orthogonality_error(value)
        return torch.hypot(error, maps.distance_of_det(value, 1.0)) if self.special else error

    def _refined(self, value: Tensor) -> Tensor:
        return maps.nearer_orthonormal(value)

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
        Q = maps.haar(shape, **options)
        axis = torch.eye(shape[-1], dtype=Q.dtype, device=Q.device)[..., -1:]
        return maps.without_phase(Q, axis) if self.special else Q

    def _dof(self, shape: torch.Size, reals: int) -> int:
        k, n = sorted(shape[-2:])
        hermitian = k + reals * k * (k - 1) // 2  # the number of real equations in Q^H Q = I
        phase = 1 if self.special and reals == 2 and n > 0 else 0
        return batch_size(shape) * (reals * k * n - hermitian - phase)

    def _check(self, shape: torch.Size, dtype: torch.dtype) -> None:
        require_matrix(self, shape)
        if not self.slices:
            require_no_kernel(self, shape)
        if dtype.is_complex and self.map == "householder":
            raise ValueError(f"{self} expects real numbers, got {dtype}; use another map.")
        if self.special and shape[-1] != shape[-2]:
            raise ValueError(
                f"{self} expects square matrices, of which some have determinant 1, got shape {tuple(shape)}; leave "
                f"special=True out."
            )
        if self.special and dtype.is_complex and self.map not in ("auto", "matrix_exp"):
            raise ValueError(f"{self} expects real numbers, got {dtype}; only map='matrix_exp' keeps a phase of 1.")

    def check_layer(self, layer: nn.Module, tensor_name: str) -> None:
        """Refuse a convolution's kernel, which the engine asks before it registers."""
        if not self.slices:
            require_no_convolution(self, layer, tensor_name)

    def extra_repr(self) -> str:
        """The arguments that differ from their defaults, and the map that was chosen."""
        given = super().extra_repr()
        if self.map != "auto" or self.base is None:
            return given
        chosen = f"map='auto' -> '{'matrix_exp' if self.special and self.base.is_complex() else _FASTEST}'"
        return f"{chosen}, {given}" if given else chosen
