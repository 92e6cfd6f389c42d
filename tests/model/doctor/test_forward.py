"""One forward pass: what is computed how often, and what is used."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import paraform as pf
from paraform import register_parametrization
from paraform.model.doctor import Finding, doctor


def found(code: str, model: nn.Module, sample: object) -> list[Finding]:
    return [finding for finding in doctor(model, sample=sample) if finding.code == code]


class Loop(nn.Module):
    """A recurrent cell and a head, of either engine."""

    def __init__(self, register: object = register_parametrization) -> None:
        super().__init__()
        self.cell, self.head = nn.RNNCell(4, 4), nn.Linear(4, 2)
        register(self.cell, "weight_hh", pf.Skew())
        register(self.head, "weight", pf.UnitNorm())

    def forward(self, x: Tensor, *, steps: int = 5) -> dict[str, Tensor]:
        h = x.new_zeros(4)
        for _ in range(steps):
            h = self.cell(x, h)
        return {"y": self.head(h)}


def test_evaluations_are_counted_and_what_a_cache_would_save() -> None:
    (finding,) = found("PF501", Loop(), torch.ones(4))
    assert (finding.severity, finding.tensor) == ("note", "cell.weight_hh")
    assert finding.what.startswith("One forward pass computes it 5 times. To keep it would save 4 of the 6 evaluations")
    assert "paraform.cached(model)" in finding.remedy


def test_a_sample_is_a_tensor_or_a_tuple_or_a_dictionary() -> None:
    x = torch.ones(4)
    for sample, count in ((x, 5), ((x,), 5), ({"x": x, "steps": 3}, 3)):
        assert f"{count} times" in found("PF501", Loop(), sample)[0].what
    assert doctor(Loop(), sample={"x": x, "steps": 1}).codes == ()


def test_torchs_engine_is_counted_too_and_its_own_cache_is_the_remedy() -> None:
    (finding,) = found("PF501", Loop(nn.utils.parametrize.register_parametrization), torch.ones(4))
    assert "5 times" in finding.what
    assert "with torch.nn.utils.parametrize.cached()" in finding.remedy


def test_equal_chains_that_cached_evaluates_together_are_read() -> None:
    model = nn.Sequential(*[register_parametrization(nn.Linear(4, 4), "weight", pf.Orthogonal()) for _ in range(4)])
    pf.cache_each_forward(model)
    assert doctor(model, sample=torch.ones(1, 4)).codes == ()


@pytest.mark.parametrize("training", [True, False])
def test_the_fused_paths_of_torch_read_what_they_use(training: bool) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    register_parametrization(layer.self_attn, "in_proj_weight", pf.Blocks(pf.Orthogonal(), 3))
    for part in (layer.linear1, layer.linear2, layer.self_attn.out_proj):
        register_parametrization(part, "weight", pf.WeightNorm())
    model = nn.ModuleList([layer, nn.LSTM(8, 8)])
    for name in ("weight_ih_l0", "weight_hh_l0"):
        register_parametrization(model[1], name, pf.UnitNorm())
    for module in model.train(training):
        report = doctor(module, sample=torch.randn(2, 3, 8))
        assert set(report.codes) <= {"PF501"}
        assert report.looked_at >= 2


class Kept(nn.Module):
    """Computes with a Parameter that it took at the start, in evaluation mode only if that is all it is asked."""

    def __init__(self, always: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.kept, self.always = [self.linear.weight], always

    def forward(self, x: Tensor) -> Tensor:
        weight = self.kept[0] if self.always or not self.training else self.linear.weight
        return F.dropout(F.linear(x, weight), training=self.training)


@pytest.mark.parametrize(
    ("always", "training", "mode"),
    [(True, True, "training"), (True, False, "evaluation"), (False, True, "evaluation")],
)
def test_a_bypass_is_found_in_the_mode_that_has_it(always: bool, training: bool, mode: str) -> None:
    model = Kept(always)
    register_parametrization(model.linear, "weight", pf.Symmetric())
    before = model.linear.parametrizations.weight.original.clone()
    (finding,) = found("PF502", model.train(training), torch.ones(1, 4))
    assert (finding.severity, finding.tensor) == ("warning", "linear.weight")
    assert f"A forward pass in {mode} mode does not read it" in finding.what
    assert torch.equal(model.linear.parametrizations.weight.original, before)


class Stale(nn.Linear):
    """Computes with a copy of its weight, as what has packed or fused it does."""

    def forward(self, x: Tensor) -> Tensor:
        return x @ torch.eye(4)


def test_a_layer_that_runs_without_its_weight_is_a_warning_and_one_that_does_not_run_a_note() -> None:
    stale = register_parametrization(Stale(4, 4), "weight", pf.Skew())
    spare = register_parametrization(nn.Linear(4, 4), "weight", pf.Skew())
    for model, severity in ((Holder(stale, stale), "warning"), (Holder(nn.Identity(), spare), "note")):
        (finding,) = found("PF503", model, torch.ones(1, 4))
        assert finding.severity == severity


class Holder(nn.Module):
    def __init__(self, used: nn.Module, owner: nn.Module) -> None:
        super().__init__()
        self.used, self.owner = used, owner

    def forward(self, x: Tensor) -> Tensor:
        return self.used(x)


def test_a_compiled_model_is_run_without_compiling() -> None:
    model = torch.compile(Loop().eval(), backend="eager")
    (finding,) = found("PF501", model, torch.ones(4))
    assert "5 times" in finding.what
    assert torch._dynamo.utils.counters["frames"] == {}


def test_a_model_that_evaluates_otherwise_is_examined_in_training_mode() -> None:
    class Other(Loop):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            if not self.training:
                raise RuntimeError("only for training")
            return super().forward(x)

    assert doctor(Other(), sample=torch.ones(4)).codes == ("PF501",)


class Raw(nn.Module):
    """Computes with the raw tensor, and gives ``make`` of it."""

    def __init__(self, make: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.kept, self.make = [self.linear.weight], make
        register_parametrization(self.linear, "weight", pf.Symmetric())

    def forward(self, x: Tensor) -> object:
        return self.make(x @ self.kept[0].T)


@dataclass
class Output:
    y: Tensor


@pytest.mark.parametrize(
    "make",
    [lambda y: y.sum().item(), Output, lambda y: {"y": [Output(y)]}, lambda y: torch.ones(int(y.abs().sum() * 10))],
    ids=["number", "dataclass", "nested", "length"],
)
def test_a_raw_tensor_that_is_used_shows_in_every_kind_of_output(make: Callable[[Tensor], object]) -> None:
    assert doctor(Raw(make), sample=torch.ones(2, 4)).codes == ("PF502",)


def test_a_model_that_keeps_its_last_result_is_run_too() -> None:
    class Keeping(Loop):
        states: tuple[dict[str, Tensor], ...] = ()

        def forward(self, x: Tensor, *, steps: int = 5) -> dict[str, Tensor]:
            self.states = (*self.states, super().forward(x, steps=steps))
            return self.states[-1]

    model = Keeping()
    model(torch.ones(4))
    kept = model.states
    assert doctor(model, sample=torch.ones(4)).codes == ("PF501",)
    assert model.states is kept
    assert kept[0]["y"].requires_grad
