"""Matrices whose largest singular value is bounded."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .. import maps
from .base import Constraint
from .foreign import over_estimate
from .rounding import relative_tolerance
from .shapes import require_matrix, require_no_convolution, require_no_kernel


class SpectralNorm(Constraint):
    r"""Matrices of spectral norm at most ``bound``: :math:`W \, b / \max(\sigma, b)` with the largest singular value σ.

    Shape: ``(m, n)`` or a batch ``(b, m, n)`` to the same, each matrix bounded on its own. More than three dimensions
    and convolutions are refused: see ``slices``. Freedom: all entries. Raw tensor: all entries are read.
    Samples: the uniform law on the set.

    σ is computed from the raw tensor alone at each read, in training and in evaluation mode alike. There is no state:
    nothing lags behind a weight that moves fast, nothing has to be saved or averaged, and a read changes nothing. (The
    power iteration of T. Miyato and others, *Spectral normalization for generative adversarial networks*, 2018, carries
    vectors from step to step; ``benchmarks/adversarial_norm.py`` drives the norm that it promises to be 1 up to 6.8.)
    A matrix within the bound, up to the rounding of its dtype, is left as it is, to the bit.

    Where the smaller side is at most 128, or with ``exact=True``, σ is that of an eigenvalue decomposition: the value
    keeps its bound but for rounding. Larger matrices are searched in a block Krylov space of 128 directions from a
    fixed start (:func:`paraform.maps.scaled_to_bound`), and may pass it a little: by at most 0.2 % over Gaussian,
    clustered and spiked spectra up to 1024 x 1024, by 0.35 % at 2048. Only a matrix built from the start block, with
    its leading singular vector exactly orthogonal to it, can hide more: in float64 up to a fifth was seen, while in
    float32 rounding gives it away. ``exact=True`` knows no such matrix, at 2 to 3 times the cost for sizes 512 to 1024.

    Derivatives of every order are those of σ. Where the largest singular value is repeated it has none, and that along
    one of the leading vectors is taken.

    Checkpoints of both of torch's spectral norms load, by the value that they stand for, and so do those of paraform's
    first version; their singular vectors are not kept. Unlike with these functions of torch, which divide every matrix
    by σ, one within the bound is left as it is.

    Args:
        bound: the largest singular value allowed, positive.
        exact: decompose matrices of every size.
        slices: allow any number of dimensions in front of the last two. Of a kernel that bounds each ``kh x kw`` slice
            on its own, which says little about the layer; ``Flatten(SpectralNorm())`` takes the kernel as one matrix.
        strict: see :class:`Constraint`.

    Raises:
        ValueError: ``bound`` is not positive and finite, or the tensor has fewer than two dimensions, or more than
            three, or is a convolution's kernel, without ``slices=True``.

    >>> from torch import nn
    >>> from paraform.parametrize import register_parametrization
    >>> layer = register_parametrization(nn.Linear(3, 5), "weight", SpectralNorm(0.5))
    >>> torch.linalg.matrix_norm(layer.weight, ord=2) <= 0.50001
    tensor(True)
    """

    stacks = True

    def __init__(self, bound: float = 1.0, *, exact: bool = False, slices: bool = False, strict: bool = False) -> None:
        if not 0 < bound < math.inf:
            raise ValueError(f"SpectralNorm expects a positive and finite bound, got {bound}; choose one above 0.")
        super().__init__(strict=strict)
        self.bound = bound
        self.exact = exact
        self.slices = slices

    def forward(self, raw: Tensor) -> Tensor:
        return maps.scaled_to_bound(raw, self.bound, relative_tolerance(raw), self.exact)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name in ("_u", "_v"):  # torch's engine does not ask for the value; there they are left unread
            state_dict.pop(prefix + name, None)
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
        """``W / sigma``, where the state has torch's singular vectors: there a small weight is made larger as well.

        Raises:
            ValueError: the vectors fit neither the rows nor the columns of the weight.
        """
        weight, u = state.get("original"), state.get("_u")
        if weight is None or u is None:
            return None
        value = over_estimate(weight, u, state.get("_v"))
        if value is None:
            raise ValueError(
                f"{self} expects a singular vector _u of the rows or the columns of a weight of shape "
                f"{tuple(weight.shape)}, got one of shape {tuple(u.shape)} in the state; load it into a layer like "
                f"the one that it was saved from, and then that layer's plain_state_dict here."
            )
        return value

    def _draw(self, shape: torch.Size, **options: Any) -> Tensor:
        return self.bound * maps.contraction(shape, **options)

    def _dof(self, shape: torch.Size, reals: int) -> int:
        return reals * shape.numel()

    def check_layer(self, layer: nn.Module, tensor_name: str) -> None:
        """Refuse a convolution's kernel, which the engine asks before it registers."""
        if not self.slices:
            require_no_convolution(self, layer, tensor_name)

    def _check(self, shape: torch.Size, dtype: torch.dtype) -> None:
        require_matrix(self, shape)
        if not self.slices:
            require_no_kernel(self, shape)

    def _contains(self, value: Tensor) -> Tensor:
        return maps.is_within(value, self.bound * (1 + relative_tolerance(value)))
