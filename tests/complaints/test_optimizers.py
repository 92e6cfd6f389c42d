"""Row 11: an optimizer from before a registration."""

import torch
from torch import nn

from tests.complaints.registry import TORCH, Engine, complaint, wrong
from tests.parametrize.cases import Polar, Symmetric


def step(layer: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    layer(torch.ones(1, 3)).square().sum().backward()
    optimizer.step()


@complaint(
    11,
    symptom="an optimizer saved before a registration loads the moments of other tensors without a word",
    on_torch=wrong("the moments are another tensor's"),
)
def test_an_optimizer_saved_before_a_registration_loads_each_moment_for_its_tensor(engine: Engine) -> None:
    model = nn.RNNCell(3, 3)
    optimizer = torch.optim.Adam(model.named_parameters())
    step(model, optimizer)
    moments = optimizer.state[model.weight_ih]["exp_avg"]
    engine.parametrize.register_parametrization(model, "weight_ih", Symmetric())
    resumed = torch.optim.Adam(model.named_parameters())
    if engine is not TORCH:  # torch has nothing of the kind
        resumed.register_load_state_dict_pre_hook(engine.parametrize.match_by_name)
    resumed.load_state_dict(optimizer.state_dict())
    loaded = resumed.state[model.parametrizations.weight_ih.original]["exp_avg"]
    assert torch.equal(loaded, moments), "the moments are another tensor's"


@complaint(
    11,
    symptom="a parametrization with several originals, registered after the optimizer was made, never trains",
    on_torch=wrong("the weight did not train"),
)
def test_several_originals_registered_after_the_optimizer_was_made_train(engine: Engine) -> None:
    layer = nn.Linear(3, 3)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    known = {} if engine is TORCH else {"optimizer": optimizer}  # torch has nothing of the kind
    engine.parametrize.register_parametrization(layer, "weight", Polar(), **known)
    before = layer.weight.detach().clone()
    step(layer, optimizer)
    assert not torch.equal(layer.weight, before), "the weight did not train"


@complaint(
    11,
    symptom="a weight with several originals that is made plain again never trains",
    on_torch=wrong("the weight did not train"),
)
def test_a_weight_that_is_made_plain_again_trains(engine: Engine) -> None:
    layer = engine.parametrize.register_parametrization(nn.Linear(3, 3), "weight", Polar())
    optimizer = torch.optim.Adam(layer.parameters())
    step(layer, optimizer)
    known = {} if engine is TORCH else {"optimizer": optimizer}  # torch has nothing of the kind
    engine.parametrize.remove_parametrizations(layer, "weight", **known)
    before = layer.weight.detach().clone()
    step(layer, optimizer)
    assert not torch.equal(layer.weight, before), "the weight did not train"
