"""Orthogonal and unitary weights, with the raw tensors of torch's own parametrization."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from .. import maps
from ..constraints import Orthogonal
from ..constraints.base import ProjectionWarning, _depth_of_user
from ..parametrize import is_parametrized, register_parametrization
from . import _frames as frames
from ._module import tensor_of

_MAPS = {"matrix_exp": frames.exponential, "cayley": frames.cayley, "householder": frames.reflections}
# For square matrices torch's raw tensors are those of our maps.
_AT_A_BASE = {"matrix_exp": maps.matrix_exp_at, "cayley": maps.cayley_at, "householder": maps.householder_at}


class _Orthogonal(Orthogonal):
    """:class:`Orthogonal`, with torch's raw tensor and its square base, or none."""

    moves = True

    def __init__(self, weight: Tensor, orthogonal_map: str, *, use_trivialization: bool = True) -> None:
        if orthogonal_map not in _MAPS:
            raise ValueError(f"Expected orthogonal_map to be one of {', '.join(_MAPS)}, got {orthogonal_map!r}.")
        super().__init__(orthogonal_map, slices=True)
        self.use_trivialization = use_trivialization
        self.shape = weight.shape
        if weight.is_complex() and orthogonal_map == "householder":
            raise ValueError(f"{self} expects real numbers, got {weight.dtype}; use 'matrix_exp' or 'cayley'.")

    @property
    def orthogonal_map(self) -> str:
        """The map's name. torch has an enumeration of its own under this name."""
        return self.map

    def forward(self, raw: Tensor) -> Tensor:
        return _value(raw, self._base_in_set(), self.map, self.use_trivialization)

    def project(self, value: Tensor) -> Tensor:
        """The Q factor, as in torch: a point of the set, but not the nearest."""
        return _q_factor(value)

    def _nearest_base(self, base: Tensor) -> Tensor:
        return maps.polar(base)

    def _check(self, shape: torch.Size, dtype: torch.dtype) -> None:
        if shape != self.shape:
            raise ValueError(f"{self} expects a value of shape {tuple(self.shape)}, got {tuple(shape)}.")
        if not self.use_trivialization and self.map != "householder":
            raise NotImplementedError(
                f"The map '{self.map}' has no inverse without a base, so nothing can be assigned to it. "
                f"Use use_trivialization=True, or orthogonal_map='householder'."
            )

    def _raw(self, value: Tensor) -> Tensor:
        wide = value.size(-2) < value.size(-1)
        Q = (value.mT if wide else value).to(maps.working_dtype(value.dtype))
        if self.use_trivialization:
            self._hold(frames.completed(Q).to(value.dtype))
            # The raw tensor of the identity; its diagonal is for torch, which reads signs there.
            raw = -frames.identity_like(Q).expand_as(Q)
        else:
            raw = frames.reflectors(Q)
        return (raw.mT if wide else raw).to(value.dtype)

    def foreign_value(self, state: Mapping[str, Tensor]) -> None:
        """None: torch's layout is that of this class."""

    def _report(self, distance: Tensor) -> None:
        warnings.warn(
            f"{self} expects an orthogonal value, got one at Frobenius distance {float(distance):.3g} from the Q "
            f"factor of its QR decomposition, which is taken. Assign that factor to say that this is meant.",
            ProjectionWarning,
            stacklevel=_depth_of_user(),
        )

    def _get_name(self) -> str:
        return "orthogonal"  # what the user called, for errors, warnings and print

    def extra_repr(self) -> str:
        return f"orthogonal_map={self.map!r}, use_trivialization={self.use_trivialization}"


@maps.precise
def _value(raw: Tensor, base: Tensor | None, orthogonal_map: str, use_trivialization: bool) -> Tensor:
    wide = raw.size(-2) < raw.size(-1)
    X = raw.mT if wide else raw
    if base is not None and X.size(-2) == X.size(-1):
        # A real diagonal has no effect, but is what torch starts with: without it a base is known for what it is.
        return _AT_A_BASE[orthogonal_map](base, X if X.is_complex() else X.tril(-1))
    Q = _MAPS[orthogonal_map](X)
    if orthogonal_map == "householder":
        # With a base nothing that is stored is read: it is -1 from the start, and an optimizer may have decayed it.
        Q = Q * (-1 if use_trivialization else frames.stored_signs(X))
    Q = Q if base is None else base @ Q
    return Q.mT if wide else Q


@maps.precise
def _q_factor(value: Tensor) -> Tensor:
    wide = value.size(-2) < value.size(-1)
    Q = frames.orthonormal_factor(value.mT if wide else value)
    return Q.mT if wide else Q


