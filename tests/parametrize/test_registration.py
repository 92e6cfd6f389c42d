"""What registering does, on every kind of host."""

import pytest
import torch
from torch import Tensor, nn

from paraform import parametrize
from tests.parametrize.cases import (
    HOSTS,
    TRAINED,
    Cayley,
    Host,
    MatrixExp,
    Polar,
    Scale,
    Skew,
    Symmetric,
    Table,
    assert_untouched,
    snapshot,
)

on_hosts = pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.title)
on_trained_hosts = pytest.mark.parametrize("host", TRAINED, ids=lambda host: host.title)


class Halve(nn.Module):
    """A parametrization with nothing but forward."""

    def forward(self, X: Tensor) -> Tensor:
        return X / 2


@on_hosts
def test_any_module_with_a_forward_is_a_parametrization(host: Host) -> None:
    module = host.make()
    before = host.tensor(module).detach().clone()
    assert parametrize.register_parametrization(module, host.name, Halve()) is module
    assert torch.equal(host.tensor(module), before / 2)


@on_hosts
def test_the_tensor_becomes_a_property_of_a_class_named_after_the_base(host: Host) -> None:
    module = host.make()
    base = type(module)
    parametrize.register_parametrization(module, host.name, Symmetric())
    assert type(module).__name__ == f"Parametrized{base.__name__}"
    assert type(module).__bases__ == (base,)
    assert isinstance(module, base)
    assert isinstance(getattr(type(module), host.name), property)
    assert host.name not in module._parameters
    assert host.name not in dict(module.named_buffers())


@on_hosts
def test_the_value_is_computed_at_each_read(host: Host) -> None:
    module = parametrize.register_parametrization(host.make(), host.name, Symmetric())
    assert host.tensor(module) is not host.tensor(module)
    with torch.no_grad():
        module.parametrizations[host.name].original.fill_(7.0)
    assert torch.equal(host.tensor(module), torch.full_like(host.tensor(module), 7.0))


@on_hosts
def test_the_layer_computes_with_the_value(host: Host) -> None:
    module, plain = host.make(), host.make()
    parametrize.register_parametrization(module, host.name, Symmetric())
    plain.load_state_dict(
        {
            name: tensor.detach()
            for name, tensor in {
                **{k: v for k, v in module.state_dict().items() if not k.startswith("parametrizations")},
                host.name: host.tensor(module),
            }.items()
        }
    )
    x = host.input()
    assert torch.equal(host.output(module, x), host.output(plain, x))


@on_hosts
def test_the_chains_can_be_indexed_iterated_and_printed(host: Host) -> None:
    module = host.make()
    first, second = Symmetric(), MatrixExp()
    parametrize.register_parametrization(module, host.name, first)
    parametrize.register_parametrization(module, host.name, second)
    chains = module.parametrizations
    assert isinstance(chains, nn.ModuleDict)
    chain = chains[host.name]
    assert isinstance(chain, parametrize.ParametrizationList)
    assert getattr(chains, host.name) is chain
    assert (chain[0], chain[1], chain[-1], len(chain)) == (first, second, second, 2)
    assert list(chain) == [first, second]
    assert "(0): Symmetric()" in repr(module)
    assert "(1): MatrixExp()" in repr(module)


@on_trained_hosts
def test_the_original_is_the_same_parameter_object_so_an_earlier_optimizer_goes_on(host: Host) -> None:
    module = host.make()
    parameter = host.tensor(module)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    parametrize.register_parametrization(module, host.name, Symmetric())
    assert module.parametrizations[host.name].original is parameter
    before = host.tensor(module).detach().clone()
    host.output(module, host.input()).square().sum().backward()
    optimizer.step()
    after = host.tensor(module)
    assert not torch.equal(before, after)
    assert torch.equal(after, after.mT)


def test_the_original_of_a_buffer_is_the_same_tensor_and_a_buffer() -> None:
    module = Table()
    buffer = module.table
    parametrize.register_parametrization(module, "table", Symmetric())
    assert module.parametrizations.table.original is buffer
    assert dict(module.named_buffers()) == {"parametrizations.table.original": buffer}
    assert list(module.parameters()) == []


