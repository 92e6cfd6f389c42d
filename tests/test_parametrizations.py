"""What orthogonal, weight_norm and spectral_norm have in common, held against torch.nn.utils.parametrizations."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations as torchs

from paraform import parametrizations as ours
from paraform.parametrize import cached, remove_parametrizations

NAMES = ["orthogonal", "weight_norm", "spectral_norm"]
LAYERS = {
    "linear": lambda: nn.Linear(6, 9),
    "conv": lambda: nn.Conv2d(3, 4, 3),
    "transposed": lambda: nn.ConvTranspose1d(3, 4, 2),
    "embedding": lambda: nn.Embedding(7, 5),
    "recurrent": lambda: nn.RNN(3, 5),
}

pytestmark = pytest.mark.parametrize("function", NAMES)


def make(room, function: str, kind: str = "linear", dtype: torch.dtype = torch.float32) -> nn.Module:
    module = LAYERS[kind]().to(dtype)
    return getattr(room, function)(module, "weight_hh_l0" if kind == "recurrent" else "weight")


def value(module: nn.Module) -> torch.Tensor:
    (name,) = module.parametrizations
    return getattr(module, name)


def gradients(module: nn.Module) -> list[torch.Tensor]:
    tensor = value(module)
    cotangent = torch.linspace(-1, 1, tensor.numel(), dtype=tensor.dtype).reshape(tensor.shape)
    return list(torch.autograd.grad(tensor, list(module.parametrizations.parameters()), cotangent))


def trained(module: nn.Module) -> nn.Module:
    """The module after a few optimizer steps (no decay: torch's orthogonal does not survive it)."""
    optimizer = torch.optim.SGD(module.parametrizations.parameters(), lr=0.3)
    for _ in range(3):
        optimizer.zero_grad()
        (value(module) - 1).square().sum().backward()
        optimizer.step()
    return module


@pytest.mark.filterwarnings("ignore:orthogonal makes the slices:UserWarning")
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("writer", [ours, torchs])
def test_a_checkpoint_loads_in_the_other_room_with_the_same_value_and_gradient(function, kind, writer):
    written = trained(make(writer, function, kind, torch.float64)).eval()
    read = make(torchs if writer is ours else ours, function, kind, torch.float64).eval()
    read.load_state_dict(written.state_dict(), strict=True)
    torch.testing.assert_close(value(read), value(written))
    torch.testing.assert_close(gradients(read), gradients(written))
    assert [key for key, _ in read.named_parameters()] == [key for key, _ in written.named_parameters()]


def test_copies_by_deepcopy_pickle_and_save_are_equal_and_independent(function):
    layer = trained(make(ours, function)).eval()
    before = layer.weight.detach().clone()
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), torch.load(file, weights_only=False)):
        assert torch.equal(twin.weight, before)
        twin.weight = torch.eye(9, 6)
        twin.load_state_dict(twin.state_dict())
        assert torch.equal(layer.weight, before)


@pytest.mark.parametrize("mode", [True, False])
def test_compile_makes_one_graph(function, mode):
    layer, twin = (make(ours, function).train(mode) for _ in range(2))
    twin.load_state_dict(layer.state_dict())
    x = torch.randn(2, 6)
    torch.testing.assert_close(torch.compile(layer, fullgraph=True, backend="aot_eager")(x), twin(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(function, dtype):
    layer = trained(make(ours, function).to(dtype)).eval()
    assert layer.weight.dtype == dtype
    wide = copy.deepcopy(layer).float()
    # A base was rounded, and widening it moves it back into its set.
    apart = 2 * torch.finfo(dtype).eps if function == "orthogonal" else 0
    torch.testing.assert_close(layer.weight, wide.weight.to(dtype), rtol=0, atol=apart)
    assert all(gradient.dtype == dtype and gradient.isfinite().all() for gradient in gradients(layer))


def test_autocast_changes_no_value(function):
    layer = trained(make(ours, function)).eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = layer.weight
    assert torch.equal(inside, layer.weight)


def test_a_module_without_such_a_tensor_is_refused(function):
    for name in ("wait", "in_features"):
        with pytest.raises(ValueError, match=f"'{name}' of Linear, found (nothing|int)\\. Name one"):
            getattr(ours, function)(nn.Linear(2, 2), name)


@pytest.mark.parametrize("room", [ours, torchs])
def test_a_lazy_layer_is_refused_until_it_has_a_shape(function, room):
    # torch's three functions do not agree on the type.
    with pytest.raises(ValueError if function == "orthogonal" else RuntimeError):
        getattr(room, function)(nn.LazyLinear(3))


@pytest.mark.filterwarnings("ignore:orthogonal makes the slices:UserWarning")
def test_the_refusal_of_a_lazy_layer_says_what_to_do(function):
    layer = nn.LazyConvTranspose1d(3, 2)
    with pytest.raises((ValueError, RuntimeError), match=r"'weight' of LazyConvTranspose1d has no shape.*forward"):
        getattr(ours, function)(layer)
    layer(torch.randn(1, 2, 4))
    getattr(ours, function)(layer)


def test_a_tensor_of_integers_is_refused(function):
    module = nn.Module()
    module.register_buffer("count", torch.ones(3, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"'count' of Module, got torch\.int64"):
        getattr(ours, function)(module, "count")


def test_a_number_without_dimensions_is_refused_in_words(function):
    module = nn.Module()
    module.scale = nn.Parameter(torch.tensor(2.0))
    for room in (ours, torchs):
        with pytest.raises(ValueError if function == "orthogonal" else IndexError):
            getattr(room, function)(module, "scale")
    with pytest.raises((ValueError, IndexError), match=r"'scale' (of shape|to have a dimension)"):
        getattr(ours, function)(module, "scale")


def test_the_layer_itself_is_returned_and_restored_by_removal(function):
    layer = nn.Linear(6, 9)
    assert getattr(ours, function)(layer) is layer
    layer.eval()
    left = layer.weight.detach().clone()
    assert type(remove_parametrizations(layer, "weight")) is nn.Linear
    assert torch.equal(layer.weight, left)


def test_a_layer_registered_or_assigned_in_inference_mode_trains(function):
    layer = nn.Linear(6, 9)
    with torch.inference_mode():
        getattr(ours, function)(layer)
    trained(layer)
    with torch.inference_mode():
        layer.weight = torch.eye(9, 6)
    trained(layer)


def test_a_cached_value_is_computed_once(function):
    layer = make(ours, function)
    with cached():
        assert layer.weight is layer.weight


def test_a_state_dict_moves_between_meta_and_cpu(function):
    real = trained(make(ours, function)).eval()
    with torch.device("meta"):
        empty = make(ours, function).eval()
    assert empty.weight.shape == real.weight.shape
    empty.to_empty(device="cpu").load_state_dict(real.state_dict(), strict=True)
    assert torch.equal(empty.weight, real.weight)
