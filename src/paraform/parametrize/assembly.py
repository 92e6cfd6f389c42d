"""A chain from its parts, as a file has them, put on a module. No parametrization is asked for a value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor
from torch.nn import Module

from .chain import ParametrizationList
from .errors import title
from .lazy import becomes_another, check_initialised, pending_of
from .owners import held, owners_of_tensor
from .surgery import check_unsharded, classes_with, place_on_all
from .switching import original_names
from .tensors import hold, kin_of


def assembled(
    steps: Mapping[str, Module],
    originals: Sequence[Tensor],
    *,
    is_tensor: bool,
    like: Tensor,
    unsafe: bool = False,
    off: Iterable[str] = (),
) -> ParametrizationList:
    """The chain of these ``steps`` on these ``originals``, in which they lie as they are.

    What registration would have the steps learn of a value (a shape, a base) they have to know already.

    Args:
        steps: the parametrizations by their keys, first one first.
        originals: the raw tensors.
        is_tensor: whether there is one, that is named without a number.
        like: has the shape, dtype and device of the value; it may lie on the meta device, if the originals do.
        unsafe: the value may have another shape or dtype than the tensor that it stands for.
        off: the keys of the steps that are switched off.

    >>> import torch
    >>> from paraform import Skew
    >>> assembled({"0": Skew()}, [torch.ones(2, 2)], is_tensor=True, like=torch.empty(2, 2))()
    tensor([[ 0.,  1.],
            [-1.,  0.]])
    """
    chain = ParametrizationList.__new__(ParametrizationList)
    super(ParametrizationList, chain).__init__()
    for key, step in steps.items():
        chain.add_module(key, step)
    chain.unsafe = unsafe
    chain.is_tensor = is_tensor
    chain.ntensors = len(originals)
    if not unsafe:
        chain.shape = like.shape
        chain._kin = kin_of(like, originals)
    for name, tensor in zip(original_names(is_tensor, len(originals)), originals, strict=True):
        hold(chain, name, tensor)
    chain._set_off(list(off))
    return chain


def install(module: Module, name: str, chain: ParametrizationList, alive: Sequence[Module] | None = None) -> Tensor:
    """Let ``chain`` be what the plain tensor ``name`` of ``module`` is, here and on every module that shares it.

    The tensor that it displaces is returned; the chain may take it for its original.

    Args:
        module: the module.
        name: the name of a parameter or buffer of it.
        chain: what is to be there.
        alive: see :func:`owners_of_tensor`.

    Raises:
        ValueError, RuntimeError: ``register_parametrization`` would refuse the module or the tensor too.
    """
    if pending_of(module) is not None or becomes_another(module):
        raise RuntimeError(f"{title(module)} has no shapes yet. Run one forward pass first.")
    check_initialised(module, name, held(module, name))
    check_unsharded(module, [held(module, name)])
    for step in chain:
        if hasattr(step, "check_layer"):
            step.check_layer(module, name)  # type: ignore[operator]
    # Nothing here may hold the tensor before: whoever does is counted.
    owners = owners_of_tensor(module, name, chain, alive)
    classes = classes_with(owners)
    tensor = held(module, name)
    chain.train(module.training)
    place_on_all(owners, chain, classes)
    return tensor