def test_a_buffer_that_is_not_saved_is_still_not_saved() -> None:
    module = parametrize.register_parametrization(Table(persistent=False), "table", Symmetric())
    assert dict(module.state_dict()) == {}
    parametrize.remove_parametrizations(module, "table")
    assert dict(module.state_dict()) == {}
    assert torch.equal(module.table, module.table.mT)


@on_hosts
def test_several_tensors_from_right_inverse_are_numbered_originals(host: Host) -> None:
    module = host.make()
    value = host.tensor(module)
    parametrize.register_parametrization(module, host.name, Polar())
    chain = module.parametrizations[host.name]
    assert not hasattr(chain, "original")
    assert torch.equal(chain.original0, value.norm())
    assert torch.equal(chain.original1, value / value.norm())
    assert isinstance(chain.original0, nn.Parameter) == isinstance(value, nn.Parameter)
    assert chain.original1.requires_grad == value.requires_grad
    torch.testing.assert_close(host.tensor(module), value)


def test_several_originals_of_a_frozen_parameter_are_frozen() -> None:
    layer = nn.Linear(4, 4).requires_grad_(False)
    parametrize.register_parametrization(layer, "weight", Polar())
    assert [p.requires_grad for p in layer.parameters()] == [False, False, False]


@on_hosts
def test_registering_again_appends_to_the_chain(host: Host) -> None:
    module = host.make()
    parametrize.register_parametrization(module, host.name, Skew())
    raw = module.parametrizations[host.name].original
    parametrize.register_parametrization(module, host.name, MatrixExp())
    assert module.parametrizations[host.name].original is raw
    upper = raw.triu(1)
    assert torch.equal(host.tensor(module), torch.matrix_exp(upper - upper.mT))


@on_hosts
def test_skew_then_cayley_is_orthogonal(host: Host) -> None:
    module = parametrize.register_parametrization(host.make().double(), host.name, Skew())
    Q = host.tensor(parametrize.register_parametrization(module, host.name, Cayley()))
    torch.testing.assert_close(Q @ Q.mT, torch.eye(Q.shape[-1], dtype=Q.dtype).expand_as(Q))


@on_hosts
def test_skew_then_matrix_exp_is_special_orthogonal(host: Host) -> None:
    module = parametrize.register_parametrization(host.make().double(), host.name, Skew())
    Q = host.tensor(parametrize.register_parametrization(module, host.name, MatrixExp()))
    torch.testing.assert_close(Q @ Q.mT, torch.eye(Q.shape[-1], dtype=Q.dtype).expand_as(Q))
    torch.testing.assert_close(torch.linalg.det(Q), torch.ones(Q.shape[:-2], dtype=Q.dtype))


@on_hosts
def test_symmetric_then_matrix_exp_is_positive_definite(host: Host) -> None:
    module = parametrize.register_parametrization(host.make().double(), host.name, Symmetric())
    P = host.tensor(parametrize.register_parametrization(module, host.name, MatrixExp()))
    torch.testing.assert_close(P, P.mT)
    assert (torch.linalg.eigvalsh(P) > 0).all()


def test_two_tensors_of_one_module_have_a_chain_each() -> None:
    layer = nn.Linear(4, 4)
    parametrize.register_parametrization(layer, "weight", Symmetric())
    parametrize.register_parametrization(layer, "bias", Halve())
    assert list(layer.parametrizations) == ["weight", "bias"]
    assert torch.equal(layer.bias, layer.parametrizations.bias.original / 2)
    assert torch.equal(layer.weight, layer.weight.mT)


def test_the_class_is_shared_by_equal_base_and_names_whatever_their_order() -> None:
    first, second, other = nn.Linear(4, 4), nn.Linear(2, 2), nn.Linear(4, 4)
    for module, names in ((first, ["weight", "bias"]), (second, ["bias", "weight"]), (other, ["weight"])):
        for name in names:
            parametrize.register_parametrization(module, name, Halve())
    assert type(first) is type(second)
    assert type(first) is not type(other)


def test_registering_on_one_module_leaves_others_of_its_class_alone() -> None:
    layer, other, plain = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
    parametrize.register_parametrization(other, "weight", Symmetric())
    before, before_plain = snapshot(other), snapshot(plain)
    cls = type(other)
    parametrize.register_parametrization(layer, "weight", Symmetric())
    parametrize.register_parametrization(layer, "bias", Halve())
    parametrize.remove_parametrizations(layer, "weight")
    assert_untouched(other, before, cls)
    assert_untouched(plain, before_plain, nn.Linear)


