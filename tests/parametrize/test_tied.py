"""A tensor that several modules share is parametrized on all of them, or refused."""

import copy
import gc
import pickle

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize as torchs

from paraform import parametrize
from paraform.parametrize import register_parametrization, remove_parametrizations
from tests.parametrize.cases import Double, Polar, Symmetric, Table, assert_untouched, snapshot


class Tied(nn.Module):
    """A language model in small: the head's weight is the embedding's."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(4, 4)
        self.head = nn.Linear(4, 4, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.embedding(tokens))


def both(model: Tied) -> tuple[Tensor, Tensor]:
    return model.embedding.weight, model.head.weight


@pytest.mark.parametrize("side", ["embedding", "head"])
@pytest.mark.parametrize("parametrization", [Symmetric, Polar])
def test_both_owners_have_the_value_and_one_raw_tensor(side: str, parametrization: type[nn.Module]) -> None:
    model = Tied()
    register_parametrization(getattr(model, side), "weight", parametrization())
    alone = register_parametrization(nn.Linear(4, 4), "weight", parametrization())
    embedding, head = both(model)
    assert torch.equal(embedding, head)
    assert len(list(model.parameters())) == len(list(alone.parametrizations.parameters()))
    assert model.head.parametrizations.weight is model.embedding.parametrizations.weight


def test_registration_keeps_what_the_model_computes() -> None:
    model, tokens = Tied(), torch.arange(4)
    before = model(tokens)
    register_parametrization(model.embedding, "weight", Double())
    assert torch.equal(model(tokens), before)


def test_training_moves_both_owners_by_the_gradient_of_both_uses() -> None:
    model, tokens = Tied(), torch.arange(4)
    register_parametrization(model.embedding, "weight", Symmetric())
    raw = model.embedding.parametrizations.weight.original
    value = (raw.detach().triu() + raw.detach().triu(1).mT).requires_grad_()
    (value @ value.mT).square().sum().backward()
    expected = (value.grad + value.grad.mT).triu() - value.grad.diag().diag()
    model(tokens).square().sum().backward()
    assert torch.allclose(raw.grad, expected, atol=1e-5)
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert torch.equal(*both(model))


def test_assigning_on_one_side_shows_on_the_other() -> None:
    model = Tied()
    register_parametrization(model.embedding, "weight", Double())
    model.head.weight = torch.ones(4, 4)
    assert torch.equal(model.embedding.weight, torch.ones(4, 4))


def test_a_second_parametrization_is_on_both() -> None:
    model = Tied()
    register_parametrization(model.embedding, "weight", Double())
    register_parametrization(model.head, "weight", Symmetric())
    embedding, head = both(model)
    assert torch.equal(embedding, embedding.mT)
    assert torch.equal(embedding, head)


@pytest.mark.parametrize("side", ["embedding", "head"])
@pytest.mark.parametrize("parametrization", [Symmetric, Polar])
def test_removing_on_one_side_leaves_one_plain_parameter_for_both(side: str, parametrization: type[nn.Module]) -> None:
    model = Tied()
    register_parametrization(model.embedding, "weight", parametrization())
    value = model.embedding.weight.detach().clone()
    remove_parametrizations(getattr(model, side), "weight")
    assert (type(model.embedding), type(model.head)) == (nn.Embedding, nn.Linear)
    assert model.embedding.weight is model.head.weight
    assert isinstance(model.head.weight, nn.Parameter)
    assert torch.equal(model.head.weight, value)


def test_removing_without_the_value_leaves_the_raw_tensor_on_both() -> None:
    model = Tied()
    register_parametrization(model.embedding, "weight", Symmetric())
    raw = model.embedding.parametrizations.weight.original
    remove_parametrizations(model.head, "weight", leave_parametrized=False)
    assert model.embedding.weight is raw
    assert model.head.weight is raw


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_is_tied_in_itself_and_to_nothing_else(duplicate: object) -> None:
    model = Tied()
    register_parametrization(model.embedding, "weight", Double())
    other = duplicate(model)
    with torch.no_grad():
        other.head.parametrizations.weight.original.zero_()
    assert not other.embedding.weight.any()
    assert model.embedding.weight.all()
    remove_parametrizations(other.head, "weight")
    assert other.head.weight is other.embedding.weight
    assert parametrize.is_parametrized(model.embedding)


def test_a_checkpoint_has_the_keys_of_both_and_loads() -> None:
    model, other = Tied(), Tied()
    for each in (model, other):
        register_parametrization(each.embedding, "weight", Symmetric())
    keys = ["embedding.parametrizations.weight.original", "head.parametrizations.weight.original"]
    assert list(model.state_dict()) == keys
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.head.weight, model.head.weight)


def test_a_tie_of_buffers_and_a_tie_within_one_module_are_ties_too() -> None:
    first, second = Table(), Table(persistent=False)
    second.table = first.table
    register_parametrization(second, "table", Double())
    assert torch.equal(first.table, second.table)
    remove_parametrizations(first, "table")
    assert second.table is first.table
    module = nn.Linear(3, 3)
    module.twin = module.weight
    register_parametrization(module, "twin", Double())
    assert torch.equal(module.weight, module.twin)
    assert type(module).tensor_names == ("twin", "weight")


def test_with_several_originals_the_optimizer_trains_a_tie_once() -> None:
    model = Tied()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    register_parametrization(model.embedding, "weight", Polar(), optimizer=optimizer)
    assert list(map(id, optimizer.param_groups[0]["params"])) == list(map(id, model.parameters()))


# What shares memory without being the same tensor


SHARING = {
    "a parameter of the parameter": lambda weight: nn.Parameter(weight),
    "its transpose": lambda weight: nn.Parameter(weight.data.T),
    "one row": lambda weight: nn.Parameter(weight.data[1]),
    "other numbers in the same bytes": lambda weight: nn.Parameter(weight.data.view(torch.int32), requires_grad=False),
}


@pytest.mark.parametrize("how", SHARING)
def test_another_tensor_in_the_same_memory_is_refused_and_nothing_changes(how: str) -> None:
    layer, other = nn.Linear(4, 4), nn.Module()
    other.scores = SHARING[how](layer.weight)
    before, others = snapshot(layer), snapshot(other)
    with pytest.raises(ValueError, match="'weight' of Linear and 'scores' of Module are two tensors in one memory"):
        register_parametrization(layer, "weight", Symmetric())
    assert_untouched(layer, before, nn.Linear)
    assert_untouched(other, others, nn.Module)


def test_a_raw_tensor_of_torchs_engine_is_refused() -> None:
    model = Tied()
    torchs.register_parametrization(model.embedding, "weight", Double())
    before = snapshot(model.head)
    with pytest.raises(ValueError, match="raw tensor of a parametrization"):
        register_parametrization(model.head, "weight", Double())
    assert_untouched(model.head, before, nn.Linear)


class Unwilling(nn.Linear):
    parametrizations = "mine"


def test_an_owner_that_cannot_be_parametrized_is_refused() -> None:
    layer, other = nn.Linear(4, 4), Unwilling(4, 4)
    other.weight = layer.weight
    before = snapshot(layer)
    with pytest.raises(ValueError, match="Unwilling has an attribute 'parametrizations'"):
        register_parametrization(layer, "weight", Double())
    assert_untouched(layer, before, nn.Linear)


# What is no tie


def test_optimizers_lists_state_dicts_and_views_are_no_owners() -> None:
    layer = nn.Linear(4, 4)
    held = [torch.optim.Adam(layer.parameters()), layer.state_dict(), layer.weight.data, [layer.weight], layer.weight]
    register_parametrization(layer, "weight", Double())
    assert held[-1] is layer.parametrizations.weight.original


def test_parameters_side_by_side_in_one_memory_are_no_tie() -> None:
    memory = torch.randn(2, 4, 4)
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    first.weight, second.weight = nn.Parameter(memory[0]), nn.Parameter(memory[1])
    register_parametrization(first, "weight", Double())
    assert type(second) is nn.Linear


def test_a_module_that_appears_twice_is_one_owner() -> None:
    layer = nn.Linear(4, 4)
    model = nn.Sequential(layer, layer)
    held = layer.weight
    register_parametrization(layer, "weight", Double())
    assert list(model.parameters()) == [layer.bias, held]


def test_what_waits_to_be_collected_refuses_nothing() -> None:
    layer = nn.Linear(4, 4)
    gc.disable()
    try:
        dead = nn.Module()
        dead.scores, dead.itself = nn.Parameter(layer.weight), [dead]
        dead.itself.append(dead)
        del dead
        register_parametrization(layer, "weight", Double())
    finally:
        gc.enable()


def test_a_parametrization_that_holds_the_raw_tensor_means_the_raw_tensor() -> None:
    class Relative(nn.Module):
        def __init__(self, start: nn.Parameter) -> None:
            super().__init__()
            self.start = start

        def forward(self, X: Tensor) -> Tensor:
            return X - self.start

    layer = nn.Linear(4, 4)
    register_parametrization(layer, "weight", Relative(layer.weight))
    assert not layer.weight.any()


def test_removal_does_not_write_into_a_raw_tensor_that_a_transfer_shares() -> None:
    first, second = register_parametrization(nn.Linear(4, 4), "weight", Double()), nn.Linear(4, 4)
    parametrize.transfer_parametrizations_and_params(first, second)
    value = first.weight.detach().clone()
    remove_parametrizations(second, "weight")
    assert torch.equal(first.weight, value)
    assert torch.equal(second.weight, value)
    assert isinstance(second.weight, nn.Parameter)
    raw = first.parametrizations.weight.original
    remove_parametrizations(first, "weight")  # nobody else has it any more
    assert first.weight is raw
