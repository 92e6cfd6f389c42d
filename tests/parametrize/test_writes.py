"""A write to a value that was read is an assignment, or an error."""

import copy
import gc
import io
import weakref

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from paraform import parametrize
from tests.parametrize.cases import TRAINED, Double, Host, MatrixExp, Polar, Symmetric

on_trained = pytest.mark.parametrize("host", TRAINED, ids=lambda host: host.title)


def doubled() -> nn.Linear:
    torch.manual_seed(0)
    return parametrize.register_parametrization(nn.Linear(4, 4), "weight", Double())


def raw(layer: nn.Module) -> nn.Parameter:
    return layer.parametrizations.weight.original


def with_no_grad(write):  # type: ignore[no-untyped-def]
    def run(w: Tensor) -> None:
        with torch.no_grad():
            write(w)

    return run


def out(w: Tensor) -> None:
    torch.add(torch.ones(4, 4), 1.0, out=w)


def set_item(w: Tensor) -> None:
    w[1, :2] = 5.0


def augmented(w: Tensor) -> None:
    w += 1.0


def set_data(w: Tensor) -> None:
    w.data = torch.arange(16.0).reshape(4, 4)


# What people write. Each has to do to a parametrized weight what it does to a plain one.
WRITES = {
    "nn.init.normal_": nn.init.normal_,
    "nn.init.xavier_uniform_": nn.init.xavier_uniform_,
    "nn.init.kaiming_normal_": nn.init.kaiming_normal_,
    "nn.init.orthogonal_": nn.init.orthogonal_,
    "nn.init.trunc_normal_": nn.init.trunc_normal_,
    "nn.init.zeros_": nn.init.zeros_,
    "nn.init.eye_": nn.init.eye_,
    "nn.init.sparse_": lambda w: nn.init.sparse_(w, 0.5),
    ".data.normal_()": lambda w: w.data.normal_(),
    ".data.mul_()": lambda w: w.data.mul_(3.0),
    ".data[...] =": lambda w: set_item(w.data),
    ".data =": set_data,
    ".detach().copy_()": lambda w: w.detach().copy_(torch.ones(4, 4)),
    ".detach() view": lambda w: w.detach().T[0].fill_(2.0),
    "copy_": with_no_grad(lambda w: w.copy_(torch.eye(4))),
    "[...] =": with_no_grad(set_item),
    "+=": with_no_grad(augmented),
    "out=": with_no_grad(out),
    "a view": with_no_grad(lambda w: w.view(-1)[3:7].zero_()),
    "a transpose": with_no_grad(lambda w: w.mT.diagonal().fill_(1.0)),
    "unbind": with_no_grad(lambda w: w.unbind()[2].fill_(9.0)),
    "torch._foreach_mul_": with_no_grad(lambda w: torch._foreach_mul_([w], 0.5)),
    "masked_fill_": with_no_grad(lambda w: w.masked_fill_(torch.eye(4, dtype=torch.bool), -1.0)),
    "apply_": lambda w: w.detach().apply_(lambda entry: entry + 1),
    "map_": lambda w: w.data.map_(torch.ones(4, 4), lambda _, entry: entry),
    "inference_mode": lambda w: torch.inference_mode()(lambda: w.fill_(4.0))(),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
def test_a_write_does_to_the_layer_what_it_does_to_a_plain_weight(write) -> None:  # type: ignore[no-untyped-def]
    layer, plain = doubled(), nn.Linear(4, 4)
    plain.load_state_dict({"weight": layer.weight.detach().clone(), "bias": layer.bias.detach()})
    kept = raw(layer)
    for each in (layer, plain):
        torch.manual_seed(1)
        write(each.weight)
    assert torch.equal(layer.weight, plain.weight)
    assert torch.equal(layer(torch.ones(1, 4)), plain(torch.ones(1, 4)))
    assert raw(layer) is kept


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
def test_a_write_without_right_inverse_raises_and_changes_nothing(write) -> None:  # type: ignore[no-untyped-def]
    layer = parametrize.register_parametrization(nn.Linear(4, 4), "weight", MatrixExp())
    before = layer.weight.detach().clone()
    with pytest.raises(RuntimeError, match="right_inverse"):
        write(layer.weight)
    assert torch.equal(layer.weight, before)


@pytest.mark.parametrize(
    "read",
    [
        lambda w: w @ w,
        lambda w: w.detach().clone().mul_(2),
        lambda w: w.detach().cpu().clone().zero_(),
        lambda w: w.double().zero_(),
        lambda w: torch.cat([w, w]).zero_(),
        lambda w: w.requires_grad_(),
        lambda w: (w + 1).mul_(2),
        lambda w: nn.Parameter(w).data.zero_(),
        lambda w: nn.Buffer(w.detach()).zero_(),
        lambda w: w.expand(2, 4, 4).sum(),
        lambda w: w.detach().numpy().copy().fill(0),
    ],
)
def test_what_is_no_write_to_the_value_changes_nothing(read) -> None:  # type: ignore[no-untyped-def]
    layer = doubled()
    before = raw(layer).detach().clone()
    read(layer.weight)
    assert torch.equal(raw(layer), before)


def test_writes_to_one_value_add_up_and_the_set_moves_only_what_the_layer_has() -> None:
    layer = parametrize.register_parametrization(nn.Linear(4, 4), "weight", Symmetric())
    value = layer.weight
    target = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        value.zero_()
        value.add_(target)
        value.mul_(2)
    assert torch.equal(value, 2 * target)
    assert torch.equal(layer.weight, (2 * target).triu() + (2 * target).triu(1).mT)


def test_a_write_that_is_refused_leaves_the_layer_as_it_was() -> None:
    layer = doubled()
    before = layer.weight.detach().clone()
    with pytest.raises(ValueError, match="not finite"):
        nn.init.constant_(layer.weight, float("nan"))
    assert torch.equal(layer.weight, before)


def test_a_write_while_gradients_are_recorded_raises_as_for_a_parameter() -> None:
    layer = doubled()
    before = layer.weight.detach().clone()
    for write in (Tensor.zero_, lambda w: set_item(w), lambda w: w.view(-1).zero_(), augmented):
        with pytest.raises(RuntimeError, match="'weight' of ParametrizedLinear was written to in place while gradient"):
            write(layer.weight)
    assert torch.equal(layer.weight, before)


def test_a_frozen_tensor_and_a_buffer_can_be_written_to_with_gradients_on() -> None:
    layer = doubled().requires_grad_(False)
    layer.weight.fill_(3.0)
    assert torch.equal(raw(layer), torch.full((4, 4), 1.5))
    layer.weight[0] = 1.0
    assert torch.equal(layer.weight[0], torch.ones(4))


def test_a_value_cannot_be_told_to_require_a_gradient() -> None:
    layer = doubled().requires_grad_(False)
    with pytest.raises(RuntimeError, match=r"original tensor\(s\): module.parametrizations.weight.original"):
        layer.weight.requires_grad_()
    with pytest.raises(RuntimeError, match="original tensor"):
        layer.weight.requires_grad = True
    assert layer.weight.detach().requires_grad_().requires_grad  # of a copy of the object, as people do


def test_a_numpy_view_of_the_value_is_read_only() -> None:
    layer = doubled()
    array = layer.weight.detach().numpy()
    with pytest.raises(ValueError, match="read-only"):
        array[0, 0] = 1.0
    np.testing.assert_array_equal(array, 2 * raw(layer).detach().numpy())


def test_a_parameter_made_of_the_value_is_a_parameter_of_its_own() -> None:
    layer, other = doubled(), nn.Linear(4, 4)
    other.weight = nn.Parameter(layer.weight)
    before = layer.weight.detach().clone()
    assert type(other.weight) is nn.Parameter
    assert other.weight.requires_grad
    assert other.weight.is_leaf
    torch.optim.SGD(other.parameters(), lr=1.0).zero_grad()
    other(torch.ones(1, 4)).sum().backward()
    torch.optim.SGD(other.parameters(), lr=1.0).step()
    assert not torch.equal(other.weight, before)
    assert torch.equal(layer.weight, before)
    assert torch.equal(copy.deepcopy(other).weight, other.weight)


def test_the_value_is_saved_copied_and_printed_as_a_plain_tensor() -> None:
    layer = doubled()
    file = io.BytesIO()
    torch.save({"w": layer.weight.detach()}, file)
    file.seek(0)
    loaded = torch.load(file)["w"]
    assert type(loaded) is Tensor
    assert torch.equal(loaded, layer.weight)
    assert type(copy.deepcopy(layer.weight.detach())) is Tensor
    assert repr(layer.weight) == repr(2 * raw(layer))
    assert layer.weight.tolist() == (2 * raw(layer)).tolist()
    torch.testing.assert_close(layer.weight, nn.Parameter(2 * raw(layer).detach()))
    torch.testing.assert_close(nn.Parameter(2 * raw(layer).detach()), layer.weight)


@on_trained
def test_gradients_flow_from_a_value_that_was_read_outside(host: Host) -> None:
    layer = host.make()
    parametrize.register_parametrization(layer, host.name, Double())
    (host.tensor(layer) ** 2).sum().backward()
    (original,) = layer.parametrizations[host.name].originals()
    torch.testing.assert_close(original.grad, 8 * original.detach())


def test_the_gradient_that_is_not_there_is_told_where_to_find() -> None:
    layer = doubled()
    layer(torch.ones(1, 4)).sum().backward()
    with pytest.warns(UserWarning, match=r"read module\.parametrizations\.weight\.original\.grad"):
        assert layer.weight.grad is None
    with parametrize.cached():
        layer.weight.retain_grad()
        layer(torch.ones(1, 4)).sum().backward()
        torch.testing.assert_close(layer.weight.grad, torch.ones(4, 4))


def test_two_reads_under_cached_are_one_object_and_a_write_to_it_is_seen() -> None:
    layer = doubled()
    with parametrize.cached():
        assert layer.weight is layer.weight
        (gradient,) = torch.autograd.grad(layer(torch.ones(1, 4)).sum(), layer.weight)
        torch.testing.assert_close(gradient, torch.ones(4, 4))
        nn.init.ones_(layer.weight)
        assert torch.equal(layer.weight, torch.ones(4, 4))
        assert torch.equal(layer(torch.ones(1, 4)), 4 + layer.bias[None])


def test_a_refused_write_under_cached_does_not_stay_in_the_cache() -> None:
    layer = doubled()
    before = layer.weight.detach().clone()
    with parametrize.cached(), pytest.raises(RuntimeError, match="gradients are recorded"):
        layer.weight.zero_()
    with parametrize.cached():
        assert torch.equal(layer.weight, before)


def test_several_originals_are_written_to_together() -> None:
    layer = parametrize.register_parametrization(nn.Linear(4, 4), "weight", Polar())
    nn.init.eye_(layer.weight)
    chain = layer.parametrizations.weight
    torch.testing.assert_close(chain.original0.detach(), torch.tensor(2.0))
    torch.testing.assert_close(chain.original1.detach(), torch.eye(4) / 2)


def test_a_module_reads_its_own_value_as_a_plain_tensor() -> None:
    class Spy(nn.Linear):
        seen: type

        def forward(self, x: Tensor) -> Tensor:
            self.seen = type(self.weight)
            return super().forward(x)

    layer = parametrize.register_parametrization(Spy(4, 4), "weight", Double())
    layer(torch.ones(1, 4))
    assert layer.seen is Tensor
    layer.forward(torch.ones(1, 4))
    assert layer.seen is Tensor
    assert type(layer.weight) is not Tensor


def test_a_value_keeps_no_module_and_says_so_when_it_is_gone() -> None:
    layer = doubled()
    value, gone = layer.weight, weakref.ref(layer)
    del layer
    gc.collect()
    assert gone() is None
    with torch.no_grad(), pytest.raises(RuntimeError, match="module that is gone"):
        value.zero_()


# torch.compile looks at .grad of each input, and hides this warning only where warnings are no errors.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
def test_compiled_code_reads_a_value_that_it_is_given_and_may_not_write_to_it() -> None:
    layer = doubled()

    @torch.compile(fullgraph=True, backend="eager")
    def penalty(w: Tensor) -> Tensor:
        return (w @ w.mT).trace()

    @torch.compile(fullgraph=True, backend="eager")
    def fill(w: Tensor) -> None:
        w.fill_(1.0)

    torch.testing.assert_close(penalty(layer.weight), (layer.weight**2).sum())
    with torch.no_grad(), pytest.raises(Exception, match="was given to compiled code, which writes to it"):
        fill(layer.weight)


# The first call of compiled code checks what its operators return, in a dispatch mode that sees the inputs.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
@pytest.mark.parametrize("read", [lambda w: w, lambda w: w.detach(), lambda w: w.detach()[1:]])
def test_code_compiled_by_aot_reads_a_value_that_it_is_given(read) -> None:  # type: ignore[no-untyped-def]
    torch.compiler.reset()
    value = read(doubled().weight)
    gram = torch.compile(lambda w: w @ w.mT, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(gram(value), value @ value.mT)


def test_transforms_see_a_plain_tensor() -> None:
    layer = doubled()
    seen = []

    def loss(x: Tensor) -> Tensor:
        seen.append(type(layer.weight))
        return (layer.weight @ x).sum()

    torch.testing.assert_close(torch.func.grad(loss)(torch.ones(4)), layer.weight.sum(0))
    assert seen == [Tensor]
    rows = torch.vmap(lambda w: w.sum())(layer.weight)
    torch.testing.assert_close(rows, layer.weight.sum(1))
    torch.testing.assert_close(torch.func.grad(lambda w: (w**2).sum())(layer.weight), 2 * layer.weight)


def test_a_value_takes_no_other_memory() -> None:
    layer = doubled()
    before = raw(layer).detach().clone()
    with torch.no_grad(), pytest.raises(RuntimeError, match="Assign the value instead"):
        layer.weight.set_(torch.ones(4, 4))
    assert torch.equal(raw(layer), before)


def test_a_single_entry_is_formatted_as_that_of_a_plain_weight() -> None:
    layer = doubled()
    for entry in (layer.weight[0, 0], layer.weight.detach()[0, 0], layer.weight.data[0, 0]):
        assert f"{entry:.3f}" == f"{entry.item():.3f}"


@pytest.mark.parametrize("read", [lambda w: w, lambda w: w.detach(), lambda w: w.data, lambda w: w.detach()[1:]])
def test_a_value_is_shown_as_a_plain_tensor(read) -> None:  # type: ignore[no-untyped-def]
    value = read(doubled().weight)
    assert repr(value.detach()) == str(value.detach()) == repr(value.detach().clone())


@pytest.mark.parametrize("read", [lambda w: w.detach(), lambda w: w.data, lambda w: w.detach()[1:]])
def test_a_dispatch_mode_sees_plain_tensors(read) -> None:  # type: ignore[no-untyped-def]
    value = read(doubled().weight)
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert (value @ value.mT).shape == (len(value), len(value))


@pytest.mark.parametrize("sparse", [Tensor.to_sparse, lambda w: w.detach().to_mkldnn()])
def test_a_value_without_memory_of_its_own_is_read_plain(sparse) -> None:  # type: ignore[no-untyped-def]
    layer = parametrize.register_parametrization(nn.Linear(4, 4), "weight", sparse, unsafe=True)
    assert type(layer.weight) is Tensor
    with parametrize.cached():
        assert torch.equal(layer.weight.to_dense(), raw(layer))
        assert torch.equal(layer.weight.to_dense(), raw(layer))


def test_a_value_that_was_read_before_the_removal_says_so_when_it_is_written_to() -> None:
    layer = doubled()
    value = layer.weight
    parametrize.remove_parametrizations(layer, "weight")
    before = layer.weight.detach().clone()
    with (
        torch.no_grad(),
        pytest.raises(RuntimeError, match=r"not parametrized any more .* Read it again: module\.weight"),
    ):
        value.zero_()
    assert torch.equal(layer.weight, before)


def test_a_value_that_is_a_view_can_be_initialised() -> None:
    class Transposed(nn.Module):
        def forward(self, X: Tensor) -> Tensor:
            return (2 * X).mT

        def right_inverse(self, Y: Tensor) -> Tensor:
            return Y.mT / 2

    layer = parametrize.register_parametrization(nn.Linear(3, 3), "weight", Transposed())
    nn.init.ones_(layer.weight)
    assert torch.equal(layer.weight, torch.ones(3, 3))
    with parametrize.cached():
        nn.init.eye_(layer.weight)
        assert torch.equal(layer.weight, torch.eye(3))