def test_the_parametrization_takes_the_mode_of_the_module() -> None:
    layer = nn.Linear(4, 4).eval()
    scale = Scale()
    parametrize.register_parametrization(layer, "weight", scale)
    assert not scale.training
    assert not layer.parametrizations.training
    assert not layer.parametrizations.weight.training


def test_registration_says_how_far_it_moved_the_value() -> None:
    layer = nn.Linear(4, 4)
    before = layer.weight.detach().clone()
    parametrize.register_parametrization(layer, "weight", Symmetric())
    torch.testing.assert_close(layer.parametrizations.weight.moved, (layer.weight - before).norm())
    kept = parametrize.register_parametrization(nn.Linear(4, 4), "weight", nn.Identity())
    assert kept.parametrizations.weight.moved == 0


def test_an_inverse_that_works_in_place_does_not_reach_the_tensor_before_the_checks() -> None:
    class InPlace(nn.Module):
        def forward(self, X: Tensor) -> Tensor:
            return X[:-1]

        def right_inverse(self, X: Tensor) -> Tensor:
            return X.zero_()

    layer = nn.Linear(4, 4)
    before = snapshot(layer)
    with pytest.raises(ValueError, match="shape"):
        parametrize.register_parametrization(layer, "weight", InPlace())
    assert_untouched(layer, before, nn.Linear)


def test_an_inverse_may_raise_not_implemented_error_for_having_none() -> None:
    class Sine(nn.Module):
        def forward(self, X: Tensor) -> Tensor:
            return X.sin()

        def right_inverse(self, X: Tensor) -> Tensor:
            raise NotImplementedError

    layer = nn.Linear(4, 4)
    before = layer.weight.detach().clone()
    parametrize.register_parametrization(layer, "weight", Sine())
    assert torch.equal(layer.weight, before.sin())
    with pytest.raises(NotImplementedError):
        layer.weight = before


def test_an_operator_that_lacks_the_dtype_is_not_taken_for_a_missing_inverse() -> None:
    class QR(nn.Module):
        def forward(self, X: Tensor) -> Tensor:
            return X

        def right_inverse(self, X: Tensor) -> Tensor:
            return torch.linalg.qr(X).Q  # raises NotImplementedError, as of torch 2.13

    layer = nn.Linear(4, 4, dtype=torch.bfloat16)
    before = snapshot(layer)
    with pytest.raises(NotImplementedError, match="BFloat16"):
        parametrize.register_parametrization(layer, "weight", QR())
    assert_untouched(layer, before, nn.Linear)
    parametrize.register_parametrization(layer, "weight", nn.Tanh())
    with pytest.raises(NotImplementedError, match="BFloat16"):
        parametrize.register_parametrization(layer, "weight", QR())
    assert len(layer.parametrizations.weight) == 1


def test_an_original_may_have_another_shape_than_the_value() -> None:
    class Diagonal(nn.Module):
        def forward(self, d: Tensor) -> Tensor:
            return torch.diag_embed(d)

        def right_inverse(self, D: Tensor) -> Tensor:
            return D.diagonal(dim1=-2, dim2=-1)

    layer = nn.Linear(4, 4)
    parameter, before = layer.weight, layer.weight.detach().clone()
    parametrize.register_parametrization(layer, "weight", Diagonal())
    assert layer.parametrizations.weight.original is parameter
    assert parameter.shape == (4,)
    assert torch.equal(layer.weight, torch.diag(before.diag()))
    layer.weight = torch.eye(4)
    assert torch.equal(parameter, torch.ones(4))


# --- refusals -----------------------------------------------------------------------------------------------------


class Returns(nn.Module):
    """forward and right_inverse return what they are told to."""

    def __init__(self, forward: object = None, inverse: object = None) -> None:
        super().__init__()
        self._forward = forward or (lambda X: X)
        self._inverse = inverse or (lambda X: X)

    def forward(self, X: Tensor) -> object:
        return self._forward(X)

    def right_inverse(self, X: Tensor) -> object:
        return self._inverse(X)


