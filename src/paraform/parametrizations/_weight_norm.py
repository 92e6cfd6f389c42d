"""Weight normalization: the length and the direction of a weight, trained apart."""

from __future__ import annotations

from torch import nn

from ..constraints import WeightNorm
from ..parametrize import is_parametrized, register_parametrization, type_before_parametrizations
from ._module import dimension_of, tensor_of


def weight_norm(module: nn.Module, name: str = "weight", dim: int | None = 0) -> nn.Module:
    r"""Train the length and the direction of a weight apart: :math:`w = g\, v / \lVert v \rVert`.

    Shape: any. ``original0`` is ``g``, of size 1 in every dimension but ``dim`` (a scalar for ``dim=None``);
    ``original1`` is ``v``, of the weight's own shape. The norm is over all dimensions but ``dim``, or over all.

    A slice of zeros is legal: it gets length 0 and the direction ``(1, ..., 1)``, so that it can grow again.
    Checkpoints of the older ``torch.nn.utils.weight_norm`` (``weight_g``, ``weight_v``) load.

    Args:
        module: the layer.
        name: its parameter or buffer to normalize.
        dim: the dimension that is kept, negative ones counted from the last; ``None`` for one norm of the whole tensor.

    Returns:
        ``module``, with the parametrization registered.

    Raises:
        ValueError: ``module`` has no tensor of this name, or an integer one, or one that is not finite, or one that is
            parametrized already: ``weight_norm`` comes first in a chain, since it has two originals.
        TypeError: ``dim`` is no integer.
        IndexError: the tensor has no such dimension.
        RuntimeError: the tensor has no shape yet (a lazy module before its first forward pass).

    Mirrors :func:`torch.nn.utils.parametrizations.weight_norm`, with one difference: torch reads ``dim=-1`` as the
    whole tensor, and here it is the last dimension. What torch saved with ``dim=-1`` loads, by its value.
    Source: Salimans & Kingma 2016, "Weight Normalization", equation 2.

    >>> layer = weight_norm(nn.Linear(20, 40))
    >>> layer.parametrizations.weight.original0.shape, layer.parametrizations.weight.original1.shape
    (torch.Size([40, 1]), torch.Size([40, 20]))
    """
    tensor = tensor_of(module, name)
    if is_parametrized(module, name):
        raise ValueError(
            f"weight_norm trains two tensors, which only the first parametrization of a tensor can, and '{name}' of "
            f"{type_before_parametrizations(module).__name__} has one already. Call weight_norm before the others."
        )
    return register_parametrization(module, name, WeightNorm(None if dim is None else dimension_of(tensor, name, dim)))
