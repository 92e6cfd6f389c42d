"""Weight normalization: the length and the direction of a weight, trained apart."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn

from ..constraints import WeightNorm
from ..parametrize import is_parametrized, register_parametrization, type_before_parametrizations
from ._module import dimension_of, load_old_keys, tensor_of


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
    whole tensor, and here it is the last dimension. What torch saved with ``dim=-1`` loads where this function was
    called with ``dim=None``; elsewhere ``load_state_dict`` raises a ``RuntimeError`` that says so.
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
    dim = None if dim is None else dimension_of(tensor, name, dim)
    del tensor  # registration looks for whoever else holds it
    register_parametrization(module, name, WeightNorm(dim))
    load_old_keys(module, name, {"g": "original0", "v": "original1"})
    hook = partial(_refuse_one_length_for_all, name=name)
    module.register_load_state_dict_pre_hook(hook)  # type: ignore[no-untyped-call]
    return module


# Behind load_old_keys, whose hook has given the length its new key. At module level: see there.
def _refuse_one_length_for_all(
    module: nn.Module, state_dict: dict[str, Any], prefix: str, *rest: Any, name: str
) -> None:
    *_, error_msgs = rest
    length = state_dict.get(f"{prefix}parametrizations.{name}.original0")
    if not is_parametrized(module, name) or not isinstance(length, Tensor):
        return
    (step, *_) = module.parametrizations[name]  # type: ignore[index]
    if isinstance(step, WeightNorm) and step.dim is not None and length.ndim == 0:
        error_msgs.append(
            f"the checkpoint has one length for the whole '{prefix}{name}', as torch's weight_norm makes it for dim=-1 "
            f"and for dim=None; this module has one for each slice along dim={step.dim}. "
            f"Build it with weight_norm(..., dim=None) to load this checkpoint."
        )
