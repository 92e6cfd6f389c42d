"""Which engine a chain belongs to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...parametrize import ParametrizationList
from .finding import Finding
from .patient import Patient


def mixed(patient: Patient) -> Iterator[Finding]:
    """PF504, for each chain of torch's engine in a model that has chains of ours too."""
    if not any(is_ours(named.chain) for named in patient.chains):
        return
    for named in patient.chains:
        if not is_ours(named.chain):
            yield Finding(
                "PF504",
                "note",
                named.name,
                "It was registered with torch.nn.utils.parametrize, others with paraform: cached(), frozen() and "
                "rebase() of paraform pass it by, and so do writes to its value.",
                "Register it with paraform.register_parametrization, which takes the same arguments.",
            )


def is_ours(chain: Any) -> bool:
    return isinstance(chain, ParametrizationList)