REFUSED = {
    "forward changes the shape": (Returns(lambda X: X[..., :-1, :]), ValueError, "shape"),
    "forward changes the dtype": (Returns(lambda X: X.to(torch.float16)), ValueError, "dtype"),
    "forward returns no tensor": (Returns(lambda X: "weight"), ValueError, "got str"),
    "forward raises": (Returns(lambda X: X.nonsense), AttributeError, "nonsense"),
    "the inverse changes the dtype": (Returns(None, lambda X: X.to(torch.float16)), ValueError, "dtype"),
    "the inverse changes the device": (Returns(None, lambda X: X.to("meta")), ValueError, "device"),
    "the inverse returns no tensor": (Returns(None, lambda X: 3), ValueError, "got int"),
    "the inverse returns a list of other things": (Returns(None, lambda X: [X, 3]), ValueError, "element 1"),
    "the inverse returns an empty list": (Returns(None, lambda X: []), ValueError, "got an empty list"),
    "the inverse raises": (Returns(None, lambda X: 1 / 0), ZeroDivisionError, "division"),
}


@on_hosts
@pytest.mark.parametrize("reason", REFUSED)
def test_a_refused_registration_leaves_the_module_untouched_to_the_bit(host: Host, reason: str) -> None:
    parametrization, error, words = REFUSED[reason]
    module = host.make()
    before, cls = snapshot(module), type(module)
    with pytest.raises(error, match=words) as caught:
        parametrize.register_parametrization(module, host.name, parametrization)
    assert_untouched(module, before, cls)
    assert any(f"'{host.name}'" in note and cls.__name__ in note for note in caught.value.__notes__)


APPENDED = {
    **{reason: case for reason, case in REFUSED.items() if "device" not in reason and "raises" not in reason},
    "the inverse changes the shape": (Returns(None, lambda X: X[..., :-1, :]), ValueError, "shape"),
    "the inverse returns several tensors": (Returns(None, lambda X: (X, X)), ValueError, "got tuple"),
}


@on_hosts
@pytest.mark.parametrize("reason", APPENDED)
def test_a_refused_further_registration_leaves_the_module_untouched_to_the_bit(host: Host, reason: str) -> None:
    parametrization, error, _ = APPENDED[reason]
    module = parametrize.register_parametrization(host.make(), host.name, Symmetric())
    before, cls = snapshot(module), type(module)
    with pytest.raises(error):
        parametrize.register_parametrization(module, host.name, parametrization)
    assert_untouched(module, before, cls)
    assert len(module.parametrizations[host.name]) == 1


def test_unsafe_allows_another_shape_and_dtype() -> None:
    layer = nn.Linear(4, 4)
    parametrize.register_parametrization(layer, "weight", Returns(lambda X: X[:2].double()), unsafe=True)
    assert (layer.weight.shape, layer.weight.dtype) == ((2, 4), torch.float64)
    parametrize.register_parametrization(layer, "weight", Returns(lambda X: X[:1]), unsafe=True)
    assert layer.weight.shape == (1, 4)


BAD_ARGUMENTS = {
    "no such tensor": (lambda: nn.Linear(4, 4), "wieght", Halve(), ValueError, "It has: weight, bias"),
    "the tensor is None": (
        lambda: nn.Linear(4, 4, bias=False),
        "bias",
        Halve(),
        ValueError,
        r"'bias'. It has: weight\.\n",
    ),
    "the tensor is a plain attribute": (lambda: nn.Linear(4, 4), "in_features", Halve(), ValueError, "in_features"),
    "a dotted name": (lambda: nn.Sequential(nn.Linear(4, 4)), "0.weight", Halve(), ValueError, "pass the submodule"),
    "the name is no string": (lambda: nn.Linear(4, 4), ["weight"], Halve(), TypeError, "string"),
    "the parametrization is a name": (lambda: nn.Linear(4, 4), "weight", "triu", TypeError, "a function of the raw"),
    "the parametrization is a class": (lambda: nn.Linear(4, 4), "weight", Symmetric, TypeError, "Did you mean"),
}


@pytest.mark.parametrize("reason", BAD_ARGUMENTS)
def test_a_wrong_argument_is_refused_in_clear_words(reason: str) -> None:
    make, name, parametrization, error, words = BAD_ARGUMENTS[reason]
    module = make()
    cls = type(module)
    with pytest.raises(error, match=words):
        parametrize.register_parametrization(module, name, parametrization)
    assert type(module) is cls
    assert not parametrize.is_parametrized(module)


