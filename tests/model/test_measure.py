"""What is said of a tensor in numbers, against NumPy, the definition, or what is known by construction."""

import json
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import paraform as pf
from paraform.model.measure import condition, last_constraint, matrices_of, measure, measurements

register = pf.register_parametrization


def holder(tensor: Tensor, constraint: object, name: str = "weight") -> nn.Module:
    module = nn.Module()
    module.register_parameter(name, nn.Parameter(tensor))
    return register(module, name, constraint)


def of(module: nn.Module, name: str = "weight") -> object:
    return measure(module.parametrizations[name], name)


class Twice(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64, torch.complex128], ids=str)
def test_the_condition_number_is_numpys_of_the_worst_matrix_of_a_batch(dtype: torch.dtype) -> None:
    layer = holder(torch.randn(4, 3, 3, dtype=dtype), pf.Symmetric())
    expected = max(np.linalg.cond(matrix.numpy()) for matrix in layer.weight.detach())
    assert of(layer).condition == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_measured_in_single(dtype: torch.dtype) -> None:
    layer = holder(torch.randn(5, 4, 4).to(dtype), pf.Orthogonal())
    value = layer.weight.detach().float()
    measured = of(layer)
    assert measured.dtype is dtype
    defect = torch.linalg.matrix_norm(value.mT @ value - torch.eye(4)).max()
    assert measured.residual == pytest.approx(float(defect), rel=1e-3)
    assert measured.is_inside


def test_complex_numbers_count_twice() -> None:
    measured = of(holder(torch.randn(3, 3, dtype=torch.complex64), pf.Skew()))
    assert (measured.dof, measured.trained) == (9, 18)  # u(3) has dimension 9


@pytest.mark.parametrize(
    ("shape", "constraint", "dof", "trained"),
    [((0, 3, 3), pf.Skew(), 0, 0), ((0,), pf.Positive(), 0, 0), ((3, 0), Twice(), None, 0)],
    ids=str,
)
def test_a_tensor_without_entries_has_no_condition_and_is_inside(
    shape: tuple[int, ...], constraint: nn.Module, dof: int | None, trained: int
) -> None:
    measured = of(holder(torch.zeros(shape), constraint))
    assert (measured.dof, measured.trained, measured.condition) == (dof, trained, None)
    assert (measured.raw_norm, measured.is_finite) == (0.0, True)
    assert (measured.residual, measured.is_inside) == ((None, None) if dof is None else (0.0, True))


def test_on_the_meta_device_what_follows_from_numbers_is_unknown() -> None:
    mask = torch.eye(3, device="meta").bool()
    for constraint, dof in (pf.Skew(), 3), (pf.Masked(mask), None):
        measured = of(register(nn.Linear(3, 3, device="meta"), "weight", constraint))
        assert (measured.shape, measured.dof, measured.trained) == ((3, 3), dof, 9)
        unknown = (measured.residual, measured.is_inside, measured.condition, measured.raw_norm)
        assert unknown == (None, None, None, None)
        assert measured.is_finite


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_value_that_is_not_finite_is_outside_and_its_numbers_are_nan(bad: float) -> None:
    layer = holder(torch.randn(3, 3), pf.Symmetric())
    with torch.no_grad():
        layer.parametrizations.weight.original[0, 0] = bad
    measured = of(layer)
    assert (measured.is_finite, measured.is_inside) == (False, False)
    assert math.isnan(measured.residual)
    assert math.isnan(measured.condition)
    assert not math.isfinite(measured.raw_norm)


def test_a_vector_has_no_condition_even_if_it_is_not_finite() -> None:
    layer = holder(torch.ones(3), pf.UnitNorm())
    assert of(layer).condition is None
    with torch.no_grad():
        layer.parametrizations.weight.original.fill_(math.nan)
    assert of(layer).condition is None


def test_a_singular_matrix_has_an_infinite_condition() -> None:
    assert of(holder(torch.zeros(2, 2), pf.Symmetric())).condition == math.inf


class Leaking(pf.Masked):
    """Says that it masks, and does not."""

    def forward(self, raw: Tensor) -> Tensor:
        return raw


def test_a_value_that_left_its_set_is_outside() -> None:
    layer = holder(torch.eye(3), Leaking(torch.eye(3).bool()))
    assert of(layer).is_inside
    with torch.no_grad():
        layer.parametrizations.weight.original[0, 1:] = torch.tensor([0.3, 0.4])
    assert of(layer).is_inside is False
    assert of(layer).residual == pytest.approx(0.5)


def test_a_parametrization_of_the_users_own_has_no_residual_and_no_dimension() -> None:
    measured = of(holder(torch.eye(2), Twice()))
    assert (measured.residual, measured.is_inside, measured.dof) == (None, None, None)
    assert (measured.chain, measured.condition) == (("Twice()",), 1.0)


