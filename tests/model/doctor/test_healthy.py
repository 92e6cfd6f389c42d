"""No false alarms: what is as it should be has no warning."""

import copy

import pytest
import torch
from torch import nn

import paraform as pf
from paraform import param_groups, parametrize, register_parametrization
from paraform.model.doctor import doctor
from tests.conftest import SEED
from tests.constraints.sets import CASES, FAMILIES, FOR_ALL, Case, Family
from tests.constraints.test_laws import steps

REAL = pytest.mark.parametrize("case", [case for case in CASES if not case.dtype.is_complex], ids=str)


def point(case: Case, dtype: torch.dtype) -> torch.Tensor:
    """A value in the midst of the set: registration moves what is outside to the edge, where PF402 is right."""
    return case.make().sample(case.shape, dtype=dtype)


@FOR_ALL
def test_every_set_is_healthy_from_registration_on_and_after_training(case: Case) -> None:
    layer = case.layer(parametrize, point(case, case.dtype))
    optimizer = torch.optim.AdamW(param_groups(layer, weight_decay=0.1))
    assert len(doctor(layer, optimizer)) == 0, f"seed {SEED}"
    steps(layer, case)
    assert len(doctor(layer, optimizer)) == 0, f"seed {SEED}"


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_set_of_each_family_is_healthy_on_torchs_engine(family: Family) -> None:
    case = family.cases[0]
    assert doctor(case.layer(nn.utils.parametrize, point(case, case.dtype))).codes == (), f"seed {SEED}"


@REAL
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_set_is_healthy_in_lower_precision(case: Case, dtype: torch.dtype) -> None:
    born = case.layer(parametrize, point(case, dtype))
    assert doctor(born).warnings == (), f"seed {SEED}"


@REAL
def test_every_set_is_healthy_when_the_layer_is_moved_to_lower_precision(case: Case) -> None:
    moved = case.layer(parametrize, point(case, case.dtype)).half()
    assert doctor(moved).warnings == (), f"seed {SEED}"


@FOR_ALL
def test_registration_of_any_value_leaves_it_in_its_set(case: Case) -> None:
    found = doctor(case.layer(parametrize)).warnings
    assert {finding.code for finding in found} <= {"PF402"}  # at the edge of an open set nothing trains


CHAINS = {
    "a skew matrix and its exponential": [pf.Skew, lambda: torch.matrix_exp],
    "a symmetric matrix and its exponential": [pf.Symmetric, lambda: torch.matrix_exp],
    "a skew matrix and a sine": [pf.Skew, lambda: torch.sin],
    "a mask that keeps symmetry": [pf.Symmetric, lambda: pf.Masked(torch.eye(4))],
    "an orthogonal matrix within a bound": [pf.Orthogonal, pf.SpectralNorm],
    "positive numbers, doubled": [pf.Positive, lambda: Twice()],
    "a function alone": [lambda: torch.tanh],
}


class Twice(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x


@pytest.mark.parametrize("name", CHAINS)
def test_chains_whose_steps_go_together_have_no_finding(name: str) -> None:
    layer = nn.Linear(4, 4)
    for make in CHAINS[name]:
        register_parametrization(layer, "weight", make())
    assert doctor(layer, sample=torch.ones(2, 4)).codes == ()


def test_a_whole_model_in_good_order_has_no_finding() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.LSTM(8, 8, batch_first=True))
    register_parametrization(model[0], "weight", pf.Orthogonal())
    register_parametrization(model[2], "weight_hh_l0", pf.Blocks(pf.Orthogonal(), 4))
    optimizer = torch.optim.AdamW(param_groups(model, weight_decay=0.1))
    pf.cache_each_forward(model)
    for _ in range(2):
        model(torch.randn(3, 5, 6))[0].square().mean().backward()
        optimizer.step()
        assert doctor(model, optimizer, torch.randn(3, 5, 6)).codes == ()


def test_ties_that_hold_have_no_finding() -> None:
    model = nn.ModuleDict({"embedding": nn.Embedding(5, 4), "head": nn.Linear(4, 5)})
    model["head"].weight = model["embedding"].weight
    register_parametrization(model["head"], "weight", pf.UnitNorm())
    report = doctor(model, torch.optim.SGD(model.parameters(), lr=0.1))
    assert report.codes == ()
    assert report.looked_at == 1


def test_layers_that_are_copies_of_one_another_are_no_ties() -> None:
    layer = nn.Linear(4, 4)
    register_parametrization(layer, "weight", pf.Masked(torch.ones(4, 4)))
    plain = nn.Linear(4, 4)
    plain.weight = nn.Parameter(layer.weight.detach().clone())
    assert doctor(nn.Sequential(layer, plain)).codes == ()


def test_an_identity_elsewhere_is_no_copy() -> None:
    model = nn.ModuleDict({"one": nn.Linear(3, 3), "other": nn.Linear(3, 3)})
    register_parametrization(model["one"], "weight", pf.Orthogonal())
    model["one"].weight = torch.eye(3)
    model["other"].weight = nn.Parameter(torch.eye(3))
    assert doctor(model).codes == ()


def test_numbers_that_a_map_does_not_read_are_not_saturated() -> None:
    model = nn.Linear(4, 4)
    register_parametrization(model, "weight", pf.Masked(torch.eye(4)))
    with torch.no_grad():
        model.parametrizations.weight.original.fill_(1e6)
    assert doctor(model).codes == ()


def test_a_factor_whose_other_factor_is_zero_is_not_saturated() -> None:
    model = register_parametrization(nn.Linear(4, 4), "weight", pf.LowRankUpdate(2))
    raws = model.parametrizations.weight.originals()
    assert any(not raw.any() for raw in raws)  # as it starts
    assert doctor(model).codes == ()


@pytest.mark.parametrize("size", [8, 64, 200])
def test_a_new_spectral_norm_does_not_lag(size: int) -> None:
    for make in (pf.parametrizations.spectral_norm, nn.utils.parametrizations.spectral_norm):
        assert doctor(make(nn.Linear(size, size))).codes == ()


def test_the_spectral_norm_of_a_large_matrix_is_in_its_set() -> None:
    model = nn.Linear(300, 300)
    with torch.no_grad():
        model.weight.mul_(20)
    assert doctor(register_parametrization(model, "weight", pf.SpectralNorm())).codes == ()


def test_what_does_not_train_may_be_unknown_to_the_optimizer_and_may_decay() -> None:
    model = register_parametrization(nn.Linear(4, 4), "weight", pf.Orthogonal())
    everything = torch.optim.AdamW(model.parameters(), weight_decay=0.1)
    model.parametrizations.weight.original.requires_grad_(False)
    assert doctor(model, everything).codes == ()
    assert doctor(model, torch.optim.SGD([model.bias], lr=0.1)).codes == ()


def test_a_model_without_parametrizations_is_looked_at_too() -> None:
    model = nn.Linear(2, 2)
    report = doctor(model, torch.optim.AdamW(model.parameters()), torch.ones(1, 2))
    assert str(report) == "Nothing found. 0 parametrized tensors looked at."


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_scripted_lazy_and_meta_modules_are_passed_by() -> None:
    layer = register_parametrization(nn.Linear(3, 3), "weight", pf.Skew())
    model = nn.Sequential(torch.jit.script(nn.Linear(3, 3)), layer, nn.LazyLinear(2))
    assert doctor(model).codes == ()
    assert doctor(model, torch.optim.SGD(model.parameters(), lr=0.1)).codes == ()
    meta = copy.deepcopy(layer).to("meta")
    assert str(doctor(meta)) == "Nothing found. 1 parametrized tensor looked at."