def test_something_that_is_no_module_is_refused() -> None:
    with pytest.raises(TypeError, match=r"nn\.Module to parametrize, got Parameter"):
        parametrize.register_parametrization(nn.Linear(2, 2).weight, "weight", Halve())


def test_a_module_with_an_attribute_named_parametrizations_is_refused() -> None:
    layer = nn.Linear(4, 4)
    layer.parametrizations = nn.Linear(1, 1)
    with pytest.raises(ValueError, match="attribute 'parametrizations' of its own"):
        parametrize.register_parametrization(layer, "weight", Halve())
    assert type(layer) is nn.Linear


def test_a_chain_itself_is_not_parametrized_again() -> None:
    layer = parametrize.register_parametrization(nn.Linear(4, 4), "weight", Halve())
    with pytest.raises(ValueError, match="Register on the module that has the tensor"):
        parametrize.register_parametrization(layer.parametrizations.weight, "original", Halve())


def test_a_base_class_that_refuses_to_be_subclassed_is_refused_before_anything_is_written() -> None:
    class Final(nn.Linear):
        def __init_subclass__(cls) -> None:
            raise TypeError("Final has no subclasses")

    layer = Final(4, 4)
    before = snapshot(layer)
    with pytest.raises(TypeError, match="Final has no subclasses"):
        parametrize.register_parametrization(layer, "weight", Symmetric())
    assert_untouched(layer, before, Final)


def test_a_base_class_with_a_metaclass_of_its_own_can_be_parametrized() -> None:
    import abc

    class Abstract(nn.Linear, abc.ABC):
        pass

    layer = parametrize.register_parametrization(Abstract(4, 4), "weight", Symmetric())
    assert torch.equal(layer.weight, layer.weight.mT)
    assert type(parametrize.remove_parametrizations(layer, "weight")) is Abstract


def test_is_parametrized_and_type_before_parametrizations() -> None:
    layer = nn.Linear(4, 4)
    model = nn.Sequential(layer)
    assert not parametrize.is_parametrized(layer)
    assert parametrize.type_before_parametrizations(layer) is nn.Linear
    parametrize.register_parametrization(layer, "weight", Symmetric())
    assert parametrize.is_parametrized(layer)
    assert parametrize.is_parametrized(layer, "weight")
    assert not parametrize.is_parametrized(layer, "bias")
    assert not parametrize.is_parametrized(model)
    assert parametrize.type_before_parametrizations(layer) is nn.Linear


def test_a_list_without_parametrizations_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        parametrize.ParametrizationList([], nn.Parameter(torch.zeros(2)))


def test_a_module_compiled_by_torchscript_is_refused() -> None:
    with pytest.warns(DeprecationWarning, match="torch.jit.script"):
        scripted = torch.jit.script(nn.Linear(4, 4))
    with pytest.raises(TypeError, match=r"Register first, then torch\.jit\.trace it"):
        parametrize.register_parametrization(scripted, "weight", Halve())


def test_a_parametrization_that_has_learned_from_one_tensor_is_refused_on_another() -> None:
    class Learns(nn.Module):
        learned = False

        def forward(self, X: Tensor) -> Tensor:
            return X + self.base

        def right_inverse(self, Y: Tensor) -> Tensor:
            self.base, self.learned = Y.clone(), True
            return torch.zeros_like(Y)

    learns = Learns()
    first = parametrize.register_parametrization(nn.Linear(4, 4), "weight", learns)
    before = first.weight.detach().clone()
    with pytest.raises(ValueError, match="Build a new one for 'weight' of Linear"):
        parametrize.register_parametrization(nn.Linear(4, 4), "weight", learns)
    assert torch.equal(first.weight, before)


