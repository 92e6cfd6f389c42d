"""What ``ParameterList`` and ``ParameterDict`` do with their items, where these are parametrized."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.nn import Module, Parameter, ParameterDict, ParameterList


def item_methods(base: Any) -> dict[str, Callable[..., None]]:
    """The methods that a parametrized container needs of its own; none, if ``base`` is another kind of module.

    The containers make a ``Parameter`` of any tensor that is assigned, and take a key from their list of keys before
    they delete the item. A parametrized item takes a plain value, and cannot be deleted.
    """
    if not issubclass(base, ParameterList | ParameterDict):
        return {}

    def __setitem__(self: Any, key: Any, value: Any) -> None:  # noqa: N807
        name = str(range(len(self))[key]) if issubclass(base, ParameterList) else key
        if _is_parametrized(self, name):
            setattr(self, name, value.detach() if isinstance(value, Parameter) else value)
        else:
            base.__setitem__(self, key, value)

    def __delitem__(self: Any, key: Any) -> None:  # noqa: N807
        if _is_parametrized(self, key):
            delattr(self, key)  # which refuses
        base.__delitem__(self, key)

    return {"__setitem__": __setitem__, **({"__delitem__": __delitem__} if issubclass(base, ParameterDict) else {})}


def _is_parametrized(module: Module, name: Any) -> bool:
    parametrizations = module._modules.get("parametrizations")
    return parametrizations is not None and name in parametrizations._modules
