"""The class of a parametrized module: the value is a property of it. README.md beside this file says how and why."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import Module, Parameter, RNNBase

from . import cache, reads
from .chain import ParametrizationList
from .containers import item_methods
from .errors import explain, title
from .loading import loading
from .writes import owner_of


class ParametrizedType(type):
    """The type of every ``Parametrized<Base>`` class. Such a class is shared, so nobody may take a property from it.

    ``torch.nn.utils.parametrize`` puts properties on a module's class and takes them off again. Here the first is
    answered with the property that serves every instance, and the second with nothing: a property of ours falls
    through to the plain parameter or buffer on each instance that has no parametrization under its name.
    """

    tensor_names: tuple[str, ...]

    def __setattr__(cls, name: str, value: Any) -> None:
        if _is_property_from("torch.nn.utils.parametrize", value):
            value = _tensor_property(name)
        super().__setattr__(name, value)

    def __delattr__(cls, name: str) -> None:
        if not _is_property_from(__name__, vars(cls).get(name)):
            super().__delattr__(name)


def _is_property_from(room: str, value: Any) -> bool:
    return isinstance(value, property) and getattr(value.fget, "__module__", None) == room


_classes: weakref.WeakKeyDictionary[type, weakref.WeakValueDictionary[tuple[str, ...], ParametrizedType]]
_classes = weakref.WeakKeyDictionary()
_lock = threading.RLock()  # a base class may parametrize something while it is subclassed


def parametrized_class(base: type, names: Any) -> type:
    """The one class that modules of class ``base`` share when the tensors in ``names`` are parametrized."""
    key = tuple(sorted(names))
    with _lock:
        classes = _classes.setdefault(base, weakref.WeakValueDictionary())
        cls = classes.get(key)
        if cls is None:
            cls = classes[key] = _make_class(base, key)
    return cls


def own_class(cls: type) -> ParametrizedType | None:
    """The ``Parametrized<Base>`` class that ``cls`` is or, where another library put its own on top, stands on."""
    for ancestor in cls.__mro__:
        if "tensor_names" in vars(ancestor) and isinstance(ancestor, ParametrizedType):
            return ancestor
    return None


def chains_of(module: Module) -> dict[str, ParametrizationList]:
    """The chains on the tensors of a parametrized module, by name: what ``module.parametrizations`` holds."""
    chains: dict[str, ParametrizationList] = module.parametrizations._modules  # type: ignore[assignment, union-attr]
    return chains


def chain_of(module: Module, name: str) -> ParametrizationList | None:
    """The chain on the tensor ``name`` of ``module`` itself, if it is parametrized."""
    parametrizations = module._modules.get("parametrizations")
    return None if parametrizations is None else parametrizations._modules.get(name)  # type: ignore[return-value]


def has_chains(module: Module) -> bool:
    """Whether ``module`` is of a class of ours and has chains of its own."""
    return "parametrizations" in module._modules and own_class(type(module)) is not None


def _make_class(base: type, names: tuple[str, ...]) -> ParametrizedType:
    meta: type = ParametrizedType
    if not issubclass(ParametrizedType, type(base)):  # a base with a metaclass of its own, abc.ABCMeta say
        meta = type("ParametrizedType", (ParametrizedType, type(base)), {})
    members = {name: _tensor_property(name) for name in names}
    methods = {
        "tensor_names": names,
        # torch.fx and torch.compile tell torch's own layers by this
        "__module__": base.__module__,
        "__doc__": base.__doc__,
        **_property_first(base, names),
        "__getattr__": _attribute_after_property(base, names),
        "__reduce_ex__": _reduce,
        "__setstate__": _set_state(base),
        "_load_from_state_dict": loading(base._load_from_state_dict),  # type: ignore[attr-defined]
        "__prepare_scriptable__": _refuse_scripting,
        "register_parameter": _refuse_parametrized(base.register_parameter),  # type: ignore[attr-defined]
        "register_buffer": _refuse_parametrized(base.register_buffer),  # type: ignore[attr-defined]
    }
    if hasattr(base, "reset_parameters"):
        methods["reset_parameters"] = _reset_parameters(base)
    return meta(f"Parametrized{base.__name__}", (base,), {**methods, **item_methods(base), **members})  # type: ignore[no-any-return]


# An AttributeError inside a property makes Python ask __getattr__ and forget the error. It waits here meanwhile.
class _Pending(threading.local):
    error: tuple[Module, str, AttributeError] | None = None


_pending = _Pending()


def _plain_attribute(module: Module, name: str) -> Any:
    """What ``nn.Module`` would answer. (torch.compile cannot go on to it after a property that raises.)"""
    if name in module._parameters:
        return module._parameters[name]
    if module._buffers.get(name) is not None:
        return module._buffers[name]
    if name in module._modules:
        return module._modules[name]
    raise AttributeError(name)  # which makes Python ask __getattr__, of the module's own class too


def _tensor_property(name: str) -> property:
    def read(self: Module) -> Any:
        # As chain_of() does, whose call would be a part of what a cached read costs.
        parametrizations = self._modules.get("parametrizations")
        chain: Any = None if parametrizations is None else parametrizations._modules.get(name)
        if chain is None:
            return _plain_attribute(self, name)
        stand_in = self._buffers.get(name)
        if stand_in is not None:
            return reads.checked(stand_in, self, name)
        try:
            return reads.read(self, name, chain)
        except Exception as error:
            explain(error, f"while computing the parametrized tensor '{name}' of {title(self)}")
            if isinstance(error, AttributeError):
                _pending.error = (self, name, error)
            raise

    def write(self: Module, value: Tensor) -> None:
        chain = chain_of(self, name)
        if chain is None:
            raise AttributeError(f"{title(self)} has no parameter, buffer or parametrized tensor '{name}'.")
        try:
            _refuse_graph(chain, value)
            chain.right_inverse(value)
        except Exception as error:
            explain(error, f"while assigning to the parametrized tensor '{name}' of {title(self)}")
            raise
        finally:
            _forget_flat_weights(self)
        cache.forget(chain)

    def delete(self: Module) -> None:
        raise AttributeError(
            f"'{name}' of {title(self)} is parametrized and cannot be deleted; "
            f"call remove_parametrizations(module, '{name}') first."
        )

    return property(read, write, delete)


def _refuse_graph(chain: ParametrizationList, value: object) -> None:
    if not isinstance(value, Tensor) or value.grad_fn is None or not torch.is_grad_enabled():
        return
    owner = owner_of(value)  # a tie that is made again assigns the value of the very same chain
    if owner is None or chain_of(*owner) is not chain:
        raise RuntimeError(
            "The assigned value was computed with gradients recorded, and an assignment would cut them off. To use it "
            "as the weight of one forward pass, with gradients to what it was computed from, call "
            "functional_call(module, {name: value}, inputs). To assign its numbers, assign value.detach()."
        )


def _property_first(base: type, names: tuple[str, ...]) -> dict[str, Callable[..., None]]:
    """nn.Module's own methods would take the place where ``functional_call`` puts a stand-in for the tensor."""

    def __setattr__(self: Module, name: str, value: Any) -> None:  # noqa: N807
        # Not every name, for this also sets what a module has before it has children: its __dict__.
        ours = name in names and chain_of(self, name) is not None and not isinstance(value, Parameter)
        owner: Any = object if ours else base
        owner.__setattr__(self, name, value)

    def __delattr__(self: Module, name: str) -> None:  # noqa: N807
        owner: Any = object if name in names and chain_of(self, name) is not None else base
        owner.__delattr__(self, name)

    return {"__setattr__": __setattr__, "__delattr__": __delattr__}


