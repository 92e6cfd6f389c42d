"""Rows 33, 38 and 39: complaints that torch has answered, and that must stay answered."""

import copy

import torch
from torch import nn

from tests.complaints.layers import doubled, is_orthonormal, original
from tests.complaints.registry import FIXED, Engine, complaint
from tests.parametrize.cases import Double, Symmetric


@complaint(
    38,
    "pytorch#65163",
    symptom="a parametrization cannot be parametrized itself",
    on_torch=FIXED,
)
def test_pytorch_65163_a_parametrization_can_be_parametrized(engine: Engine) -> None:
    layer = nn.Linear(3, 3)
    inner = engine.parametrize.register_parametrization(nn.Linear(3, 3, bias=False), "weight", Symmetric())
    engine.parametrize.register_parametrization(layer, "weight", inner)
    assert torch.equal(layer.weight, original(layer) @ inner.weight.T)
    layer.weight.sum().backward()
    assert all(parameter.grad is not None for parameter in layer.parametrizations.parameters())


@complaint(
    38,
    "pytorch#36035",
    symptom="an item of a ParameterList cannot be parametrized",
    on_torch=FIXED,
)
def test_pytorch_36035_an_item_of_a_parameter_list_can_be_parametrized(engine: Engine) -> None:
    parameters = nn.ParameterList([torch.ones(3, 3), torch.ones(2)])
    engine.parametrize.register_parametrization(parameters, "0", Double())
    assert torch.equal(parameters[0], 2 * parameters.parametrizations["0"].original)
    assert len(parameters) == 2


@complaint(
    38,
    "pytorch#62293",
    symptom="two forward passes and one backward pass fail",
    on_torch=FIXED,
)
def test_pytorch_62293_two_forward_passes_and_one_backward_pass_work(engine: Engine) -> None:
    layer, x = engine.parametrizations.spectral_norm(nn.Linear(3, 3)), torch.ones(1, 3)
    (layer(x) + layer(2 * x)).sum().backward()
    assert original(layer).grad is not None


@complaint(
    38,
    "pytorch PR#124888",
    symptom="a frozen weight wants a gradient once it is parametrized",
    on_torch=FIXED,
)
def test_pytorch_pr_124888_a_frozen_weight_stays_frozen(engine: Engine) -> None:
    for parametrization in ("orthogonal", "weight_norm", "spectral_norm"):
        layer = nn.Linear(3, 3).requires_grad_(False)
        getattr(engine.parametrizations, parametrization)(layer)
        assert not any(parameter.requires_grad for parameter in layer.parameters())


@complaint(
    38,
    symptom="the fast path of attention and of encoder layers in evaluation mode computes with the raw weight",
    on_torch=FIXED,
)
def test_the_fast_path_of_an_encoder_layer_computes_with_the_value(engine: Engine) -> None:
    plain = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True).eval()
    x, layer = torch.randn(1, 3, 4), copy.deepcopy(plain)
    engine.parametrize.register_parametrization(layer.linear1, "weight", Double())
    engine.parametrize.register_parametrization(layer.self_attn, "in_proj_weight", Double())
    with torch.no_grad():
        assert torch.equal(layer(x), plain(x))


@complaint(
    39,
    "geoopt#188",
    symptom="a copy of a model leaves the manifold when it is trained",
    on_torch=FIXED,
)
def test_geoopt_188_a_copy_stays_on_the_manifold_when_it_is_trained(engine: Engine) -> None:
    layer = copy.deepcopy(engine.parametrizations.orthogonal(nn.Linear(3, 3)))
    layer(torch.ones(1, 3)).square().sum().backward()
    torch.optim.SGD(layer.parameters(), lr=0.1).step()
    assert is_orthonormal(layer.weight)


@complaint(
    39,
    "geoopt#226",
    symptom="the state of an optimizer of constrained parameters cannot be saved",
    on_torch=FIXED,
)
def test_geoopt_226_the_state_of_an_optimizer_is_saved_and_loaded(engine: Engine) -> None:
    layer = doubled(engine)
    optimizer = torch.optim.Adam(layer.parameters())
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    resumed = torch.optim.Adam(layer.parameters())
    resumed.load_state_dict(optimizer.state_dict())
    assert torch.equal(resumed.state[original(layer)]["exp_avg"], optimizer.state[original(layer)]["exp_avg"])


@complaint(
    33,
    "geotorch#44",
    symptom="layer.weight.grad is None, and it is not said where the gradient with respect to the weight is",
    on_torch=FIXED,
    ours="works: read once under `cached()`, call `retain_grad()`",
)
def test_geotorch_44_the_gradient_with_respect_to_the_value_can_be_had(engine: Engine) -> None:
    layer, x = doubled(engine), torch.randn(4, 3)
    with engine.parametrize.cached():
        weight = layer.weight
        weight.retain_grad()
        layer(x).sum().backward()
    assert torch.allclose(weight.grad, x.sum(0).expand(3, 3))
    assert torch.allclose(original(layer).grad, 2 * weight.grad)
