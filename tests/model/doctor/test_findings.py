"""What is planted is found: where, how many, how bad. (Each code once, and its remedy, is in test_page.py.)"""

import pytest
import torch
from torch import Tensor, nn

import paraform as pf
from paraform import param_groups, register_parametrization
from paraform.model.doctor import Finding, doctor
from tests.parametrize.cases import Double, Scale


def found(code: str, *args: object, **options: object) -> list[Finding]:
    return [finding for finding in doctor(*args, **options) if finding.code == code]


def constrained(step: nn.Module, size: int = 4) -> nn.Module:
    return register_parametrization(nn.Linear(size, size), "weight", step)


def test_weight_decay_is_a_warning_where_a_step_denies_it_and_a_note_where_none_says() -> None:
    for step, severity in ((pf.Orthogonal(), "warning"), (Double(), "note")):
        model = constrained(step)
        (finding,) = found("PF101", model, torch.optim.AdamW(model.parameters(), weight_decay=0.25))
        assert (finding.severity, finding.tensor) == (severity, "weight")
        assert "weight_decay is 0.25 for original" in finding.what
        assert found("PF101", model, torch.optim.AdamW(model.parameters(), weight_decay=0.0)) == []
    model = constrained(pf.Symmetric())
    assert found("PF101", model, torch.optim.AdamW(model.parameters())) == []


def test_weight_decay_of_one_of_two_raw_tensors_names_that_one() -> None:
    model = constrained(pf.WeightNorm())
    (finding,) = found("PF101", model, torch.optim.AdamW(model.parameters()))
    assert "original1" in finding.what


def test_weight_decay_of_what_a_parametrization_trains_of_its_own_is_found() -> None:
    model = constrained(Scale())
    names = [finding.what.split(",")[0] for finding in found("PF101", model, torch.optim.AdamW(model.parameters()))]
    assert names == ["weight_decay is 0.01 for original", "weight_decay is 0.01 for 0.factor"]


def test_all_that_the_optimizer_does_not_know_is_named() -> None:
    model = constrained(Scale())
    (finding,) = found("PF102", model, torch.optim.SGD([model.bias], lr=0.1))
    assert (finding.severity, finding.tensor) == ("warning", "weight")
    assert "does not train original, 0.factor of" in finding.what


def test_another_models_parameters_are_a_note_and_the_former_weight_is_a_warning() -> None:
    model, other = nn.Linear(4, 4), nn.Linear(4, 4)
    optimizer = torch.optim.SGD([*model.named_parameters(), ("theirs", other.weight)], lr=0.1)
    (finding,) = found("PF103", model, optimizer)
    assert (finding.severity, finding.tensor) == ("note", "")
    assert finding.what.startswith("'theirs' (param_groups[0]['params'][2])")
    register_parametrization(model, "weight", pf.WeightNorm())
    severe = [finding for finding in found("PF103", model, optimizer) if finding.severity == "warning"]
    assert severe[0].tensor == "weight"
    assert severe[0].what.startswith("'weight' (param_groups[0]['params'][0])")


def test_a_view_of_a_raw_tensor_is_a_split_tie_and_a_part_of_the_same_storage_is_none() -> None:
    model = nn.Sequential(constrained(pf.Symmetric()), nn.Linear(4, 4))
    store = torch.randn(8, 4)
    model[0].parametrizations.weight.original = nn.Parameter(store[:4])
    model[1].weight = nn.Parameter(store[4:])
    assert found("PF201", model) == []
    model[1].weight = nn.Parameter(store[2:6])
    (finding,) = found("PF201", model)
    assert (finding.severity, finding.tensor) == ("warning", "0.weight")
    assert finding.what.startswith("'1.weight' lies in the memory of its raw tensor")


