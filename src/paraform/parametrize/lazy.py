"""Registering on a module that does not know the shapes of its tensors yet."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, ModuleList
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import is_lazy

from .errors import explain, title
from .rollback import restored_on_failure


class PendingParametrizations(Module):
    """What ``module.parametrizations`` is until the first forward pass of a lazy module: the steps by tensor name.

    As a child of the module they move, change mode and are saved with it; they are on no tensor yet. It is no
    ``ModuleDict``, so for everyone who asks, torch's engine too, the module is not parametrized.
    """

    def add(self, name: str, step: Module, unsafe: bool) -> None:
        steps: Any = self._modules.setdefault(name, ModuleList())
        steps.append(step.train(self.training))
        steps.unsafe = (*getattr(steps, "unsafe", ()), unsafe)


def becomes_another(module: Module) -> bool:
    """Whether the next forward pass of ``module`` gives its tensors shapes, and the module another class."""
    return isinstance(module, LazyModuleMixin) and "_initialize_hook" in vars(module)


def check_initialised(module: Module, name: str, tensor: Tensor) -> None:
    if is_lazy(tensor) or becomes_another(module):
        raise RuntimeError(
            f"'{name}' of {title(module)} has no shape yet. Run one forward pass, then register the parametrization."
        )


def pending_of(module: Module) -> PendingParametrizations | None:
    if isinstance(module, torch.jit.ScriptModule):
        return None
    pending = module._modules.get("parametrizations")
    return pending if isinstance(pending, PendingParametrizations) else None


def put_off(module: Module, name: str, step: Module, unsafe: bool) -> None:
    """Register ``step`` when the module's tensors have got their shapes."""
    pending = pending_of(module)
    if pending is None:
        pending = PendingParametrizations().train(module.training)
        module._modules["parametrizations"] = pending
        module.register_forward_pre_hook(register_pending)  # runs after the hook that gives the shapes
    pending.add(name, step, unsafe)


def drop(module: Module, pending: PendingParametrizations, name: str) -> None:
    """Forget what was to be registered on the tensor ``name``."""
    del pending._modules[name]
    if not pending._modules:
        del module._modules["parametrizations"]
        _take_off_hook(module)


def register_pending(module: Module, args: Any) -> None:
    """Forward pre-hook: register all that was put off, or nothing of it."""
    from .registration import register_parametrization  # which imports this file

    pending: Any = module._modules["parametrizations"]
    cls = type(module)
    try:
        with restored_on_failure([module]):
            del module._modules["parametrizations"]
            for name, steps in pending._modules.items():
                for step, unsafe in zip(steps, steps.unsafe, strict=True):
                    register_parametrization(module, name, step, unsafe=unsafe)
    except Exception as error:
        object.__setattr__(module, "__class__", cls)
        explain(
            error,
            f"at the first forward pass of {title(module)}, until which this was put off. It is tried again at the "
            f"next; remove_parametrizations(module, name) drops what is waiting on: {', '.join(pending._modules)}.",
        )
        raise
    _take_off_hook(module)


def _take_off_hook(module: Module) -> None:
    hooks = module._forward_pre_hooks
    for key in [key for key, hook in hooks.items() if hook is register_pending]:
        del hooks[key]
