"""What is remembered of parametrized tensors that were read, and for how long. ``contexts.py`` has the public face."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch._C import _current_graph_task_id
from torch._C._autograd import _top_saved_tensors_default_hooks
from torch.autograd import forward_ad
from torch.compiler import is_dynamo_compiling
from torch.nn import Module, Parameter
from torch.utils._python_dispatch import _get_current_dispatch_mode

from . import batching, traced
from .chain import ParametrizationList
from .frames import in_functional_call
from .record import Begun, Record, UntraceableError, begin

Evaluate = Callable[[ParametrizationList], tuple[Tensor, bool]]
"""Gives a value, and whether a call of the chain would have given it and left the chain as it is."""


class Scope:
    """Within it each parametrized tensor of ``model`` (of any, if it is None) is computed once.

    Args:
        model: whose tensors; a chain counts as the model's if it is a submodule when it is first read. Chains that are
            equal are evaluated together.
        frozen: compute values without a graph, and refuse those of a chain in training mode.
        call: the frame of the forward pass that the scope belongs to, by its id; the scope ends with it.
    """

    def __init__(self, model: Module | None, frozen: bool = False, call: int | None = None) -> None:
        self.model = model
        self.frozen = frozen
        self.call = call
        self.replay = _replay()
        self._records: dict[tuple[Any, ...], Record] = {}
        self._alike: dict[Module, list[ParametrizationList]] = {}
        """The chains that were looked for: those of the model each with all that may be like it, others with none."""

    def covers(self, chain: Module) -> bool:
        if self.model is None:
            return True
        if chain not in self._alike:
            self._alike = {chain: [], **self._alike, **batching.alike(self.model)}
        return bool(self._alike[chain])

    def read(
        self, chain: ParametrizationList, evaluate: Evaluate | None, modes: tuple[Any, ...]
    ) -> tuple[Tensor, Record | None]:
        """The value, and its record unless it cannot be kept."""
        for way in (None, evaluate):
            record = self._records.get((chain, way, modes))
            if record is not None and record.holds():
                return record.value, record
        chains = self._equal(chain, modes)
        begun = [begin(each) for each in chains]
        if len(chains) > 1:
            values = self._compute_together(chains)
            if values is not None:
                return values[0], self._keep_together([*chains], values, begun, modes)
        value, is_own = self._compute(chain, evaluate)
        return value, self._keep((chain, None if is_own else evaluate, modes), value, begun[0])

    def _keep(self, key: tuple[Any, ...], value: Tensor, begun: Begun, like: Record | None = None) -> Record | None:
        try:
            real = self.replay[2:] == _PLAIN[2:] and key[-1][-1] is None
            record = self._records[key] = Record(key[0], value, begun, real, like)
        except UntraceableError:
            self._records.pop(key, None)
            return None
        return record

    def _keep_together(
        self,
        chains: Sequence[ParametrizationList],
        values: Sequence[Tensor],
        begun: Sequence[Begun],
        modes: tuple[Any, ...],
    ) -> Record | None:
        """Keep the values of equal chains; the record of the first, if it can be kept."""
        first = record = self._keep((chains[0], None, modes), values[0], begun[0])
        for chain, value, before in zip(chains[1:], values[1:], begun[1:], strict=True):
            record = self._keep((chain, None, modes), value, before, record or first)
            if record is not None and modes[2] is None and thread.scopes[0] is self and thread.recent is not None:
                thread.recent[chain] = record  # as :func:`read` would do for each
        return first

    def _equal(self, chain: ParametrizationList, modes: tuple[Any, ...]) -> batching.Members:
        """``chain``, and those without a value that can be evaluated together with it."""
        alike = self._alike.get(chain, ())
        if len(alike) < 2 or self.replay != _PLAIN or modes[-1] is not None:
            return {chain: []}
        records = ((other, self._records.get((other, None, modes))) for other in alike)
        missing = [other for other, record in records if record is None or not record.holds()]
        return batching.equal_to(chain, missing)

    def _compute_together(self, chains: batching.Members) -> Sequence[Tensor] | None:
        """The values of equal chains; None where that fails, and each has to say for itself what is wrong."""
        if self.frozen:
            check_evaluating(next(iter(chains)))
        try:
            with self._recording():
                return batching.evaluate(chains)
        except Exception:
            for chain in chains:
                self._alike[chain] = [chain]
            return None

    def _compute(self, chain: ParametrizationList, evaluate: Evaluate | None) -> tuple[Tensor, bool]:
        if not self.frozen:
            value, is_own = (chain(), True) if evaluate is None else evaluate(chain)
            # Of a view a read outside of a forward pass hands out a clone, and gradients are asked for that.
            return (value.clone() if type(value) is Tensor and value._is_view() else value), is_own
        check_evaluating(chain)
        with self._recording():
            value = chain()
        return (value.detach() if isinstance(value, Tensor) else value), True  # it may be an original

    @contextmanager
    def _recording(self) -> Iterator[None]:
        """Whether a graph is recorded: as it is now, or not if frozen."""
        if not self.frozen:
            yield
            return
        # Not as inference tensors, which do not count what is written to them.
        normal: AbstractContextManager[None] = (
            torch.inference_mode(False) if torch.is_inference_mode_enabled() else nullcontext()
        )
        with normal, torch.no_grad():
            yield


class Thread(threading.local):
    def __init__(self) -> None:
        self.scopes: list[Scope] = []
        """The scopes that this thread is in: frozen ones first, then outermost first."""
        self.recent: dict[Module, Record] | None = None
        """The records that last answered, as far as a short question tells that they still do; None without scopes."""


thread = Thread()


def enter(scope: Scope) -> None:
    _drop_ended()
    _be_in(sorted([*thread.scopes, scope], key=lambda scope: not scope.frozen))


def leave(scope: Scope) -> None:
    """In any order: contexts may be held by generators."""
    _be_in([other for other in thread.scopes if other is not scope])


def _be_in(scopes: list[Scope]) -> None:
    thread.scopes = scopes
    thread.recent = {} if scopes else None


@contextmanager
def outside() -> Iterator[None]:
    """Within it this thread is in no scope."""
    scopes = thread.scopes
    _be_in([])
    try:
        yield
    finally:
        _be_in(scopes)


def is_kept(chain: ParametrizationList) -> bool:
    """Whether this thread is in a scope that keeps the value of ``chain``."""
    _drop_ended()
    return any(scope.covers(chain) for scope in thread.scopes)


def innermost(model: Module) -> Scope | None:
    """The scope of the forward pass of ``model`` that was entered last and not left."""
    scopes = [scope for scope in thread.scopes if scope.call is not None and scope.model is model]
    return scopes[-1] if scopes else None


def read(chain: ParametrizationList, evaluate: Evaluate | None = None) -> tuple[Tensor, Record | None]:
    """The value of ``chain``, from a scope where one has it; and its record, if it is kept.

    ``evaluate`` computes it in another way than by calling the chain. Such a value serves only those who ask for it in
    that way, unless a call would have come to the same; and they are served with the chain's own where there is one.
    """
    _drop_ended()
    modes, replay = _modes(), _replay()
    for scope in thread.scopes:
        if scope.replay == replay and scope.covers(chain) and not (scope.frozen and _wants_graph(chain, modes)):
            value, record = scope.read(chain, evaluate, modes)
            plain = replay == _PLAIN and modes[2:] == (None, None)
            if record is not None and plain and evaluate is None and thread.recent is not None:
                thread.recent[chain] = record
            return value, record
    return chain() if evaluate is None else evaluate(chain)[0], None


def _wants_graph(chain: ParametrizationList, modes: tuple[Any, ...]) -> bool:
    """Whether a frozen chain needs its graph: for a trace, or for what ``functional_call`` gave it to differentiate."""
    held = [tensor for tensor in (*chain.parameters(), *chain.buffers()) if tensor.requires_grad]
    given = any(not isinstance(tensor, Parameter) for tensor in held)  # which a module's own tensors are
    return given or modes[-1] is not None or (bool(held) and torch.is_grad_enabled() and in_functional_call())


def forget(chain: ParametrizationList) -> None:
    """Drop what a trace remembers of ``chain``, which has been written to. (Outside of a trace, versions tell.)"""
    if is_dynamo_compiling():
        traced.forget(chain)


def check_evaluating(module: Module) -> None:
    """Raise a RuntimeError if a chain of ``module`` (which may be one) is in training mode."""
    training = [
        name.replace("parametrizations.", "") or "this tensor"
        for name, chain in module.named_modules()
        if isinstance(chain, ParametrizationList) and any(step.training for step in chain.modules())
    ]
    if training:
        names = ", ".join(training[:3]) + (", ..." if len(training) > 3 else "")
        raise RuntimeError(
            f"frozen() is for evaluation: a value that is kept has no gradient. In training mode: {names}. "
            "Call eval() on the model first, or use cached()."
        )


def _drop_ended() -> None:
    """Drop the scopes of forward passes that are over, although nobody said so (as after a KeyboardInterrupt)."""
    calls = {scope.call for scope in thread.scopes if scope.call is not None}
    frame: FrameType | None = sys._getframe()
    while calls and frame is not None:
        calls.discard(id(frame))
        frame = frame.f_back
    if calls:
        _be_in([scope for scope in thread.scopes if scope.call not in calls])


def _modes() -> tuple[Any, ...]:
    """The modes that a value is computed under; each combination has its own value."""
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        _autocast() if torch._C._is_any_autocast_enabled() else None,
        _get_current_dispatch_mode() if torch._C._len_torch_dispatch_stack() else None,
    )


def _autocast() -> tuple[Any, ...]:
    devices = ("cpu", torch.accelerator.current_accelerator() or "cpu")
    kinds = [device if isinstance(device, str) else device.type for device in devices]
    return tuple((torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)) for kind in kinds)


def _replay() -> tuple[Any, ...]:
    """What may run the same code again, or turn its tensors into something else: checkpoints, transforms, traces.

    A value computed inside belongs to the inside, and one computed outside must not be used there, because a replay
    has to compute exactly what the first run computed.
    """
    if is_dynamo_compiling():
        return (object(),)  # of a function that torch.compile broke up: equal to nothing, so nothing is shared with it
    interpreter = torch._C._functorch.peek_interpreter_stack()
    return (
        _top_saved_tensors_default_hooks(False),
        _current_graph_task_id(),
        interpreter.level() if interpreter is not None else 0,
        forward_ad._current_level,
        torch._C._get_tracing_state(),
    )


_PLAIN = (None, -1, 0, -1, None)
"""What :func:`_replay` answers where there is nothing of that kind."""
