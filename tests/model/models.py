"""Models of each kind of layer, plain, and the constraints that tests put on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import paraform as pf


def stack() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3))


def constrain_stack(model: Any) -> None:
    pf.register_parametrization(model[0], "weight", pf.Orthogonal())
    pf.register_parametrization(model[2], "weight", pf.WeightNorm())
    pf.register_parametrization(model[2], "bias", pf.Interval(-0.5, 0.5))


def images() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 3), nn.Flatten())


def constrain_images(model: Any) -> None:
    pf.register_parametrization(model[0], "weight", pf.Flatten(pf.SpectralNorm()))
    pf.register_parametrization(model[0], "weight", torch.tanh)
    pf.register_parametrization(model[1], "bias", pf.Ball(0.5))
    pf.register_parametrization(model[3], "weight", pf.Flatten(pf.LowRank(2)))


class Tagger(nn.Module):
    """A recurrent layer, and a linear one on each of its outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(5, 4, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.lstm(x)
        tags: Tensor = self.head(states)
        return tags


def constrain_tagger(model: Any) -> None:
    for name in ("weight_hh_l0", "weight_hh_l1_reverse"):
        pf.register_parametrization(model.lstm, name, pf.Blocks(pf.Orthogonal(), 4))
    pf.register_parametrization(model.lstm, "bias_ih_l0", pf.Interval(-1.0, 1.0))
    pf.parametrizations.spectral_norm(model.head)  # which has an estimate, carried on by each forward pass


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.attention(x, x, x, need_weights=False)[0]
        return out


def constrain_attention(model: Any) -> None:
    pf.register_parametrization(model.attention, "in_proj_weight", pf.Blocks(pf.Orthogonal(), 3))
    pf.register_parametrization(model.attention.out_proj, "weight", pf.Skew())


def encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, dropout=0.0, batch_first=True)
    return nn.TransformerEncoder(layer, num_layers=2)


def constrain_encoder(model: Any) -> None:
    for layer in model.layers:
        pf.register_parametrization(layer.self_attn, "in_proj_weight", pf.Blocks(pf.Orthogonal(), 3))
        pf.register_parametrization(layer.linear1, "weight", pf.AlmostOrthogonal(0.1))
        pf.register_parametrization(layer.linear2, "weight", pf.Masked(torch.ones(8, 16).tril(4)))
        pf.register_parametrization(layer.norm1, "weight", pf.Positive())


@dataclass(frozen=True)
class Kind:
    """A kind of model: how to make it, what to constrain, and what shape it takes."""

    make: Callable[[], nn.Module]
    constrain: Callable[[nn.Module], None]
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return self.make.__name__.lower()

    def constrained(self, *, trained: bool = True) -> nn.Module:
        """A model whose raw tensors are no longer what registering made of them."""
        model = self.make()
        self.constrain(model)
        if trained:
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            model(self.inputs()).square().mean().backward()
            optimizer.step()
        return model

    def inputs(self) -> Tensor:
        return torch.randn(self.shape)


KINDS = [
    Kind(stack, constrain_stack, (6, 4)),
    Kind(images, constrain_images, (2, 2, 6, 6)),
    Kind(Tagger, constrain_tagger, (2, 5, 5)),
    Kind(Attention, constrain_attention, (2, 5, 8)),
    Kind(encoder, constrain_encoder, (2, 5, 8)),
]


def constrained() -> Any:
    """Two layers with an orthogonal weight each."""
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    for layer in model:
        pf.register_parametrization(layer, "weight", pf.Orthogonal())
    return model
