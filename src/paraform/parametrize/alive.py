"""What modules and optimizers there are: nothing keeps a list of them, so all objects that are alive are looked at."""

from __future__ import annotations

import gc
from functools import partial
from itertools import chain, compress
from typing import Any


def all_alive(*kinds: type) -> list[Any]:
    """All objects of these types and their subclasses, those too that only wait to be collected.

    Python gives a list of all objects, among them tuples that another thread is just building: while anybody else holds
    such a tuple, ``tuple(generator)`` there ends in a ``SystemError``. So no other thread may run while that list is
    there, and none does while no bytecode is executed: it is made, sifted and dropped within one call.

    >>> from torch import nn
    >>> layer = nn.Linear(2, 3)
    >>> sum(module is layer for module in all_alive(nn.Module))
    1
    """
    ids = {id(kind) for kind in _with_subclasses(kinds)}  # a type itself may be unhashable
    box: dict[str, Any] = {}  # hands the list over to the second of two that need it, and is empty again
    objects = map(box.setdefault, ["list"], map(gc.get_objects, [None]))  # of one list, and lazily: not made yet
    # The type is asked, not the object: an isinstance() would wake what poses as something else.
    steps: list[Any] = [partial(map, function) for function in (type, id, ids.__contains__)]
    is_chosen = map(steps[2], map(steps[1], map(steps[0], map(box.pop, ["list"]))))
    return list(chain.from_iterable(map(compress, objects, is_chosen)))


def _with_subclasses(kinds: tuple[type, ...]) -> list[type]:
    found = {id(kind): kind for kind in kinds}
    unseen = list(kinds)
    while unseen:
        subclasses: list[type] = type.__subclasses__(unseen.pop())
        for kind in subclasses:
            if id(kind) not in found:
                found[id(kind)] = kind
                unseen.append(kind)
    return list(found.values())
