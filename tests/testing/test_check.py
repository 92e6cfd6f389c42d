"""Each law catches the fault that it is there for, and lets pass what is right."""

from __future__ import annotations

import copy
import functools
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from paraform import testing
from paraform.constraints import Orthogonal, Skew, Symmetric, WeightNorm
from paraform.testing import LAWS, LawError, check_parametrization

SHAPE = (3, 3)


class Mirror(nn.Module):
    """A parametrization that a user might write: symmetric matrices, with what a set knows of itself. All laws hold."""

    def forward(self, raw: Tensor) -> Tensor:
        return raw.triu() + raw.triu(1).mT

    def right_inverse(self, value: Tensor) -> Tensor:
        return self.project(value)

    def project(self, value: Tensor) -> Tensor:
        return value / 2 + value.mT / 2

    def residual(self, value: Tensor) -> Tensor:
        return torch.linalg.matrix_norm(value.float() - value.float().mT).to(torch.float64)

    def sample(self, shape: Any, *, generator: Any = None, dtype: Any = None, device: Any = None) -> Tensor:
        return self.project(torch.randn(shape, generator=generator, dtype=dtype, device=device))

    def dof(self, shape: Any, *, dtype: Any = None) -> int:
        return math.prod(shape[:-2]) * shape[-1] * (shape[-1] + 1) // 2


class Exact(Mirror):
    def residual(self, value: Tensor) -> Tensor:
        return torch.linalg.vector_norm((value / 1e20 - value.mT / 1e20).double(), dim=(-2, -1)) * 1e20


class NotSymmetric(Exact):
    def forward(self, raw: Tensor) -> Tensor:
        return raw.triu() + 1.001 * raw.triu(1).mT


class Decays(Exact):
    """Takes its sign from the size of a trained tensor, as torch's Householder map takes those of its columns."""

    def forward(self, raw: Tensor, sign: Tensor) -> Tensor:
        value = super().forward(raw)
        return value + 0 * sign + (sign.detach() < 0.87).to(value) * torch.ones_like(value).triu(1)

    def right_inverse(self, value: Tensor) -> tuple[Tensor, Tensor]:
        return self.project(value), torch.ones((), dtype=value.dtype, device=value.device)


class InverseOff(Exact):
    def right_inverse(self, value: Tensor) -> Tensor:
        return 1.01 * self.project(value)


class OtherInverse(Exact):
    """Right for what it samples, which has no trace, and wrong for other values."""

    def sample(self, shape: Any, **options: Any) -> Tensor:
        drawn = super().sample(shape, **options)
        return drawn - torch.diag_embed(drawn.diagonal(dim1=-2, dim2=-1))

    def right_inverse(self, value: Tensor) -> Tensor:
        return self.project(value) - 0.01 * torch.diag_embed(value.diagonal(dim1=-2, dim2=-1))


class FarInverse(Exact):
    """Takes values of the set to themselves, and others not to the nearest point."""

    def right_inverse(self, value: Tensor) -> Tensor:
        return value


class OnlyNearby(Exact):
    """In the set as long as the raw tensor is no longer than 3."""

    def forward(self, raw: Tensor) -> Tensor:
        far = (torch.linalg.matrix_norm(raw.float()) - 3).relu().to(raw)
        return super().forward(raw) + far[..., None, None] * torch.ones_like(raw).triu(1)


class NewParameter(Exact):
    def right_inverse(self, value: Tensor) -> tuple[Tensor]:
        return (self.project(value),)


class SilentResidual(Exact):
    def residual(self, value: Tensor) -> Tensor:
        return torch.zeros(value.shape[:-2], dtype=value.dtype, device=value.device)


class NanResidual(Exact):
    def residual(self, value: Tensor) -> Tensor:
        return math.nan * super().residual(value)


class NegativeResidual(Exact):
    def residual(self, value: Tensor) -> Tensor:
        return super().residual(value) - 0.01


