"""Sines and cosines of the angles that a tangent turns by, differentiable where singular values repeat."""

import torch
from torch import Tensor


def sine_and_versine(D: Tensor) -> tuple[Tensor, Tensor]:
    """``D (I + D^H D)^(-1/2)`` and ``I - (I + D^H D)^(-1/2)``: ``(*, n, k)`` to ``(*, n, k)`` and ``(*, k, k)``.

    With ``D = U diag(t) V^H`` and ``s = sqrt(1 + t^2)`` they are ``U diag(t / s) V^H`` and ``V diag(1 - 1 / s) V^H``.
    ``D^H D``, which would square the size of ``D``, is not formed, and both are accurate however large ``D`` is.

    The decomposition runs outside autograd. What gives the result its derivatives is zero in value: with ``dD = D -
    D.detach()`` the root ``H`` of ``I + D^H D`` is ``diag(s) + delta`` in the coordinates ``V``, where ``delta`` solves
    ``s delta + delta s = E - delta^2`` for the change ``E`` of ``H^2``. Two rounds of that, and three terms of the
    series of the inverse, are exact to the second order. No ``s_i + s_j`` is below 2: repeated singular values, and
    zeros, do no harm.

    >>> sine, versine = sine_and_versine(torch.tensor([[0.75]]))
    >>> sine.round(decimals=4), versine.round(decimals=4)
    (tensor([[0.6000]]), tensor([[0.2000]]))
    """
    constant = D.detach()
    with torch.no_grad():
        finite = torch.isfinite(constant).flatten(-2).all(-1)[..., None, None]
        U, t, Vh = torch.linalg.svd(torch.where(finite, constant, 0), full_matrices=False)  # LAPACK would raise
        V = Vh.mH
    s = torch.hypot(t, torch.ones_like(t))
    moved = (D - constant) @ V
    along = U.mH @ moved
    across = moved - U @ along
    cross = t.unsqueeze(-1) * along
    E = cross + cross.mH + along.mH @ along + across.mH @ across
    pairs = s.unsqueeze(-1) + s.unsqueeze(-2)
    first = E / pairs
    delta = (E - first @ first) / pairs
    # (s + delta)^-1 = 1/s + change
    over_s = delta / s.unsqueeze(-1)
    change = (over_s @ over_s - over_s) / s.unsqueeze(-2)
    step = U @ along + across
    sine = ((U * (t / s).unsqueeze(-2)) + step / s.unsqueeze(-2) + (U * t.unsqueeze(-2) + step) @ change) @ Vh
    versine = (V * (t / s * (t / (1 + s))).unsqueeze(-2) - V @ change) @ Vh
    return sine, versine
