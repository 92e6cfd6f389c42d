"""A plain model out of a constrained one: each parametrized tensor becomes its value."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import Module, RNNBase

from ..parametrize.contexts import compute_at_each_read
from ..parametrize.errors import explain, title
from ..parametrize.lazy import pending_of
from ..parametrize.named import Named, named_chains
from ..parametrize.owners import Owner, held_elsewhere, owners_of_chains
from ..parametrize.reads import look
from ..parametrize.state_dict import names_in_order
from ..parametrize.surgery import check_class, check_unsharded, displace, sort
from ..parametrize.switching import originals_of
from ..parametrize.tensors import copy_like, numbers_of, write
from ..parametrize.together import unchanged_modules

M = TypeVar("M", bound=Module)


@torch.no_grad()
def fold(model: M, copy: bool = False) -> M:
    """Replace each parametrized tensor of ``model`` by its value: a plain model, with the same outputs.

    Modules have their original classes again and the state dict that of the plain architecture, in its order. Nothing
    of this package is left in the model, so what knows plain PyTorch only takes it: quantization, pruning, ONNX,
    TorchScript, a pickle that is read where this package is not installed. Folding a plain model does nothing.

    The value is the one that a read outside of autocast would give, in the mode that the model is in (call
    ``model.eval()`` first where that makes a difference): without the steps that are switched off, and with no estimate
    carried on. Chains of ``torch.nn.utils.parametrize`` are folded too.

    Parameters stay parameters that want a gradient as before, and buffers stay buffers, saved or not. Ties stay ties,
    also with modules that are not part of ``model``. A single original stays the same ``Parameter`` object, if nobody
    else holds it and the value has its dtype; it loses its gradient, which was one of the raw tensor.
    :func:`~paraform.cache_each_forward` is ended. Other hooks stay.

    Besides the values, whose memory is kept or given back in the end, this takes that of the raw tensors once more: to
    put them back, or with ``copy`` for the copy.

    Either all is folded or nothing: whatever can be refused is refused before anything changes. Afterwards each plain
    tensor is compared with the value that was computed, to the bit.

    An optimizer made earlier goes on only with parameters that are the same objects, and remembers moments of the raw
    tensors. To train on, make a new one.

    Args:
        model: any module. Of ``torch.compile(model)`` the model within is folded, and compiled anew at its next call.
        copy: leave ``model`` as it is and fold a deep copy of it.

    Returns:
        ``model`` itself, or the folded copy.

    Raises:
        TypeError: ``model`` is no module or compiled by TorchScript, or a value is no tensor.
        ValueError: a value has entries that are not finite; or a raw tensor is computed itself, so that folding would
            cut it off from what is trained.
        RuntimeError: parametrizations are waiting for the first forward pass of a lazy module; or a module is sharded
            by FSDP, or another library has changed its class; or a plain tensor is not the value (which would be a
            mistake of this package's).
        Exception: whatever a parametrization raises. Each error names the tensor.

    >>> import torch
    >>> from torch import nn
    >>> from paraform import Orthogonal, register_parametrization
    >>> model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> _ = register_parametrization(model[0], "weight", Orthogonal())
    >>> x = torch.randn(8, 4)
    >>> y = model(x)
    >>> fold(model)
    Sequential(
      (0): Linear(in_features=4, out_features=4, bias=True)
      (1): ReLU()
      (2): Linear(in_features=4, out_features=2, bias=True)
    )
    >>> list(model.state_dict()), torch.equal(model(x), y)
    (['0.weight', '0.bias', '2.weight', '2.bias'], True)
    """
    if not isinstance(model, Module):
        raise TypeError(f"Expected an nn.Module to fold, got {type(model).__name__}.")
    _check_modules(model)
    if copy:
        with torch.inference_mode(False):  # what is made under inference mode could never train
            model = deepcopy(model)

    found = {named.chain: (named.name, _plain(named)) for named in named_chains(model)}
    owners = owners_of_chains(found)
    for chain, (name, _) in found.items():
        with _explained(name):
            for owner, _ in owners[chain]:
                check_class(owner)
                check_unsharded(owner, originals_of(chain))
    shared = held_elsewhere((chain, raw) for chain in found for raw in originals_of(chain))

    holders = {owner for each in owners.values() for owner, _ in each}
    changing = {*found, *holders, *(owner.get_submodule("parametrizations") for owner in holders)}
    with nullcontext() if copy else unchanged_modules(changing):  # nobody needs a copy that could not be folded
        folded = [_put(plain, chain, owners[chain], shared) for chain, (_, plain) in found.items()]
        for holder in holders:
            if isinstance(holder, RNNBase):
                holder._init_flat_weights()  # TorchScript takes this list as it is
        for chain, (name, plain) in found.items():
            _check_bits(plain, owners[chain], name)
    for tensor in folded:
        tensor.grad = None  # it was that of the raw tensor
    compute_at_each_read(model)
    return model


def _check_modules(model: Module) -> None:
    for path, module in model.named_modules():
        name = f"'{path}', a {title(module)}," if path else f"this {title(module)}"
        if isinstance(module, torch.jit.ScriptModule):
            if hasattr(module, "parametrizations"):
                raise TypeError(f"In the model {name} is compiled by TorchScript. Fold first, then script or trace.")
            continue
        pending = pending_of(module)
        if pending is not None:
            raise RuntimeError(
                f"In the model {name} waits for its first forward pass, to parametrize: {', '.join(pending._modules)}. "
                f"Run one forward pass, or drop what waits by remove_parametrizations(module, name); then fold."
            )


def _plain(named: Named) -> Tensor:
    """The value as the parameter or buffer that it is to be, of no other's memory."""
    with _explained(named.name):
        originals = originals_of(named.chain)
        held = {*named.chain._parameters.values(), *named.chain._buffers.values()}
        if any(raw.grad_fn is not None or raw not in held for raw in originals):
            raise ValueError(
                f"A raw tensor of '{named.name}' is no leaf but computed itself, with gradients recorded or by a "
                "parametrization of its own. Let it be a parameter or buffer of numbers first."
            )
        with _without_autocast(originals[0].device.type):
            value = look(named.chain)
        if not isinstance(value, Tensor):
            raise TypeError(f"The value of '{named.name}' is no tensor but a {type(value).__name__}.")
        numbers = numbers_of(value)
        if numbers is not None and not bool(torch.isfinite(numbers).all()):
            raise ValueError(
                f"The value of '{named.name}' has entries that are not finite (nan or inf). Assign it a finite value, "
                "or take its parametrizations off by remove_parametrizations."
            )
        return copy_like(originals, value.contiguous())


def _put(plain: Tensor, chain: Module, owners: list[Owner], shared: set[Tensor]) -> Tensor:
    """Let ``plain`` be what the chain is on, as the chain's original where that can hold it."""
    originals = originals_of(chain)
    tensor, raw = plain, originals[0]
    if len(originals) == 1 and raw.dtype == plain.dtype and raw not in shared and not raw.is_inference():
        write(raw, plain)
        tensor = raw
    orders = [names_in_order(owner) for owner, _ in owners]  # which torch's engine does not keep
    for (owner, name), order in zip(owners, orders, strict=True):
        displace(owner, name, tensor)
        sort(owner._parameters, order)
    return tensor


def _check_bits(plain: Tensor, owners: list[Owner], full_name: str) -> None:
    for owner, name in owners:
        tensor = getattr(owner, name)
        if not _is_same(tensor, plain):
            raise RuntimeError(
                f"After folding '{full_name}', '{name}' of {title(owner)} is not the value that was computed before. "
                "The model is as it was. Please report this."
            )


def _is_same(tensor: Tensor, plain: Tensor) -> bool:
    if (tensor.shape, tensor.dtype, tensor.device) != (plain.shape, plain.dtype, plain.device):
        return False
    return plain.is_meta or torch.equal(_bits(tensor), _bits(plain))


def _bits(tensor: Tensor) -> Tensor:
    """What tells 0.0 from -0.0, where the tensor lies in memory as plain ones do."""
    return tensor.contiguous().reshape(-1).view(torch.uint8) if tensor.layout == torch.strided else tensor


def _without_autocast(device_type: str) -> AbstractContextManager[Any]:
    """It would leave a model in single precision some weights in half precision."""
    if not torch.amp.is_autocast_available(device_type):
        return nullcontext()
    return torch.autocast(device_type, enabled=False)


@contextmanager
def _explained(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        explain(error, f"while folding '{name}'; the model is as it was")
        raise
