"""The doctor changes nothing, and does not fail."""

import copy
import random
import threading
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import paraform as pf
from paraform import cached, register_parametrization
from paraform.model.copied import copied
from paraform.model.doctor import doctor
from paraform.parametrize import cache


class Noisy(nn.Module):
    """Everything that a forward pass may move: statistics, estimates, random numbers, attributes, gradients' hooks."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 4))
        register_parametrization(self.body[0], "weight", pf.Orthogonal())
        pf.parametrizations.spectral_norm(self.body[3])
        nn.utils.parametrizations.spectral_norm(self.body[3], "bias")
        self.rnn = nn.GRU(4, 4)
        register_parametrization(self.rnn, "weight_hh_l0", pf.Blocks(pf.Orthogonal(), 3))
        self.other_rnn = nn.utils.parametrizations.spectral_norm(nn.LSTM(4, 4), "weight_hh_l0")
        self.unused = register_parametrization(nn.Linear(4, 4), "weight", pf.Skew())
        self.calls, self.seen = 0, []

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.seen.append(x)
        x.add_(1)
        return self.other_rnn(self.rnn(self.body(x))[0])[0] + torch.randn(())


def state_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[Any]:
    tensors = [*model.parameters(), *model.buffers()]
    modules = list(model.modules())
    return [
        [(id(tensor), tensor._version, tensor.detach().clone().numpy().tobytes()) for tensor in tensors],
        [(tensor.requires_grad, tensor.grad is None or tensor.grad.clone().numpy().tobytes()) for tensor in tensors],
        [(type(module), module.training, sorted(vars(module))) for module in modules],
        [(len(module._forward_hooks), len(module._forward_pre_hooks)) for module in modules],
        [(name, value) for module in modules for name, value in vars(module).items() if isinstance(value, int | str)],
        [[*map(id, getattr(module, "_flat_weights", ()))] for module in modules],
        [model.calls, len(model.seen)],
        [copy.deepcopy(optimizer.state_dict()["param_groups"]), len(optimizer.state)],
        [torch.get_rng_state().numpy().tobytes(), random.getstate()],
        [torch.is_grad_enabled(), torch.is_inference_mode_enabled(), list(warnings.filters)],
    ]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("grad", [True, False])
def test_nothing_is_changed_to_the_bit(training: bool, grad: bool) -> None:
    model = Noisy()
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(3, 4)).sum().backward()
    optimizer.step()
    model.train(training)
    sample = torch.randn(3, 4)
    with torch.set_grad_enabled(grad):
        before, given = state_of(model, optimizer), sample.clone()
        report = doctor(model, optimizer, sample)
        assert state_of(model, optimizer) == before
    assert torch.equal(sample, given)
    assert "PF503" in report.codes  # it did run
    assert "PF101" in report.codes


def test_it_works_under_inference_mode_and_says_the_same() -> None:
    model, sample = Noisy().eval(), torch.ones(3, 4)
    before = [(finding.code, finding.tensor) for finding in doctor(model, sample=sample)]
    with torch.inference_mode():
        assert [(finding.code, finding.tensor) for finding in doctor(model, sample=sample)] == before


def test_what_the_caller_has_cached_is_neither_recomputed_nor_lost() -> None:
    model = nn.Sequential(register_parametrization(nn.Linear(4, 4), "weight", pf.Skew()))
    model.append(model[0])
    sample = torch.ones(1, 4)
    assert doctor(model, sample=sample).codes == ("PF501",)
    with cached(model):
        kept = model[0].weight
        assert doctor(model, sample=sample).codes == ()
        assert model[0].weight is kept
    assert doctor(model, sample=sample).codes == ("PF501",)


def test_nothing_is_left_in_a_cache_of_the_callers() -> None:
    model = nn.Sequential(register_parametrization(nn.Linear(4, 4), "weight", pf.Skew()))
    with cached():
        assert model[0].weight is model[0].weight
        (scope,) = cache.thread.scopes
        before = dict(scope._records)
        doctor(model, sample=torch.ones(1, 4))
        assert cache.thread.scopes == [scope]
        assert scope._records == before


@pytest.mark.parametrize("training", [True, False])
def test_the_copy_that_is_run_has_the_modes_of_the_model(training: bool) -> None:
    model = nn.utils.parametrizations.spectral_norm(nn.LSTM(4, 4), "weight_hh_l0").train(training)
    before = model.parametrizations.weight_hh_l0[0]._u.clone()
    copy = copied(model)
    assert [module.training for module in copy.modules()] == [training] * len(list(model.modules()))
    assert [module.training for module in model.modules()] == [training] * len(list(model.modules()))
    assert torch.equal(model.parametrizations.weight_hh_l0[0]._u, before)


def test_a_chain_that_raises_is_a_finding_and_the_others_are_examined() -> None:
    def refuse(raw: Tensor) -> Tensor:
        if raw.dtype != torch.float32:
            raise ValueError("float32, please")
        return raw

    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    register_parametrization(model[0], "weight", refuse)
    register_parametrization(model[1], "weight", pf.Interval(-1.0, 1.0))
    model.double()
    with torch.no_grad():
        model[1].parametrizations.weight.original.fill_(1e3)
    report = doctor(model, torch.optim.SGD(model.parameters(), lr=1), torch.ones(1, 4, dtype=torch.float64))
    found = {finding.code: finding for finding in report}
    assert set(found) == {"PF402", "PF901", "PF902"}
    assert found["PF901"].tensor == "0.weight"
    assert "ValueError: float32, please" in found["PF901"].what


class Broken(pf.Symmetric):
    """A constraint whose value is fine and which cannot tell, after a while, whether it is in the set."""

    is_broken = False

    def _contains(self, value: Tensor) -> Tensor:
        if self.is_broken:
            raise ZeroDivisionError("no residual today")
        return super()._contains(value)


def test_a_constraint_that_cannot_be_asked_is_a_finding() -> None:
    model = register_parametrization(nn.Linear(3, 3), "weight", Broken())
    model.parametrizations.weight[0].is_broken = True
    (finding,) = doctor(model)
    assert (finding.code, finding.severity) == ("PF901", "warning")
    assert "no residual today" in finding.what


def test_a_sample_that_does_not_fit_or_a_model_that_cannot_be_copied_is_a_note() -> None:
    model = register_parametrization(nn.Linear(4, 4), "weight", pf.Skew())
    (finding,) = doctor(model, sample=torch.ones(3))
    assert (finding.code, finding.severity) == ("PF902", "note")
    model.held = threading.Lock()  # which deepcopy refuses
    (finding,) = doctor(model, sample=torch.ones(1, 4))
    assert finding.code == "PF902"
    assert doctor(model).codes == ()


def test_other_things_than_models_and_optimizers_are_refused() -> None:
    with pytest.raises(TypeError, match=r"Expected an nn\.Module for doctor, got list"):
        doctor([nn.Linear(1, 1)])
    with pytest.raises(TypeError, match=r"Expected a torch\.optim\.Optimizer for doctor, got dict"):
        doctor(nn.Linear(1, 1), {})
    with pytest.raises(TypeError, match=r"got Tensor; a sample goes to sample="):
        doctor(nn.Linear(1, 1), torch.ones(1, 1))
