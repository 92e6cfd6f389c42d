"""Loading a saved model: the recipe onto a plain model, and the numbers into it."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Container
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import Module, Parameter
from torch.nn.parameter import is_lazy

from ..parametrize import ParametrizationList
from ..parametrize.assembly import install
from ..parametrize.owners import modules_alive
from ..parametrize.tensors import hold
from ..parametrize.together import unchanged_on_failure
from .errors import FileError
from .fitting import Fit, Place, fitted
from .names import printable, reason
from .saved import SavedFile

M = TypeVar("M", bound=Module)


def load(path: str | os.PathLike[str], model: M) -> M:
    """Load a file of :func:`save` into a model: plain as its class builds it, or parametrized as the saved one was.

    A plain tensor of the model that the file has parametrized is parametrized as there. Its own numbers do not matter:
    they may be anything. No parametrization is asked for an inverse, and no code comes from the file. Then all
    numbers are copied into the model, so that each value is the one that was saved, to the bit, and training
    goes on from there: raw tensors, bases and estimates are those that were saved. (The optimizer's state is yours to
    save: ``optimizer.state_dict()``. Parameters have the order that they had.)

    The model decides where its tensors are and how precise they are, as with ``load_state_dict``: numbers are converted
    to the dtype and moved to the device of each tensor of the model. What is on the meta device is made on the CPU, in
    its dtype. ``requires_grad`` and the mode stay the model's. A ``Parameter`` with one raw tensor stays the same
    object; where there are several, as of ``LowRank``, an optimizer made before does not know them: make it after
    loading. What is tied in the file is tied in the model.

    Args:
        path: the file.
        model: the model, with the same tensors under the same names.

    Returns:
        ``model`` itself.

    Raises:
        FileError: the file is damaged or foreign, it needs a parametrization of your own that has no name here
            (:func:`saved_as`), or the model has other names, shapes, kinds of numbers, ties or parametrizations;
            then the error lists all of them, and the model is as it was, to the bit.
        OSError: the file cannot be read.
        TypeError: ``model`` is no module.

    >>> import tempfile
    >>> from torch import nn
    >>> from paraform import Skew, register_parametrization
    >>> from paraform.files import save
    >>> layer = register_parametrization(nn.Linear(3, 3), "weight", Skew())
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(layer, f"{folder}/layer.safetensors")
    ...     load(f"{folder}/layer.safetensors", nn.Linear(3, 3)).parametrizations.weight
    ParametrizationList(
      (0): Skew()
    )
    """
    if not isinstance(model, Module):
        raise TypeError(f"Expected a path and then an nn.Module to load into, got {type(model).__name__}.")
    with SavedFile(path) as saved, torch.inference_mode(False):  # what is made under inference mode could never train
        where = f"Cannot load '{printable(path)}' into this {type(model).__name__}"
        fit = fitted(saved, model)
        if fit.problems:
            raise FileError("\n    ".join([f"{where}, which was not changed:", *fit.problems]))
        state = OrderedDict((key, saved.read(stored)) for key, stored in fit.keys.items())
        try:
            with unchanged_on_failure(model):
                _put_on(model, fit)
                model.load_state_dict(state)
        except MemoryError:
            raise
        except Exception as error:
            raise FileError(f"{where}, which was not changed: {reason(error)}") from error
    return model


def _put_on(model: Module, fit: Fit) -> None:
    """Make ``model`` one that has a place for each number."""
    for place, target in fit.ties:
        _tie(place, target)
    alive = modules_alive() if fit.chains else []
    for place, chain in fit.chains:
        tensor = install(place.module, place.name, chain, alive)
        device = torch.device("cpu") if tensor.is_meta else tensor.device
        _take_for_original(chain, tensor)
        _make_real("", chain, device, chain.state_dict(), {})
        chain.to(device)  # what a step was given as numbers, or holds beside its tensors
    for off_chain, off in fit.switched_off:
        if off or hasattr(off_chain, "_set_off"):  # torch's engine has no switch, and needs none for nothing
            off_chain._set_off(off)
    for key, other in fit.shared.items():
        _share(model, key, other)
    _make_real("", model, torch.device("cpu"), fit.keys, {})


def _tie(place: Place, target: Place) -> None:
    """Let both modules hold the tensor of ``target``."""
    setattr(place.module, place.name, getattr(target.module, target.name))


def _take_for_original(chain: ParametrizationList, tensor: Tensor) -> None:
    """Let ``tensor``, in whose place ``chain`` is, be its raw tensor, if that is one; else be the model for several."""
    for name, raw in [*chain._parameters.items()]:
        assert raw is not None
        del chain._parameters[name]
        if tensor.is_meta or not chain.is_tensor or tensor.dtype != raw.dtype:
            device = torch.device("cpu") if tensor.is_meta else tensor.device
            own = torch.empty(raw.shape, dtype=raw.dtype, device=device)
            wants_gradient = tensor.requires_grad and raw.requires_grad
            hold(chain, name, Parameter(own, wants_gradient) if isinstance(tensor, Parameter) else own)
            continue
        if tensor.shape != raw.shape:
            tensor.data = torch.empty(raw.shape, dtype=raw.dtype, device=tensor.device)
            tensor.grad = None
        hold(chain, name, tensor)


def _make_real(
    prefix: str, module: Module, device: torch.device, keys: Container[str], made: dict[int, Tensor]
) -> None:
    """Give memory to the tensors of ``module`` and those below that are on the meta device and among ``keys``."""
    for holder in (module._parameters, module._buffers):
        for name, tensor in list(holder.items()):
            if tensor is None or not tensor.is_meta or is_lazy(tensor) or prefix + name not in keys:
                continue
            if id(tensor) not in made:  # a tie stays one
                own = torch.empty_like(tensor, device=device)
                made[id(tensor)] = Parameter(own, tensor.requires_grad) if isinstance(tensor, Parameter) else own
            if isinstance(module, ParametrizationList):
                hold(module, name, made[id(tensor)])
            else:
                setattr(module, name, made[id(tensor)])  # which an RNN takes note of
    for name, child in module._modules.items():
        if child is not None:
            _make_real(f"{prefix}{name}.", child, device, keys, made)


def _share(model: Module, key: str, other: str) -> None:
    """Let the two keys of the state dict be one tensor."""
    (path, _, name), (other_path, _, other_name) = key.rpartition("."), other.rpartition(".")
    module, holder = model.get_submodule(path), model.get_submodule(other_path)
    tensor = {**holder._parameters, **holder._buffers}[other_name]
    if tensor is not None and {**module._parameters, **module._buffers}[name] is not tensor:
        hold(module, name, tensor)
