"""Which constraint goes on which tensor of a model, as data: what a recipe says, and which tensors its rules name."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor
from torch.nn import Module, ModuleDict, ModuleList
from torch.nn.parameter import is_lazy

from ..parametrize.errors import explain, title
from ..parametrize.function import check_unlearned
from ..parametrize.lazy import pending_of
from ..parametrize.named import named_modules
from ..parametrize.owners import held
from ..parametrize.reads import look
from ..parametrize.state_dict import chains_in, names_in_order

_KEYS = (
    'a name or a pattern of names ("encoder.*.weight"), a type with the name of a tensor ((nn.Linear, "weight")), or a '
    "function of a name and a tensor that says whether the rule is for it"
)
_VALUES = "a parametrization, a list of them (a chain, the first one first), or a function of the tensor that gives one"


@dataclass(frozen=True)
class Place:
    """A tensor of a model under one of its names."""

    name: str
    """Its full name, that of plain state dicts."""
    module: Module
    """The module that has it."""
    tensor_name: str
    """Its name there."""

    @property
    def chain(self) -> Any:
        """The chain that is on it; None for a plain tensor."""
        return chains_in(self.module).get(self.tensor_name)

    @property
    def steps(self) -> list[Module]:
        """The parametrizations that are on it, or wait for the first forward pass of a lazy module."""
        pending = pending_of(self.module)
        waiting: Any = None if pending is None else pending._modules.get(self.tensor_name)
        return list(self.chain or waiting or ())

    @property
    def is_parameter(self) -> bool:
        """Whether it is a parameter, or would be if it were not parametrized."""
        return self.tensor_name in self.module._parameters or (self.chain is not None and bool(self.chain._parameters))

    @property
    def identity(self) -> int:
        """What two names of one tensor have in common."""
        return id(held(self.module, self.tensor_name) if self.chain is None else self.chain)

    @property
    def is_lazy(self) -> bool:
        """Whether the tensor has no shape yet."""
        return self.chain is None and is_lazy(held(self.module, self.tensor_name))

    def value(self) -> Tensor:
        """The tensor. (Nobody should keep it: registration counts who holds a tensor.)"""
        return held(self.module, self.tensor_name) if self.chain is None else look(self.chain).detach()


def places_of(model: Module) -> list[Place]:
    """The parameters and buffers of ``model`` under all their names; parametrized ones as the tensors that they were.

    The raw tensors of chains, and what parametrizations have of their own, are none of them.
    """
    return [
        Place(prefix + name, module, name)
        for prefix, module in named_modules(model)
        for name in names_in_order(module)
        if name in chains_in(module) or held(module, name) is not None
    ]


class Rule:
    """One entry of a recipe: for which tensors it is, and what it puts on them.

    Raises:
        TypeError: key or value is nothing that a recipe is made of.
        ValueError: the value is an empty chain, or a parametrization that serves another tensor already.
    """

    def __init__(self, key: Any, value: Any, number: int) -> None:
        _check_key(key)
        self.key = key
        self.value = value
        self.text = _text_of(key, number)
        if not self.is_function:
            self.steps_of(value)

    @property
    def is_function(self) -> bool:
        """Whether what it puts on a tensor is for a function of the tensor to say."""
        return callable(self.value) and not isinstance(self.value, (Module, type))

    def matching(self, places: list[Place]) -> list[Place]:
        """Those of the ``places`` that the rule is for."""
        if isinstance(self.key, str):
            # A name of a tensor is that name, whatever else it may be as a pattern.
            exact = [place for place in places if place.name == self.key]
            return exact or [place for place in places if place.is_parameter and fnmatchcase(place.name, self.key)]
        if isinstance(self.key, tuple):
            types, name = self.key
            of_type = [place for place in places if issubclass(type(place.module), types)]
            exact = [place for place in of_type if place.tensor_name == name]
            return exact or [place for place in of_type if place.is_parameter and fnmatchcase(place.tensor_name, name)]
        return [place for place in places if place.is_parameter and self._asks(place)]

    def _asks(self, place: Place) -> bool:
        try:
            return bool(self.key(place.name, place.value()))
        except Exception as error:
            shape = ", which has no shape yet: run one forward pass first" if place.is_lazy else ""
            explain(error, f"while {self.text} was asked about '{place.name}'{shape}")
            raise

    def steps_for(self, place: Place) -> list[Module] | None:
        """What it puts on the tensor at ``place``, to be used there only; None for nothing.

        Raises:
            RuntimeError: a function is to be asked of a tensor that has no shape yet.
            TypeError, ValueError: the function's answer is nothing that can be put on a tensor.
        """
        value = self.value
        if self.is_function:
            if place.is_lazy:
                raise RuntimeError(
                    f"The rule {self.text} has a function of the tensor, and '{place.name}' of {title(place.module)} "
                    "has no shape yet. Run one forward pass first, or give a parametrization instead of a function."
                )
            value = self.value(place.value())
            if value is None:
                return None
        return copy.deepcopy(self.steps_of(value))

    def steps_of(self, value: Any) -> list[Module]:
        """The parametrizations that ``value``, of the rule or of its function, is."""
        given = value if isinstance(value, list) else [value]
        if not given:
            raise ValueError(f"The rule {self.text} has an empty list. Leave out the rule, or give a parametrization.")
        steps = [self._step(each, in_list=isinstance(value, list)) for each in given]
        for step in steps:
            check_unlearned(step, f"the rule {self.text}")
        return steps

    def _step(self, value: Any, in_list: bool) -> Module:
        if isinstance(value, (ModuleList, ModuleDict)):
            raise TypeError(f"The rule {self.text} has a {title(value)}; write a chain as a list, [First(), Second()].")
        if isinstance(value, Module):
            return value
        hint = ""
        if isinstance(value, type) and issubclass(value, Module):
            hint = f" Did you mean {value.__name__}()?"
        elif isinstance(value, Tensor):
            hint = " A function that is the parametrization itself, raw tensor to value, is written Function(f)."
        elif isinstance(value, tuple) and any(isinstance(each, Module) for each in value):
            hint = " A chain is written as a list, [First(), Second()]."
        elif isinstance(value, tuple):
            hint = " A function with its inverse is written Function(f, inverse)."
        elif callable(value):
            name = getattr(value, "__name__", "f")
            hint = f" A function that is a parametrization is written Function({name})."
        expected = "parametrizations in its list" if in_list else _VALUES
        got = f"the class {value.__name__}" if isinstance(value, type) else title_of(value)
        asked = " from its function" if self.is_function else ""
        raise TypeError(f"The rule {self.text} expects {expected}, got {got}{asked}.{hint}")


def title_of(value: object) -> str:
    """How an error names a value that is not what it should be."""
    return f"a {type(value).__name__}" if value is not None else "None"


def rules_of(recipe: object) -> list[Rule]:
    """The rules of a recipe, in its order.

    Raises:
        TypeError: it is no mapping, or a key or a value is nothing that a recipe is made of.
    """
    if not isinstance(recipe, Mapping):
        raise TypeError(
            f'Expected a recipe as a dict, {{"encoder.*.weight": Orthogonal()}}, got {title_of(recipe)}. Its keys: '
            f"{_KEYS}. Its values: {_VALUES}."
        )
    return [Rule(key, value, number) for number, (key, value) in enumerate(recipe.items(), 1)]


def _check_key(key: Any) -> None:
    if isinstance(key, str) or (callable(key) and not isinstance(key, (type, Module))):
        return
    hint = ""
    if isinstance(key, tuple) and len(key) == 2 and isinstance(key[1], str):
        types = key[0] if isinstance(key[0], tuple) else (key[0],)
        if types and all(isinstance(each, type) and issubclass(each, Module) for each in types):
            return
        hint = " The first of a pair is a type of modules, or a tuple of such types."
    elif isinstance(key, type):
        hint = f' Name the tensor too: ({key.__name__}, "weight").'
    elif isinstance(key, Module):
        hint = " Name the tensor as model.state_dict() does; a module is no key."
    raise TypeError(f"Expected as a key of a recipe {_KEYS}; got {key!r}.{hint}")


def _text_of(key: Any, number: int) -> str:
    """How an error names a rule."""
    if isinstance(key, str):
        return repr(key)
    if isinstance(key, tuple):
        types, name = key
        names = [each.__name__ for each in types] if isinstance(types, tuple) else types.__name__
        return f"({'(' + ', '.join(names) + ')' if isinstance(types, tuple) else names}, {name!r})"
    return f"{getattr(key, '__name__', type(key).__name__)} (the predicate in place {number})"
