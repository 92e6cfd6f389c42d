"""What writing to a parametrized tensor does."""

import pytest
import torch
from torch import Tensor, nn

from paraform import parametrize
from tests.parametrize.cases import HOSTS, Double, Host, MatrixExp, Polar, Skew, Symmetric, assert_untouched, snapshot

on_hosts = pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.title)


@on_hosts
def test_an_assigned_value_is_what_is_read(host: Host) -> None:
    module = parametrize.register_parametrization(host.make(), host.name, Symmetric())
    value = torch.randn_like(host.tensor(module))
    value = value + value.mT
    setattr(module, host.name, value)
    assert torch.equal(host.tensor(module), value)


@on_hosts
def test_assignment_goes_through_the_inverses_last_one_first(host: Host) -> None:
    class AddOne(nn.Module):
        def forward(self, X: Tensor) -> Tensor:
            return X + 1

        def right_inverse(self, Y: Tensor) -> Tensor:
            return Y - 1

    module = parametrize.register_parametrization(host.make(), host.name, Double())
    parametrize.register_parametrization(module, host.name, AddOne())
    value = torch.full_like(host.tensor(module), 7.0)
    setattr(module, host.name, value)
    assert torch.equal(module.parametrizations[host.name].original, torch.full_like(value, 3.0))
    assert torch.equal(host.tensor(module), value)


@on_hosts
def test_a_relaxed_inverse_is_legal(host: Host) -> None:
    class Prune(nn.Module):
        def __init__(self, like: Tensor) -> None:
            super().__init__()
            self.register_buffer("mask", torch.rand_like(like) > 0.5)

        def forward(self, X: Tensor) -> Tensor:
            return X * self.mask

        def right_inverse(self, A: Tensor) -> Tensor:
            return A  # for what is pruned already, forward(right_inverse(A)) == A; else it is not

    module = host.make()
    before = host.tensor(module).detach().clone()
    prune = Prune(before)
    parametrize.register_parametrization(module, host.name, prune)
    assert torch.equal(host.tensor(module), before * prune.mask)
    assert torch.equal(module.parametrizations[host.name].original, before)
    value = torch.randn_like(before)
    setattr(module, host.name, value)
    assert torch.equal(host.tensor(module), value * prune.mask)


@on_hosts
def test_several_originals_are_assigned_through_the_inverse(host: Host) -> None:
    module = parametrize.register_parametrization(host.make(), host.name, Polar())
    chain = module.parametrizations[host.name]
    objects = chain.originals()
    value = torch.randn_like(host.tensor(module))
    setattr(module, host.name, value)
    torch.testing.assert_close(host.tensor(module), value)
    assert all(new is old for new, old in zip(chain.originals(), objects, strict=True))


@on_hosts
def test_a_missing_inverse_raises_on_assignment_and_changes_nothing(host: Host) -> None:
    module = parametrize.register_parametrization(host.make(), host.name, Skew())
    parametrize.register_parametrization(module, host.name, MatrixExp())
    before, cls = snapshot(module), type(module)
    with pytest.raises(RuntimeError, match=r"MatrixExp, does not implement right_inverse") as caught:
        setattr(module, host.name, torch.zeros_like(host.tensor(module)))
    assert_untouched(module, before, cls)
    assert f"'{host.name}' of {cls.__name__}" in caught.value.__notes__[0]


BAD_VALUES = {
    "another shape": (lambda like: torch.zeros(*like.shape, 1), ValueError, "shape"),
    "a shape that would broadcast": (lambda like: torch.zeros_like(like)[..., :1, :], ValueError, "shape"),
    "another dtype": (lambda like: torch.zeros_like(like, dtype=torch.float64), ValueError, "dtype"),
    "another device": (lambda like: torch.zeros_like(like, device="meta"), ValueError, "device"),
    "nan": (lambda like: torch.full_like(like, torch.nan), ValueError, "not finite"),
    "infinity": (lambda like: torch.full_like(like, torch.inf), ValueError, "not finite"),
    "a list": (lambda like: [1.0, 2.0], TypeError, "got list"),
    "None": (lambda like: None, TypeError, "got NoneType"),
}


