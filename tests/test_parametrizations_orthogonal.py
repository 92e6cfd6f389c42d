"""orthogonal, held against its definition and against torch.nn.utils.parametrizations.orthogonal."""

import copy
from itertools import product

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations as torchs

from paraform import parametrizations as ours
from paraform.constraints.base import ProjectionWarning
from paraform.parametrize import register_parametrization

SHAPES = {"square": (5, 5), "tall": (7, 4), "wide": (4, 7), "batch": (2, 6, 3), "one": (1, 1)}
MAPS = ["matrix_exp", "cayley", "householder"]
KINDS = [
    pytest.param(
        shape, map_, base, dtype, id=f"{name}-{map_}-{'base' if base else 'nobase'}-{dtype}".replace("torch.", "")
    )
    for (name, shape), map_, base, dtype in product(
        SHAPES.items(), MAPS, [True, False], [torch.float64, torch.complex128]
    )
    if not (dtype.is_complex and map_ == "householder")
]


class Layer(nn.Module):
    """A module with nothing but a weight."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.clone())


def weights(shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, dtype=dtype)


def orthonormal(shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> Tensor:
    wide = shape[-2] < shape[-1]
    Q = torch.linalg.qr(weights(shape, dtype).mT if wide else weights(shape, dtype)).Q
    return Q.mT.contiguous() if wide else Q


def orthogonality_error(W: Tensor) -> float:
    gram = W.mH @ W if W.size(-2) >= W.size(-1) else W @ W.mH
    return float((gram - torch.eye(gram.size(-1), dtype=gram.dtype)).detach().abs().max())


def value_and_gradient(layer: nn.Module, cotangent: Tensor) -> tuple[Tensor, Tensor]:
    value = layer.weight
    original = layer.parametrizations.weight.original
    (gradient,) = torch.autograd.grad(value, original, cotangent)
    return value.detach(), gradient


def moved_away(layer: nn.Module) -> nn.Module:
    """Change the raw entries that are read, as training would; the diagonal of a real one gets no gradient."""
    with torch.no_grad():
        raw = layer.parametrizations.weight.original
        step = torch.randn_like(raw)
        raw.add_(step - torch.zeros_like(step).diagonal_scatter(step.diagonal(dim1=-2, dim2=-1), dim1=-2, dim2=-1))
    return layer


@pytest.mark.parametrize(("shape", "map_", "base", "dtype"), KINDS)
def test_checkpoints_of_either_give_the_same_value_and_gradient_in_the_other(shape, map_, base, dtype):
    def make(room):
        return room.orthogonal(Layer(weights(shape, dtype)), "weight", map_, use_trivialization=base)

    cotangent = weights(shape, dtype)
    for writer, reader in [(torchs, ours), (ours, torchs)]:
        written, read = moved_away(make(writer)), make(reader)
        read.load_state_dict(written.state_dict(), strict=True)
        torch.testing.assert_close(value_and_gradient(read, cotangent), value_and_gradient(written, cotangent))


@pytest.mark.parametrize(("shape", "map_", "base", "dtype"), KINDS)
def test_the_value_is_orthogonal_at_registration_and_after_training(shape, map_, base, dtype):
    layer = ours.orthogonal(Layer(weights(shape, dtype)), "weight", map_, use_trivialization=base)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1, weight_decay=0.5)
    target = weights(shape, dtype)
    for _ in range(4):
        assert orthogonality_error(layer.weight) < 1e-12
        optimizer.zero_grad()
        (layer.weight - target).abs().square().sum().backward()
        optimizer.step()


@pytest.mark.parametrize(("shape", "map_", "base", "dtype"), KINDS)
def test_the_state_at_registration_is_that_of_torch(shape, map_, base, dtype):
    for weight in (weights(shape, dtype), orthonormal(shape, dtype)):
        layers = []
        state = torch.get_rng_state()
        for room in (ours, torchs):
            torch.set_rng_state(state)  # a tall matrix is completed at random
            layers.append(room.orthogonal(Layer(weight), "weight", map_, use_trivialization=base))
        mine, theirs = layers
        torch.testing.assert_close(mine.weight, theirs.weight)
        raw = mine.state_dict(), theirs.state_dict()
        assert {key: value.shape for key, value in raw[0].items()} == {k: value.shape for k, value in raw[1].items()}
        if base:
            torch.testing.assert_close(*raw)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_an_orthogonal_weight_is_kept_to_the_bit(shape):
    weight = orthonormal(shape)
    assert torch.equal(ours.orthogonal(Layer(weight), orthogonal_map="householder").weight, weight)


@pytest.mark.parametrize("base", [True, False])
@pytest.mark.parametrize("shape", [(64, 64), (64, 128), (128, 64)])
def test_no_weight_decay_destroys_the_weight(shape, base):
    layer = ours.orthogonal(nn.Linear(*shape), orthogonal_map="householder", use_trivialization=base)
    before = layer.weight.detach().clone()
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1, weight_decay=0.5)
    layer.weight.sum().backward()
    optimizer.step()
    assert orthogonality_error(layer.weight) < 1e-4
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0, weight_decay=1.0)  # takes the raw tensor to zero
    layer.parametrizations.weight.original.grad.zero_()
    optimizer.step()
    assert orthogonality_error(layer.weight) < 1e-4
    if base:
        torch.testing.assert_close(layer.weight, before)


def test_a_checkpoint_of_torch_that_decay_has_damaged_is_healed():
    theirs = torchs.orthogonal(nn.Linear(6, 9))
    value = theirs.weight.detach().clone()
    with torch.no_grad():
        theirs.parametrizations.weight.original.mul_(0.999)
    assert torch.equal(theirs.weight, torch.zeros(9, 6))
    mine = ours.orthogonal(nn.Linear(6, 9))
    mine.load_state_dict(theirs.state_dict(), strict=True)
    torch.testing.assert_close(mine.weight, value)


@pytest.mark.parametrize(("shape", "map_", "base", "dtype"), KINDS)
def test_an_orthogonal_value_can_be_assigned(shape, map_, base, dtype):
    layer = moved_away(ours.orthogonal(Layer(weights(shape, dtype)), "weight", map_, use_trivialization=base))
    value = orthonormal(shape, dtype)
    if base or map_ == "householder":
        layer.weight = value
        torch.testing.assert_close(layer.weight, value)
    else:
        with pytest.raises(NotImplementedError, match="has no inverse without a base"):
            layer.weight = value


@pytest.mark.parametrize("base", [True, False])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_value_outside_the_set_is_moved_with_a_warning_that_gives_the_distance(shape, base):
    layer = ours.orthogonal(Layer(weights(shape)), "weight", "householder", use_trivialization=base)
    value = 3 * orthonormal(shape)
    distance = 2 * min(shape[-2:]) ** 0.5 * (shape[0] if len(shape) > 2 else 1) ** 0.5
    with pytest.warns(ProjectionWarning, match=f"distance {distance:.3g} ") as caught:
        layer.weight = value
    assert [warning.filename for warning in caught] == [__file__]
    torch.testing.assert_close(layer.weight, value / 3)
    torch.testing.assert_close(layer.parametrizations.weight[0].distance, torch.tensor(distance, dtype=torch.float64))


@pytest.mark.parametrize("weight", [torch.zeros(5, 3), torch.ones(3, 3), torch.full((4, 2), 1e30)])
@pytest.mark.parametrize("base", [True, False])
def test_a_singular_or_huge_weight_gives_an_orthogonal_one(weight, base):
    layer = ours.orthogonal(Layer(weight), "weight", "householder", use_trivialization=base)
    assert orthogonality_error(layer.weight) < 1e-5


BAD_VALUES = {
    "shape": torch.eye(3),
    "dtype": torch.eye(4, 3, dtype=torch.float64),
    "nan": torch.eye(4, 3).fill_(torch.nan),
    "inf": torch.eye(4, 3) / 0,
}


@pytest.mark.parametrize("value", BAD_VALUES.values(), ids=BAD_VALUES)
@pytest.mark.parametrize("base", [True, False])
def test_a_refused_value_changes_nothing(value, base):
    layer = ours.orthogonal(nn.Linear(3, 4), "weight", "householder", use_trivialization=base)
    before = copy.deepcopy(layer.state_dict())
    with pytest.raises(ValueError, match=r"[Ee]xpected|not finite"):
        layer.weight = value
    torch.testing.assert_close(dict(layer.state_dict()), dict(before), rtol=0, atol=0)


@pytest.mark.parametrize("room", [ours, torchs])
def test_misuse_is_refused_as_in_torch(room):
    with pytest.raises(ValueError, match="'wait'"):
        room.orthogonal(nn.Linear(3, 3), "wait")
    with pytest.raises(ValueError, match="matri"):
        room.orthogonal(nn.Linear(3, 3), "bias")
    with pytest.raises(ValueError, match="givens"):
        room.orthogonal(nn.Linear(3, 3), orthogonal_map="givens")
    with pytest.raises(ValueError, match="complex"):
        room.orthogonal(nn.Linear(3, 3, dtype=torch.complex64), orthogonal_map="householder")


def test_errors_and_warnings_use_the_words_of_the_function_that_was_called():
    messages = []
    for call in (
        lambda: ours.orthogonal(nn.Linear(3, 3), "bias"),
        lambda: ours.orthogonal(nn.Linear(3, 3), orthogonal_map="givens"),
        lambda: ours.orthogonal(nn.Linear(3, 3, dtype=torch.complex64), orthogonal_map="householder"),
        lambda: setattr(ours.orthogonal(nn.Linear(3, 4)), "weight", torch.randn(3, 4)),
        lambda: setattr(ours.orthogonal(nn.Linear(3, 4)), "weight", torch.full((4, 3), torch.nan)),
    ):
        with pytest.raises(ValueError, match=r"[Ee]xpect|finite") as raised:
            call()
        messages.append(str(raised.value))
    with pytest.warns(ProjectionWarning) as warned:
        ours.orthogonal(nn.Linear(3, 4)).weight = torch.ones(4, 3)
    messages.append(str(warned[0].message))
    assert warned[0].filename == __file__
    for message in messages:
        for foreign in ("_Orthogonal", "Orthogonal(", "strict", " map="):
            assert foreign not in message


def test_the_name_of_the_map_is_an_attribute_and_printed():
    step = ours.orthogonal(nn.Linear(3, 4)).parametrizations.weight[0]
    assert step.orthogonal_map == "householder"
    assert repr(step) == "orthogonal(orthogonal_map='householder', use_trivialization=True)"


def test_a_weight_that_is_not_finite_is_refused():
    layer = nn.Linear(3, 4)
    nn.init.constant_(layer.weight, torch.nan)
    with pytest.raises(ValueError, match="finite"):
        ours.orthogonal(layer)
    assert type(layer) is nn.Linear


@pytest.mark.parametrize("map_", MAPS)
def test_behind_another_parametrization_the_map_acts_on_its_value(map_):
    class Half(nn.Module):
        def forward(self, raw):
            return raw / 2

        def right_inverse(self, value):
            return value * 2

    layer = register_parametrization(nn.Linear(4, 6), "weight", Half())
    half = layer.weight.detach().clone()
    ours.orthogonal(layer, orthogonal_map=map_)
    alone = ours.orthogonal(nn.Linear(4, 6), orthogonal_map=map_).parametrizations.weight[0]
    alone.base = None
    assert torch.equal(layer.weight, alone(half))
    with pytest.raises(ValueError, match=r"shape \(6, 4\)"):
        layer.weight = torch.eye(4)
    value = orthonormal((6, 4), torch.float32)
    layer.weight = value
    torch.testing.assert_close(layer.weight, value)


@pytest.mark.parametrize("map_", MAPS)
def test_compile_makes_one_graph(map_):
    layer = moved_away(ours.orthogonal(nn.Linear(6, 9), orthogonal_map=map_))
    x = torch.randn(2, 6)
    torch.testing.assert_close(torch.compile(layer, fullgraph=True, backend="aot_eager")(x), layer(x))


@pytest.mark.parametrize("base", [True, False])
@pytest.mark.parametrize("map_", MAPS)
def test_a_layer_can_be_made_on_meta_and_filled_from_a_checkpoint(map_, base):
    def make(device):
        return ours.orthogonal(nn.Linear(6, 9, device=device), orthogonal_map=map_, use_trivialization=base)

    real, empty = make("cpu"), make("meta")
    assert empty.weight.shape == (9, 6)
    if base or map_ == "householder":
        empty.weight = torch.empty(9, 6, device="meta")
    empty.to_empty(device="cpu").load_state_dict(real.state_dict(), strict=True)
    assert torch.equal(empty.weight, real.weight)


@pytest.mark.parametrize("make", [lambda: nn.Conv1d(2, 4, 3), lambda: nn.ConvTranspose2d(2, 4, 3)])
def test_a_convolution_is_constrained_slice_by_slice_as_in_torch_with_a_warning(make):
    layer = make()
    with pytest.warns(UserWarning, match=r"orthogonal makes the slices of .* register paraform\.Flatten") as caught:
        ours.orthogonal(layer)
    assert [warning.filename for warning in caught] == [__file__]
    small = min(layer.weight.shape[-2:])
    weight = layer.weight if layer.weight.shape[-2] >= layer.weight.shape[-1] else layer.weight.mT
    gram = weight.mT @ weight
    torch.testing.assert_close(gram, torch.eye(small).expand_as(gram), rtol=0, atol=1e-5)


def test_a_batch_of_matrices_that_is_no_kernel_is_constrained_without_a_warning():
    module = nn.Module()
    module.weight = nn.Parameter(torch.randn(2, 3, 4, 4))
    ours.orthogonal(module)
    assert module.parametrizations.weight.original.shape == (2, 3, 4, 4)
