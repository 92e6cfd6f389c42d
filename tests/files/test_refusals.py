"""What save and load refuse, in words, and that nothing is changed then."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import paraform as pf
from paraform.files import FileError, load, save
from tests.files.damaged import unpacked


def snapshot(model: nn.Module) -> Any:
    """All that a refusal must not change, but the tensors' entries."""
    return [
        (module, type(module), [*vars(module)], [*module._parameters.items()], [*module._buffers.items()])
        for module in model.modules()
    ]


def assert_refused(path: Path, model: nn.Module, *texts: str) -> str:
    before, state = snapshot(model), copy.deepcopy(model.state_dict())
    with pytest.raises(FileError) as caught:
        load(path, model)
    after = snapshot(model)
    for (module, cls, *_), (same, kind, *_) in zip(before, after, strict=True):
        assert module is same
        assert cls is kind
    for (*_, parameters, buffers), (*_, others, other_buffers) in zip(before, after, strict=True):
        assert [name for name, _ in (*parameters, *buffers)] == [name for name, _ in (*others, *other_buffers)]
        assert all(
            one is two for (_, one), (_, two) in zip((*parameters, *buffers), (*others, *other_buffers), strict=True)
        )
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, state[key]) or tensor.isnan().any(), key
    for text in texts:
        assert text in str(caught.value)
    return str(caught.value)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    pf.register_parametrization(model[0], "weight", pf.Orthogonal("cayley"))
    save(model, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def test_other_names_are_all_listed_with_near_misses(saved: Path) -> None:
    model = nn.Sequential()
    model.add_module("0", nn.Linear(3, 3))
    model.add_module("l", nn.Linear(3, 2))
    assert_refused(
        saved,
        model,
        "the file lacks 'l.weight' (it has '1.weight')",
        "the file lacks 'l.bias' (it has '1.bias')",
        "the model lacks '1.weight' (it has 'l.weight')",
        "the model lacks '1.bias'",
    )


def test_other_shapes_are_all_listed(saved: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    assert_refused(
        saved,
        model,
        "'0.weight': the file has torch.float32 of shape (3, 3), and the model torch.float32 of shape (4, 3)",
        "'0.bias': the file has torch.float32 of shape (3,), and the model torch.float32 of shape (4,)",
        "'1.weight'",
    )


def test_other_kinds_of_numbers_are_refused(saved: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    model[0].weight = nn.Parameter(torch.zeros(3, 3, dtype=torch.complex64))
    assert_refused(
        saved, model, "'0.weight': the file has torch.float32 of shape (3, 3), and the model torch.complex64"
    )


def test_another_recipe_is_shown_beside_that_of_the_file(saved: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    pf.register_parametrization(model[0], "weight", pf.Orthogonal())
    assert_refused(
        saved,
        model,
        "'0.weight': it is parametrized by [{",
        '"arguments": {}, "name": "Orthogonal"',
        '"arguments": {"map": "cayley"}, "name": "Orthogonal"',
    )


def test_a_parametrization_of_the_model_that_the_file_does_not_have_is_refused(saved: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    pf.register_parametrization(model[0], "weight", pf.Orthogonal("cayley"))
    pf.register_parametrization(model[1], "weight", pf.WeightNorm())
    assert_refused(saved, model, "'1.weight': it is parametrized in the model, and plain in the file")


def test_a_tie_that_the_file_does_not_have_is_refused(tmp_path: Path) -> None:
    save(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)), tmp_path / "model.safetensors")
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    assert_refused(tmp_path / "model.safetensors", model, "are one tensor in the model, and two in the file")


def test_a_tie_of_what_the_model_has_parametrized_apart_is_refused(tmp_path: Path) -> None:
    def make() -> nn.Module:
        return nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))

    tied = make()
    tied[1].weight = tied[0].weight
    pf.register_parametrization(tied[0], "weight", pf.Skew())
    save(tied, tmp_path / "model.safetensors")
    model = make()
    for layer in model:
        pf.register_parametrization(layer, "weight", pf.Skew())
    assert_refused(tmp_path / "model.safetensors", model, "are one tensor in the file, and two in the model")


def test_a_layer_that_the_parametrization_refuses_is_refused_and_the_others_stay_plain(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Conv1d(3, 3, 3))
    pf.register_parametrization(model[0], "weight", pf.Skew())
    pf.register_parametrization(model[1], "weight", pf.Symmetric())
    save(model, tmp_path / "model.safetensors")

    class Own(nn.Conv1d):
        @property
        def parametrizations(self) -> str:
            return "something else"

    other = nn.Sequential(nn.Linear(3, 3), Own(3, 3, 3))
    assert_refused(tmp_path / "model.safetensors", other, "an attribute 'parametrizations' of its own")


def test_an_error_while_numbers_are_copied_changes_nothing(saved: Path) -> None:
    class Refusing(nn.Linear):
        def _load_from_state_dict(self, *arguments: Any) -> None:
            super()._load_from_state_dict(*arguments)
            raise KeyError("not today")

    model = nn.Sequential(nn.Linear(3, 3), Refusing(3, 2))
    assert_refused(saved, model, "which was not changed: 'not today'")


def test_what_is_no_model_is_refused(saved: Path) -> None:
    with pytest.raises(TypeError, match="Module to load into, got dict"):
        load(saved, {})  # type: ignore[type-var]
    with pytest.raises(TypeError, match="Module to save, got dict"):
        save({}, saved)  # type: ignore[arg-type]


class WithState(nn.Module):
    def __init__(self, state: object) -> None:
        super().__init__()
        self.state = state

    def get_extra_state(self) -> object:
        return self.state

    def set_extra_state(self, state: object) -> None:
        self.state = state


def test_extra_state_that_is_a_tensor_is_saved(tmp_path: Path) -> None:
    save(WithState(torch.arange(3)), tmp_path / "model.safetensors")
    other = WithState(torch.zeros(3, dtype=torch.int64))
    assert torch.equal(load(tmp_path / "model.safetensors", other).state, torch.arange(3))


def of(tensor: Callable[[], torch.Tensor]) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        model = nn.Module()
        model.register_buffer("thing", tensor())
        return model

    return make


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "extra state": (lambda: WithState({"a": 1}), "'_extra_state' is no tensor but of type dict"),
    "meta": (lambda: nn.Linear(2, 2, device="meta"), "'weight' is on the meta device"),
    "sparse": (of(lambda: torch.eye(2).to_sparse()), "'thing' has the layout torch.sparse_coo; make it dense"),
    "nested": (of(lambda: torch.nested.nested_tensor([torch.ones(2)], layout=torch.strided)), "'thing' is nested"),
    "quantized": (of(lambda: torch.quantize_per_tensor(torch.ones(2), 1.0, 0, torch.qint8)), "'thing' is torch.qint8"),
    "lazy": (lambda: nn.LazyLinear(2), "'weight' has no shape yet"),
    "packed": (
        of(lambda: torch.zeros(2, dtype=torch.uint8).view(torch.float8_e8m0fnu)),
        "'thing' is torch.float8_e8m0fnu",
    ),
    "not saved": (
        lambda: _with_hidden_buffer(),
        "'thing' is parametrized, but a buffer that a state dict leaves out (persistent=False)",
    ),
}


