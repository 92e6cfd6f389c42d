"""Averages of parametrized models (EMA, SWA) are in the set, and copies are independent and keep nothing alive."""

import copy
import gc
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.optim import swa_utils
from torch.utils._python_dispatch import TorchDispatchMode

from paraform import parametrizations, parametrize
from paraform.constraints import Constraint, Masked, Orthogonal
from paraform.parametrize import register_parametrization
from tests.constraints.sets import CASES, Case, assert_inside

AVERAGES = {
    "swa": {},
    "swa with buffers": {"use_buffers": True},
    "swa one by one": {"avg_fn": swa_utils.get_swa_avg_fn(), "use_buffers": True},
    "ema": {"multi_avg_fn": swa_utils.get_ema_multi_avg_fn(0.7)},
    "ema with buffers": {"multi_avg_fn": swa_utils.get_ema_multi_avg_fn(0.7), "use_buffers": True},
    "ema one by one": {"avg_fn": swa_utils.get_ema_avg_fn(0.7), "use_buffers": True},
}
BY_EVERY_AVERAGE = pytest.mark.parametrize("kind", AVERAGES.values(), ids=AVERAGES)


class Numbers(TorchDispatchMode):
    """Counts how often a number leaves its tensor for Python, which on a GPU waits for all work before it."""

    reads_of_numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.reads_of_numbers += "_local_scalar_dense" in str(function)
        return function(*args, **(kwargs or {}))


def averaged(layer: nn.Module, value: Callable[[], Tensor], kind: dict) -> nn.Module:
    """The average over models whose weights are assigned, so that derived state moves too, and then stepped away."""
    average = swa_utils.AveragedModel(layer, **kind)
    for _ in range(3):
        layer.weight = value()
        with torch.no_grad():
            for raw in layer.parametrizations.weight.parameters():
                raw.add_(0.1 * torch.randn_like(raw))
        _ = layer.weight
        average.update_parameters(layer)
    return average.module.eval()


@pytest.mark.parametrize("case", [case for case in CASES if case.make().__class__ is not Masked], ids=str)
@BY_EVERY_AVERAGE
def test_an_average_over_models_is_in_the_set(case: Case, kind: dict) -> None:
    layer = case.layer(parametrize)
    average = averaged(layer, lambda: layer.constraint.sample(case.shape, dtype=case.dtype), kind)
    assert_inside(average.constraint, average.weight)
    assert torch.equal(average.weight, average.weight)
    assert_inside(average.constraint, copy.deepcopy(average).weight)
    twin = case.layer(parametrize).eval()
    twin.load_state_dict(average.state_dict())
    assert torch.equal(twin.weight, average.weight)


def masked() -> nn.Linear:
    return register_parametrization(nn.Linear(3, 2), "weight", Masked([1, 0, 1]))


@pytest.mark.parametrize("name", ["swa", "ema", "ema with buffers"])
def test_an_average_of_equal_masks_is_that_mask(name: str) -> None:
    average = averaged(masked(), lambda: torch.randn(2, 3) * torch.tensor([1, 0, 1]), AVERAGES[name])
    assert average.parametrizations.weight[0].mask.tolist() == [True, False, True]
    assert torch.equal(average.weight == 0, torch.tensor([[False, True, False]]).expand(2, 3))


def test_torchs_swa_refuses_to_average_a_buffer_of_bools() -> None:
    with pytest.raises(RuntimeError, match="two bool tensors"):
        averaged(masked(), lambda: torch.zeros(2, 3), AVERAGES["swa with buffers"])


STAND_INS = {
    f"orthogonal-{map_}-{base}": lambda layer, map_=map_, base=base: parametrizations.orthogonal(
        layer, orthogonal_map=map_, use_trivialization=base
    )
    for map_ in ("matrix_exp", "cayley", "householder")
    for base in (True, False)
} | {"weight_norm": parametrizations.weight_norm, "spectral_norm": parametrizations.spectral_norm}


