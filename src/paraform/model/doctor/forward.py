"""One forward pass of a copy of the model: which values are computed, how often, and are they what is used?"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, is_dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from torch.utils._pytree import tree_leaves, tree_map_only

from ...parametrize.named import Named, named_chains
from ...parametrize.switching import originals_of
from ..copied import copied
from .engines import is_ours
from .finding import Finding
from .patient import Patient


@dataclass
class _Pass:
    """What was counted in one forward pass."""

    output: Any = None
    seconds: float = 0.0
    evaluations: dict[str, int] = field(default_factory=dict)
    """How often the chain on each tensor was evaluated."""
    spent: dict[str, float] = field(default_factory=dict)
    """How many seconds that took."""
    called: set[str] = field(default_factory=set)
    """The tensors whose layer was called."""


def forward_pass(patient: Patient) -> Iterator[Finding]:
    """PF501 to PF503, from a forward pass in the mode of the model; from one in evaluation mode too, if it trains."""
    if patient.sample is None or not patient.chains:
        return
    model = copied(patient.model)
    passes = [_run(model, patient.sample)]
    if any(module.training for module in model.modules()):
        with suppress(Exception):  # not every model takes the same in evaluation mode
            passes.append(_run(model.eval(), patient.sample))
    for named in patient.chains:
        if named.name not in patient.kept:
            yield from _recomputed(named, passes[0])
    unread = [named for named in patient.chains if not all(named.name in each.evaluations for each in passes)]
    bypassed = _bypassed(patient, unread, training=len(passes) > 1)
    for named in unread:
        never = not any(named.name in each.evaluations for each in passes)
        called = any(named.name in each.called for each in passes)
        layer = type(named.module).__name__.removeprefix("Parametrized")
        if named.name in bypassed:
            yield Finding(
                "PF502",
                "warning",
                named.name,
                f"A forward pass in {bypassed[named.name]} mode does not read it, and gives another output when its "
                f"raw tensor moves: the raw numbers are used, whatever the parametrization makes of them.",
                f"Let the code read the attribute, module.{named.tensor_name}, in each forward pass: no Parameter that "
                f"was kept from before, no module._parameters[...], no flattened list of weights. Or make the weight "
                f"plain, paraform.remove_parametrizations.",
            )
        elif never:
            yield Finding(
                "PF503",
                "warning" if called else "note",
                named.name,
                f"The sample's forward pass never reads it, though its {layer} runs: what it computes with must be "
                "something else."
                if called
                else f"The sample's forward pass never reads it, and its {layer} is not called.",
                f"If the {layer} should use it: a tensor that it took before the registration, or a copy that a fused "
                f"or compiled path holds, stands in its place; let it read module.{named.tensor_name}. If it is used "
                f"for other inputs, give such a sample; if never, take it out.",
            )


def _recomputed(named: Named, seen: _Pass) -> Iterator[Finding]:
    count = seen.evaluations.get(named.name, 0)
    if count < 2:
        return
    total, spent = sum(seen.evaluations.values()), seen.spent[named.name]
    saved = spent * (count - 1) / count
    cached = "paraform.cached(model)" if is_ours(named.chain) else "torch.nn.utils.parametrize.cached()"
    always = "; or once and for all, paraform.cache_each_forward(model)" if is_ours(named.chain) else ""
    yield Finding(
        "PF501",
        "note",
        named.name,
        f"One forward pass computes it {count} times. To keep it would save {count - 1} of the {total} evaluations of "
        f"the whole model, here {_ms(saved)} of {_ms(seen.seconds)} ms.",
        f"with {cached}: output = model(...){always}.",
    )


def _bypassed(patient: Patient, unread: list[Named], *, training: bool) -> dict[str, str]:
    """The tensors whose raw tensor moves the output though nobody reads the value, each with a mode that shows it."""
    found: dict[str, str] = {}
    if not unread:
        return found
    raws = {id(raw) for named in unread for raw in originals_of(named.chain)}
    model = copied(patient.model, besides=raws)
    here = {named.name: named.chain for named in named_chains(model)}
    for mode in ("training", "evaluation") if training else ("evaluation",):
        if mode == "evaluation":
            model.eval()
        before = _run(model, patient.sample)
        if not _equal(before.output, _run(model, patient.sample).output):
            continue  # it gives another output each time, from which nothing follows
        for named in unread:
            if named.name in before.evaluations or named.name in found:
                continue
            for raw in originals_of(here[named.name]):
                with _Moved(raw):
                    if not _equal(before.output, _run(model, patient.sample).output):
                        found[named.name] = mode
    return found


class _Moved:
    """Within it a raw tensor has other numbers."""

    def __init__(self, raw: Tensor) -> None:
        self.raw, self.before = raw.detach(), raw.detach().clone()

    def __enter__(self) -> None:
        self.raw.copy_(1.5 * self.before + 0.5)

    def __exit__(self, *_: object) -> None:
        self.raw.copy_(self.before)


def _run(model: Any, sample: Any) -> _Pass:
    """A forward pass of a copy, with the random numbers that each of its passes gets."""
    seen = _Pass()
    args = () if isinstance(sample, Mapping) else sample if isinstance(sample, tuple) else (sample,)
    named = dict(sample) if isinstance(sample, Mapping) else {}
    args, named = tree_map_only(Tensor, lambda tensor: tensor.detach().clone(), (args, named))
    torch.manual_seed(0)
    with _eager(), _Counting(model, seen):
        begin = time.perf_counter()
        seen.output = model(*args, **named)
        seen.seconds = time.perf_counter() - begin
    return seen


def _eager() -> AbstractContextManager[Any]:
    """Without compiled code, in which nothing could be counted. (Who has compiled some has imported the compiler.)"""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


class _Counting:
    """Within it the evaluations of the chains of a model are counted.

    By a class of their own, and by a ``forward`` of the layer's own: a fused path of torch's Transformer asks for
    hooks, and steps back where there are some.
    """

    def __init__(self, model: Module, seen: _Pass) -> None:
        self.model, self.seen = model, seen
        self.classes: list[tuple[Any, type]] = []
        self.layers: list[tuple[Any, Any]] = []

    def __enter__(self) -> None:
        layers: dict[Module, list[str]] = {}
        for named in named_chains(self.model):
            self.classes.append((named.chain, type(named.chain)))
            named.chain.__class__ = _counted(type(named.chain), named.name, self.seen)
            layers.setdefault(named.module, []).append(named.name)
        for layer, names in layers.items():
            self.layers.append((layer, vars(layer).get("forward")))
            vars(layer)["forward"] = _noting(layer.forward, names, self.seen)

    def __exit__(self, *_: object) -> None:
        for chain, kind in self.classes:
            chain.__class__ = kind
        for layer, own in self.layers:
            if own is None:
                del vars(layer)["forward"]
            else:
                vars(layer)["forward"] = own


def _counted(base: Any, name: str, seen: _Pass) -> type:
    def forward(self: Any) -> Tensor:
        begin = time.perf_counter()
        value = base.forward(self)
        seen.evaluations[name] = seen.evaluations.get(name, 0) + 1
        seen.spent[name] = seen.spent.get(name, 0.0) + time.perf_counter() - begin
        return value  # type: ignore[no-any-return]

    return type(base.__name__, (base,), {"forward": forward})


def _noting(own: Any, names: list[str], seen: _Pass) -> Any:
    def forward(*args: Any, **kwargs: Any) -> Any:  # its name is how a read knows that it is in a forward pass
        seen.called.update(names)
        return own(*args, **kwargs)

    return forward


def _equal(one: Any, other: Any) -> bool:
    """Whether two outputs are the same; of what are neither tensors nor numbers, nothing is known."""
    ones, others = list(_leaves(one)), list(_leaves(other))
    return len(ones) == len(others) and all(map(_same, ones, others))


def _leaves(output: Any) -> Iterator[Tensor | float | complex]:
    """The tensors of an output and the numbers that are computed, in its order."""
    for leaf in tree_leaves(output):
        if isinstance(leaf, Tensor | float | complex):
            yield leaf
        elif is_dataclass(leaf):
            yield from _leaves(vars(leaf))


def _same(one: Tensor | float | complex, other: Tensor | float | complex) -> bool:
    ones, others = torch.as_tensor(one), torch.as_tensor(other)
    return ones.shape == others.shape and torch.equal(ones.nan_to_num(), others.nan_to_num())


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.3g}"
