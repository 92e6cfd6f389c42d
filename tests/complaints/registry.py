"""The complaints as data, and the decorator that holds a scenario against both engines.

A scenario asserts what an ideal library does. It has to pass on paraform. On torch it has to end as its complaint says:
in one named exception whose message begins as foretold, so that a slip in the scenario does not count, or, where
torch has mended it, not at all.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import pytest
import torch.nn.utils.parametrizations
import torch.nn.utils.parametrize

from paraform import parametrizations, parametrize


@dataclass(frozen=True)
class Engine:
    """The two modules that a user imports."""

    title: str
    parametrize: ModuleType
    parametrizations: ModuleType


TORCH = Engine("torch", torch.nn.utils.parametrize, torch.nn.utils.parametrizations)
PARAFORM = Engine("paraform", parametrize, parametrizations)


@dataclass(frozen=True)
class Fails:
    """How a scenario ends on torch: in an exception of exactly this type, with a message that begins like this."""

    error: type[Exception]
    message: str

    def check(self, run: Callable[[], None]) -> None:
        with pytest.raises(self.error, match=f"^{re.escape(self.message)}") as raised:
            run()
        assert raised.type is self.error


def raises(error: type[Exception], message: str) -> Fails:
    """torch refuses, or falls over, where it should do what was asked."""
    return Fails(error, message)


def wrong(message: str) -> Fails:
    """torch goes on with a wrong result: the assertion with this message fails."""
    return Fails(AssertionError, message)


FIXED = None
"""torch does this right in 2.13."""


@dataclass(frozen=True)
class Complaint:
    """A scenario and where it comes from."""

    row: int
    """Its row in the list of complaints (41 is the one below the list, which nobody had reported)."""
    threads: tuple[str, ...]
    """Where users reported it; none, if it was found in tests."""
    symptom: str
    on_torch: Fails | None
    scenario: Callable[[Engine], None]
    ours: str = "works"
    """What paraform does, in a few words; where it is not what was asked, the way round."""

    @property
    def status(self) -> str:
        return "fixed in 2.13" if self.on_torch is None else "still there"


COMPLAINTS: dict[str, Complaint] = {}
"""Every complaint by the name of its test."""


def complaint(
    row: int, *threads: str, symptom: str, on_torch: Fails | None, ours: str = "works"
) -> Callable[[Callable[[Engine], None]], Callable[[Engine], None]]:
    """Register a scenario, and run it on both engines."""

    def register(scenario: Callable[[Engine], None]) -> Callable[[Engine], None]:
        name = scenario.__name__
        prefix = "test_" + "".join(re.sub(r"\W+", "_", thread.lower()) + "_" for thread in threads[:1])
        if not name.startswith(prefix) or name in COMPLAINTS:
            raise ValueError(f"Expected a name of its own that begins with {prefix}, got {name}; rename the scenario.")
        COMPLAINTS[name] = Complaint(row, threads, symptom, on_torch, scenario, ours)

        @pytest.mark.parametrize("engine", [TORCH, PARAFORM], ids=lambda engine: engine.title)
        @functools.wraps(scenario)
        def run(engine: Engine) -> None:
            if engine is TORCH and on_torch is not None:
                on_torch.check(lambda: scenario(engine))
            else:
                scenario(engine)

        return run

    return register