@pytest.mark.parametrize("name", STAND_INS)
@BY_EVERY_AVERAGE
def test_an_average_over_models_of_the_stand_ins_is_in_their_set(name: str, kind: dict) -> None:
    layer = STAND_INS[name](nn.Linear(4, 6).double())

    def value() -> Tensor:
        return nn.init.orthogonal_(torch.empty(6, 4, dtype=torch.float64))

    if name in ("orthogonal-matrix_exp-False", "orthogonal-cayley-False"):
        layer.parametrizations.weight[0].right_inverse = lambda value: torch.randn_like(value)  # they have none
    average = averaged(layer, value, kind)
    weight = average.weight.detach()
    if name.startswith("orthogonal"):
        torch.testing.assert_close(weight.mT @ weight, torch.eye(4, dtype=torch.float64))
    elif name == "weight_norm":
        length = average.parametrizations.weight.original0
        torch.testing.assert_close(weight.norm(dim=1, keepdim=True), length.detach().abs())
    elif kind.get("use_buffers"):  # vectors of one model, for the average over several, is what torch's function does
        assert 0.9 < torch.linalg.matrix_norm(weight, ord=2) < 1.2


def test_an_average_over_equal_models_changes_no_bit_of_the_base() -> None:
    layer = register_parametrization(nn.Linear(4, 4), "weight", Orthogonal())
    base = layer.parametrizations.weight[0].base.clone()
    average = swa_utils.AveragedModel(layer, use_buffers=True)
    average.update_parameters(layer)
    _ = average.module.weight
    assert torch.equal(average.module.parametrizations.weight[0].base, base)


def halved(buffer: Tensor) -> None:
    with torch.no_grad():
        buffer.mul_(0.5)


@pytest.mark.parametrize("make", [parametrizations.orthogonal, parametrizations.spectral_norm])
def test_derived_state_is_looked_at_once_after_a_change_and_not_at_every_read(make: Callable) -> None:
    layer = make(nn.Linear(4, 4))
    for change in (lambda: None, lambda: [halved(buffer) for buffer in layer.parametrizations.buffers()]):
        layer.train()
        change()
        layer(torch.ones(1, 4))
        with Numbers() as seen:
            for mode in (True, False):
                layer.train(mode)(torch.ones(1, 4)).sum().backward()
        assert seen.reads_of_numbers == 0


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_used_layer_is_freed_when_its_copies_live(case: Case) -> None:
    layer = case.layer(parametrize)
    layer.weight.abs().sum().backward()
    parts = [weakref.ref(part) for part in (layer, layer.constraint, *layer.parameters(), *layer.buffers())]
    copies = [copy.deepcopy(layer), swa_utils.AveragedModel(layer)]
    for twin in (copies[0], copies[1].module):
        _ = twin.weight
    del layer
    gc.collect()
    assert [part() for part in parts] == [None] * len(parts)


@pytest.mark.parametrize("make", [Orthogonal, lambda: Orthogonal("householder")])
def test_an_lstm_with_orthogonal_kernels_is_copied_and_averaged_after_a_forward_pass(
    make: Callable[[], Constraint],
) -> None:
    lstm, x = nn.LSTM(3, 5), torch.randn(4, 2, 3)
    register_parametrization(lstm, "weight_hh_l0", make())
    before = lstm(x)[0]
    before.sum().backward()
    twin, average = copy.deepcopy(lstm), swa_utils.AveragedModel(lstm, use_buffers=True)
    average.update_parameters(lstm)
    assert torch.equal(twin(x)[0], before)
    assert torch.equal(average(x)[0], before)
    with torch.no_grad():
        twin.parametrizations.weight_hh_l0.original.normal_()
    assert not torch.equal(twin(x)[0], before)
    assert torch.equal(lstm(x)[0], before)
    first = weakref.ref(lstm)
    del lstm, before
    gc.collect()
    assert first() is None
