"""Rows 3, 12, 20 and 24: checkpoints under plain names and under those of the older hooks."""

import pytest
import torch
from torch import nn
from torch.nn.utils import spectral_norm, weight_norm

from tests.complaints.layers import is_orthonormal
from tests.complaints.registry import FIXED, Engine, complaint, raises, wrong

MISSING = raises(RuntimeError, "Error(s) in loading state_dict for Sequential:\n\tMissing key(s) in state_dict: ")
NOT_THERE = raises(AttributeError, "module 'torch.nn.utils.parametrize' has no attribute 'plain_state_dict'")


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")  # it made the checkpoint
@complaint(
    3,
    "pytorch#102999",
    symptom="a checkpoint with weight_g and weight_v does not load into the parametrization",
    on_torch=FIXED,
)
def test_pytorch_102999_an_old_checkpoint_of_weight_norm_loads(engine: Engine) -> None:
    old = nn.Sequential(weight_norm(nn.Linear(3, 5)))
    new = nn.Sequential(engine.parametrizations.weight_norm(nn.Linear(3, 5)))
    new.load_state_dict(old.state_dict())
    assert torch.allclose(new[0].weight, old[0].weight)


@complaint(
    20,
    "xtts_v2#3",
    symptom="a checkpoint with weight_orig, weight_u and weight_v does not load into the parametrization",
    on_torch=MISSING,
)
def test_xtts_v2_3_an_old_checkpoint_of_spectral_norm_loads(engine: Engine) -> None:
    old = nn.Sequential(spectral_norm(nn.Linear(3, 5))).eval()
    new = nn.Sequential(engine.parametrizations.spectral_norm(nn.Linear(3, 5))).eval()
    new.load_state_dict(old.state_dict())
    assert torch.allclose(new[0].weight, old[0](torch.eye(3)).T - old[0].bias[:, None])


def positional(engine: Engine) -> nn.Module:
    """The positional convolution of wav2vec 2.0, HuBERT and WavLM."""
    return engine.parametrizations.weight_norm(nn.Conv1d(8, 8, 4, groups=2), dim=2)


@complaint(
    3,
    "transformers#26796",
    "HuBERT-ECG#3",
    symptom="a checkpoint with the weight itself does not load into a layer with weight_norm",
    on_torch=MISSING,
)
def test_transformers_26796_a_plain_checkpoint_loads_strictly(engine: Engine) -> None:
    plain, model = nn.Sequential(nn.Conv1d(8, 8, 4, groups=2)), nn.Sequential(positional(engine))
    model.load_state_dict(plain.state_dict())
    x = torch.randn(1, 8, 6)
    torch.testing.assert_close(model(x), plain(x))


@complaint(
    3,
    "kokoro#368",
    "FAcodec#21",
    "audioseal#37",
    symptom="load_state_dict(strict=False) leaves random weights where the names differ, and the output is noise",
    on_torch=wrong("the layer has kept its random weight"),
)
def test_kokoro_368_no_tensor_is_passed_by_with_strict_off(engine: Engine) -> None:
    plain, model = nn.Sequential(nn.Linear(3, 5)), nn.Sequential(engine.parametrizations.weight_norm(nn.Linear(3, 5)))
    model.load_state_dict(plain.state_dict(), strict=False)
    assert torch.allclose(model[0].weight, plain[0].weight), "the layer has kept its random weight"


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")  # it made the checkpoint
@complaint(
    3,
    "transformers#32433",
    symptom="half of weight_g and weight_v in a checkpoint is passed by with strict=False",
    on_torch=wrong("there was no error"),
)
def test_transformers_32433_half_of_a_weight_is_an_error(engine: Engine) -> None:
    state = weight_norm(nn.Linear(3, 5)).state_dict()
    del state["weight_v"]
    layer = engine.parametrizations.weight_norm(nn.Linear(3, 5))
    told = ""
    try:
        layer.load_state_dict(state, strict=False)
    except RuntimeError as error:
        told = str(error)
    assert "'weight_v'" in told, "there was no error"


