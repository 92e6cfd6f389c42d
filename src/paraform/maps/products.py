"""Products of matrices with the sums around them, in one operation."""

import torch
from torch import Tensor


def plus_product(rest: Tensor, left: Tensor, right: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """``beta rest + alpha left right``: shapes ``(*, m, n)``, ``(*, m, k)`` and ``(*, k, n)`` to ``(*, m, n)``.

    >>> plus_product(torch.eye(2), torch.ones(2, 3), torch.ones(3, 2), beta=2, alpha=-1)
    tensor([[-1., -3.],
            [-3., -1.]])
    """
    if rest.ndim == 2:
        return torch.addmm(rest, left, right, beta=beta, alpha=alpha)
    if rest.ndim > 3:
        flat = (x.reshape(-1, *x.shape[-2:]) for x in (rest, left, right))
        return plus_product(*flat, beta=beta, alpha=alpha).reshape(rest.shape)
    return torch.baddbmm(rest, left, right, beta=beta, alpha=alpha)
