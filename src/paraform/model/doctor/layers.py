"""Layers that keep several matrices in one tensor."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from ...constraints import AlmostOrthogonal, Grassmann, Orthogonal, Scaled, Transposed
from ...parametrize.named import Named
from .evaluation import Evaluation
from .finding import Finding

_ORTHOGONAL = (Orthogonal, AlmostOrthogonal, Grassmann)
_BY_NAME = "_Orthogonal"  # what nn.utils.parametrizations.orthogonal registers, torch's and ours


def packed(named: Named, evaluation: Evaluation) -> Iterator[Finding]:
    """PF701, where the matrices of gates, or of queries, keys and values, are orthogonal as one and not each."""
    blocks = _packed(named.module, named.tensor_name)
    if blocks < 2:
        return
    for step in evaluation.steps:
        inner: object = step
        while isinstance(inner, (Scaled, Transposed)):
            inner = inner.constraint
        if isinstance(inner, _ORTHOGONAL) or type(inner).__name__ == _BY_NAME:
            shape = tuple(evaluation.value.shape)
            yield Finding(
                "PF701",
                "note",
                named.name,
                f"The tensor of shape {shape} holds {blocks} matrices of shape {(shape[0] // blocks, *shape[1:])}. As "
                f"one it is orthogonal; each of them is not, and has singular values below 1.",
                f"Make each one orthogonal: Blocks(Orthogonal(), {blocks}) of paraform.constraints.",
            )


def _packed(module: nn.Module, name: str) -> int:
    """How many matrices lie one above the other in a tensor of ``module``."""
    if isinstance(module, nn.MultiheadAttention):
        return 3 if name == "in_proj_weight" else 1
    if not name.startswith(("weight_ih", "weight_hh")):
        return 1
    if isinstance(module, nn.LSTM | nn.LSTMCell):
        return 4
    return 3 if isinstance(module, nn.GRU | nn.GRUCell) else 1
