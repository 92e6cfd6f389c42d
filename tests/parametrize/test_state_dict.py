"""State dicts under other names than the chain's own, in and out; held against plain modules and torch's own hooks."""

import copy
import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from paraform import (
    Masked,
    Orthogonal,
    SpectralNorm,
    Symmetric,
    WeightNorm,
    parametrizations,
    plain_state_dict,
    register_parametrization,
    remove_parametrizations,
)
from tests.constraints.sets import CASES, FOR_ALL, Case
from tests.parametrize.cases import Counting, Double, Polar, Scale, Table, assert_untouched, snapshot
from tests.parametrize.cases import Symmetric as Mirrored

REAL = [case for case in CASES if not case.dtype.is_complex]


class Plain(nn.Module):
    """A layer with two tensors, neither of which is parametrized."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(value.clone())
        self.bias = nn.Parameter(torch.randn(3))


def constrained(case: Case, dtype: torch.dtype | None = None) -> Plain:
    return register_parametrization(Plain(case.random(dtype)), "weight", case.make()).eval()


def assert_same_value(one: Tensor, other: Tensor, magnified: float = 1.0) -> None:
    """But for the rounding of the raw tensor and of what is computed from it.

    The exponential of a matrix multiplies that of its argument by its size, which is up to log(1 / eps).
    """
    size = float(torch.linalg.vector_norm(other.detach().abs().double()))
    bound = magnified * 128 * torch.finfo(other.dtype).eps * size
    torch.testing.assert_close(one, other, rtol=0, atol=bound)


@FOR_ALL
@pytest.mark.parametrize("assign", [False, True])
def test_a_plain_state_dict_goes_into_the_plain_model_and_back_into_the_parametrized_one(
    case: Case, assign: bool
) -> None:
    written, plain, read = constrained(case), Plain(case.random()), constrained(case)
    state = plain_state_dict(written)
    assert list(state) == ["weight", "bias"]
    plain.load_state_dict(state)
    assert torch.equal(plain.weight, written.weight)
    read.load_state_dict(plain.state_dict(), assign=assign)
    assert_same_value(read.weight, written.weight, case.magnifies)
    assert torch.equal(read.bias, written.bias)
    assert list(read.state_dict()) == list(written.state_dict())
    assert read.weight.requires_grad


@pytest.mark.parametrize("case", REAL, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_plain_state_dict_of_another_dtype_than_double_comes_back(case: Case, dtype: torch.dtype) -> None:
    written, read = constrained(case, dtype), constrained(case, dtype)
    read.load_state_dict(plain_state_dict(written))
    assert read.weight.dtype == dtype
    assert_same_value(read.weight, written.weight, case.magnifies)


@FOR_ALL
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("way", ["assign", "to_empty"])
def test_a_model_on_the_meta_device_is_filled(case: Case, way: str, own: bool) -> None:
    written = constrained(case)
    with torch.device("meta"):
        read = constrained(case)
    state = written.state_dict() if own else plain_state_dict(written)
    if way == "to_empty":
        read.to_empty(device="cpu")
        for tensor in (*read.parameters(), *read.buffers()):  # what uninitialised memory may hold
            tensor.data.fill_(float("nan") if tensor.is_floating_point() or tensor.is_complex() else 1)
    if case.holds and not own:  # it is nowhere
        with pytest.raises(RuntimeError, match=f"has lost its {case.holds} on the meta device"):
            read.load_state_dict(state, assign=way == "assign")
        with pytest.raises(
            RuntimeError, match=f"has lost its {case.holds} on the meta device"
        ):  # a refusal taught it none
            read.load_state_dict(state, assign=way == "assign")
        return
    read.load_state_dict(state, assign=way == "assign")
    assert_same_value(read.weight, written.weight, case.magnifies)
    assert all(tensor.device.type == "cpu" for tensor in (*read.parameters(), *read.buffers()))
    assert all(parameter.requires_grad for parameter in read.parameters())


@pytest.mark.parametrize("name", ["orthogonal", "weight_norm", "spectral_norm"])
@pytest.mark.parametrize("way", ["assign", "to_empty"])
def test_the_functions_on_the_meta_device_take_a_plain_state_dict(name: str, way: str) -> None:
    function = getattr(parametrizations, name)
    written = function(nn.Linear(4, 6)).eval()
    with torch.device("meta"):
        read = function(nn.Linear(4, 6)).eval()
    if way == "to_empty":
        read.to_empty(device="cpu")
        for tensor in read.state_dict().values():
            tensor.fill_(float("nan"))
    read.load_state_dict(plain_state_dict(written), assign=way == "assign")
    torch.testing.assert_close(read.weight, written.weight, rtol=0, atol=1e-4)


@pytest.mark.parametrize("make", [Orthogonal, SpectralNorm, WeightNorm], ids=lambda make: make.__name__)
def test_a_layer_that_was_emptied_into_memory_starts_anew_by_its_own_reset(make) -> None:
    with torch.device("meta"):
        layer = register_parametrization(nn.Linear(4, 6), "weight", make())
    layer.to_empty(device="cpu")
    for tensor in layer.state_dict().values():
        tensor.fill_(torch.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the distance to the set
        layer.reset_parameters()
    constraint = layer.parametrizations.weight[0]
    assert constraint.residual(layer.weight.detach()).max() < 1e-2
    assert all(torch.isfinite(tensor).all() for tensor in layer.state_dict().values())


def test_without_assign_a_plain_state_dict_does_not_pass_a_model_on_the_meta_device_by() -> None:
    with torch.device("meta"):
        layer = register_parametrization(nn.Linear(3, 3), "weight", Symmetric())
    with pytest.raises(RuntimeError, match=r"'weight'.*Symmetric.*on the meta device. Load with assign=True"):
        layer.load_state_dict({"weight": torch.eye(3), "bias": torch.zeros(3)})


class TiedBlock(nn.Module):
    """One layer under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = self.first