def test_the_dimension_is_that_of_the_only_step_that_is_switched_on() -> None:
    layer = holder(torch.randn(3, 3), pf.Symmetric())
    register(layer, "weight", pf.Masked(torch.eye(3).bool()))
    chain = layer.parametrizations.weight
    assert of(layer).dof is None
    chain.switch_off(0)
    assert (of(layer).dof, of(layer).chain) == (3, ("Symmetric() (switched off)", "Masked(mask=(3, 3))"))
    chain.switch_off(1)
    assert (of(layer).dof, of(layer).residual, last_constraint(chain)) == (None, None, None)


def test_the_residual_is_that_of_the_last_step_alone() -> None:
    layer = holder(torch.randn(3, 3), pf.Orthogonal())
    register(layer, "weight", pf.Masked(torch.eye(3).bool()))
    assert (of(layer).residual, of(layer).is_inside) == (0.0, True)  # no more orthogonal, but masked


def test_what_a_parametrization_trains_itself_counts_once() -> None:
    layer = holder(torch.randn(4, 3), pf.Scaled(pf.Orthogonal()))
    assert of(layer).trained == 4 * 3 + 1
    shared = nn.Linear(3, 3, bias=False)

    class PlusItself(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.own = shared.weight

        def forward(self, x: Tensor) -> Tensor:
            return x + self.own

    register(shared, "weight", PlusItself())
    assert of(shared).trained == 9


def test_the_kernel_of_a_convolution_is_conditioned_as_its_constraint_sees_it() -> None:
    layer = register(nn.Conv2d(3, 5, 2), "weight", pf.Flatten(pf.SpectralNorm()))
    expected = np.linalg.cond(layer.weight.detach().flatten(1).numpy())
    assert of(layer).condition == pytest.approx(expected, rel=1e-3)


def test_nobody_knows_how_a_foreign_parametrization_sees_a_kernel() -> None:
    layer = nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 5, 2))
    assert of(layer).condition is None


@pytest.mark.parametrize("wrap", ["spectral_norm", "weight_norm", "orthogonal"])
def test_chains_of_torchs_engine_are_measured_and_left_as_they_are(wrap: str) -> None:
    layer = getattr(nn.utils.parametrizations, wrap)(nn.Linear(4, 3))
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    measured = of(layer)
    assert measured.shape == (3, 4)
    assert measured.condition == pytest.approx(np.linalg.cond(layer.eval().weight.detach().numpy()), rel=0.5)
    for name, tensor in layer.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_integers_and_sparse_tensors_are_measured_as_far_as_that_has_a_meaning() -> None:
    module = nn.Module()
    module.register_buffer("count", torch.tensor([3, 4]))
    register(module, "count", Twice())
    assert (of(module, "count").raw_norm, of(module, "count").condition) == (5.0, None)
    sparse = of(holder(torch.eye(2).to_sparse(), Twice()))
    assert (sparse.raw_norm, sparse.condition, sparse.is_finite) == (None, None, True)


def test_a_raw_norm_is_finite_where_its_square_is_not() -> None:
    assert of(holder(torch.full((2, 2), 1e30), Twice())).raw_norm == pytest.approx(2e30, rel=1e-5)


def test_measuring_draws_no_random_number_and_moves_no_buffer() -> None:
    class Counted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return nn.functional.dropout(x, 0.5, self.training)

    layer = register(nn.Linear(3, 3), "weight", Counted())
    calls, state = layer.parametrizations.weight[0].calls.clone(), torch.get_rng_state()
    of(layer)
    assert torch.equal(layer.parametrizations.weight[0].calls, calls)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in layer.parameters())


def test_a_tie_is_measured_once_and_every_tensor_of_a_model_is() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3))
    model[2].weight = model[0].weight
    register(model[0], "weight", pf.Skew())
    register(model[2], "bias", pf.UnitNorm())
    assert [measured.name for measured in measurements(model)] == ["0.weight", "2.bias"]


def test_the_dictionary_is_strict_json() -> None:
    layer = holder(torch.zeros(2, 2), pf.Symmetric())
    data = json.loads(json.dumps(of(layer).to_dict(), allow_nan=False))
    assert (data["condition"], data["shape"], data["dtype"]) == (None, [2, 2], "float32")
    with torch.no_grad():
        layer.parametrizations.weight.original.fill_(math.nan)
    assert json.loads(json.dumps(of(layer).to_dict(), allow_nan=False))["residual"] is None


def test_matrices_are_handed_out_as_the_constraint_sees_them() -> None:
    layer = holder(torch.randn(6, 2), pf.Blocks(pf.Orthogonal(), 2))
    chain = layer.parametrizations.weight
    matrices = matrices_of(chain, layer.weight.detach())
    assert matrices.shape == (2, 3, 2)
    assert condition(matrices) == pytest.approx(1.0, rel=1e-4)
    assert matrices_of(chain, torch.zeros(0, 2)) is None
