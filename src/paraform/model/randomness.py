"""Looking at a model, whose parametrizations may draw random numbers, without using up anybody's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

import torch


@contextmanager
def kept_randomness(devices: Iterable[torch.device]) -> Iterator[None]:
    """Random numbers that are drawn within are drawn again after: on the CPU and on these devices.

    >>> with kept_randomness([torch.device("cpu")]):
    ...     first = torch.rand(3)
    >>> torch.equal(first, torch.rand(3))
    True
    """
    # Of a tensor on the meta device nothing is drawn, and the CPU's state is kept with any.
    accelerators = {device for device in devices if device.type not in ("cpu", "meta")}
    with ExitStack() as stack:
        for kind in {device.type for device in accelerators} or {"cuda"}:
            own = [device for device in accelerators if device.type == kind]
            stack.enter_context(torch.random.fork_rng(own, device_type=kind))
        yield


def every_accelerator() -> list[torch.device]:
    """The devices beside the CPU that random numbers can come from."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    count = 0 if accelerator is None else torch.accelerator.device_count()
    return [torch.device(accelerator.type, index) for index in range(count)] if accelerator is not None else []
