"""Row 32: recurrent layers, which keep a list of their tensors."""

import copy

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from tests.complaints.registry import FIXED, Engine, complaint, raises
from tests.parametrize.cases import Double

UNGRAD = "Only Tensors created explicitly by the user (graph leaves) support the deepcopy protocol"

LAYERS = {
    "RNN": lambda: nn.RNN(3, 4),
    "LSTM": lambda: nn.LSTM(3, 4),
    "GRU": lambda: nn.GRU(3, 4),
    "two layers in both directions": lambda: nn.LSTM(3, 4, num_layers=2, bidirectional=True),
    "projected": lambda: nn.LSTM(3, 4, proj_size=2),
}


def doubled_kernels(engine: Engine, plain: nn.RNNBase) -> nn.RNNBase:
    """A copy of ``plain`` with every weight parametrized, and the same values."""
    layer = copy.deepcopy(plain)
    for name in [name for name, _ in plain.named_parameters() if name.startswith("weight")]:
        engine.parametrize.register_parametrization(layer, name, Double())
    return layer


def used_lstm(engine: Engine) -> nn.LSTM:
    lstm = engine.parametrize.register_parametrization(nn.LSTM(3, 3), "weight_hh_l0", Double())
    lstm(torch.ones(2, 1, 3))
    return lstm


@complaint(
    32,
    symptom="a recurrent layer cannot be deep-copied after a forward pass",
    on_torch=raises(RuntimeError, UNGRAD),
)
def test_a_recurrent_layer_can_be_copied_after_a_forward_pass(engine: Engine) -> None:
    lstm, x = used_lstm(engine), torch.ones(2, 1, 3)
    clone = copy.deepcopy(lstm)
    assert torch.equal(clone(x)[0], lstm(x)[0])
    with torch.no_grad():
        clone.parametrizations.weight_hh_l0.original.zero_()
    assert not torch.equal(clone(x)[0], lstm(x)[0])


@complaint(
    32,
    symptom="AveragedModel cannot be made of a recurrent layer after a forward pass",
    on_torch=raises(RuntimeError, UNGRAD),
)
def test_a_recurrent_layer_can_be_averaged_after_a_forward_pass(engine: Engine) -> None:
    lstm, x = used_lstm(engine), torch.ones(2, 1, 3)
    average = AveragedModel(lstm)
    average.update_parameters(lstm)
    assert torch.equal(average(x)[0], lstm(x)[0])


@complaint(
    32,
    "pytorch#65688",
    symptom="a recurrent layer goes on with the weight from before its registration and does not train",
    on_torch=FIXED,
)
def test_pytorch_65688_a_parametrized_recurrent_weight_takes_effect_and_trains(engine: Engine) -> None:
    lstm, x = used_lstm(engine), torch.ones(2, 1, 3)
    before = lstm(x)[0]
    before.sum().backward()
    torch.optim.SGD(lstm.parametrizations.parameters(), lr=1.0).step()
    assert not torch.equal(lstm(x)[0], before)
    plain = nn.LSTM(3, 3)
    state = lstm.state_dict()
    state["weight_hh_l0"] = 2 * state.pop("parametrizations.weight_hh_l0.original")
    plain.load_state_dict(state)
    assert torch.allclose(lstm(x)[0], plain(x)[0])


@complaint(
    32,
    "pytorch#39311",
    symptom="a recurrent layer with spectral_norm on all its weights cannot be moved to another device or dtype",
    on_torch=FIXED,
)
def test_pytorch_39311_spectral_norm_of_all_weights_of_a_recurrent_layer_can_be_converted(engine: Engine) -> None:
    lstm, x = nn.LSTM(3, 4, num_layers=2), torch.ones(2, 1, 3)
    for name in [name for name, _ in lstm.named_parameters() if name.startswith("weight")]:
        engine.parametrizations.spectral_norm(lstm, name)
    expected = lstm.eval()(x)[0].detach().double()
    assert torch.allclose(lstm.double()(x.double())[0], expected, atol=1e-6)
    assert lstm.to("meta").weight_hh_l1.is_meta


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning")
@complaint(
    32,
    "pytorch#86457",
    symptom="flatten_parameters, a conversion or a change of the raw tensors leaves a recurrent layer with old weights",
    on_torch=FIXED,
)
def test_pytorch_86457_a_recurrent_layer_computes_with_its_weights_after_all_that_changes_them(engine: Engine) -> None:
    x = torch.randn(5, 2, 3)
    for title, make in LAYERS.items():
        plain = make()
        layer = doubled_kernels(engine, plain)
        for change in (
            lambda layer: layer,
            lambda layer: layer.flatten_parameters(),
            lambda layer: layer.double(),
            lambda layer: layer.float(),
            lambda layer: [parameter.data.mul_(1.5) for parameter in layer.parameters()],
            lambda layer: layer.load_state_dict(layer.state_dict()),
        ):
            change(plain)
            change(layer)
            given = x.to(next(plain.parameters()).dtype)
            output, expected = layer(given)[0], plain(given)[0]
            assert torch.allclose(output, expected, atol=1e-6), title
        output.sum().backward()
        assert all(parameter.grad is not None for parameter in layer.parameters()), title