def test_two_chains_with_one_raw_tensor_and_one_value_are_a_note() -> None:
    model = nn.Sequential(constrained(pf.Symmetric()), constrained(pf.Symmetric()))
    model[1].parametrizations.weight.original = model[0].parametrizations.weight.original
    (finding,) = found("PF202", model)
    assert (finding.severity, finding.tensor) == ("note", "0.weight")
    register_parametrization(model[1], "weight", Double())
    (finding,) = found("PF202", model)
    assert finding.severity == "warning"


@pytest.mark.parametrize(
    ("steps", "undone"),
    [
        ([pf.Orthogonal(), pf.Masked(torch.ones(4, 4).tril())], ["Orthogonal"]),
        ([pf.Symmetric(), pf.Masked(torch.ones(4, 4).triu()), pf.UnitNorm()], ["Symmetric"]),
        ([pf.Symmetric(), pf.UnitNorm(), pf.Masked(torch.ones(4, 4).triu(1))], ["UnitNorm", "Symmetric"]),
        ([pf.Skew(), torch.matrix_exp, pf.Masked(torch.ones(4, 4).tril())], []),
        ([pf.Orthogonal(), torch.relu], ["Orthogonal"]),
    ],
)
def test_the_steps_that_are_undone_are_named(steps: list[nn.Module], undone: list[str]) -> None:
    torch.manual_seed(3)
    model = nn.Linear(4, 4)
    for step in steps:
        register_parametrization(model, "weight", step)
    findings = found("PF302", model)
    assert [finding.what.split("the set of ")[1].split("(")[0] for finding in findings] == undone
    assert all(finding.severity == "warning" for finding in findings)


def test_a_step_that_is_switched_off_undoes_nothing() -> None:
    model = constrained(pf.Orthogonal())
    register_parametrization(model, "weight", pf.Masked(torch.ones(4, 4).tril()))
    with model.parametrizations.weight.switched_off(1):
        assert doctor(model).codes == ("PF305",)
    assert doctor(model).codes == ("PF302",)


@pytest.mark.parametrize(("dtype", "finer"), [(torch.bfloat16, "float32"), (torch.float32, "float64")])
def test_a_set_that_more_digits_bring_back_is_left_through_low_precision(dtype: torch.dtype, finer: str) -> None:
    class Rounded(pf.UnitNorm):
        def forward(self, raw: Tensor) -> Tensor:
            inside = super().forward(raw)
            return inside * (1.1 if raw.dtype == dtype else 1)

    model = register_parametrization(nn.Linear(4, 4, dtype=dtype), "weight", Rounded())
    (finding,) = doctor(model)
    assert (finding.code, finding.severity) == ("PF304", "warning")
    assert str(dtype).removeprefix("torch.") in finding.what
    assert finer in finding.what
    assert "The value is 0.1" in finding.what


def test_non_finite_raw_numbers_are_counted() -> None:
    model = constrained(pf.Symmetric())
    with torch.no_grad():
        model.parametrizations.weight.original.view(-1)[:3] = torch.tensor([torch.nan, torch.inf, -torch.inf])
    report = doctor(model)
    assert report.codes == ("PF401",)
    assert report[0].what == "3 of 16 entries of original are nan or inf."


@pytest.mark.parametrize("step", [pf.Interval(-1.0, 1.0), pf.Positive(), pf.Simplex()], ids=str)
def test_saturated_raw_numbers_are_counted(step: pf.Constraint) -> None:
    model = constrained(step)
    raw = model.parametrizations.weight.original
    with torch.no_grad():
        raw.zero_()
        raw[1, 2] = -200.0
    (finding,) = found("PF402", model)
    assert finding.severity == "warning"
    assert finding.what.startswith(
        "The derivative with respect to 1 of 16 entries of original vanishes (raw numbers up"
    )
    with torch.no_grad():
        raw[1, 2] = -5.0
    assert doctor(model).codes == ()


def test_a_small_number_that_still_trains_is_not_saturated() -> None:
    model = constrained(pf.Positive())
    model.weight = torch.full((4, 4), 1e-6)
    assert doctor(model).codes == ()


