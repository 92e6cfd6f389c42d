"""Recipes for what is often done, made for a model: dicts of full names, to be printed, merged and changed.

>>> from torch import nn
>>> from paraform.constraints import Simplex
>>> from paraform.model import constrain, presets
>>> model = nn.ModuleDict({"rnn": nn.LSTM(3, 4), "head": nn.Linear(4, 2)})
>>> recipe = {**presets.orthogonal_recurrent(model), "head.weight": Simplex()}
>>> recipe
{'rnn.weight_hh_l0': Blocks(Orthogonal(), 4), 'head.weight': Simplex()}
>>> model = constrain(model, recipe)
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn
from torch.nn import Module
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from ..constraints import Blocks, Constraint, Flatten, Orthogonal, SpectralNorm, WeightNorm
from ..parametrize.errors import title
from ..parametrize.named import named_modules
from ..parametrize.state_dict import names_in_order
from .recipe import places_of, title_of

Recipe = dict[str, Constraint]

_GATES = {nn.RNN: 1, nn.RNNCell: 1, nn.LSTM: 4, nn.LSTMCell: 4, nn.GRU: 3, nn.GRUCell: 3}


def orthogonal_recurrent(model: Module) -> Recipe:
    """Orthogonal recurrent kernels: the ``weight_hh`` of every RNN, LSTM and GRU and their cells, a block a gate.

    All layers and directions. With ``proj_size`` a gate's kernel has more rows than columns; the columns are
    orthonormal then, and the projection itself, ``weight_hr``, stays free.

    Raises:
        ValueError: the model has no such layer.

    Source: M. Arjovsky, A. Shah and Y. Bengio, *Unitary evolution recurrent neural networks*, 2016.

    >>> orthogonal_recurrent(nn.GRU(3, 4, bidirectional=True))
    {'weight_hh_l0': Blocks(Orthogonal(), 3), 'weight_hh_l0_reverse': Blocks(Orthogonal(), 3)}
    """
    return _recipe(model, _recurrent_kernels, "an RNN, LSTM or GRU, or a cell of one")


def spectral_norm(model: Module, bound: float = 1.0) -> Recipe:
    r"""Spectral norms of at most ``bound``: ``weight`` of every linear layer and convolution, for a discriminator.

    A convolution's kernel is one matrix, ``out x (in * kh * kw)``, as in ``torch.nn.utils.spectral_norm``; a transposed
    one's too. Where a convolution has groups, its matrix is block diagonal and each group's block is bounded; torch
    bounds the blocks as if stacked, which is up to :math:`\sqrt{groups}` smaller.

    Unlike there, a weight within the bound is left as it is: see :class:`~paraform.SpectralNorm`, and
    :class:`~paraform.Flatten` for what the matrix says of whole images.

    Raises:
        ValueError: the model has no such layer; or an older function has taken its weight; or ``bound`` is not
            positive and finite.

    Source: T. Miyato and others, *Spectral normalization for generative adversarial networks*, 2018.

    >>> spectral_norm(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8, 1)))
    {'0.weight': Flatten(SpectralNorm()), '2.weight': SpectralNorm()}
    """
    return _recipe(model, lambda layer: _bounded(layer, bound), "a linear layer or a convolution")


def weight_norm(model: Module) -> Recipe:
    """Sizes and directions apart: ``weight`` of every linear layer and convolution, for a vocoder.

    Sizes are along dimension 0, which is ``torch.nn.utils.weight_norm``'s default: of the output channels, and of the
    input channels of a transposed convolution.

    Raises:
        ValueError: the model has no such layer, or an older function has taken its weight.

    Source: T. Salimans and D. Kingma, *Weight normalization*, 2016.

    >>> weight_norm(nn.Sequential(nn.Conv1d(80, 8, 7), nn.ConvTranspose1d(8, 4, 16, stride=8)))
    {'0.weight': WeightNorm(), '1.weight': WeightNorm()}
    """
    return _recipe(model, _sized, "a linear layer or a convolution")


def orthogonal_qkv(model: Module) -> Recipe:
    """Orthogonal maps to queries, keys and values in every ``nn.MultiheadAttention``, each on its own.

    That is ``in_proj_weight`` in three blocks or, where keys and values have sizes of their own, three tensors: of
    orthonormal columns or, where there are more columns than rows, rows.

    Raises:
        ValueError: the model has no such layer.

    >>> orthogonal_qkv(nn.MultiheadAttention(8, 2)), list(orthogonal_qkv(nn.MultiheadAttention(8, 2, kdim=6)))
    ({'in_proj_weight': Blocks(Orthogonal(), 3)}, ['q_proj_weight', 'k_proj_weight', 'v_proj_weight'])
    """
    return _recipe(model, _projections, "an nn.MultiheadAttention")


def _recipe(model: Module, constraints_of: Callable[[Module], dict[str, Constraint]], kinds: str) -> Recipe:
    """What ``constraints_of`` each module says, under full names; a tensor that has several, by the first."""
    if not isinstance(model, Module):
        raise TypeError(f"Expected an nn.Module to make a recipe for, got {title_of(model)}.")
    recipe: Recipe = {}
    places = {(place.module, place.tensor_name): place for place in reversed(places_of(model))}
    seen = set()
    for prefix, module in named_modules(model):
        for tensor_name, constraint in constraints_of(module).items():
            place = places.get((module, tensor_name))
            if place is None:
                raise ValueError(
                    f"{title(module)}, '{prefix.removesuffix('.')}' of the model, has no parameter '{tensor_name}'. If "
                    "a hook computes it, as that of torch's older weight_norm does, take the hook off first."
                )
            if place.identity not in seen:
                seen.add(place.identity)
                recipe[place.name] = constraint
    if not recipe:
        raise ValueError(f"{title(model)} has no layer that is {kinds}, so there is nothing that this recipe is for.")
    return recipe


def _recurrent_kernels(layer: Module) -> dict[str, Constraint]:
    gates = next((gates for kind, gates in _GATES.items() if isinstance(layer, kind)), 0)
    names = [name for name in names_in_order(layer) if name.startswith("weight_hh")] if gates else []
    return {name: Orthogonal() if gates == 1 else Blocks(Orthogonal(), gates) for name in names}


def _bounded(layer: Module, bound: float) -> dict[str, Constraint]:
    if isinstance(layer, nn.Linear):
        return {"weight": SpectralNorm(bound)}
    if not isinstance(layer, _ConvNd):
        return {}
    outputs = 1 if isinstance(layer, _ConvTransposeNd) else 0
    if layer.groups == 1:
        return {"weight": Flatten(SpectralNorm(bound), dim=outputs)}
    # A group has its own outputs and its own inputs; the inputs of all, or the outputs of all, are the first dimension.
    return {"weight": Flatten(Blocks(SpectralNorm(bound), layer.groups, dim=outputs), dim=outputs)}


def _sized(layer: Module) -> dict[str, Constraint]:
    return {"weight": WeightNorm()} if isinstance(layer, (nn.Linear, _ConvNd)) else {}


def _projections(layer: Module) -> dict[str, Constraint]:
    if not isinstance(layer, nn.MultiheadAttention):
        return {}
    if layer._qkv_same_embed_dim:
        return {"in_proj_weight": Blocks(Orthogonal(), 3)}
    return {f"{one}_proj_weight": Orthogonal() for one in "qkv"}