@on_hosts
@pytest.mark.parametrize("reason", BAD_VALUES)
def test_a_bad_value_is_refused_and_changes_nothing(host: Host, reason: str) -> None:
    make, error, words = BAD_VALUES[reason]
    module = parametrize.register_parametrization(host.make(), host.name, Symmetric())
    before, cls = snapshot(module), type(module)
    with pytest.raises(error, match=words):
        setattr(module, host.name, make(host.tensor(module).detach()))
    assert_untouched(module, before, cls)


@on_hosts
def test_assignment_copies(host: Host) -> None:
    class Keep(nn.Module):
        def forward(self, X: Tensor) -> Tensor:
            return X

        def right_inverse(self, X: Tensor) -> Tensor:
            return X

    module = parametrize.register_parametrization(host.make(), host.name, Keep())
    value = torch.zeros_like(host.tensor(module))
    setattr(module, host.name, value)
    with torch.no_grad():
        module.parametrizations[host.name].original.add_(1)
    assert torch.equal(value, torch.zeros_like(value))
    value.sub_(1)
    assert torch.equal(host.tensor(module), torch.ones_like(value))


def test_an_inverse_that_works_in_place_does_not_reach_the_callers_tensor() -> None:
    class InPlace(nn.Module):
        def forward(self, X: Tensor) -> Tensor:
            return X

        def right_inverse(self, X: Tensor) -> Tensor:
            return X.mul_(1)

    layer = parametrize.register_parametrization(nn.Linear(2, 2), "weight", InPlace())
    value = torch.ones(2, 2)
    layer.weight = value
    layer.parametrizations.weight.original.data.zero_()
    assert torch.equal(value, torch.ones(2, 2))


def test_an_inverse_that_returns_something_else_than_at_registration_is_refused() -> None:
    class Fickle(nn.Module):
        answer = "one"

        def forward(self, X: Tensor) -> Tensor:
            return X

        def right_inverse(self, X: Tensor) -> object:
            return {"one": X, "two": (X, X), "short": X[:1], "none": None}[self.answer]

    fickle = Fickle()
    layer = parametrize.register_parametrization(nn.Linear(2, 2), "weight", fickle)
    before, cls = snapshot(layer), type(layer)
    for answer, words in (("two", "a sequence of 2"), ("short", "shape"), ("none", "got NoneType")):
        fickle.answer = answer
        with pytest.raises(ValueError, match=words):
            layer.weight = torch.zeros(2, 2)
        assert_untouched(layer, before, cls)


def test_a_parameter_is_not_taken_as_a_value() -> None:
    layer = parametrize.register_parametrization(nn.Linear(2, 2), "weight", Symmetric())
    before, cls = snapshot(layer), type(layer)
    with pytest.raises(KeyError, match="Assign a plain tensor to set its value"):
        layer.weight = nn.Parameter(torch.zeros(2, 2))
    with pytest.raises(KeyError, match="is parametrized"):
        layer.register_buffer("weight", torch.zeros(2, 2))
    assert_untouched(layer, before, cls)


def test_a_parametrized_tensor_cannot_be_deleted() -> None:
    layer = parametrize.register_parametrization(nn.Linear(2, 2), "weight", Symmetric())
    with pytest.raises(AttributeError, match="remove_parametrizations"):
        del layer.weight
    assert torch.equal(layer.weight, layer.weight.mT)


def test_assignment_needs_no_gradient_and_leaves_none() -> None:
    layer = parametrize.register_parametrization(nn.Linear(2, 2), "weight", Symmetric())
    layer.weight = torch.eye(2).requires_grad_()
    original = layer.parametrizations.weight.original
    assert original.is_leaf
    assert original.requires_grad
    assert original.grad_fn is None