class Kernels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.kernels = nn.ParameterList(torch.randn(3, 3) for _ in range(2))
        self.scale = nn.Parameter(torch.ones(()))


class Counted(nn.Linear):
    """A layer with a buffer between, a state of its own and a tensor that is not there."""

    def __init__(self) -> None:
        super().__init__(4, 4, bias=False)
        self.register_buffer("steps", torch.zeros(()))
        self.register_buffer("scratch", torch.zeros(2), persistent=False)
        self.gain = nn.Parameter(torch.ones(4))

    def get_extra_state(self) -> dict[str, int]:
        return {"epoch": 3}

    def set_extra_state(self, state: dict[str, int]) -> None:
        assert state == {"epoch": 3}


MODELS = {
    "Linear": (lambda: nn.Linear(4, 4), [("", "weight")]),
    "both": (lambda: nn.Linear(4, 4), [("", "bias"), ("", "weight")]),
    "Conv2d": (lambda: nn.Conv2d(2, 3, 3), [("", "weight")]),
    "Embedding": (lambda: nn.Embedding(4, 4), [("", "weight")]),
    "LSTM": (lambda: nn.LSTM(2, 4, num_layers=2), [("", "weight_hh_l1"), ("", "weight_ih_l0")]),
    "MultiheadAttention": (lambda: nn.MultiheadAttention(4, 2), [("", "in_proj_weight"), ("out_proj", "weight")]),
    "TransformerEncoderLayer": (lambda: nn.TransformerEncoderLayer(4, 2, 8), [("self_attn.out_proj", "weight")]),
    "BatchNorm": (lambda: nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), [("1", "weight"), ("1", "running_mean")]),
    "ParameterList": (Kernels, [("kernels", "0")]),
    "buffer": (Table, [("", "table")]),
    "unsaved buffer": (lambda: nn.Sequential(Table(persistent=False), nn.Linear(4, 4)), [("0", "table")]),
    "shared": (TiedBlock, [("second", "weight")]),
    "extra state": (Counted, [("", "gain"), ("", "steps")]),
}


@pytest.mark.parametrize("title", MODELS)
def test_a_plain_state_dict_is_that_of_the_plain_model_key_by_key(title: str) -> None:
    make, places = MODELS[title]
    plain, model, other = make(), make(), make()
    for parametrized in (model, other):
        for path, name in places:
            register_parametrization(parametrized.get_submodule(path), name, Double())
    state = plain_state_dict(model)
    assert list(state) == list(plain.state_dict())
    assert list(state._metadata) == list(plain.state_dict()._metadata)
    assert not any(isinstance(tensor, Tensor) and tensor.requires_grad for tensor in state.values())
    assert str(plain.load_state_dict(state)) == "<All keys matched successfully>"
    assert str(other.load_state_dict(plain.state_dict())) == "<All keys matched successfully>"
    for path, name in places:
        for loaded in (plain, other):
            if title != "unsaved buffer":
                value = getattr(loaded.get_submodule(path), name)
                assert torch.equal(value, getattr(model.get_submodule(path), name))


