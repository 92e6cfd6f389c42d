"""Copies and saved states stand for the same value, and are independent."""

from __future__ import annotations

import copy
import io
import pickle

import torch

from .law import law, require
from .subject import Layer, Subject, distance


def _require_same(layer: Layer, other: Layer, what: str) -> None:
    error = float(distance(other.weight, layer.weight))
    require(error == 0, f"{what} has another value, at distance {error:.3g}")


@law
def deepcopy(subject: Subject) -> None:
    """A deep copy has the same value, and what is done to it does not reach the layer."""
    layer = subject.stirred(subject.layer())
    before = layer.weight.detach().clone()
    other = copy.deepcopy(layer)
    _require_same(layer, other, "a deep copy")
    subject.stirred(other)
    require(torch.equal(layer.weight.detach(), before), "a change of a deep copy changes the layer")


@law
def pickling(subject: Subject) -> None:
    """A pickled layer has the same value."""
    layer = subject.stirred(subject.layer())
    _require_same(layer, pickle.loads(pickle.dumps(layer)), "a pickled layer")


@law
def state_dict(subject: Subject) -> None:
    """A state dict, saved and loaded, gives a new layer the same value."""
    layer, other = subject.stirred(subject.layer()), subject.layer()
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file))
    _require_same(layer, other, "a layer that a state dict was loaded into")
