"""Parametrizations of the user's own: known by a name, built from data."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import paraform as pf
from paraform.constraints import Constraint
from paraform.files import FileError, SavedFile, known, load, save, saved_as


@pytest.fixture(autouse=True)
def _names_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "_theirs", {})


class Clip(nn.Module):
    def __init__(self, bound: float = 1.0, names: list[str] | None = None, table: dict[str, int] | None = None) -> None:
        super().__init__()
        self.bound, self.names, self.table = bound, names, table

    def forward(self, raw: Tensor) -> Tensor:
        return raw.clamp(-self.bound, self.bound)


class Weighted(nn.Module):
    """Has a buffer that is an argument, one that is saved and one that is not, and a parameter."""

    def __init__(self, weights: Tensor, inner: nn.Module) -> None:
        super().__init__()
        self.register_buffer("weights", weights)
        self.register_buffer("doubled", 2 * weights, persistent=False)
        self.gain = nn.Parameter(torch.ones(()))
        self.inner = inner
        self.total = float(weights.sum())  # needs the numbers

    def forward(self, raw: Tensor) -> Tensor:
        return self.gain * self.inner(raw) * self.weights / self.total + 0 * self.doubled


class Centred(nn.Module):
    """Learns from the value that it is given, in a buffer that is empty before."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("centre", None)

    def forward(self, raw: Tensor) -> Tensor:
        return raw + self.centre

    def right_inverse(self, value: Tensor) -> Tensor:
        self.centre = value.mean().item() * torch.ones_like(value)  # does not work on the meta device
        return value - self.centre


class Halves(nn.Module):
    """Two raw tensors."""

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        return torch.cat([one, other])

    def right_inverse(self, value: Tensor) -> tuple[Tensor, ...]:
        return tuple(value.clone() for value in value.chunk(2))


class Even(Constraint):
    """A constraint of the user's own, with a tensor of its own."""

    def __init__(self, like: Tensor, *, strict: bool = False) -> None:
        super().__init__(strict=strict)
        self.register_buffer("like", like)

    def forward(self, raw: Tensor) -> Tensor:
        return (raw + raw.flip(-1)) / 2 + 0 * self.like

    def project(self, value: Tensor) -> Tensor:
        return self(value)

    def residual(self, value: Tensor) -> Tensor:
        return torch.linalg.vector_norm(value - value.flip(-1), dim=(-2, -1))

    def _draw(self, shape: torch.Size, **options: object) -> Tensor:
        return self.project(torch.randn(shape))

    def _dof(self, shape: torch.Size, reals: int) -> int:
        return shape.numel() * reals // 2


class Odd(nn.Module):
    """Keeps its arguments under other names, and says how they are called."""

    def __init__(self, scale: float, *shifts: float) -> None:
        super().__init__()
        self._scale, self._shifts = scale, shifts

    def saved_arguments(self) -> dict[str, object]:
        return {"scale": self._scale}

    def forward(self, raw: Tensor) -> Tensor:
        return self._scale * raw


STEPS = {
    "defaults": (Clip, lambda: Clip()),
    "arguments": (Clip, lambda: Clip(math.inf, ["a", "b"], {"x": 1})),
    "tensors": (Weighted, lambda: Weighted(torch.rand(4, 4), pf.Skew())),
    "learned": (Centred, lambda: Centred()),
    "several": (Halves, lambda: Halves()),
    "constraint": (Even, lambda: Even(torch.rand(4, 4))),
    "combined": (Even, lambda: pf.Scaled(pf.Flatten(Even(torch.rand(4, 4))))),
    "arguments of its own": (Odd, lambda: Odd(0.5)),
}


@pytest.mark.parametrize("name", STEPS)
def test_a_class_comes_back_by_its_name(name: str, tmp_path: Path) -> None:
    cls, make = STEPS[name]
    saved_as("mylab.Own")(cls)
    model = pf.register_parametrization(nn.Linear(4, 4), "weight", make())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01)
    save(model, tmp_path / "model.safetensors")
    for other in (nn.Linear(4, 4), nn.Linear(4, 4, device="meta")):
        load(tmp_path / "model.safetensors", other)
        assert list(other.state_dict()) == list(model.state_dict())
        assert all(torch.equal(other.state_dict()[key], tensor) for key, tensor in model.state_dict().items())
        assert torch.equal(other.weight, model.weight)
        assert repr(other.parametrizations) == repr(model.parametrizations)
    with SavedFile(tmp_path / "model.safetensors") as saved:
        assert torch.equal(saved["weight"].value(), model.weight)
    known._theirs.clear()
    with SavedFile(tmp_path / "model.safetensors") as saved:  # its names and recipes can be read all the same
        assert "mylab.Own" in str(saved["weight"].recipe)
        with pytest.raises(FileError, match=r"saved_as\('mylab\.Own'"):
            saved["weight"].chain()
    with pytest.raises(FileError, match=r"mylab\.Own"):
        load(tmp_path / "model.safetensors", nn.Linear(4, 4))