def test_an_optimizer_with_momentum_goes_on_after_an_assignment() -> None:
    layer = parametrize.register_parametrization(nn.Linear(2, 2), "weight", Symmetric())
    optimizer = torch.optim.Adam(layer.parameters())
    for _ in range(2):
        layer(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        before = layer.parametrizations.weight.original.detach().clone()
        layer.weight = torch.eye(2)
    assert not torch.equal(before, torch.eye(2))
    assert torch.equal(layer.weight, torch.eye(2))


class Same(nn.Module):
    """The value is the original object itself."""

    def forward(self, X: Tensor) -> Tensor:
        return X

    def right_inverse(self, Y: Tensor) -> Tensor:
        return Y


def test_an_rnn_computes_with_its_own_tensor_after_an_assignment_not_with_the_callers() -> None:
    rnn = parametrize.register_parametrization(nn.RNN(3, 3), "weight_hh_l0", Same())
    x, value = torch.randn(5, 2, 3), torch.eye(3)
    rnn(x)
    rnn.weight_hh_l0 = value
    y = rnn(x)[0]
    value.zero_()
    assert torch.equal(rnn(x)[0], y)
    rnn(x)[0].sum().backward()
    assert rnn.parametrizations.weight_hh_l0.original.grad is not None


@pytest.mark.parametrize("value", [torch.full((3, 3), torch.nan), torch.zeros(2, 2)], ids=["nan", "shape"])
def test_an_rnn_computes_as_before_after_a_refused_assignment(value: Tensor) -> None:
    rnn = parametrize.register_parametrization(nn.RNN(3, 3), "weight_hh_l0", Double())
    x = torch.randn(5, 2, 3)
    with parametrize.cached():
        y = rnn(x)[0]
        with pytest.raises(ValueError, match=r"finite|shape"):
            rnn.weight_hh_l0 = value
        assert torch.equal(rnn(x)[0], y)


def test_a_step_that_learned_from_a_value_forgets_it_when_a_step_before_refuses() -> None:
    class Refuses(nn.Module):
        def forward(self, X: Tensor) -> Tensor:
            return X

        def right_inverse(self, Y: Tensor) -> Tensor:
            if Y.sum() > 0:
                raise ValueError("a positive sum")
            return Y

    class Learns(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("base", torch.zeros(2, 2))
            self.register_buffer("count", torch.zeros(()))

        def forward(self, X: Tensor) -> Tensor:
            return X + self.base

        def right_inverse(self, Y: Tensor) -> Tensor:
            self.base = torch.full_like(Y, 7.0)
            self.count += 1
            self.note = "learned"
            return Y - self.base + 7

    layer = parametrize.register_parametrization(nn.Linear(2, 2), "weight", Refuses())
    with torch.no_grad():
        layer.parametrizations.weight.original.fill_(-1)
    learns = Learns()
    layer.parametrizations.weight.append(learns)
    before, value, base = snapshot(layer), layer.weight.detach().clone(), learns.base
    with pytest.raises(ValueError, match="a positive sum"):
        layer.weight = torch.ones(2, 2)
    assert_untouched(layer, before, type(layer))
    assert learns.base is base
    assert not hasattr(learns, "note")
    assert torch.equal(layer.weight, value)


# TorchScript is deprecated, and steps that were written with it are still around.
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_scripted_parametrization_takes_values_and_plain_checkpoints_and_says_why_it_cannot() -> None:
    class Halved(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("factor", torch.tensor(0.5))

        def forward(self, X: Tensor) -> Tensor:
            return X * self.factor

    class Invertible(Halved):
        @torch.jit.export
        def right_inverse(self, Y: Tensor) -> Tensor:
            return Y / self.factor

    layer = parametrize.register_parametrization(nn.Linear(2, 2), "weight", torch.jit.script(Halved()))
    with pytest.raises(RuntimeError, match="does not implement right_inverse"):
        layer.weight = torch.ones(2, 2)
    layer = parametrize.register_parametrization(nn.Linear(2, 2), "weight", torch.jit.script(Invertible()))
    layer.load_state_dict({"weight": torch.ones(2, 2), "bias": torch.zeros(2)})
    assert torch.equal(layer.parametrizations.weight.original, torch.full((2, 2), 2.0))
