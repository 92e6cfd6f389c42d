"""Moving bases: no value changes, and training goes on as if nothing had happened."""

import copy
import io

import pytest
import torch
from torch import Tensor, nn

import paraform as pf
from paraform import maps, parametrize
from tests.constraints.sets import CASES, Case

WITH_A_BASE = pytest.mark.parametrize("case", [case for case in CASES if case.registered()[0].has_base], ids=str)


def orthogonal(n: int = 6, k: int = 6, **options: object) -> nn.Module:
    return pf.register_parametrization(nn.Linear(k, n, bias=False), "weight", pf.Orthogonal(**options))


def push(module: nn.Module, size: float = 0.3) -> None:
    """Move the raw tensors away from the base."""
    with torch.no_grad():
        for raw in module.parameters():
            raw.add_(size * torch.randn_like(raw))


def raw_of(module: nn.Module) -> Tensor:
    return module.parametrizations.weight.original


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, start: int = 0) -> None:
    """The data of step number i is the same, whichever way one came there."""
    for step in range(start, start + steps):
        x = torch.randn(8, 6, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        (model(x) - x.roll(1, dims=1)).square().mean().backward()
        optimizer.step()


@WITH_A_BASE
def test_no_value_changes_and_the_raw_tensors_are_those_of_the_base(case: Case) -> None:
    layer = case.layer(parametrize)
    push(layer, 0.05)
    before = layer.weight.detach().clone()
    assert pf.rebase(layer) == ["weight"]
    rounding = 1e-9 * case.magnifies
    torch.testing.assert_close(layer.weight.detach(), before, rtol=rounding, atol=rounding)
    case_again, raws = case.make(), layer.parametrizations.weight.originals()
    expected = case_again.right_inverse(layer.weight.detach())
    for raw, fresh in zip(raws, expected if isinstance(expected, tuple) else (expected,), strict=True):
        torch.testing.assert_close(raw.detach(), fresh, rtol=1e-6, atol=1e-6)


@WITH_A_BASE
def test_after_a_move_gradients_are_those_of_finite_differences_twice(case: Case) -> None:
    layer = case.layer(parametrize)
    push(layer, 0.05)
    pf.rebase(layer)
    step, raws = layer.parametrizations.weight[0], layer.parametrizations.weight.originals()
    raws = tuple(raw.detach().requires_grad_() for raw in raws)
    assert torch.autograd.gradcheck(step, raws)
    assert torch.autograd.gradgradcheck(step, raws, atol=1e-4)


@pytest.mark.parametrize("map", ["matrix_exp", "cayley", "householder", "polar"])
@pytest.mark.parametrize("shape", [(6, 6), (6, 3), (3, 6)], ids=str)
def test_a_value_is_the_same_to_rounding_in_float32(map: str, shape: tuple[int, int]) -> None:
    layer = orthogonal(*shape, map=map)
    push(layer)
    before = layer.weight.detach().clone()
    pf.rebase(layer)
    assert torch.dist(layer.weight, before) < 1e-6
    assert not raw_of(layer).any()


def test_every_tensor_of_a_model_moves_and_what_has_no_base_stays() -> None:
    model = nn.ModuleDict({"rnn": nn.RNN(4, 4), "plain": nn.Linear(4, 4), "skew": nn.Linear(4, 4)})
    pf.register_parametrization(model["rnn"], "weight_hh_l0", pf.Orthogonal())
    pf.register_parametrization(model["rnn"], "weight_ih_l0", pf.Scaled(pf.Orthogonal()))
    pf.register_parametrization(model["plain"], "weight", pf.Blocks(pf.Orthogonal(), 2))
    pf.register_parametrization(model["skew"], "weight", pf.Skew())
    push(model)
    before = {name: value.clone() for name, value in pf.plain_state_dict(model).items()}
    skew = raw_of(model["skew"]).clone()
    assert sorted(pf.rebase(model)) == ["plain.weight", "rnn.weight_hh_l0", "rnn.weight_ih_l0"]
    for name, value in pf.plain_state_dict(model).items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=1e-6)
    assert torch.equal(raw_of(model["skew"]), skew)
    assert not raw_of(model["plain"]).any()


def test_a_step_behind_the_one_with_the_base_stays_as_it_is() -> None:
    layer = orthogonal()
    pf.register_parametrization(layer, "weight", pf.Masked(torch.eye(6).bool()))
    push(layer)
    before = layer.weight.detach().clone()
    pf.rebase(layer)
    torch.testing.assert_close(layer.weight.detach(), before, rtol=0, atol=1e-6)


def test_ten_thousand_moves_in_float32_leave_a_matrix_orthogonal() -> None:
    for shape in [(8, 8), (12, 4)]:
        layer = orthogonal(*shape)
        for _ in range(10_000):
            push(layer, 0.03)
            layer.parametrizations.weight[0].rebase(raw_of(layer))
            with torch.no_grad():
                raw_of(layer).zero_()
        assert maps.orthogonality_error(layer.weight.double()) < 1e-5


