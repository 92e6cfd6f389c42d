"""An item of a ParameterList or a ParameterDict is a tensor like any other."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import nn

from paraform import parametrize
from tests.parametrize.cases import Double, Skew

CONTAINERS = {
    "ParameterList": (lambda: nn.ParameterList([torch.randn(3, 3), torch.randn(2)]), 0, 1),
    "ParameterDict": (
        lambda: nn.ParameterDict({"first": torch.randn(3, 3), "second": torch.randn(2)}),
        "first",
        "second",
    ),
}
on_containers = pytest.mark.parametrize("title", CONTAINERS)


def skewed(title: str) -> tuple[Any, Any, Any]:
    """A container whose first item is skew-symmetric, and the keys of its two items."""
    make, first, second = CONTAINERS[title]
    return parametrize.register_parametrization(make(), str(first), Skew()), first, second


@on_containers
def test_it_is_read_iterated_and_shown_as_before(title: str) -> None:
    container, first, second = skewed(title)
    assert torch.equal(container[first], -container[first].mT)
    assert len(container) == 2
    values = list(container) if title == "ParameterList" else list(container.values())
    assert torch.equal(values[0], container[first])
    assert values[1] is container[second]
    assert "of size 3x3" in repr(container)
    assert set(container.state_dict()) == {str(second), f"parametrizations.{first}.original"}


@on_containers
def test_it_is_assigned_trained_copied_and_removed(title: str) -> None:
    container, first, _ = skewed(title)
    skew = torch.tensor([[0.0, 1.0, 2.0], [-1.0, 0.0, 3.0], [-2.0, -3.0, 0.0]])
    for value in (skew, nn.Parameter(2 * skew)):
        container[first] = value
        assert torch.equal(container[first], value)
    container[first].square().sum().backward()
    assert container.parametrizations[str(first)].original.grad is not None
    for other in (copy.deepcopy(container), pickle.loads(pickle.dumps(container))):
        assert torch.equal(other[first], container[first])
        assert len(other) == 2
    fresh = skewed(title)[0]
    fresh.load_state_dict(container.state_dict())
    assert torch.equal(fresh[first], container[first])
    parametrize.remove_parametrizations(container, str(first))
    assert type(container).__name__ == title
    assert torch.equal(container[first], 2 * skew)
    assert isinstance(container[first], nn.Parameter)


def test_a_list_grows_and_a_second_item_is_parametrized_too() -> None:
    container, _, _ = skewed("ParameterList")
    container.append(torch.ones(2))
    parametrize.register_parametrization(container, "2", Double())
    assert [tuple(value.shape) for value in container] == [(3, 3), (2,), (2,)]
    assert torch.equal(container[2], 2 * container.parametrizations["2"].original)


def test_an_item_that_is_parametrized_cannot_be_deleted_from_a_dict_and_stays_in_it() -> None:
    container, first, second = skewed("ParameterDict")
    with pytest.raises(AttributeError, match="call remove_parametrizations"):
        del container[first]
    assert list(container) == [first, second]
    assert len(container) == 2


@pytest.mark.parametrize("given", [nn.Parameter(torch.ones(2)), torch.ones(2)])
def test_a_bare_parameter_is_refused_with_what_to_do(given: torch.Tensor) -> None:
    with pytest.raises(TypeError, match="Pass the module that has the tensor, and the tensor's name"):
        parametrize.register_parametrization(given, "weight", Double())