def shrink(x: Tensor) -> Tensor:
    return x / 2


@pytest.mark.parametrize(
    "given",
    [shrink, (torch.exp, torch.log), pf.Function(torch.sinh, torch.asinh)],
    ids=["function", "pair", "Function"],
)
def test_functions_come_back_by_their_name(given: object, tmp_path: Path) -> None:
    saved_as("mylab.function", given)
    model = nn.Linear(4, 4)
    nn.init.uniform_(model.weight)
    model = pf.register_parametrization(model, "weight", given)
    save(model, tmp_path / "model.safetensors")
    other = load(tmp_path / "model.safetensors", nn.Linear(4, 4))
    assert torch.equal(other.weight, model.weight)
    assert repr(other.parametrizations) == repr(model.parametrizations)


def test_a_function_with_another_inverse_is_another(tmp_path: Path) -> None:
    saved_as("mylab.exp", torch.exp)
    model = nn.Linear(4, 4)
    nn.init.uniform_(model.weight)
    pf.register_parametrization(model, "weight", (torch.exp, torch.log))
    with pytest.raises(FileError, match=r"saved_as\('mylab\.name', \(function, inverse\)\)"):
        save(model, tmp_path / "model.safetensors")


def test_what_has_no_name_is_refused_with_the_way_to_give_one(tmp_path: Path) -> None:
    model = pf.register_parametrization(nn.Linear(4, 4), "weight", Clip())
    with pytest.raises(FileError, match=r"'weight' cannot be saved: .*@paraform\.saved_as\('mylab\.Clip'\)"):
        save(model, tmp_path / "model.safetensors")
    assert not list(tmp_path.iterdir())


class NoAttribute(nn.Module):
    def __init__(self, bound: float) -> None:
        super().__init__()
        self._bound = bound

    def forward(self, raw: Tensor) -> Tensor:
        return raw


class PlainTensor(nn.Module):
    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = weights

    def forward(self, raw: Tensor) -> Tensor:
        return raw


class Anything(nn.Module):
    def __init__(self, thing: object) -> None:
        super().__init__()
        self.thing = thing

    def forward(self, raw: Tensor) -> Tensor:
        return raw


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (NoAttribute(1.0), r"no attribute of that name.*saved_arguments"),
        (PlainTensor(torch.ones(2)), r"register_buffer\('weights', weights\)"),
        (Anything(object()), r"argument 'thing' of type object"),
        (Anything({1: 2}), r"argument 'thing' of type dict"),
    ],
    ids=["no attribute", "tensor", "object", "dict"],
)
def test_arguments_that_are_no_data_are_refused(step: nn.Module, text: str, tmp_path: Path) -> None:
    saved_as("mylab.Own", type(step))
    model = pf.register_parametrization(nn.Linear(4, 4), "weight", step)
    with pytest.raises(FileError, match=text):
        save(model, tmp_path / "model.safetensors")


def test_names_are_given_once() -> None:
    saved_as("mylab.Clip", Clip)
    saved_as("mylab.Clip", Clip)
    with pytest.raises(ValueError, match="another parametrization has this name"):
        saved_as("mylab.Clip", Odd)
    with pytest.raises(ValueError, match=r"saved as 'mylab\.Clip' already"):
        saved_as("mylab.Other", Clip)
    with pytest.raises(ValueError, match="of paraform's own"):
        saved_as("Orthogonal", Clip)
    with pytest.raises(ValueError, match="expects a name such as"):
        saved_as("a name", Clip)
    with pytest.raises(TypeError, match=r"saved_as\('mylab\.x', Clip\)"):
        saved_as("mylab.x", Clip())
    with pytest.raises(TypeError, match="class of modules"):
        saved_as("mylab.x", int)


class Trim(nn.Module):
    """Makes the tensor smaller, which only an unsafe chain may."""

    def forward(self, raw: Tensor) -> Tensor:
        return raw[:2, :2]


@pytest.mark.parametrize("first", [None, pf.Symmetric], ids=["alone", "second"])
def test_a_chain_whose_value_has_another_shape_than_the_raw_tensor_comes_back(
    first: type[Constraint] | None, tmp_path: Path
) -> None:
    saved_as("mylab.Trim", Trim)
    model = nn.Linear(3, 3)
    if first is not None:
        pf.register_parametrization(model, "weight", first())
    pf.register_parametrization(model, "weight", Trim(), unsafe=True)
    save(model, tmp_path / "model.safetensors")
    other = load(tmp_path / "model.safetensors", nn.Linear(3, 3))
    assert torch.equal(other.weight, model.weight)
    with SavedFile(tmp_path / "model.safetensors") as saved:
        assert saved["weight"].shape == (2, 2)
        assert torch.equal(saved["weight"].value(), model.weight)
