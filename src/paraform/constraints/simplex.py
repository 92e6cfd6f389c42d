"""Probability vectors."""

from typing import Any

import torch
from torch import Tensor

from .. import maps
from .along import Along
from .shapes import require_entries, require_real


class Simplex(Along):
    r"""Probability vectors along ``dim``, :math:`p_i \ge 0` and :math:`\sum_i p_i = 1`: the softmax of a raw vector.

    Shape: any with a dimension ``dim`` of size ``n >= 1`` to the same. Freedom: ``n - 1`` a vector.
    Raw tensor: all entries are read; a number added to all of a vector changes nothing, and registration and assignment
    take the logarithms whose mean is 0. Weight decay draws to the uniform vector.
    Samples: the flat Dirichlet law, which is uniform on the set.

    Softmax reaches the interior of the set, and by underflow (a raw entry 104 below the largest in float32) also 0. A
    vector that is assigned with an entry 0 is mixed with the uniform one, ``(1 - eps) p + eps / n``, with ``eps`` of
    the working precision (1.2e-7 in float32, 2.2e-16 in float64; half precision counts as float32), and so moves by
    less than ``eps``. An entry trains at a rate in proportion to itself: of a weight that was not made of
    probabilities, as that of a fresh ``nn.Linear``, many entries end at the edge, and hardly train. Assign a start
    inside of the set, ``torch.full((m, n), 1 / n)`` or a sample.

    The nearest point: J. Duchi and others, *Efficient projections onto the l1-ball for learning in high dimensions*,
    2008, figure 1; the faces are closed, so it is then mixed as above.

    Args:
        dim: the dimension that the vectors lie along.
        strict: see :class:`Constraint`.

    Raises:
        TypeError: ``dim`` is not an int.
        ValueError: the tensor has no dimension ``dim``, or none of its entries, or it is complex.

    The transition probabilities of a Markov chain, one row a state, start from the nearest ones:

    >>> from torch import nn
    >>> from paraform.parametrize import register_parametrization
    >>> model = nn.ParameterDict({"transition": torch.tensor([[0.9, 0.3], [0.5, 0.5]])})
    >>> model = register_parametrization(model, "transition", Simplex())
    >>> model.transition
    tensor([[0.8000, 0.2000],
            [0.5000, 0.5000]], grad_fn=...)
    """

    fixed_size = True
    stacks = True

    def forward(self, raw: Tensor) -> Tensor:
        return maps.simplex(raw, self.dim)

    def project(self, value: Tensor) -> Tensor:
        """The nearest point, and where it has a zero, ``eps`` off the face (see the class)."""
        self._check(value.shape, value.dtype)
        return maps.off_the_faces(maps.project_simplex(value, self.dim), (self.dim,), 0.5)

    def residual(self, value: Tensor) -> Tensor:
        """The distance to the set, faces included."""
        self._check(value.shape, value.dtype)
        return _distance(value, self.dim)

    def _settled(self, value: Tensor) -> Tensor:
        return maps.off_the_faces(value, (self.dim,))

    def _raw(self, value: Tensor) -> Tensor:
        return maps.log_ratios(value, (self.dim,))

    def _draw(self, shape: torch.Size, **options: Any) -> Tensor:
        drawn = maps.standard_exponential(shape, **options)
        return drawn / drawn.sum(self.dim, keepdim=True)

    def _dof(self, shape: torch.Size, reals: int) -> int:
        return self._count(shape) * (shape[self.dim] - 1)

    def _check(self, shape: torch.Size, dtype: torch.dtype) -> None:
        super()._check(shape, dtype)
        require_entries(self, shape, self.dim)
        require_real(self, dtype)


@maps.measured
def _distance(value: Tensor, dim: int) -> Tensor:
    return maps.size(value - maps.project_simplex(value, dim), (dim,))
