"""Frozen weights with a trained update of low rank."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import maps
from .base import Constraint
from .low_rank import freedom, normal_product, require_second
from .rounding import tolerance
from .shapes import require_matrix, require_rank


class LowRankUpdate(Constraint):
    r"""A frozen weight plus an update of low rank, :math:`W = W_0 + s \, B A`, starting at :math:`W_0`; known as LoRA.

    Shape: ``(*, m, n)`` to ``(*, m, n)``. Freedom: with ``r = min(rank, m, n)``, ``r (m + n - r)`` a matrix (complex:
    twice that). Two raw tensors: ``original0`` is ``B``, of shape ``(*, m, r)``, and ``original1`` is ``A``, of shape
    ``(*, r, n)``; all of both is read. Samples: ``W_0`` plus ``1/sqrt(r)`` times the product of two matrices of
    independent standard normal entries (zero plus that, before there is a ``W_0``).

    The weight found at registration is :attr:`base`, ``W_0``, and the value is that, to the bit: ``B`` is zero, and
    ``A`` has random normal entries of variance ``1/n`` (E. Hu and others, *LoRA: low-rank adaptation of large language
    models*, 2021, section 4.1; their ``alpha / r`` is ``scale``). So has any row of ``A`` that an assigned value has no
    use for. Weight decay shrinks the update, and draws the value to ``W_0``.

    The nearest point to other values keeps ``W_0``: ``W_0`` plus the truncated singular value decomposition of the
    difference, with a :class:`ProjectionWarning` where that is not all of it. Only a state dict brings another ``W_0``:
    its ``base``, or a plain ``weight``. The latter, of a pretrained model say, or of one that has been merged, becomes
    the frozen weight as it is, and the update starts at zero. ``remove_parametrizations`` merges the update into the
    weight. The set is closed, and values reach all of it.

    Only this weight is frozen: biases and other layers train on, unless they are frozen as well. What is frozen when it
    is registered (``requires_grad=False``) stays so, and then the factors do not train either. For a model of which
    nothing but the updates is to be trained, freeze it first, and wake the factors after registration, as below.

    Args:
        rank: the largest rank of the update. One of ``min(m, n)`` or more allows all matrices.
        scale: the factor in front of ``B A``, not zero.
        strict: see :class:`Constraint`.

    Attributes:
        base: the frozen weight; None before registration. A buffer, saved with the state.

    Raises:
        TypeError: ``rank`` is no int.
        ValueError: ``rank`` is below 1, ``scale`` is zero or not finite, or the tensor has fewer than two dimensions.
        RuntimeError: it stands behind another parametrization, where there is one tensor only.

    >>> from torch import nn
    >>> from paraform.parametrize import register_parametrization, remove_parametrizations
    >>> model = nn.Linear(1000, 1000).requires_grad_(False)  # pretrained
    >>> model = register_parametrization(model, "weight", LowRankUpdate(4))
    >>> _ = model.parametrizations.weight.requires_grad_(True)  # the two factors, and not the bias
    >>> trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    >>> sum(parameter.numel() for parameter in trained)  # instead of a million
    8000
    >>> x, y = torch.randn(8, 1000), torch.randn(8, 1000)
    >>> optimizer = torch.optim.AdamW(trained, lr=1e-2)
    >>> for _ in range(3):
    ...     optimizer.zero_grad()
    ...     (model(x) - y).square().mean().backward()
    ...     optimizer.step()
    >>> tuned = model.weight.detach().clone()
    >>> torch.equal(remove_parametrizations(model, "weight").weight, tuned)  # merged: as fast as it was
    True
    """

    stacks = True

    base: Tensor | None
    decays = True
    fixed_size = True

    def __init__(self, rank: int, scale: float = 1.0, *, strict: bool = False) -> None:
        if scale == 0 or not math.isfinite(scale):
            raise ValueError(f"LowRankUpdate expects a finite scale that is not zero, got {scale}; 1.0 is usual.")
        super().__init__(strict=strict)
        self.rank = require_rank("LowRankUpdate", rank)
        self.scale = scale
        self.register_buffer("base", None)
        self._is_new = True

    def forward(self, left: Tensor, right: Tensor | None = None) -> Tensor:
        right = require_second(self, right)
        if self.base is None:
            raise RuntimeError(
                f"{self} has no base yet: it takes its base from the tensor that it is registered on. Register it, or "
                f"call right_inverse with a value first."
            )
        return maps.updated(self.base, left, right, self.scale)

    def project(self, value: Tensor) -> Tensor:
        """``base`` plus the ``rank`` leading terms of the singular value decomposition of the difference."""
        require_matrix(self, value.shape)
        base = self._frozen()
        return value if base is None else _plus(base, maps.nearest_of_rank(_difference(value, base), self.rank))

    def residual(self, value: Tensor) -> Tensor:
        """The distance to the set; 0 before there is a ``base``."""
        require_matrix(self, value.shape)
        base = self._frozen()
        return torch.zeros_like(maps.frobenius(value)) if base is None else self._rest(value, base)

    def start_anew(self) -> None:
        """Take the next value as the frozen weight; the engine asks for it before it loads a plain one."""
        self._is_new = True

    def _frozen(self) -> Tensor | None:
        return None if self._is_new else self.base

    def _rest(self, value: Tensor, base: Tensor) -> Tensor:
        return maps.distance_to_rank(_difference(value, base), self.rank)

    def _contains(self, value: Tensor) -> Tensor:
        base = self._frozen()
        if base is None:
            return torch.ones_like(maps.frobenius(value), dtype=torch.bool)
        return self._rest(value, base) <= tolerance(value) + tolerance(base)  # either may cancel the other

    def _draw(self, shape: torch.Size, **options: Any) -> Tensor:
        update, base = normal_product(shape, self.rank, **options), self._frozen()
        return update if base is None else base.to(update) + update

    def _dof(self, shape: torch.Size, reals: int) -> int:
        return reals * freedom(shape, self.rank)

    def _check(self, shape: torch.Size, dtype: torch.dtype) -> None:
        require_matrix(self, shape)

    def _raw(self, value: Tensor) -> tuple[Tensor, Tensor]:
        base = self._frozen()
        if base is None:
            self.base, self._is_new = value.detach().clone(), False
            *batch, m, n = value.shape
            r = min(self.rank, m, n)
            left, right = value.new_zeros((*batch, m, r)), value.new_zeros((*batch, r, n))
        else:
            left, right = (x.to(value.dtype) for x in maps.factors(_difference(value, base) / self.scale, self.rank))
        unused = (left == 0).all(-2).unsqueeze(-1)
        return left, torch.where(unused, torch.randn_like(right) / max(value.shape[-1], 1) ** 0.5, right)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "LowRankUpdate":
        was_meta = self.base is not None and self.base.is_meta
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if was_meta and self.base is not None and not self.base.is_meta:  # memory that holds no weight yet
            self.start_anew()
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *rest)
        if f"{prefix}base" in state_dict and self.base is not None:
            self._is_new = False


def _difference(value: Tensor, base: Tensor) -> Tensor:
    """In the working precision, where the difference of two half-precision numbers is exact but for little."""
    return value.to(maps.working_dtype(value.dtype)) - base.to(maps.working_dtype(base.dtype))


def _plus(base: Tensor, update: Tensor) -> Tensor:
    return (base.to(update.dtype) + update).to(base.dtype)