@pytest.mark.parametrize("registered_before", [False, True])
def test_a_refused_parametrization_is_as_it_was(registered_before: bool) -> None:
    class Learns(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("base", None)
            self.register_buffer("count", torch.zeros(()))
            self.eval()

        def forward(self, X: Tensor) -> Tensor:
            return X

        def right_inverse(self, Y: Tensor) -> Tensor:
            self.base, self.fresh = Y.clone(), True
            self.count += 1
            return Y[:-1]

    learns, layer = Learns(), nn.Linear(4, 4)
    if registered_before:
        parametrize.register_parametrization(layer, "weight", Symmetric())
    with pytest.raises(ValueError, match="shape"):
        parametrize.register_parametrization(layer, "weight", learns)
    assert learns.base is None
    assert learns.count == 0
    assert not learns.training
    assert not hasattr(learns, "fresh")


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.int32, torch.bool, torch.complex64, torch.bfloat16])
def test_a_buffer_of_any_dtype_can_be_parametrized_and_assigned(dtype: torch.dtype) -> None:
    class Same(nn.Module):
        def forward(self, X: Tensor) -> Tensor:
            return X

        def right_inverse(self, X: Tensor) -> Tensor:
            return X

    table = Table().to(dtype) if dtype.is_floating_point else Table()
    table.table = torch.ones(2, 2).to(dtype)
    parametrize.register_parametrization(table, "table", Same())
    table.table = torch.zeros(2, 2).to(dtype)
    assert torch.equal(table.table.to(torch.complex64), torch.zeros(2, 2, dtype=torch.complex64))


def test_an_expanded_parameter_can_be_parametrized() -> None:
    layer = nn.Linear(4, 4)
    layer.weight = nn.Parameter(torch.randn(1, 4).expand(4, 4))
    parameter = layer.weight
    parametrize.register_parametrization(layer, "weight", Symmetric())
    assert layer.parametrizations.weight.original is parameter
    assert torch.equal(layer.weight, layer.weight.T)


def test_several_originals_made_under_inference_mode_can_train() -> None:
    layer = nn.Linear(4, 4)
    with torch.inference_mode():
        parametrize.register_parametrization(layer, "weight", Polar())
    layer(torch.ones(1, 4)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in layer.parameters())
    with torch.inference_mode():
        parametrize.remove_parametrizations(layer, "weight")
    layer(torch.ones(1, 4)).square().sum().backward()
    assert layer.weight.grad is not None


def test_a_base_class_may_parametrize_something_while_it_is_subclassed() -> None:
    class Nested(nn.Linear):
        def __init_subclass__(cls) -> None:
            parametrize.register_parametrization(nn.Linear(2, 2), "weight", Symmetric())

    layer = parametrize.register_parametrization(Nested(4, 4), "weight", Symmetric())
    assert torch.equal(layer.weight, layer.weight.T)


def test_a_module_that_passes_on_the_parametrizations_of_another_is_told_from_it() -> None:
    layer = parametrize.register_parametrization(nn.Linear(4, 4), "weight", Symmetric())
    wrapper = torch.compile(layer, backend="eager")
    assert parametrize.is_parametrized(wrapper, "weight")
    parametrize.register_parametrization(wrapper, "weight", Scale())
    assert len(layer.parametrizations.weight) == 2
    with pytest.raises(ValueError, match="Call this on that module"):
        parametrize.remove_parametrizations(wrapper, "weight")
    target = parametrize.transfer_parametrizations_and_params(wrapper, nn.Linear(4, 4))
    assert torch.equal(target.weight, layer.weight)


class TestClassPutOnTop:
    """torch.distributed's fully_shard, and others, give a module a class of their own above ours."""

    @pytest.fixture
    def layer(self) -> nn.Module:
        layer = parametrize.register_parametrization(nn.Linear(4, 4), "weight", Symmetric())

        class Mixin(nn.Module):
            pass

        layer.__class__ = type("FullyShardedLinear", (Mixin, type(layer)), {})
        return layer

    def test_reads_appends_and_copies(self, layer: nn.Module) -> None:
        import copy

        cls = type(layer)
        parametrize.register_parametrization(layer, "weight", Scale())
        assert type(layer) is cls
        other = copy.deepcopy(layer)
        assert type(other) is cls
        assert torch.equal(other.weight, layer.weight)
        assert parametrize.type_before_parametrizations(layer) is nn.Linear

    def test_refuses_what_would_change_the_class(self, layer: nn.Module) -> None:
        before, cls = snapshot(layer), type(layer)
        with pytest.raises(RuntimeError, match="put on top of ParametrizedLinear by another library"):
            parametrize.register_parametrization(layer, "bias", Halve())
        with pytest.raises(RuntimeError, match="before that"):
            parametrize.remove_parametrizations(layer, "weight")
        assert_untouched(layer, before, cls)