def _attribute_after_property(base: type, names: tuple[str, ...]) -> Callable[[Module, str], Any]:
    def __getattr__(self: Module, name: str) -> Any:  # noqa: N807
        pending = _pending.error
        if pending is not None:
            _pending.error = None
            if pending[0] is self and pending[1] == name:
                raise pending[2]
        if name in names and self._buffers.get(name, self) is None and name not in self._parameters:
            raise AttributeError(f"{title(self)!r} object has no attribute {name!r}")  # its chain was taken off
        return base.__getattr__(self, name)  # type: ignore[attr-defined]

    return __getattr__


def _refuse_parametrized(register: Callable[..., None]) -> Callable[..., None]:
    def guarded(self: Module, name: str, *args: Any, **kwargs: Any) -> None:
        if isinstance(name, str) and chain_of(self, name) is not None:
            raise KeyError(
                f"'{name}' of {title(self)} is parametrized, so it cannot become a parameter or buffer. "
                f"Assign a plain tensor to set its value, or call remove_parametrizations(module, '{name}') first."
            )
        try:
            register(self, name, *args, **kwargs)
        except TypeError as error:
            tensor = name.rpartition("_")[0] if isinstance(name, str) else ""
            if chain_of(self, tensor) is not None:  # torch.nn.utils.prune registers weight_orig
                explain(
                    error,
                    f"'{tensor}' of {title(self)} is parametrized, so it is no parameter that could be pruned. Prune "
                    f"its raw tensor, 'original' of module.parametrizations.{tensor}; or register a parametrization "
                    f"that masks the value; or call remove_parametrizations(module, '{tensor}') first.",
                )
            raise

    return guarded