def test_a_recurrent_layer_computes_with_what_was_loaded_after_its_last_forward_pass() -> None:
    layers = [register_parametrization(nn.LSTM(2, 4), "weight_hh_l0", WeightNorm()) for _ in range(2)]
    x = torch.randn(5, 3, 2)
    outputs = [layer(x)[0] for layer in layers]
    layers[1].load_state_dict(plain_state_dict(layers[0]))
    torch.testing.assert_close(layers[1](x)[0], outputs[0])


def test_what_was_registered_by_torch_is_in_a_plain_state_dict_too() -> None:
    layer = nn.Linear(3, 3)
    nn.utils.parametrize.register_parametrization(layer, "weight", Mirrored())
    state = plain_state_dict(nn.Sequential(layer))
    assert list(state) == ["0.weight", "0.bias"]
    assert torch.equal(state["0.weight"], layer.weight)


def test_a_name_of_a_tensor_that_was_parametrized_and_is_not_any_more_keeps_its_place() -> None:
    layer = nn.Bilinear(2, 2, 3)
    for name in ("weight", "bias"):
        register_parametrization(layer, name, Double())
    remove_parametrizations(layer, "weight")
    assert list(plain_state_dict(layer)) == ["weight", "bias"]


def test_a_parameter_that_came_later_stands_before_the_buffers() -> None:
    module, plain = Table(), Table()
    register_parametrization(module, "table", Double())
    for one in (module, plain):
        one.scale = nn.Parameter(torch.ones(()))
    assert list(plain_state_dict(module)) == list(plain.state_dict())


def test_a_plain_state_dict_is_taken_without_a_trace() -> None:
    layer = parametrizations.spectral_norm(nn.Linear(6, 4))
    counted = register_parametrization(nn.Linear(4, 4), "weight", Counting())
    calls = counted.parametrizations.weight[0].calls
    model = nn.Sequential(layer, counted)
    before = snapshot(model)
    state = plain_state_dict(model)
    assert_untouched(model, before, nn.Sequential)
    assert counted.parametrizations.weight[0].calls == calls
    assert torch.equal(state["0.weight"], layer.weight)  # this read does carry the estimate on


def test_all_values_of_a_plain_state_dict_are_contiguous() -> None:
    layer = parametrizations.orthogonal(nn.Linear(6, 4), orthogonal_map="cayley")
    assert all(tensor.is_contiguous() for tensor in plain_state_dict(layer).values())


@pytest.mark.parametrize("strict", [True, False])
def test_a_plain_key_is_converted_in_a_partial_load_as_well(strict: bool) -> None:
    layer = register_parametrization(nn.Linear(3, 3), "weight", Double())
    state = {"weight": torch.eye(3), "bias": torch.zeros(3)}
    if not strict:
        del state["bias"]
    result = layer.load_state_dict(state, strict=strict)
    assert torch.equal(layer.weight, torch.eye(3))
    assert (result.missing_keys, result.unexpected_keys) == ([] if strict else ["bias"], [])


def test_the_parameter_object_and_the_checkpoint_stay_their_own() -> None:
    layer = register_parametrization(nn.Linear(3, 3), "weight", Double())
    raw, value = layer.parametrizations.weight.original, torch.eye(3)
    state = {"weight": value, "bias": torch.zeros(3)}
    layer.load_state_dict(state)
    assert layer.parametrizations.weight.original is raw
    assert list(state) == ["weight", "bias"]
    layer.load_state_dict(state, assign=True)
    with torch.no_grad():
        layer.parametrizations.weight.original.zero_()
    assert torch.equal(value, torch.eye(3))