@complaint(
    12,
    "pyreft#179",
    symptom="a checkpoint of the orthogonal weight alone does not load, so that training cannot go on from it",
    on_torch=MISSING,
)
def test_pyreft_179_training_goes_on_from_a_plain_checkpoint_and_stays_orthogonal(engine: Engine) -> None:
    trained = nn.init.orthogonal_(torch.empty(16, 4))
    model = nn.Sequential(engine.parametrizations.orthogonal(nn.Linear(4, 16, bias=False)))
    model.load_state_dict({"0.weight": trained})
    assert torch.equal(model[0].weight, trained)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().sum(-1).sin().sum().backward()
        optimizer.step()
    assert not torch.allclose(model[0].weight, trained)
    assert is_orthonormal(model[0].weight)


@complaint(
    12,
    "expRNN#7",
    symptom="a checkpoint of a parametrized model cannot be had under the names of the plain one",
    on_torch=NOT_THERE,
)
def test_exprnn_7_a_checkpoint_is_written_for_the_plain_model(engine: Engine) -> None:
    cell, plain = nn.RNN(3, 4), nn.RNN(3, 4)
    engine.parametrizations.orthogonal(cell, "weight_hh_l0")
    state = engine.parametrize.plain_state_dict(cell)
    assert list(state) == list(plain.state_dict())
    plain.load_state_dict(state)
    x = torch.randn(5, 2, 3)
    torch.testing.assert_close(plain(x), cell(x))


@complaint(
    20,
    "pytorch#21251",
    symptom="an old checkpoint of spectral_norm is passed by when a larger model loads it with strict=False",
    on_torch=wrong("the layer has kept its random weight"),
)
def test_pytorch_21251_an_old_checkpoint_loads_into_a_model_with_another_layer(engine: Engine) -> None:
    norm = engine.parametrizations.spectral_norm
    old = nn.Sequential(spectral_norm(nn.Conv2d(2, 4, 3))).eval()
    model = nn.Sequential(norm(nn.Conv2d(2, 4, 3)), norm(nn.Conv2d(4, 4, 3))).eval()
    result = model.load_state_dict(old.state_dict(), strict=False)
    x = torch.randn(1, 2, 3, 3)
    assert torch.allclose(model[0](x), old(x), atol=1e-6), "the layer has kept its random weight"
    assert all(key.startswith("1.") for key in result.missing_keys)
    assert not result.unexpected_keys


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")  # it made the checkpoint
@complaint(
    20,
    "speechbrain#3074",
    symptom="after the switch from the deprecated weight_norm there is no way from old checkpoints to a plain vocoder",
    on_torch=NOT_THERE,
)
def test_speechbrain_3074_an_old_checkpoint_becomes_a_plain_model(engine: Engine) -> None:
    old, plain = weight_norm(nn.Conv1d(2, 4, 3)), nn.Conv1d(2, 4, 3)
    new = engine.parametrizations.weight_norm(nn.Conv1d(2, 4, 3))
    new.load_state_dict(old.state_dict())
    plain.load_state_dict(engine.parametrize.plain_state_dict(new))
    x = torch.randn(1, 2, 5)
    torch.testing.assert_close(plain(x), old(x))


@complaint(
    24,
    "pytorch#96409",
    "transformers#31970",
    symptom="a model with weight_norm that starts on the meta device does not take the weights of a plain one",
    on_torch=MISSING,
)
def test_pytorch_96409_a_model_on_the_meta_device_takes_a_plain_checkpoint(engine: Engine) -> None:
    plain = nn.Sequential(nn.Conv1d(8, 8, 4, groups=2))
    with torch.device("meta"):
        model = nn.Sequential(positional(engine))
    model.load_state_dict(plain.state_dict(), assign=True)
    x = torch.randn(1, 8, 6)
    torch.testing.assert_close(model(x), plain(x))


@complaint(
    24,
    "DeepSpeed#1045",
    symptom="what was emptied from the meta device keeps uninitialised vectors, whatever the weight that it loads",
    on_torch=MISSING,
)
def test_deepspeed_1045_a_load_after_to_empty_leaves_nothing_uninitialised(engine: Engine) -> None:
    with torch.device("meta"):
        model = nn.Sequential(engine.parametrizations.spectral_norm(nn.Linear(4, 4))).eval()
    model.to_empty(device="cpu")
    for buffer in model.buffers():
        buffer.fill_(torch.nan)  # what memory may hold
    plain = nn.Sequential(nn.Linear(4, 4))
    model.load_state_dict(plain.state_dict())
    assert abs(torch.linalg.matrix_norm(model[0].weight, 2) - 1) < 1e-2