def test_a_value_that_is_not_finite_moves_no_base_of_the_model() -> None:
    model = nn.Sequential(orthogonal(), orthogonal())
    push(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    raw = raw_of(model[1])
    with torch.no_grad():
        raw[3, 0] = torch.nan
    with pytest.raises(ValueError, match=r"diverged[\s\S]*'1\.weight' of Sequential"):
        pf.rebase(model)
    for name, value in model.state_dict().items():
        if name != "1.parametrizations.weight.original":
            assert torch.equal(value, before[name]), name
    assert model[0].parametrizations.weight[0]._moves == 0


def test_a_raw_tensor_with_another_use_is_refused() -> None:
    model = nn.Sequential(orthogonal(), nn.Linear(6, 6, bias=False))
    push(model)
    model[1].weight = raw_of(model[0])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"'1\.weight' of Sequential is also the raw tensor"):
        pf.rebase(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_raw_tensor_of_two_bases_is_zero_for_both() -> None:
    model = nn.Sequential(orthogonal(), orthogonal())
    model[1].parametrizations.weight.original = raw_of(model[0])
    push(model)
    before = [layer.weight.detach().clone() for layer in model]
    pf.rebase(model)
    for layer, value in zip(model, before, strict=True):
        torch.testing.assert_close(layer.weight.detach(), value, rtol=0, atol=1e-6)


def test_values_in_a_cache_are_computed_anew() -> None:
    layer = orthogonal()
    push(layer)
    with pf.cached(layer):
        first = layer(torch.eye(6))
        pf.rebase(layer)
        second = layer(torch.eye(6))
        second.sum().backward()
    torch.testing.assert_close(first, second)
    assert raw_of(layer).grad.any()


def test_a_training_step_with_a_moving_base_is_one_with_a_fresh_registration() -> None:
    moving, fixed = orthogonal(map="matrix_exp"), orthogonal(map="matrix_exp")
    fixed.weight = moving.weight.detach()
    optimizer = torch.optim.SGD(moving.parameters(), lr=0.5)
    pf.rebase_every(optimizer, moving)
    for step in range(5):
        train(moving, optimizer, 1, start=step)
        train(fixed, torch.optim.SGD(fixed.parameters(), lr=0.5), 1, start=step)
        fixed.weight = fixed.weight.detach()  # which makes it the base
    torch.testing.assert_close(moving.weight, fixed.weight, rtol=0, atol=1e-5)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize(
    "make",
    [
        lambda raws: torch.optim.SGD(raws, lr=0.3, momentum=0.9),
        lambda raws: torch.optim.AdamW(raws, lr=0.05),
        lambda raws: torch.optim.Adam(raws, lr=0.05, fused=True),
    ],
    ids=["SGD", "AdamW", "fused"],
)
@pytest.mark.parametrize("shape", [(6, 6), (9, 6)], ids=str)
def test_training_learns_and_stays_in_the_set(make: object, steps: int, shape: tuple[int, int]) -> None:
    layer = orthogonal(*shape)
    model = nn.Sequential(layer, nn.Linear(shape[0], 6)) if shape[0] != 6 else layer
    optimizer = make(model.parameters())
    pf.rebase_every(optimizer, model, steps)
    x = torch.randn(64, 6)

    def loss() -> Tensor:
        return (model(x) - x.roll(1, dims=1)).square().mean()

    before = loss().item()
    train(model, optimizer, 60)
    assert loss().item() < before / 4
    assert maps.orthogonality_error(layer.weight.double()) < 1e-5
    assert not raw_of(layer).any()  # 60 is a multiple of both
    train(model, optimizer, 1)
    assert raw_of(layer).any() == (steps > 1)


def test_momentum_goes_on_across_a_move_as_along_a_geodesic() -> None:
    # A gradient that is there once: with momentum the value goes on turning about the same axis of the group.
    layer = orthogonal(map="matrix_exp")
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.5)
    pf.rebase_every(optimizer, layer)
    start = layer.weight.detach().clone()
    A = torch.randn(6, 6).tril(-1)
    raw_of(layer).grad = -A
    for _ in range(3):
        optimizer.step()
        raw_of(layer).grad = torch.zeros(6, 6)
    total = 0.1 * (1 + 0.5 + 0.25)
    expected = start @ torch.matrix_exp(total * (A - A.mT))
    torch.testing.assert_close(layer.weight, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("steps", [1, 3])
def test_a_run_that_was_saved_goes_on_as_if_it_had_not_been(steps: int) -> None:
    def made() -> tuple[nn.Module, torch.optim.Optimizer]:
        layer = orthogonal()
        optimizer = torch.optim.Adam(layer.parameters(), lr=0.05)
        pf.rebase_every(optimizer, layer, steps)
        return layer, optimizer

    layer, optimizer = made()
    train(layer, optimizer, 4)
    file = io.BytesIO()
    torch.save([layer.state_dict(), optimizer.state_dict()], file)
    train(layer, optimizer, 4, start=4)
    again, its_optimizer = made()
    file.seek(0)
    of_layer, of_optimizer = torch.load(file, weights_only=True)
    again.load_state_dict(of_layer)
    its_optimizer.load_state_dict(of_optimizer)
    train(again, its_optimizer, 4, start=4)
    assert torch.equal(again.weight, layer.weight)
    assert torch.equal(raw_of(again), raw_of(layer))


def test_the_handle_ends_it() -> None:
    layer = orthogonal()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    with pf.rebase_every(optimizer, layer):
        train(layer, optimizer, 1)
        assert not raw_of(layer).any()
    train(layer, optimizer, 1)
    assert raw_of(layer).any()


def test_a_copy_of_a_model_moves_on_its_own() -> None:
    layer = orthogonal()
    push(layer)
    twin = copy.deepcopy(layer)
    before = layer.weight.detach().clone()
    pf.rebase(twin)
    push(twin)
    pf.rebase(twin)
    assert torch.equal(layer.weight, before)
    assert not torch.equal(twin.weight, before)


def test_compiled_training_sees_the_base_that_moved() -> None:
    plain, compiled = (copy.deepcopy(layer) for layer in [orthogonal()] * 2)
    for model, run in ((plain, plain), (compiled, torch.compile(compiled, fullgraph=True, backend="aot_eager"))):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
        pf.rebase_every(optimizer, model)
        train(run, optimizer, 5)
    torch.testing.assert_close(plain.weight, compiled.weight, rtol=0, atol=1e-5)


def test_torchs_stand_in_moves_its_base_too() -> None:
    for shape in [(5, 5), (6, 3)]:
        layer = pf.parametrizations.orthogonal(nn.Linear(*shape))
        push(layer, 0.1)
        before = layer.weight.detach().clone()
        assert pf.rebase(layer) == ["weight"]
        torch.testing.assert_close(layer.weight.detach(), before, rtol=0, atol=1e-5)
    without = pf.parametrizations.orthogonal(nn.Linear(3, 3), use_trivialization=False)
    assert pf.rebase(without) == []


def test_what_it_cannot_do_is_refused_in_words() -> None:
    layer = orthogonal()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    for arguments, error, words in [
        ((layer, optimizer), TypeError, "Optimizer"),
        ((optimizer, optimizer), TypeError, "nn.Module"),
        ((optimizer, layer, 0), ValueError, "at least 1"),
        ((optimizer, layer, 1.5), TypeError, "whole number"),
        ((optimizer, nn.Linear(2, 2)), ValueError, "Linear has none"),
        ((torch.optim.SGD(nn.Linear(2, 2).parameters()), layer), ValueError, "trains none"),
        ((torch.optim.SGD(layer.parameters(), differentiable=True), layer), ValueError, "differentiable=True"),
    ]:
        with pytest.raises(error, match=words):
            pf.rebase_every(*arguments)


def test_two_models_of_one_optimizer_move_each_in_its_own_time() -> None:
    models = [orthogonal(), orthogonal()]
    optimizer = torch.optim.SGD([raw_of(model) for model in models], lr=0.1)
    for model in models:
        pf.rebase_every(optimizer, model, 2)
    for step in range(1, 5):
        for model in models:
            raw_of(model).grad = torch.ones(6, 6)
        optimizer.step()
        assert [bool(raw_of(model).any()) for model in models] == [step % 2 == 1] * 2
    with pytest.raises(ValueError, match="already"):
        pf.rebase_every(optimizer, models[0])


def test_an_optimizer_moves_only_what_it_trains() -> None:
    model = nn.Sequential(orthogonal(), orthogonal())
    optimizer = torch.optim.SGD([raw_of(model[0])], lr=0.1)
    pf.rebase_every(optimizer, model)
    push(model)
    raw_of(model[0]).grad = torch.ones(6, 6)
    optimizer.step()
    assert not raw_of(model[0]).any()
    assert raw_of(model[1]).any()


def test_an_average_with_buffers_follows_moving_bases() -> None:
    layer = orthogonal()
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    pf.rebase_every(optimizer, layer)
    average = torch.optim.swa_utils.AveragedModel(layer, use_buffers=True)
    for step in range(4):
        train(layer, optimizer, 1, start=step)
        average.update_parameters(layer)
    assert torch.dist(average.module.weight, layer.weight) > 1e-3
    assert maps.orthogonality_error(average.module.weight) < 1e-5


class Doubled(pf.Orthogonal):
    def forward(self, raw: Tensor) -> Tensor:
        return 2 * super().forward(raw)


def test_a_class_whose_values_are_no_bases_is_left_alone() -> None:
    layer = pf.register_parametrization(nn.Linear(4, 4), "weight", Doubled())
    push(layer)
    before = layer.weight.detach().clone()
    assert pf.rebase(layer) == []
    assert torch.equal(layer.weight, before)