def test_a_load_keeps_the_dtype_of_the_model_and_with_assign_takes_that_of_the_checkpoint() -> None:
    layer = register_parametrization(nn.Linear(4, 4), "weight", Symmetric())
    state = {key: tensor.double() for key, tensor in plain_state_dict(layer).items()}
    layer.load_state_dict(state)
    assert {tensor.dtype for tensor in layer.state_dict().values()} == {torch.float32}
    layer.load_state_dict(state, assign=True)
    assert {tensor.dtype for tensor in layer.state_dict().values()} == {torch.float64}
    torch.testing.assert_close(layer.weight.detach(), state["weight"])


def test_a_chain_of_two_is_inverted_from_the_last_and_keeps_what_the_state_dict_does_not_tell() -> None:
    mask = torch.ones(3, 3).tril()
    layer = register_parametrization(nn.Linear(3, 3), "weight", Double())
    register_parametrization(layer, "weight", Masked(mask))
    value = torch.randn(3, 3).tril()
    layer.load_state_dict({"weight": value, "bias": torch.zeros(3)})
    assert torch.equal(layer.weight, value)
    assert torch.equal(layer.parametrizations.weight.original, value / 2)
    assert torch.equal(layer.parametrizations.weight[1].mask, mask.bool())


def test_several_originals_are_written() -> None:
    layer = register_parametrization(nn.Linear(3, 3), "weight", Polar())
    value = torch.randn(3, 3)
    layer.load_state_dict({"weight": value, "bias": torch.zeros(3)})
    torch.testing.assert_close(layer.parametrizations.weight.original0, value.norm())