def orthogonal(
    module: nn.Module,
    name: str = "weight",
    orthogonal_map: str | None = None,
    *,
    use_trivialization: bool = True,
) -> nn.Module:
    r"""Keep a matrix, or each matrix of a batch, orthogonal (unitary if complex).

    Shape: ``(*, n, k)``; the columns are orthonormal where ``n >= k``, the rows otherwise. The leading dimensions are a
    batch: the kernel of a convolution is a batch of small matrices here, not one matrix.

    A weight that is not orthogonal starts at the Q factor of its QR decomposition with a positive diagonal of R, and
    one that is stays as it is. So does a value that is assigned later, with a ``ProjectionWarning`` that says how far
    it had to move. The maps run in float32 at least, and without autocast.

    With ``use_trivialization`` the weight is ``base`` times the map of the raw tensor. ``base``, ``(*, n, n)`` with
    ``n`` the larger size, is ``module.parametrizations.weight[0].base``; assigning a value moves it there. Weight decay
    pulls towards it and cannot leave the set. A base that has left the set is moved back to the nearest point: by
    rounding (saved or held in half precision) when it is loaded or widened, by an average over models
    (``AveragedModel`` with ``use_buffers=True``) at the next read outside compiled code.

    Args:
        module: the layer.
        name: its parameter or buffer to make orthogonal.
        orthogonal_map: ``"matrix_exp"``, ``"cayley"`` or ``"householder"`` (real only). By default ``"matrix_exp"`` for
            square or complex matrices, ``"householder"`` for the rest.
        use_trivialization: whether there is a base. Without one ``"matrix_exp"`` and ``"cayley"`` have no inverse: the
            weight starts wherever they take its entries, and cannot be assigned. ``"householder"`` then keeps the sign
            of each column in the raw tensor's diagonal. Decay that only shrinks it (AdamW, plain SGD) is harmless;
            an L2 penalty inside Adam walks it across zero in time, which turns columns over.

    Returns:
        ``module``, with the parametrization registered.

    Warns:
        UserWarning: the tensor is the kernel of a convolution, of which torch's function takes each slice for a matrix.

    Raises:
        ValueError: ``module`` has no tensor of this name, or one that has no shape yet (a lazy module), or fewer than
            two dimensions, or integers, or entries that are not finite, or complex ones under ``"householder"``; or the
            map is not one of the three. On assignment: another shape or dtype, or entries that are not finite.
        NotImplementedError: on assignment, where there is no inverse (see ``use_trivialization``).

    Mirrors :func:`torch.nn.utils.parametrizations.orthogonal`. Source of the base: Lezcano-Casado 2019,
    "Trivializations for Gradient-Based Optimization on Manifolds".

    >>> layer = orthogonal(nn.Linear(20, 40))
    >>> torch.allclose(layer.weight.T @ layer.weight, torch.eye(20), atol=1e-5)
    True
    >>> layer.weight = torch.eye(40, 20)  # the base moves here
    >>> torch.equal(layer.parametrizations.weight[0].base[:, :20], torch.eye(40, 20))
    True
    """
    weight = tensor_of(module, name, lazy=ValueError)
    if weight.ndim < 2:
        raise ValueError(
            f"orthogonal expects matrices, shape (*, n, k), got '{name}' of shape {tuple(weight.shape)}; name another."
        )
    if orthogonal_map is None:
        square = len(set(weight.shape[-2:])) == 1
        orthogonal_map = "matrix_exp" if square or weight.is_complex() else "householder"
    parametrization = _Orthogonal(weight, orthogonal_map, use_trivialization=use_trivialization)
    if isinstance(module, _ConvNd) and name == "weight":
        _warn_of_slices(module, weight)
    del weight  # registration looks for whoever else holds it
    # A checked registration asks a further step of a chain for its inverse, which would move the base.
    return register_parametrization(module, name, parametrization, unsafe=is_parametrized(module, name))


def _warn_of_slices(module: nn.Module, kernel: Tensor) -> None:
    warnings.warn(
        f"orthogonal makes the slices of shape {tuple(kernel.shape[-2:])} of the kernel of {type(module).__name__} "
        f"orthogonal, as torch does, and not the kernel as one matrix of shape {tuple(kernel.flatten(1).shape)}. For "
        f"that, register paraform.Flatten(paraform.Orthogonal()); where the slices are meant, "
        f"paraform.Orthogonal(slices=True).",
        stacklevel=_depth_of_user(),
    )