def _with_hidden_buffer() -> nn.Module:
    model = nn.Module()
    model.register_buffer("thing", torch.ones(2, 2), persistent=False)
    return pf.register_parametrization(model, "thing", pf.Skew())


@pytest.mark.filterwarnings("ignore:.*torch.quantize_per_tensor.*:Warning")
@pytest.mark.filterwarnings("ignore:.*nested tensors is in prototype.*:UserWarning")
@pytest.mark.filterwarnings("ignore:Lazy modules.*:UserWarning")
@pytest.mark.parametrize("name", REFUSED)
def test_what_such_a_file_cannot_hold_is_refused_before_anything_is_written(name: str, tmp_path: Path) -> None:
    make, text = REFUSED[name]
    (tmp_path / "model.safetensors").write_bytes(b"before")
    with pytest.raises(FileError) as caught:
        save(make(), tmp_path / "model.safetensors")
    assert text in str(caught.value)
    assert (tmp_path / "model.safetensors").read_bytes() == b"before"
    assert len(list(tmp_path.iterdir())) == 1


DTYPES = (
    "float64 float16 bfloat16 complex64 complex128 complex32 int8 uint8 int16 int32 int64 uint16 uint32 uint64 bool "
    "float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz"
)


def bytes_of(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.resolve_conj().contiguous().view(-1).view(torch.uint8)


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental:UserWarning")
def test_every_dtype_shape_and_layout_comes_back(tmp_path: Path) -> None:
    def make(fill: int) -> nn.Module:
        model = nn.Module()
        for name in DTYPES.split():
            dtype = getattr(torch, name)
            entries = torch.full((16 * dtype.itemsize,), fill, dtype=torch.uint8)
            numbers = (entries * 0 + (entries != 0)) if dtype == torch.bool else entries
            model.register_buffer(f"of_{name}", numbers.view(dtype)[:6].reshape(2, 3))
        model.register_buffer("number", torch.tensor(float(fill)))
        model.register_buffer("empty", torch.ones(0, 3))
        model.register_buffer("turned", torch.full((2, 3), float(fill)).T)
        model.register_buffer("every_other", torch.full((6,), float(fill))[::2])
        model.register_buffer("conjugate", torch.full((2,), complex(fill, 1)).conj())
        model.register_buffer("expanded", torch.full((1,), float(fill)).expand(3).clone())
        memory = torch.full((6,), float(fill))
        model.register_buffer("first", memory[:4])
        model.register_buffer("last", memory[2:])
        return model

    model = make(1)
    save(model, tmp_path / "model.safetensors")
    other = load(tmp_path / "model.safetensors", make(0))
    for key, tensor in model.state_dict().items():
        found = other.state_dict()[key]
        assert found.dtype == tensor.dtype
        assert found.shape == tensor.shape
        assert torch.equal(bytes_of(found), bytes_of(tensor)), key


@pytest.mark.parametrize(("make", "text"), [(pf.Circulant, "a value of shape (3,)"), (pf.WeightNorm, "no value")])
def test_a_recipe_whose_value_no_layer_could_read_is_refused(
    make: Callable[[], pf.Constraint], text: str, tmp_path: Path
) -> None:
    save(pf.register_parametrization(nn.Linear(3, 3), "weight", make()), tmp_path / "model.safetensors")
    parts = unpacked((tmp_path / "model.safetensors").read_bytes())
    parts.recipe["parametrized"]["weight"]["chain"][0]["off"] = True
    (tmp_path / "model.safetensors").write_bytes(parts.bytes())
    assert_refused(tmp_path / "model.safetensors", nn.Linear(3, 3), text)


def test_a_recipe_cannot_ask_for_so_many_iterations_that_training_stands_still(tmp_path: Path) -> None:
    model = pf.parametrizations.spectral_norm(nn.Linear(3, 3))
    save(model, tmp_path / "model.safetensors")
    parts = unpacked((tmp_path / "model.safetensors").read_bytes())
    parts.recipe["parametrized"]["weight"]["chain"][0]["arguments"]["n_power_iterations"] = 10**12
    (tmp_path / "model.safetensors").write_bytes(parts.bytes())
    assert_refused(tmp_path / "model.safetensors", nn.Linear(3, 3), "at most 1000 are read")
