"""Functions of Hermitian matrices, with derivatives that repeated eigenvalues do not disturb."""

import torch
from torch import Tensor

from .precision import precise
from .triangles import hermitian_part

# tanh(x / 128) is a quotient of polynomials to all digits for |x| up to 25, beyond which tanh(x) is 1 to all digits.
_DOUBLINGS = 7


@precise
def hermitian_tanh(S: Tensor) -> Tensor:
    """``tanh(S)`` of a Hermitian ``S``, with eigenvalues in ``[-1, 1]`` whatever ``S`` is: ``(*, n, n)`` to the same.

    ``tanh`` of a small part of ``S`` by its continued fraction, then ``tanh(2x) = 2 tanh(x) / (1 + tanh(x)^2)``, which
    maps all numbers into ``[-1, 1]``. Nothing overflows, as the exponential would, and no eigenvalues are needed.

    >>> hermitian_tanh(torch.diag(torch.tensor([0.5, -100.0])))
    tensor([[ 0.4621,  0.0000],
            [ 0.0000, -1.0000]])
    """
    identity = torch.eye(S.shape[-1], dtype=S.dtype, device=S.device)
    x = S / 2**_DOUBLINGS
    square = x @ x
    above = 945 * identity + 105 * square + square @ square
    below = 945 * identity + 420 * square + 15 * (square @ square)
    T = x @ above @ torch.linalg.inv(below)
    for _ in range(_DOUBLINGS):
        T = 2 * T @ torch.linalg.inv(identity + T @ T)
    return hermitian_part(T)