class ResidualInPlace(Exact):
    def residual(self, value: Tensor) -> Tensor:
        found = super().residual(value)
        value.zero_()
        return found


class ProjectsInPlace(Exact):
    def project(self, value: Tensor) -> Tensor:
        return value.copy_(super().project(value))

    def right_inverse(self, value: Tensor) -> Tensor:
        return super().project(value)


class InverseInPlace(Exact):
    def right_inverse(self, value: Tensor) -> Tensor:
        value *= 1
        value += 1
        return self.project(value) - 1


class SamplesOne(Exact):
    def sample(self, shape: Any, **options: Any) -> Tensor:
        return super().sample(shape[-2:], **options).expand(shape).clone()


class SamplesDoubles(Exact):
    def sample(self, shape: Any, *, dtype: Any = None, **options: Any) -> Tensor:
        return super().sample(shape, dtype=dtype or torch.float64, **options)


class FreedomOfOne(Exact):
    def dof(self, shape: Any, *, dtype: Any = None) -> int:
        return super().dof(shape[-2:])


class ProjectsTheBatch(Exact):
    def project(self, value: Tensor) -> Tensor:
        mirrored = super().project(value)
        return mirrored.mean(0, keepdim=True).expand_as(value) if value.ndim > 2 else mirrored

    def right_inverse(self, value: Tensor) -> Tensor:
        return super().project(value)


class ProjectsTwice(Exact):
    def project(self, value: Tensor) -> Tensor:
        return 0.9 * super().project(value)


class FarProjection(Exact):
    def project(self, value: Tensor) -> Tensor:
        return value.triu() + value.triu(1).mT


class SampleOutside(Exact):
    def sample(self, shape: Any, **options: Any) -> Tensor:
        return torch.randn(shape, **options)


class SampleWithoutGenerator(Exact):
    def sample(self, shape: Any, *, generator: Any = None, **options: Any) -> Tensor:
        return super().sample(shape, **options)


class ConstantSample(Exact):
    def sample(self, shape: Any, *, generator: Any = None, dtype: Any = None, device: Any = None) -> Tensor:
        return torch.ones(shape, dtype=dtype, device=device)


class WrongFreedom(Exact):
    def dof(self, shape: Any, *, dtype: Any = None) -> int:
        return super().dof(shape) + 1


class Detached(Exact):
    def forward(self, raw: Tensor) -> Tensor:
        value = super().forward(raw)
        return value + torch.diag_embed(value.diagonal(dim1=-2, dim2=-1) - value.diagonal(dim1=-2, dim2=-1).detach())