@pytest.mark.parametrize(
    "make", [pf.parametrizations.spectral_norm, nn.utils.parametrizations.spectral_norm], ids=["paraform", "torch"]
)
def test_a_lagging_spectral_norm_says_by_how_much(make: object) -> None:
    model = make(nn.Linear(3, 3)).eval()
    with torch.no_grad():
        step = model.parametrizations.weight[0]
        step._u.copy_(torch.tensor([1.0, 0.0, 0.0]))
        step._v.copy_(torch.tensor([1.0, 0.0, 0.0]))
        model.parametrizations.weight.original.copy_(torch.diag(torch.tensor([2.0, 5.0, 1.0])))
    (finding,) = found("PF601", model)
    assert finding.severity == "warning"
    assert "singular value is 2.5 after" in finding.what
    assert "is 40 % of" in finding.what
    before = [buffer.clone() for buffer in model.buffers()]
    doctor(model.train())
    assert all(map(torch.equal, model.buffers(), before))


@pytest.mark.parametrize(
    ("layer", "name", "step", "blocks"),
    [
        (nn.LSTM(4, 4, num_layers=2), "weight_hh_l1", pf.Orthogonal(), 4),
        (nn.GRUCell(4, 4), "weight_ih", pf.Scaled(pf.Orthogonal()), 3),
        (nn.MultiheadAttention(4, 2), "in_proj_weight", pf.Grassmann(), 3),
        (nn.RNN(4, 4), "weight_hh_l0", pf.Orthogonal(), 1),
        (nn.LSTM(4, 4, proj_size=2), "weight_hr_l0", pf.Orthogonal(), 1),
        (nn.LSTM(4, 4), "weight_hh_l0", pf.UnitNorm(), 1),
        (nn.LSTM(4, 4), "weight_hh_l0", pf.Blocks(pf.Orthogonal(), 4), 1),
    ],
    ids=lambda x: type(x).__name__ if isinstance(x, nn.Module) else str(x),
)
def test_packed_matrices_are_known(layer: nn.Module, name: str, step: nn.Module, blocks: int) -> None:
    findings = found("PF701", register_parametrization(layer, name, step))
    assert len(findings) == (blocks > 1)
    assert all(f"holds {blocks} matrices" in finding.what and finding.tensor == name for finding in findings)


def test_torchs_orthogonal_on_packed_gates_is_known() -> None:
    for make in (nn.utils.parametrizations.orthogonal, pf.parametrizations.orthogonal):
        assert len(found("PF701", make(nn.GRU(4, 4), "weight_hh_l0"))) == 1


def test_the_optimizer_of_param_groups_has_no_finding_after_the_remedy() -> None:
    model = nn.Sequential(constrained(pf.Orthogonal()), constrained(pf.WeightNorm()), constrained(Double()))
    assert len(found("PF101", model, torch.optim.AdamW(model.parameters()))) == 3
    assert doctor(model, torch.optim.AdamW(param_groups(model, weight_decay=0.01))).codes == ()


def test_a_raw_tensor_that_wants_no_gradient_need_not_be_able_to_train() -> None:
    saturated, infinite = constrained(pf.Interval(-1.0, 1.0)), nn.Linear(4, 4)
    nn.init.zeros_(infinite.bias)
    register_parametrization(infinite, "bias", (torch.sqrt, torch.square))
    with torch.no_grad():
        saturated.parametrizations.weight.original.fill_(200.0)
    for model, code in ((saturated, "PF402"), (infinite, "PF403")):
        assert doctor(model).codes == (code,)
        model.requires_grad_(False)
        assert doctor(model).codes == ()


def test_a_compiled_model_has_the_names_of_the_plain_one() -> None:
    model = torch.compile(constrained(pf.Orthogonal()), backend="eager")
    (finding,) = doctor(model, torch.optim.AdamW(model.parameters()))
    assert finding.tensor == "weight"