class Learned(nn.Module):
    """Its inverse learns what a state dict does not carry."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("shift", None)
        self.register_buffer("unsaved", None, persistent=False)
        self.factor = 1.0

    def forward(self, X: Tensor) -> Tensor:
        return X if self.shift is None else X * self.factor + self.shift + self.unsaved

    def right_inverse(self, Y: Tensor) -> Tensor:
        self.factor = float(Y.abs().max())
        self.shift, self.unsaved = Y.mean(), Y.mean()
        return (Y - self.shift - self.unsaved) / self.factor


def test_what_an_inverse_learns_from_a_plain_value_is_loaded_with_it() -> None:
    layers = [register_parametrization(nn.Linear(3, 3), "weight", Learned(), unsafe=unsafe) for unsafe in (True, False)]
    for layer in layers:
        value = torch.randn(3, 3)
        layer.load_state_dict({"weight": value, "bias": torch.zeros(3)})
        torch.testing.assert_close(layer.weight, value)


def test_a_value_outside_the_set_goes_to_the_nearest_point_with_a_warning_at_the_load() -> None:
    layer = nn.Sequential(register_parametrization(nn.Linear(2, 2), "weight", Symmetric()))
    with pytest.warns(UserWarning, match="Frobenius distance") as record:
        layer.load_state_dict({"0.weight": torch.tensor([[1.0, 2.0], [0.0, 1.0]]), "0.bias": torch.zeros(2)})
    assert record[0].filename == __file__
    assert torch.equal(layer[0].weight, torch.ones(2, 2))


REFUSED = {
    "no inverse": (Scale(), torch.eye(3), "does not implement right_inverse"),
    "shape": (Double(), torch.eye(4), r"Expected a value of shape \(3, 3\), got \(4, 4\)"),
    "not finite": (Double(), torch.full((3, 3), torch.nan), "not finite"),
    "strict": (Symmetric(strict=True), torch.ones(3, 3).triu(), "expects a value in its set"),
    "no tensor": (Double(), [1.0], "expected a tensor, got list"),
    "complex": (Double(), torch.eye(3, dtype=torch.complex64), "imaginary part"),
}


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(
    ("title", "assign"),  # with assign=True a complex value makes a complex layer, as torch's load does
    [(title, assign) for title in REFUSED for assign in (True, False) if (title, assign) != ("complex", True)],
)
def test_a_value_that_cannot_be_converted_is_named_and_changes_nothing_in_its_module(
    title: str, assign: bool, strict: bool
) -> None:
    step, value, reason = REFUSED[title]
    model = nn.Sequential(register_parametrization(nn.Linear(3, 3), "weight", copy.deepcopy(step)))
    before = snapshot(model)
    where = f"'0.weight' of ParametrizedLinear, parametrized by {type(step).__name__}, cannot take"
    with pytest.raises(RuntimeError, match=f"(?s){where}.*{reason}") as raised:
        model.load_state_dict({"0.weight": value, "0.bias": torch.zeros(3)}, strict=strict, assign=assign)
    assert "Missing" not in str(raised.value)
    assert "Unexpected" not in str(raised.value)
    assert_untouched(model, before, nn.Sequential)


def test_a_module_with_one_tensor_that_is_refused_keeps_the_other_too() -> None:
    layer = register_parametrization(nn.Linear(3, 3), "weight", Learned(), unsafe=True)
    register_parametrization(layer, "bias", Scale())
    before, factor = snapshot(layer), layer.parametrizations.weight[0].factor
    for assign in (False, True):
        with pytest.raises(RuntimeError, match=r"'bias'.*does not implement right_inverse"):
            layer.load_state_dict({"weight": torch.randn(3, 3), "bias": torch.zeros(3)}, assign=assign)
        assert_untouched(layer, before, type(layer))
        assert layer.parametrizations.weight[0].factor == factor


def test_a_plain_key_of_a_buffer_that_is_not_saved_is_unexpected_as_it_is_to_torch() -> None:
    module = register_parametrization(Table(persistent=False), "table", Double())
    with pytest.raises(RuntimeError, match=r"Unexpected key.*table"):
        module.load_state_dict({"table": torch.eye(4)})


def test_a_constant_that_was_lost_on_the_meta_device_is_not_made_up() -> None:
    class Shifted(Double):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("shift", torch.ones(()))

        def right_inverse(self, Y: Tensor) -> Tensor:
            return super().right_inverse(Y - self.shift)

        def forward(self, X: Tensor) -> Tensor:
            return super().forward(X) + self.shift

    state = {"weight": torch.eye(3), "bias": torch.zeros(3)}
    with torch.device("meta"):
        layer = register_parametrization(nn.Linear(3, 3), "weight", Shifted())
    with pytest.raises(RuntimeError, match=r"'weight'.*Shifted.*says nothing about '0.shift'"):
        layer.load_state_dict(state, assign=True)
    layer.parametrizations.weight[0].shift = torch.ones(())
    layer.load_state_dict(state, assign=True)
    assert torch.equal(layer.weight, torch.eye(3))


def test_a_tensor_that_is_there_twice_is_refused_by_both_names() -> None:
    layer = register_parametrization(nn.Linear(3, 3), "weight", Double())
    before = snapshot(layer)
    state = {**layer.state_dict(), "weight": torch.eye(3)}
    with pytest.raises(
        RuntimeError, match=r"more than once, as 'weight' and as 'parametrizations.weight.original'. Keep one"
    ):
        layer.load_state_dict(state)
    assert_untouched(layer, before, type(layer))


def test_a_prefix_of_a_wrapper_is_unexpected_as_it_is_to_torch() -> None:
    layer = register_parametrization(nn.Linear(3, 3), "weight", Double())
    with pytest.raises(RuntimeError, match="Unexpected key"):
        layer.load_state_dict({f"module.{key}": tensor for key, tensor in plain_state_dict(layer).items()})


class Renaming(nn.Linear):
    def _load_from_state_dict(self, state_dict, prefix, *rest) -> None:
        if prefix + "kernel" in state_dict:
            state_dict[prefix + "weight"] = state_dict.pop(prefix + "kernel")
        super()._load_from_state_dict(state_dict, prefix, *rest)


def rename(module: nn.Module, state_dict: dict[str, Tensor], prefix: str, *rest: object) -> None:
    state_dict[prefix + "weight"] = state_dict.pop(prefix + "kernel")


def test_keys_that_a_class_or_a_hook_renames_to_plain_ones_are_converted() -> None:
    hooked = nn.Linear(3, 3)
    hooked.register_load_state_dict_pre_hook(rename)
    for layer in (Renaming(3, 3), hooked):
        register_parametrization(layer, "weight", Double())
        hooks = len(layer._load_state_dict_pre_hooks)
        layer.load_state_dict({"kernel": torch.eye(3), "bias": torch.zeros(3)})
        assert torch.equal(layer.weight, torch.eye(3))
        assert len(layer._load_state_dict_pre_hooks) == hooks


def test_a_loader_that_assigns_parameters_by_name_is_told_what_to_do() -> None:
    layer = register_parametrization(nn.Linear(3, 3), "weight", Double())
    with pytest.raises(KeyError, match=r"'weight' of ParametrizedLinear is parametrized.*Assign a plain tensor"):
        setattr(layer, "weight", nn.Parameter(torch.eye(3)))  # noqa: B010 (as such a loader does)


# Names of torch's older hooks.


@pytest.fixture
def weight_norm():
    def make(*arguments, **options) -> nn.Module:
        with pytest.warns(FutureWarning):
            return nn.utils.weight_norm(*arguments, **options)

    return make


@pytest.mark.parametrize("assign", [True, False])
@pytest.mark.parametrize("dims", [(0, 0), (1, 1), (None, None), (0, 1), (1, None), (None, 2)], ids=str)
def test_weight_g_and_weight_v_load_also_along_another_dimension(weight_norm, dims, assign: bool) -> None:
    old = weight_norm(nn.Conv1d(2, 3, 4), dim=dims[0])
    with torch.no_grad():
        old.weight_g.mul_(2)
    new = register_parametrization(nn.Conv1d(2, 3, 4), "weight", WeightNorm(dims[1]))
    new.load_state_dict(old.state_dict(), assign=assign)
    x = torch.randn(1, 2, 5)
    torch.testing.assert_close(new(x), old(x))


def test_weight_g_and_weight_v_are_the_value_of_the_first_parametrization_only(weight_norm) -> None:
    old = weight_norm(nn.Linear(3, 4))
    for dim in (0, 1):
        new = register_parametrization(nn.Linear(3, 4), "weight", WeightNorm(dim))
        register_parametrization(new, "weight", Double())
        new.load_state_dict(old.state_dict())
        torch.testing.assert_close(new.weight, 2 * old.weight)


@pytest.mark.parametrize("assign", [True, False])
@pytest.mark.parametrize("before", [False, True], ids=["first", "behind another"])
def test_a_pruned_layer_loads_into_a_masked_one(before: bool, assign: bool) -> None:
    old, new = nn.Linear(4, 3), nn.Linear(4, 3)
    prune.l1_unstructured(old, "weight", amount=0.5)
    if before:
        register_parametrization(new, "weight", Double())
    register_parametrization(new, "weight", Masked(torch.ones(3, 4)))
    new.load_state_dict(old.state_dict(), assign=assign)
    assert torch.equal(new.weight, old.weight)
    assert new.parametrizations.weight[-1].mask.dtype == torch.bool
    with torch.no_grad():
        new.parametrizations.weight[-1].mask.fill_(True)
    assert torch.equal(new.weight, old.weight_orig)


def test_a_spectral_norm_from_before_torch_1_0_loads_by_its_value() -> None:
    old = nn.utils.spectral_norm(nn.Linear(4, 3), n_power_iterations=30)
    old(torch.randn(1, 4))
    state = old.state_dict()
    del state["weight_v"]
    state["weight"] = old.weight.detach()
    new = parametrizations.spectral_norm(nn.Linear(4, 3)).eval()
    new.load_state_dict(state)
    torch.testing.assert_close(new.weight, old.weight)


@pytest.mark.parametrize("strict", [True, False])
def test_half_of_an_old_checkpoint_is_refused_and_the_other_half_named(weight_norm, strict: bool) -> None:
    state = weight_norm(nn.Linear(3, 3)).state_dict()
    del state["weight_v"]
    layer = parametrizations.weight_norm(nn.Linear(3, 3))
    with pytest.raises(RuntimeError, match="it has 'weight_g', but not 'weight_v'"):
        layer.load_state_dict(state, strict=strict)


@pytest.mark.parametrize("strict", [True, False])
def test_old_names_that_no_parametrization_reads_are_named(weight_norm, strict: bool) -> None:
    layer = register_parametrization(nn.Linear(3, 3), "weight", Symmetric())
    with pytest.raises(RuntimeError, match="'weight_g', 'weight_v' are names of torch's older hooks"):
        layer.load_state_dict(weight_norm(nn.Linear(3, 3)).state_dict(), strict=strict)


def test_a_tensor_of_the_modules_own_is_not_taken_for_an_old_name() -> None:
    layer = register_parametrization(nn.Linear(3, 3), "weight", Symmetric())
    layer.weight_g = nn.Parameter(torch.ones(2))
    layer.load_state_dict(layer.state_dict())
    layer.load_state_dict(plain_state_dict(layer))


# State dicts of torch.nn.utils.parametrizations under our constraints.


@pytest.mark.parametrize("name", ["matrix_exp", "cayley"])
def test_a_square_orthogonal_of_torch_loads_into_the_constraint_of_the_same_map(name: str) -> None:
    theirs = nn.utils.parametrizations.orthogonal(nn.Linear(4, 4), orthogonal_map=name)
    with torch.no_grad():
        theirs.parametrizations.weight.original.add_(0.3 * torch.randn(4, 4).tril(-1))
    mine = register_parametrization(nn.Linear(4, 4), "weight", Orthogonal(name))
    mine.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(mine.weight, theirs.weight)


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("shape", [(4, 4), (3, 4), (4, 3)], ids=str)
@pytest.mark.parametrize("name", ["matrix_exp", "cayley", "householder"])
def test_an_orthogonal_of_torch_in_another_layout_is_refused_in_words(name: str, shape, strict: bool) -> None:
    mine = register_parametrization(nn.Linear(*shape), "weight", Orthogonal(name))
    if shape == (4, 4) and name != "householder":
        return  # the same layout: the test above
    theirs = nn.utils.parametrizations.orthogonal(nn.Linear(*shape), orthogonal_map=name)
    before = snapshot(mine)
    with pytest.raises(RuntimeError, match=r"'weight'.*layer of paraform.parametrizations.orthogonal"):
        mine.load_state_dict(theirs.state_dict(), strict=strict)
    assert_untouched(mine, before, type(mine))
    way_round = parametrizations.orthogonal(nn.Linear(*shape), orthogonal_map=name)
    way_round.load_state_dict(theirs.state_dict())
    mine.load_state_dict(plain_state_dict(way_round))
    torch.testing.assert_close(mine.weight, theirs.weight)


def test_a_trained_householder_weight_of_ours_is_not_taken_for_one_of_torch() -> None:
    layers = [register_parametrization(nn.Linear(4, 4), "weight", Orthogonal("householder")) for _ in range(2)]
    layers[1].load_state_dict(layers[0].state_dict())  # the raw tensor is zero
    with torch.no_grad():
        layers[0].parametrizations.weight.original.normal_()
    layers[1].load_state_dict(layers[0].state_dict())
    assert torch.equal(layers[1].weight, layers[0].weight)


def test_an_own_spectral_norm_is_read_as_its_own() -> None:
    layers = [register_parametrization(nn.Linear(4, 3), "weight", SpectralNorm(0.5)).eval() for _ in range(2)]
    with torch.no_grad():
        layers[0].parametrizations.weight.original.mul_(0.01)
    layers[1].load_state_dict(layers[0].state_dict())
    assert torch.equal(layers[1].weight, layers[0].weight)


class WithoutEstimate(nn.Module):
    """Reads what torch saved as SpectralNorm does where it holds no estimate of its own."""

    old_names = SpectralNorm.old_names
    foreign_value = SpectralNorm.foreign_value

    def forward(self, X: Tensor) -> Tensor:
        return X

    def right_inverse(self, Y: Tensor) -> Tensor:
        return Y


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("room", [nn.utils, nn.utils.parametrizations], ids=["hook", "parametrization"])
@pytest.mark.parametrize(
    "make",
    [lambda: nn.Linear(3, 3), lambda: nn.Conv1d(3, 4, 2), lambda: nn.ConvTranspose1d(3, 3, 2)],
    ids=["Linear", "Conv1d", "ConvTranspose1d"],
)
def test_a_spectral_norm_of_torch_is_read_by_its_value(make, room, strict: bool) -> None:
    theirs, mine = make(), register_parametrization(make(), "weight", WithoutEstimate())
    with torch.no_grad():
        theirs.weight.mul_(0.1)  # which torch makes larger, and the constraint would leave as it is
    room.spectral_norm(theirs, n_power_iterations=30)
    x = torch.randn(3, 3)
    theirs(x)
    theirs.eval()
    mine.load_state_dict(theirs.state_dict(), strict=strict)
    torch.testing.assert_close(mine(x), theirs(x))