def _reset_parameters(base: Any) -> Callable[[Module], None]:
    def reset_parameters(self: Module) -> None:
        """Give the tensors new values as the layer's own method does; those of parametrized ones are assigned."""
        from .writable import plain_selves  # it needs this file

        with plain_selves([self]):
            base.reset_parameters(self)

    return reset_parameters


def _refuse_scripting(self: Module) -> Module:
    """What torch.jit.script asks before it compiles: it can make nothing of a property that runs modules."""
    raise RuntimeError(
        f"torch.jit.script cannot compile {title(self)}, whose parametrized tensors are computed at each read. Use "
        "torch.jit.trace or torch.export. Or compile a copy that is plain: paraform.fold(model, copy=True)."
    )


def _reduce(self: Module, protocol: Any) -> tuple[Any, ...]:
    """Pickle and copy a module as its base class and the names of its parametrized tensors."""
    cls = own_class(type(self))
    assert cls is not None
    base = cls.__bases__[0]
    make, args, *rest = cast("Any", base).__reduce_ex__(self, protocol)
    if "parametrizations" in self._modules and not (rest and rest[0]):
        raise TypeError(
            f"{base.__name__} is pickled and copied without its state (its __reduce__ gives none), so the copy would "
            f"lose its parametrizations. Remove them first, or let __reduce__ give the state."
        )
    if isinstance(self, RNNBase):
        # The values that the last forward pass read: the next one reads them anew.
        rest[0] = {**rest[0], "_flat_weights": [None] * len(self._flat_weights_names)}
    if type(self) is not cls:  # a class that another library put on top answers for itself
        return (make, args, *rest)
    names = chains_of(self) if "parametrizations" in self._modules else cls.tensor_names
    make, *args = (base if part is cls else part for part in (make, *args))
    return (_rebuild, (tuple(sorted(names)), make, tuple(args)), *rest)


def _rebuild(names: tuple[str, ...], make: Callable[..., Module], args: tuple[Any, ...]) -> Module:
    module = make(*args)
    object.__setattr__(module, "__class__", parametrized_class(type(module), names))
    return module


def _set_state(base: type) -> Callable[[Module, Any], None]:
    def __setstate__(self: Module, state: Any) -> None:  # noqa: N807
        base.__setstate__(self, state)  # type: ignore[attr-defined]
        if "parametrizations" in self._modules:  # of a module that was saved before there were such places
            self._buffers.update(dict.fromkeys(chains_of(self)))
        _forget_flat_weights(self)

    return __setstate__


def _forget_flat_weights(module: Module) -> None:
    """Recurrent layers keep a list of their tensors, into which they put whatever is assigned: have it read anew."""
    if isinstance(module, RNNBase):
        module._flat_weight_refs = [_gone] * len(module._flat_weights_names)  # type: ignore[list-item]


def _gone() -> None:
    """What a weak reference to a tensor that is gone answers."""
