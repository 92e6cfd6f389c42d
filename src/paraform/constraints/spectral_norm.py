"""Matrices whose largest singular value is bounded."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .. import maps
from .base import Constraint
from .buffers import is_of_a_transform, overwrite
from .foreign import over_estimate
from .rounding import relative_tolerance
from .shapes import require_matrix

# Power steps for a new value, as many as torch spends on one.
_START = 15


class SpectralNorm(Constraint):
    r"""Matrices of spectral norm at most ``bound``: :math:`W \, b / \max(\sigma, b)` with the largest singular value σ.

    Shape: ``(*, m, n)`` to ``(*, m, n)``; of a tensor with more than two dimensions each of the last two's matrices is
    bounded on its own. Freedom: all entries. Raw tensor: all entries are read.
    Samples: the uniform law on the set.

    σ is estimated from below by power iteration, carried on by each forward in training mode and frozen in evaluation
    mode (T. Miyato and others, *Spectral normalization for generative adversarial networks*, 2018, Algorithm 1).
    A registered or assigned value within the bound stays what it is, whatever the estimate. After a large change of the
    raw tensor the value may pass the bound until the estimate has caught up, as :meth:`residual` tells. Inside of a
    transform of ``torch.func`` an improved estimate serves that forward only, and is not kept. Unlike
    ``torch.nn.utils.parametrizations.spectral_norm``, a matrix within the bound is left as it is.

    Args:
        bound: the largest singular value allowed, positive.
        n_power_iterations: steps of the power iteration a forward in training mode.
        strict: see :class:`Constraint`.

    Raises:
        ValueError: ``bound`` is not positive and finite, ``n_power_iterations`` is not positive, or the tensor has
            fewer than two dimensions.
        TypeError: ``n_power_iterations`` is not an int.

    >>> from torch import nn
    >>> from paraform.parametrize import register_parametrization
    >>> layer = register_parametrization(nn.Linear(3, 5), "weight", SpectralNorm(0.5))
    >>> torch.linalg.matrix_norm(layer.weight, ord=2) <= 0.5001
    tensor(True)
    """

    _u: Tensor | None
    _v: Tensor | None

    def __init__(self, bound: float = 1.0, n_power_iterations: int = 1, *, strict: bool = False) -> None:
        if not 0 < bound < math.inf:
            raise ValueError(f"SpectralNorm expects a positive and finite bound, got {bound}; choose one above 0.")
        if not isinstance(n_power_iterations, int):
            raise TypeError(
                f"SpectralNorm expects a whole number of power iterations, got {n_power_iterations!r}; choose 1."
            )
        if n_power_iterations < 1:
            raise ValueError(f"SpectralNorm expects at least one power iteration, got {n_power_iterations}; choose 1.")
        super().__init__(strict=strict)
        self.bound = bound
        self.n_power_iterations = n_power_iterations
        self.register_buffer("_u", None)
        self.register_buffer("_v", None)

    def forward(self, raw: Tensor) -> Tensor:
        u, v = self._vectors(raw.detach())
        return maps.scaled_to_bound(raw, u, v, self.bound)

    @torch.no_grad()
    def _vectors(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """The singular vectors for this forward, which in training mode are those for the next one, too."""
        u, v = self._u, self._v
        if u is None or v is None:  # behind another parametrization, whose value it sees here first
            with torch.inference_mode(False):
                u, v = maps.leading_vectors(raw.clone())
            self._store(u, v)
        if self.training:
            for _ in range(self.n_power_iterations):
                v = maps.power_step(v, raw)
            u = maps.left_vector(v, raw)
            self._store(u, v)
        return u, v

    def _store(self, u: Tensor, v: Tensor) -> None:
        if self._u is not None and self._v is not None:
            overwrite(self._u, u)
            overwrite(self._v, v)
        elif not is_of_a_transform(u):  # what a transform made ends with it
            self._u, self._v = u, v

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name in ("_u", "_v"):
            saved = state_dict.get(prefix + name)
            if getattr(self, name) is None and isinstance(
                saved, Tensor
            ):  # not read yet, behind another parametrization
                setattr(self, name, torch.empty_like(saved))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def project(self, value: Tensor) -> Tensor:
        """The matrix with its singular values clipped at ``bound``."""
        require_matrix(self, value.shape)
        return maps.clip_singular_values(value, self.bound)

    def residual(self, value: Tensor) -> Tensor:
        """``max(0, sigma - bound)`` with the exact ``sigma``."""
        require_matrix(self, value.shape)
        return maps.excess(value, self.bound)

    # Before its version 1.0 torch saved the value too, and no v.
    old_names = {"_orig": "original", "_u": "_u", "_v": "_v", "": None}  # noqa: RUF012 (the base says so)

    def foreign_value(self, state: Mapping[str, Tensor]) -> Tensor | None:
        """``W / sigma``, where the state has torch's singular vectors: there a small weight is made larger as well."""
        weight, u = state.get("original"), state.get("_u")
        if "_u" in self._buffers or weight is None or u is None:
            return None
        return over_estimate(weight, u, state.get("_v"))

    def _draw(self, shape: torch.Size, **options: Any) -> Tensor:
        return self.bound * maps.contraction(shape, **options)

    def _dof(self, shape: torch.Size, reals: int) -> int:
        return reals * shape.numel()

    def _check(self, shape: torch.Size, dtype: torch.dtype) -> None:
        require_matrix(self, shape)

    def _contains(self, value: Tensor) -> Tensor:
        return maps.is_within(value, self.bound * (1 + relative_tolerance(value)))

    def _raw(self, value: Tensor) -> Tensor:
        self._u, self._v = maps.power_iteration(value, _START)
        return value
