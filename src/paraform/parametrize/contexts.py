"""Ask that values be computed once: within a context, within each forward pass, or while a model is frozen."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch.compiler import is_dynamo_compiling
from torch.nn import Module

from . import cache, traced

if TYPE_CHECKING:
    from contextlib import _GeneratorContextManager


def cached(model: Module | None = None) -> _GeneratorContextManager[None]:
    """Within this context each parametrized tensor is computed once, however often it is read.

    Leaving it forgets every value (of nested contexts, the outermost one keeps them). Reads in the same context give
    the same tensor, and gradients through all of them add up. Worth it wherever one forward pass reads a tensor more
    than once: the kernel of a recurrent cell, a weight that two layers share.

    With a model named, equal parametrizations of equal shape are evaluated together, as one batch, when the first of
    them is read: many small matrices cost hardly more than one. It takes constraints that say that they can
    (:attr:`paraform.constraints.Constraint.stacks`, as nearly all sets of matrices and vectors do) with equal settings,
    on tensors of equal shape, dtype and device, of up to 64 x 64 entries. Values and gradients are those of each alone,
    but for rounding. It costs where only one of many is read. Without a model nothing is batched.

    The cache belongs to the thread that entered the context and to the module that is read. A value is computed anew
    when anything that it depends on changed: an original or another tensor or the mode of a parametrization, the
    gradient mode, inference mode, autocast; when somebody wrote into it; and within a transform, a trace or a
    checkpointed region that was entered inside the context. What leaves no trace cannot be seen: a write through
    ``tensor.data`` or a NumPy view, and a change of something that a parametrization uses but does not hold as a
    module does (a plain Python attribute, a tensor of another module).

    Under ``torch.compile`` the context works inside of compiled code (where an in-place write to an original, other
    than by assignment to the parametrized tensor, is not seen until the context is left); compiled code that is called
    within a context entered outside computes its own value at each call.

    Args:
        model: keep only values of this module and its submodules, and evaluate equals together. Others are computed
            at each read.

    Raises:
        TypeError: ``model`` is no module.

    Mirrors ``torch.nn.utils.parametrize.cached``, which takes no argument.

    >>> from torch import nn
    >>> from paraform import Skew, register_parametrization
    >>> cell = register_parametrization(nn.RNNCell(4, 4), "weight_hh", Skew())
    >>> with cached():
    ...     cell.weight_hh is cell.weight_hh  # computed once
    True
    >>> cell.weight_hh is cell.weight_hh  # forgotten
    False
    """
    if model is not None:
        _check_module("cached", model, " Without an argument, cached() is for all modules.")
    return _scope(model, frozen=False)


def frozen(model: Module) -> _GeneratorContextManager[None]:
    """For evaluation and serving: values of ``model`` are computed once, without a graph, and then cost nearly nothing.

    It is ``cached(model)`` for as long as you like: nothing that a forward pass made is kept alive by the values,
    because they have no gradient. They are as hard to fool as those of :func:`cached`: an assignment, a loaded
    checkpoint, an optimizer step, ``model.half()`` are seen, and the value is computed anew. Training is refused:
    after ``model.train()`` a read raises, because the original behind it would get no gradient.

    Each thread that serves the model has to enter the context; one that did not computes its values as usual. So do
    transforms, traces and checkpointed regions inside the context, with a graph, and compiled code that is called
    within it. Code that is compiled together with the context computes each value once a call.

    Unseen are the changes that leave no trace, as for :func:`cached`. Of these the one to think of here is an average
    of weights or a target network that is updated through ``parameter.data``: use ``torch.no_grad()`` instead, or
    leave the context and enter it again.

    Args:
        model: the model, in evaluation mode.

    Raises:
        TypeError: ``model`` is no module.
        RuntimeError: a parametrized tensor of ``model`` is in training mode.

    >>> import torch
    >>> from torch import nn
    >>> from paraform import Orthogonal, register_parametrization
    >>> layer = register_parametrization(nn.Linear(4, 4), "weight", Orthogonal()).eval()
    >>> with frozen(layer):
    ...     first = layer.weight
    ...     again = layer.weight is first  # free
    ...     layer.weight = torch.eye(4)
    ...     again, first.requires_grad, torch.equal(layer.weight, torch.eye(4))  # a write is seen
    (True, False, True)
    """
    _check_module("frozen", model)
    return _scope(model, frozen=True)


@contextmanager
def _scope(model: Module | None, frozen: bool) -> Iterator[None]:
    if frozen and model is not None:
        cache.check_evaluating(model)
    if is_dynamo_compiling():
        with traced.scope(model, frozen):
            yield
        return
    scope = cache.Scope(model, frozen)
    cache.enter(scope)
    try:
        yield
    finally:
        cache.leave(scope)


class ForwardCache:
    """What :func:`cache_each_forward` gives: ``remove()`` ends it, and so does leaving it as a context."""

    def __init__(self, model: Module) -> None:
        self._model = weakref.ref(model)
        self._hooks = (
            model.register_forward_pre_hook(_enter_forward, prepend=True),
            model.register_forward_hook(_leave_forward, always_call=True),
        )

    def remove(self) -> None:
        """Compute at each read again."""
        for hook in self._hooks:
            hook.remove()
        model = self._model()
        if model is not None:
            _leave_forward(model)  # which nobody else would do for a forward pass that is under way

    def __enter__(self) -> ForwardCache:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


def cache_each_forward(model: Module) -> ForwardCache:
    """From now on each forward pass of ``model`` runs under ``cached(model)``; its code stays as it is.

    Values are forgotten when the forward pass ends, by an exception too: one of its own, the one by which activation
    checkpointing stops a recomputation early, or an interruption from the keyboard.

    It sits on the model as two hooks. Copies and pickles of the model have them too, and keep them when the ones of
    this model are removed. ``torch.compile`` leaves them out: compiled code computes at each read, and the compiler
    merges what is computed twice.

    Args:
        model: any module; the call of this very module is what counts as a forward pass.

    Returns:
        A handle with ``remove()``, which is also a context manager, like those of PyTorch's hooks.

    Raises:
        TypeError: ``model`` is no module.

    >>> import torch
    >>> from torch import nn
    >>> from paraform import Orthogonal, register_parametrization
    >>> layer = register_parametrization(nn.Linear(4, 4), "weight", Orthogonal())
    >>> recurrent = nn.Sequential(layer, nn.Tanh(), layer)  # reads the weight twice
    >>> with cache_each_forward(recurrent):
    ...     y = recurrent(torch.ones(1, 4))  # the matrix is computed once
    """
    _check_module("cache_each_forward", model)
    return ForwardCache(model)


def compute_at_each_read(model: Module) -> None:
    """End :func:`cache_each_forward` on ``model`` and every module below it, also where nobody has the handle."""
    for module in model.modules():
        for hooks, ours in ((module._forward_pre_hooks, _enter_forward), (module._forward_hooks, _leave_forward)):
            for key in [key for key, hook in hooks.items() if hook is ours]:
                del hooks[key]
                module._forward_hooks_always_called.pop(key, None)


# Functions of a module, so that a model with these hooks can be copied and pickled.
def _enter_forward(model: Module, _: Any) -> None:
    if not is_dynamo_compiling():
        cache.enter(cache.Scope(model, call=id(sys._getframe(1))))


def _leave_forward(model: Module, *_: Any) -> None:
    if not is_dynamo_compiling():
        scope = cache.innermost(model)
        if scope is not None:
            cache.leave(scope)


def _check_module(function: str, model: object, hint: str = "") -> None:
    if not isinstance(model, Module):
        if callable(model) and function == "cached":
            hint = " As a decorator it is written @cached()."
        raise TypeError(f"Expected an nn.Module for {function}, got {type(model).__name__}.{hint}")
