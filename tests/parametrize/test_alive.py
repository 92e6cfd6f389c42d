"""The search for modules and optimizers among all objects."""

import sys
import threading
from types import FrameType
from typing import Any

import pytest
import torch
from torch import nn

from paraform import Orthogonal, fold, register_parametrization
from paraform.model import constrain
from paraform.parametrize.alive import all_alive


def test_it_finds_instances_of_subclasses_and_no_others() -> None:
    class Own(nn.Linear):
        pass

    own, optimizer = Own(2, 2), torch.optim.SGD([torch.zeros(1, requires_grad=True)])
    found = all_alive(nn.Linear, torch.optim.Optimizer)
    assert [sum(thing is each for thing in found) for each in (own, optimizer)] == [1, 1]
    assert {type(thing) for thing in found} >= {Own, torch.optim.SGD}
    assert all(isinstance(thing, (nn.Linear, torch.optim.Optimizer)) for thing in found)


def test_it_does_not_wake_what_poses_as_something_else() -> None:
    class Poses:
        @property  # type: ignore[misc]
        def __class__(self) -> type:
            raise AssertionError("was asked")

    thing = Poses()
    all_alive(nn.Module)
    del thing


class _Unhashable(type):
    __hash__ = None  # type: ignore[assignment]

    def __eq__(cls, other: object) -> bool:
        raise AssertionError("was asked")


def test_any_metaclass_is_taken() -> None:
    class Own(nn.Linear, metaclass=_Unhashable):
        pass

    own = Own(2, 2)
    assert sum(module is own for module in all_alive(nn.Module)) == 1


@pytest.mark.parametrize("act", ["constrain", "register tied", "fold", "refused"])
def test_no_line_of_python_runs_while_objects_of_others_are_held(act: str) -> None:
    """Another thread could run then, and it could be building the tuple that is held."""
    others, model = (object(), []), nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))  # type: ignore[var-annotated]
    if act == "fold":
        constrain(model, {"*.weight": Orthogonal()})
    elif act != "constrain":
        model[1].weight = model[0].weight
    optimizer = torch.optim.Adam(model.parameters())
    held_before, held = sys.getrefcount(others), set()

    def look(frame: FrameType, event: str, _: Any) -> Any:
        if "paraform" in frame.f_code.co_filename and sys.getrefcount(others) != held_before:
            held.add(f"{frame.f_code.co_filename}:{frame.f_lineno}")
        return look

    before = sys.gettrace()
    sys.settrace(look)
    try:
        if act == "fold":
            fold(model)
        elif act == "constrain":
            constrain(model, {"*.weight": Orthogonal()}, optimizer=optimizer)
        elif act == "register tied":
            register_parametrization(model[0], "weight", Orthogonal(), optimizer=optimizer)
        else:
            with pytest.raises(ValueError, match="expects matrices"):
                constrain(model, {"*": Orthogonal()})
    finally:
        sys.settrace(before)
    assert held == set()


def test_other_threads_build_tuples_undisturbed() -> None:
    errors, done = [], threading.Event()

    def build() -> None:
        while not done.is_set():
            try:
                tuple(number for number in range(20_000))
            except SystemError as error:
                errors.append(error)

    thread = threading.Thread(target=build)
    thread.start()
    try:
        for _ in range(10):
            fold(constrain(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)), {"*.weight": Orthogonal()}))
    finally:
        done.set()
        thread.join()
    assert errors == []
