"""Spectral normalization: a weight divided by its largest singular value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import SupportsIndex

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import maps
from ..constraints.buffers import Checked, overwrite
from ..maps import frobenius
from ..maps.precision import measured, precise, working_dtype
from ..parametrize import register_parametrization
from ._module import dimension_of, tensor_of

# Power-iteration steps for a new weight, as many as torch spends on one.
_START_ITERATIONS = 15
# Vectors this much shorter are an average of different ones; rounding to bfloat16 takes at most 0.4 % off a length.
_SHORT = 0.99


class _SpectralNorm(nn.Module):
    _u: Tensor
    _v: Tensor
    # Before its version 1.0 torch saved the value too, and no v.
    old_names = {"_orig": "original", "_u": "_u", "_v": "_v", "": None}  # noqa: RUF012 (nobody writes to it)

    def __init__(self, weight: Tensor, n_power_iterations: int, dim: int, eps: float) -> None:
        super().__init__()
        if not isinstance(n_power_iterations, SupportsIndex):
            raise TypeError(f"Expected n_power_iterations to be an integer, got {n_power_iterations!r}.")
        if n_power_iterations <= 0:
            raise ValueError(f"Expected n_power_iterations to be positive, got {n_power_iterations}.")
        self.n_power_iterations = n_power_iterations
        self.dim = dim
        self.eps = eps
        self._checked = Checked(), Checked()
        if weight.ndim > 1:  # a vector's norm needs no estimate, and torch's state dict has none
            with torch.inference_mode(False):  # training could not write into what is made under inference mode
                for name, size in zip(("_u", "_v"), _matrix(weight, self.dim).shape, strict=True):
                    start = torch.randn(size, dtype=working_dtype(weight.dtype), device=weight.device)
                    self.register_buffer(name, F.normalize(start, dim=0).to(weight.dtype))
            self._improve(weight, _START_ITERATIONS)

    def forward(self, weight: Tensor) -> Tensor:
        if weight.ndim == 1:
            return _normalized(weight, self.eps)
        if self.training:
            self._improve(weight, self.n_power_iterations)
        else:
            self._restore(weight)
        return _divided(weight, self._u, self._v, self.dim, self.eps)

    def right_inverse(self, value: Tensor) -> Tensor:
        # The singular vectors are those of the weight before; in eval mode nothing else would bring them up to date.
        if value.ndim > 1:
            self._improve(value, _START_ITERATIONS)
        return value

    def _restore(self, weight: Tensor) -> None:
        """Estimate the vectors anew if an average over models has been written into them."""
        unknown = [vector for vector, checked in self._vectors() if not checked.is_needless(vector)]
        if any(bool(frobenius(vector) < _SHORT) for vector in unknown):
            self._improve(weight, _START_ITERATIONS)
        elif unknown:
            self._note()

    @torch.no_grad()
    def _improve(self, weight: Tensor, iterations: int) -> None:
        # Detached: no_grad does not stop forward-mode differentiation, and the vectors are constants to it as well.
        if weight.is_meta:
            return  # there is nothing to estimate, and operations without numbers take long
        matrix = _matrix(weight.detach().to(working_dtype(weight.dtype)), self.dim)
        v = self._v.to(matrix.dtype)
        for _ in range(iterations):
            u = _image(matrix, v, self.eps)
            v = _image(matrix.mH, u, self.eps)
        overwrite(self._u, u)
        overwrite(self._v, v)
        if not maps.is_of_a_transform(u):  # which may have kept the buffers as they were
            self._note()

    def _note(self) -> None:
        for vector, checked in self._vectors():
            checked.note(vector)

    def _vectors(self) -> tuple[tuple[Tensor, Checked], ...]:
        return (self._u, self._checked[0]), (self._v, self._checked[1])

    def extra_repr(self) -> str:
        return f"n_power_iterations={self.n_power_iterations}, dim={self.dim}, eps={self.eps}"

    def foreign_value(self, state: Mapping[str, Tensor]) -> Tensor | None:
        """The value of a checkpoint from before torch 1.0, which has no right singular vector."""
        weight, u = state.get("original"), state.get("_u")
        if weight is None or u is None or "_v" in state:
            return None
        v = _image(_matrix(weight, self.dim).mH, u, self.eps)
        return _divided(weight, u, v, self.dim, self.eps)


def _matrix(weight: Tensor, dim: int) -> Tensor:
    return weight.movedim(dim, 0).flatten(1)


@precise
def _normalized(vector: Tensor, eps: float) -> Tensor:
    return F.normalize(vector, dim=0, eps=eps)


@precise
def _divided(weight: Tensor, u: Tensor, v: Tensor, dim: int, eps: float) -> Tensor:
    # Unit again: half precision rounds the buffers, and averaging them (EMA) makes them shorter. These are new tensors,
    # so a later step of the power iteration, in place, does not reach into the backward pass of this one.
    sigma = torch.vdot(_unit(u), _matrix(weight, dim) @ _unit(v))
    return weight / torch.where(sigma.abs() > eps, sigma, eps)


@measured
def _image(matrix: Tensor, x: Tensor, eps: float) -> Tensor:
    return _unit(matrix @ x, eps)


def _unit(x: Tensor, eps: float = 0.0) -> Tensor:
    """``x`` to length 1; where it is zero the uniform vector, from which a power iteration can start again."""
    norm = torch.linalg.vector_norm(x)
    return torch.where(norm > 0, x / norm.clamp_min(eps), F.normalize(torch.ones_like(x), dim=0))


def spectral_norm(
    module: nn.Module,
    name: str = "weight",
    n_power_iterations: int = 1,
    eps: float = 1e-12,
    dim: int | None = None,
) -> nn.Module:
    r"""Divide a weight by its largest singular value, :math:`W / \sigma(W)`, so that the layer's Lipschitz bound is 1.

    Shape: at least one dimension; the tensor is read as a matrix of ``dim`` by all the others. :math:`\sigma` is
    estimated by power iteration: the singular vectors ``_u`` and ``_v`` are buffers of the parametrization, estimated
    when a weight is registered or assigned and improved whenever it is read in training mode, in the transforms of
    ``torch.func`` too. A vector is divided by its norm. A weight of zeros stays zero.

    The estimate lags behind a weight that moves fast: ``benchmarks/adversarial_norm.py`` drives the largest singular
    value up to 6.8, here as in torch, whose algorithm this is. :class:`paraform.SpectralNorm` does not lag.
    Vectors that are an average over models (``AveragedModel`` with ``use_buffers=True``) are estimated anew when the
    weight is next read in evaluation mode, outside compiled code.

    Checkpoints of the older ``torch.nn.utils.spectral_norm`` (``weight_orig``, ``weight_u``, ``weight_v``) load.

    Args:
        module: the layer.
        name: its parameter or buffer to normalize.
        n_power_iterations: steps of the power iteration at each read in training mode.
        eps: the smallest norm, and the smallest :math:`\sigma`, to divide by.
        dim: the dimension of the outputs. By default 1 for transposed convolutions, 0 for all else.

    Returns:
        ``module``, with the parametrization registered.

    Raises:
        ValueError: ``module`` has no tensor of this name, or an integer one, or ``n_power_iterations`` is not positive.
        TypeError: ``dim`` or ``n_power_iterations`` is no integer.
        IndexError: the tensor has no dimension ``dim``.
        RuntimeError: the tensor has no shape yet (a lazy module before its first forward pass).

    Mirrors :func:`torch.nn.utils.parametrizations.spectral_norm`. Source: Miyato et al. 2018, "Spectral Normalization
    for Generative Adversarial Networks", equation 8 and algorithm 1.

    >>> layer = spectral_norm(nn.Linear(20, 40), n_power_iterations=100)
    >>> abs(torch.linalg.matrix_norm(layer.weight, ord=2) - 1) < 1e-4
    tensor(True)
    """
    weight = tensor_of(module, name)
    if dim is None:
        dim = 1 if isinstance(module, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)) else 0
    parametrization = _SpectralNorm(weight, n_power_iterations, dimension_of(weight, name, dim), eps)
    del weight  # registration looks for whoever else holds it
    return register_parametrization(module, name, parametrization)