class FirstOrderOnly(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x + torch.tanh(x)

    @staticmethod
    def setup_context(context: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        context.save_for_backward(*inputs)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        (x,) = context.saved_tensors
        return gradient * (2 - torch.tanh(x.detach()) ** 2)


class WrongSecondDerivative(nn.Module):
    def forward(self, raw: Tensor) -> Tensor:
        return FirstOrderOnly.apply(raw)


class MixesTheBatch(Exact):
    def forward(self, raw: Tensor) -> Tensor:
        value = super().forward(raw)
        return value if value.ndim == 2 else value.roll(1, 0)


class ReadsANumber(Exact):
    def forward(self, raw: Tensor) -> Tensor:
        value = super().forward(raw)
        return value if float(value.detach().abs().max()) >= 0 else -value


class HoldsItsParameter(Exact):
    """Computes from the Parameter that it saw first, whatever it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[Tensor] = []

    def forward(self, raw: Tensor) -> Tensor:
        if not self.held and isinstance(raw, nn.Parameter):
            self.held.append(raw)
        return super().forward(self.held[0] if self.held else raw)


class Noisy(Exact):
    def forward(self, raw: Tensor) -> Tensor:
        return super().forward(raw) * (1 + 0.1 * torch.rand((), dtype=raw.dtype))


class Unpicklable(Exact):
    def __init__(self) -> None:
        super().__init__()
        self.scale = lambda x: x


class HoldsStateOutsideOfItsState(Exact):
    def __init__(self) -> None:
        super().__init__()
        self.scale = 1 + torch.rand(())

    def forward(self, raw: Tensor) -> Tensor:
        return super().forward(raw) * self.scale.to(raw)

    def right_inverse(self, value: Tensor) -> Tensor:
        return self.project(value) / self.scale.to(value)


class ForgetsWhenCopied(HoldsStateOutsideOfItsState):
    def __deepcopy__(self, memo: dict[int, Any]) -> ForgetsWhenCopied:
        return type(self)()


class HalfInHalf(Exact):
    """Sums of squares overflow in float16."""

    def forward(self, raw: Tensor) -> Tensor:
        value = super().forward(raw)
        large = 300 * torch.ones((), dtype=raw.dtype, device=raw.device)
        return value * (large * large) / (large * large)


class AlwaysFloat32(Exact):
    def forward(self, raw: Tensor) -> Tensor:
        return super().forward(raw).float() if raw.dtype == torch.bfloat16 else super().forward(raw)


class UnderAutocast(Exact):
    def forward(self, raw: Tensor) -> Tensor:
        identity = torch.eye(raw.shape[-1], dtype=raw.dtype, device=raw.device)
        return super().forward(raw @ identity)


class OnTheCpu(Exact):
    def __init__(self) -> None:
        super().__init__()
        self.one = torch.ones(SHAPE[-1], dtype=torch.float64)

    def forward(self, raw: Tensor) -> Tensor:
        return super().forward(raw) * self.one.to(raw.dtype)


class NotAtZero(Exact):
    def forward(self, raw: Tensor) -> Tensor:
        value = super().forward(raw)
        size = value.abs().amax((-2, -1), keepdim=True).detach()
        return value * (size / size)


class ThroughEigenvectors(Exact):
    """Their derivative divides by differences of eigenvalues."""

    def forward(self, raw: Tensor) -> Tensor:
        L, Q = torch.linalg.eigh(super().forward(raw).double())
        return ((Q * L.unsqueeze(-2)) @ Q.mT).to(raw.dtype)


# A value that is another one each time breaks every law that compares two of them, and derivatives.
REPEATABLE = {
    "autocast",
    "batch",
    "cached",
    "compile",
    "deepcopy",
    "export",
    "first_derivatives",
    "functional_call",
    "half_precision",
    "outside",
    "pickling",
    "raw_round_trip",
    "round_trip",
    "second_derivatives",
    "single_precision",
    "state_dict",
    "vmap",
}

# Which laws each fault breaks, of all: a law that looks at its own matter only tells where the fault is.
FAULTS: dict[type[nn.Module], set[str]] = {
    NotSymmetric: {
        "anywhere",
        "assignment",
        "outside",
        "raw_round_trip",
        "round_trip",
        "single_precision",
        "start",
        "training",
    },
    Decays: {"anywhere", "training"},
    InverseOff: {"half_precision", "outside", "raw_round_trip", "round_trip", "single_precision"},
    OtherInverse: {"outside", "raw_round_trip"},
    FarInverse: {"outside"},
    OnlyNearby: {"anywhere", "extremes", "outside"},
    NewParameter: {"one_original_stays"},
    SilentResidual: {"residual"},
    NanResidual: {
        "anywhere",
        "assignment",
        "batch",
        "half_precision",
        "projection",
        "residual",
        "sample",
        "single_precision",
        "start",
        "training",
    },
    NegativeResidual: {
        "anywhere",
        "assignment",
        "half_precision",
        "projection",
        "sample",
        "single_precision",
        "start",
        "training",
    },
    ResidualInPlace: {"residual"},
    ProjectsInPlace: {"projection"},
    InverseInPlace: {"round_trip"},
    SamplesOne: {"batch"},
    SamplesDoubles: {"sample"},
    FreedomOfOne: {"batch"},
    ProjectsTheBatch: {"batch"},
    ProjectsTwice: {
        "anywhere",
        "assignment",
        "half_precision",
        "projection",
        "raw_round_trip",
        "round_trip",
        "sample",
        "single_precision",
        "start",
        "training",
    },
    FarProjection: {"nearest"},
    SampleOutside: {"half_precision", "projection", "round_trip", "sample", "single_precision"},
    SampleWithoutGenerator: {"sample"},
    ConstantSample: {"batch", "sample"},
    WrongFreedom: {"batch", "dof"},
    Detached: {"first_derivatives"},
    WrongSecondDerivative: {"second_derivatives"},
    MixesTheBatch: {"batch"},
    ReadsANumber: {"compile", "device_and_dtype_follow", "export", "vmap"},
    HoldsItsParameter: {"functional_call"},
    Noisy: REPEATABLE,
    Unpicklable: {"pickling"},
    HoldsStateOutsideOfItsState: {"state_dict"},
    ForgetsWhenCopied: {"deepcopy", "half_precision", "state_dict"},
    HalfInHalf: {"half_precision"},
    AlwaysFloat32: {"half_precision"},
    UnderAutocast: {"autocast"},
    OnTheCpu: {"device_and_dtype_follow"},
    NotAtZero: {"extremes"},
    ThroughEigenvectors: {"extremes", "repeats"},
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_each_fault_is_caught_by_the_laws_that_are_there_for_it_and_no_others(fault: type[nn.Module]) -> None:
    with pytest.raises(LawError) as caught:
        check_parametrization(fault, SHAPE)
    assert set(caught.value.broken) == FAULTS[fault]


def test_every_law_has_a_fault_that_it_catches() -> None:
    assert set().union(*FAULTS.values()) == set(LAWS)


def test_the_readme_of_the_room_has_the_sentence_of_every_law() -> None:
    text = Path(testing.__file__).with_name("README.md").read_text(encoding="utf-8")
    assert [line for line in text.splitlines() if line.startswith("- ")] == [f"- `{n}`: {LAWS[n]}" for n in LAWS]


def test_every_law_lets_a_right_parametrization_pass() -> None:
    found = check_parametrization(Exact, SHAPE)
    assert set(found) == set(LAWS)
    assert set(found.values()) == {"holds"}


def test_a_plain_module_is_held_against_what_applies() -> None:
    class Plain(nn.Module):
        def forward(self, raw: Tensor) -> Tensor:
            return raw.tril()

    found = check_parametrization(Plain, SHAPE, laws=set(LAWS) - {"pickling"})
    assert found["round_trip"] == "does not apply: it has no right_inverse"
    assert found["nearest"] == "does not apply: it has no project"
    assert found["vmap"] == "holds"


def test_functions_and_pairs_are_parametrizations_too() -> None:
    assert check_parametrization(lambda: (torch.exp, torch.log), (3,), draw=torch.rand, laws=["round_trip", "start"])
    with pytest.raises(LawError, match="nan or inf"):
        check_parametrization(lambda: (torch.exp, torch.log), (3,), laws=["start"])


def test_a_parametrization_instead_of_its_maker_is_refused_with_what_to_write() -> None:
    for given in (Exact(), (torch.exp, torch.log)):
        with pytest.raises(TypeError, match="a lambda that makes it"):
            check_parametrization(given, SHAPE)
    with pytest.raises(TypeError) as caught:
        check_parametrization(torch.exp, SHAPE)
    assert "lambda: function" in caught.value.__notes__[0]
    with pytest.raises(TypeError, match=r"a shape like \(3, 3\)"):
        check_parametrization(Exact, 3)
    with pytest.raises(TypeError, match="laws like"):
        check_parametrization(Exact, SHAPE, laws="start")


class Kept(nn.Module):
    """Numbers of its own in single precision, as modules are built with; no inverse, and it says so as torch does."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", torch.tensor([1.0, 0.0, 1.0]))
        self.register_buffer("turn", torch.eye(3))

    def forward(self, raw: Tensor) -> Tensor:
        return (raw * self.mask) @ self.turn

    def right_inverse(self, value: Tensor) -> Tensor:
        raise NotImplementedError


class Invertible(Kept):
    def right_inverse(self, value: Tensor) -> Tensor:
        return (value @ self.turn.mT) * self.mask


def test_numbers_of_its_own_follow_the_dtype_as_in_a_layer() -> None:
    found = check_parametrization(Invertible, (2, 3), laws=set(LAWS) - {"autocast"})
    assert found["half_precision"] == found["round_trip"] == "holds"


def test_one_module_at_each_call_is_refused() -> None:
    one = Exact()
    with pytest.raises(ValueError, match="got one Exact twice"):
        check_parametrization(lambda: one, SHAPE)


def test_a_module_with_random_weights_or_complex_numbers_of_its_own_is_right() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(3, 3)
            self.register_buffer("waves", torch.fft.fft(torch.eye(3)))

        def forward(self, raw: Tensor) -> Tensor:
            return self.net(raw) + (raw.to(self.waves.dtype) @ self.waves).real.to(raw.dtype)

    assert check_parametrization(Net, (2, 3), laws=["batch", "first_derivatives", "single_precision"])


def test_to_raise_that_there_is_no_inverse_is_to_have_none() -> None:
    found = check_parametrization(Kept, (2, 3), laws=["round_trip", "raw_round_trip", "assignment", "single_precision"])
    assert found.pop("single_precision") == "holds"
    assert set(found.values()) == {"does not apply: it has no right_inverse"}


def test_each_line_of_what_was_found_is_indented_and_the_size_is_named() -> None:
    with pytest.raises(LawError) as caught:
        check_parametrization(Detached, SHAPE, laws=["first_derivatives"])
    lines = str(caught.value).splitlines()
    assert len(lines) > 5
    assert all(line.startswith("    ") for line in lines[2:])
    with pytest.raises(LawError, match=r"a tensor of size 1e\+30 cannot be registered"):
        check_parametrization(lambda: torch.square, (3,), laws=["extremes"])


def test_under_torchs_engine_all_laws_hold_but_that_its_layers_cannot_be_pickled() -> None:
    with pytest.raises(LawError) as caught:
        check_parametrization(Exact, SHAPE, engine=nn.utils.parametrize)
    assert set(caught.value.broken) == {"pickling"}


def from_torch(register: Callable[[nn.Module], nn.Module]) -> nn.Module:
    layer = register(nn.Linear(*reversed(TALL), bias=False, dtype=torch.float64))
    return copy.deepcopy(layer.parametrizations.weight[0])


def orthonormal(shape: Any, **options: Any) -> Tensor:
    return torch.linalg.qr(torch.randn(shape, **options)).Q


TALL = (5, 3)
# What of torch's own breaks which laws, in torch 2.13 on a CPU.
BREAKS = {
    # Its fused kernel's second derivative takes the norm for a constant; a row of zeros is divided by its norm.
    "weight_norm": {"second_derivatives", "extremes", "repeats"},
    # One step of a power iteration lags behind; zeros are divided by their norm; a kernel is flattened, so no batch.
    "spectral_norm": {"batch", "extremes", "half_precision", "round_trip", "single_precision"},
    # No batch in the inverse; a QR factorization that half precision does not have; a product with the base that
    # autocast rounds; the exponential of huge numbers.
    "matrix_exp, based": {"autocast", "batch", "half_precision"},
    "cayley, based": {"autocast", "batch", "half_precision"},
    "matrix_exp": {"batch", "extremes", "half_precision"},
    "cayley": {"batch", "half_precision"},
    # Signs stand in the diagonal of the trained tensor, which weight decay takes from 1 to 0.95, and that counts as 0.
    "householder, based": {"anywhere", "assignment", "autocast", "batch", "half_precision", "training"},
    "householder": {"anywhere", "assignment", "batch", "half_precision", "training"},
}


@pytest.mark.parametrize("name", BREAKS)
def test_of_torchs_own_parametrizations_the_laws_find_what_is_known_to_break(name: str) -> None:
    map_, _, based = name.partition(", ")

    def make() -> nn.Module:
        if name.endswith("norm"):
            return from_torch(getattr(parametrizations, name))
        options = {"orthogonal_map": map_, "use_trivialization": bool(based)}
        step = from_torch(functools.partial(parametrizations.orthogonal, **options))
        step.residual = Orthogonal().residual  # a plain module says what its set is
        return step

    draw = torch.randn if name.endswith("norm") else orthonormal
    with pytest.raises(LawError) as caught:
        check_parametrization(make, TALL, draw=draw)
    assert set(caught.value.broken) == BREAKS[name]


def test_all_laws_hold_for_our_weight_norm_where_torchs_breaks() -> None:
    assert check_parametrization(WeightNorm, TALL, laws=BREAKS["weight_norm"])


def test_an_accelerator_has_the_value_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    # There is none here: the law is run with the CPU in its place, and a value that is another one there.
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: torch.device("cpu"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 0)
    law = "device_and_dtype_follow"
    assert check_parametrization(Exact, SHAPE, laws=[law])[law] == "holds"
    with pytest.raises(LawError, match="the value on cpu differs by"):
        check_parametrization(ForgetsWhenCopied, SHAPE, laws=[law])


def test_the_mode_of_the_caller_does_not_matter_and_the_error_has_its_cause() -> None:
    with torch.inference_mode():
        assert check_parametrization(Skew, SHAPE, laws=["first_derivatives", "training"])
    with torch.no_grad(), pytest.raises(LawError) as caught:
        check_parametrization(NotSymmetric, SHAPE, laws=["start", "training"])
    assert isinstance(caught.value.__cause__, AssertionError)


def test_the_message_has_the_law_the_numbers_and_what_was_tested() -> None:
    with pytest.raises(LawError) as caught:
        check_parametrization(WrongFreedom, SHAPE, laws=["dof", "vmap"], seed=3)
    assert str(caught.value).splitlines() == [
        "WrongFreedom() on shape (3, 3), float64 (seed 3) breaks 1 of the 2 laws checked:",
        "  dof: The degrees of freedom are the rank of the derivative of the map.",
        "    dof says 7, the derivative has rank 6",
    ]


def test_a_law_or_a_dtype_that_there_is_none_of_is_refused() -> None:
    with pytest.raises(ValueError, match="got nearby"):
        check_parametrization(Skew, SHAPE, laws=["nearby"])
    with pytest.raises(ValueError, match=r"got torch\.float32"):
        check_parametrization(Skew, SHAPE, dtype=torch.float32)


def test_the_random_numbers_of_the_caller_are_left_as_they_were() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    check_parametrization(Symmetric, SHAPE, laws=["start", "nearest"])
    assert torch.equal(torch.rand(3), expected)


def test_many_checks_in_one_process_do_not_exhaust_the_compiler() -> None:
    for _ in range(10):
        check_parametrization(Skew, (2, 2), laws=["compile"])


def test_the_laws_need_nothing_but_torch() -> None:
    program = (
        "import sys; sys.modules.update(dict.fromkeys(['pytest', 'hypothesis', 'scipy', 'numpy.testing'], None));"
        "from paraform.testing import check_parametrization; from paraform import Skew;"
        "print(check_parametrization(Skew, (3, 3))['export'])"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["holds"]


def test_a_complex_form_is_checked_in_complex_numbers() -> None:
    assert check_parametrization(Orthogonal, (3, 2), dtype=torch.complex128, laws=["dof", "round_trip"])


def test_empty_tensors_have_no_extremes_to_break() -> None:
    assert check_parametrization(Orthogonal, (0, 0), laws=["extremes"]) == {"extremes": "holds"}


def test_an_empty_tensor_has_no_derivative_to_count() -> None:
    assert "empty" in check_parametrization(Orthogonal, (0, 0), laws=["dof"])["dof"]
