"""The groups of an optimizer: what weight decay means something for, and in which order."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import paraform as pf
from paraform import param_groups, register_parametrization
from tests.parametrize.cases import Double, Scale


def names(model: nn.Module) -> tuple[list[str], list[str]]:
    decayed, not_decayed = param_groups(model, weight_decay=0.1)
    return decayed["param_names"], not_decayed["param_names"]


RAW = "parametrizations.weight.original"

DECAYED = {
    "Symmetric": (pf.Symmetric, [RAW], []),
    "Skew": (pf.Skew, [RAW], []),
    "Masked": (lambda: pf.Masked(torch.eye(4)), [RAW], []),
    "Orthogonal": (pf.Orthogonal, [], [RAW]),
    "PositiveDefinite": (pf.PositiveDefinite, [], [RAW]),
    "SpectralNorm": (pf.SpectralNorm, [], [RAW]),
    "WeightNorm": (pf.WeightNorm, [f"{RAW}0"], [f"{RAW}1"]),
    "a user's": (Double, [], [RAW]),
    "one with a parameter of its own": (Scale, [], [RAW, "parametrizations.weight.0.factor"]),
}


@pytest.mark.parametrize("name", DECAYED)
def test_the_decay_leaves_out_what_it_means_nothing_for(name: str) -> None:
    make, decayed, not_decayed = DECAYED[name]
    layer = nn.Linear(4, 4)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(4))  # in every one of the sets but the skew ones
    register_parametrization(layer, "weight", make())
    assert names(layer) == (["bias", *decayed], not_decayed)


@pytest.mark.parametrize("name", [name for name in DECAYED if name not in ("a user's", "SpectralNorm")])
def test_what_is_declared_is_so_for_the_value(name: str) -> None:
    """Shrinking a decayed raw tensor shrinks the value; shrinking any other leaves its norm or takes it elsewhere."""
    make, decayed, not_decayed = DECAYED[name]
    layer = register_parametrization(nn.Linear(4, 4), "weight", make())
    before = layer.weight.detach().clone()
    for key, share in [*((key, 0.5) for key in decayed), *((key, None) for key in not_decayed)]:
        raw = layer.get_parameter(key)
        kept = raw.detach().clone()
        with torch.no_grad():
            raw.mul_(0.5)
        shrunk = torch.allclose(layer.weight, 0.5 * before, atol=1e-6)
        assert shrunk is (share is not None), key
        with torch.no_grad():
            raw.copy_(kept)


def test_the_stand_ins_say_what_they_are() -> None:
    for function, decayed, rest in (
        (pf.parametrizations.orthogonal, [], [RAW]),
        (pf.parametrizations.spectral_norm, [], [RAW]),
        (pf.parametrizations.weight_norm, [f"{RAW}0"], [f"{RAW}1"]),
    ):
        assert names(function(nn.Linear(4, 4))) == (["bias", *decayed], rest)


def test_a_chain_is_decayed_if_all_of_it_is() -> None:
    layer = register_parametrization(nn.Linear(4, 4), "weight", pf.Symmetric())
    register_parametrization(layer, "weight", pf.Masked(torch.eye(4)))
    assert names(layer) == (["bias", RAW], [])
    register_parametrization(layer, "weight", Double())
    assert names(layer) == (["bias"], [RAW])


def test_a_raw_tensor_that_is_shared_is_decayed_if_every_use_is() -> None:
    first = register_parametrization(nn.Linear(4, 4), "weight", pf.Symmetric())
    second = pf.transfer_parametrizations_and_params(first, nn.Linear(4, 4))
    register_parametrization(second, "weight", Double())
    for layers in ((first, second), (second, first)):
        assert names(nn.Sequential(*layers)) == (["0.bias", "1.bias"], [f"0.{RAW}"])


def test_every_parameter_is_there_once_under_its_own_name() -> None:
    model = nn.Module()
    model.layers = nn.ModuleList([nn.TransformerDecoderLayer(8, 2, 16), nn.LSTM(8, 8), nn.PReLU()])
    model.scale = nn.Parameter(torch.ones(()))
    model.tied = nn.Linear(8, 8)
    model.tied.weight = model.layers[0].self_attn.out_proj.weight
    model.requires_grad_(False)
    register_parametrization(model.tied, "weight", pf.Orthogonal())
    register_parametrization(model.layers[0].linear1, "weight", pf.WeightNorm())
    found = [
        pair
        for group in param_groups(model, weight_decay=0.1)
        for pair in zip(group["param_names"], group["params"], strict=True)
    ]
    assert len(found) == len(list(model.parameters()))
    assert dict(found).keys() == dict(model.named_parameters()).keys()
    assert all(dict(model.named_parameters())[name] is parameter for name, parameter in found)


def test_registration_and_removal_do_not_change_the_order() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.LSTM(4, 4), nn.Linear(4, 4))
    before, none = names(model)
    for module, name in ((model[0], "weight"), (model[1], "weight_hh_l0"), (model[2], "weight")):
        register_parametrization(module, name, pf.Masked(torch.ones(1)))
    after, _ = names(model)
    assert none == []
    assert [name.replace("parametrizations.", "").removesuffix(".original") for name in after] == before
    pf.remove_parametrizations(model[1], "weight_hh_l0")
    pf.remove_parametrizations(model[0], "weight")
    pf.remove_parametrizations(model[2], "weight")
    assert names(model)[0] == before


def test_weight_decay_reaches_what_it_should_and_nothing_else() -> None:
    layer = register_parametrization(nn.Linear(4, 4), "weight", pf.Orthogonal())
    bias, weight = layer.bias.detach().clone(), layer.weight.detach().clone()
    optimizer = torch.optim.AdamW(param_groups(layer, weight_decay=0.5), lr=0.1, weight_decay=9.0)
    layer(torch.randn(2, 4)).mul(0).sum().backward()
    optimizer.step()
    assert torch.allclose(layer.bias, bias * 0.95)
    assert torch.equal(layer.weight, weight)


def test_a_checkpoint_of_such_groups_resumes_after_a_registration() -> None:
    layer = nn.Linear(4, 4)
    optimizer = torch.optim.AdamW(param_groups(layer, weight_decay=0.1))
    layer(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    moments = {parameter: state["exp_avg"] for parameter, state in optimizer.state.items()}
    register_parametrization(layer, "weight", pf.Orthogonal())  # moves the weight to the other group
    resumed = torch.optim.AdamW(param_groups(layer, weight_decay=0.1))
    resumed.load_state_dict(pf.match_by_name(resumed, optimizer.state_dict()))
    assert [group["weight_decay"] for group in resumed.param_groups] == [0.1, 0.0]
    assert all(torch.equal(resumed.state[parameter]["exp_avg"], moment) for parameter, moment in moments.items())


def test_a_compiled_model_and_a_copy_have_the_same_groups() -> None:
    layer = register_parametrization(nn.Linear(4, 4), "weight", pf.WeightNorm())
    compiled = names(torch.compile(layer, backend="eager"))
    assert tuple([name.removeprefix("_orig_mod.") for name in group] for group in compiled) == names(layer)
    assert names(copy.deepcopy(layer)) == names(layer)


@pytest.mark.parametrize("model", [3, nn.Linear, [nn.Linear(2, 2)]])
def test_what_is_no_model_is_refused(model: Any) -> None:
    with pytest.raises(TypeError, match=r"Expected an nn\.Module"):
        param_groups(model, weight_decay=0.1)


def test_a_tensor_that_is_no_parameter_is_in_no_group() -> None:
    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("table", torch.eye(3))

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.table

    assert names(register_parametrization(Table(), "table", pf.Symmetric())) == ([], [])
