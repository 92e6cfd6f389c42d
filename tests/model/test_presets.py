"""Recipes for what is often done: which tensors they name, and what the constrained layers then are."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from paraform.constraints import WeightNorm
from paraform.model import constrain, presets

PRESETS = [presets.orthogonal_recurrent, presets.spectral_norm, presets.weight_norm, presets.orthogonal_qkv]


def assert_orthonormal(matrix: Tensor) -> None:
    matrix = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.mT
    assert torch.allclose(matrix.mT @ matrix, torch.eye(matrix.shape[1]), atol=1e-5)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("make", "gates"), [(nn.RNN, 1), (nn.LSTM, 4), (nn.GRU, 3)])
def test_every_gate_of_every_layer_and_direction_is_orthogonal(
    make: Callable[..., nn.RNNBase], gates: int, bidirectional: bool
) -> None:
    rnn = make(3, 5, num_layers=3, bidirectional=bidirectional)
    recipe = presets.orthogonal_recurrent(rnn)
    assert list(recipe) == [name for name, _ in rnn.named_parameters() if name.startswith("weight_hh")]
    constrain(rnn, recipe)
    for name in recipe:
        for gate in getattr(rnn, name).chunk(gates):
            assert_orthonormal(gate)
    rnn(torch.randn(2, 1, 3))[0].sum().backward()


@pytest.mark.parametrize(("make", "gates"), [(nn.RNNCell, 1), (nn.LSTMCell, 4), (nn.GRUCell, 3)])
def test_cells_too(make: Callable[..., nn.RNNCellBase], gates: int) -> None:
    model = nn.ModuleDict({"cell": make(3, 5)})
    constrain(model, presets.orthogonal_recurrent(model))
    for gate in model["cell"].weight_hh.chunk(gates):
        assert_orthonormal(gate)


def test_the_kernels_of_an_lstm_with_a_projection_have_orthonormal_columns() -> None:
    lstm = nn.LSTM(3, 5, proj_size=2)
    recipe = presets.orthogonal_recurrent(lstm)
    assert list(recipe) == ["weight_hh_l0"]
    for gate in constrain(lstm, recipe).weight_hh_l0.chunk(4):
        assert gate.shape == (5, 2)
        assert_orthonormal(gate)


def large(module: nn.Module) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(20)


@pytest.mark.parametrize("bound", [1.0, 0.5])
def test_every_layer_of_a_discriminator_is_bounded(bound: float) -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 4, stride=2),
        nn.LeakyReLU(0.2),
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 8, 3),
        nn.Flatten(),
        nn.Linear(8, 1),
    )
    large(model)
    constrain(model, presets.spectral_norm(model, bound))
    for layer in (model[0], model[3], model[5]):
        norm = torch.linalg.matrix_norm(layer.weight.detach().flatten(1), ord=2)
        assert norm == pytest.approx(bound, rel=1e-4)
    model(torch.randn(2, 3, 8, 8)).sum().backward()


CONVOLUTIONS = {
    "plain": lambda **options: nn.Conv2d(4, 6, 3, **options),
    "one dimension": lambda **options: nn.Conv1d(4, 6, 3, **options),
    "three dimensions": lambda **options: nn.Conv3d(4, 6, 2, **options),
    "transposed": lambda **options: nn.ConvTranspose2d(4, 6, 3, **options),
    "transposed in one dimension": lambda **options: nn.ConvTranspose1d(4, 6, 3, **options),
}


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("make", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_what_is_bounded_is_the_matrix_from_a_patch_to_the_outputs(
    make: Callable[..., nn.modules.conv._ConvNd], groups: int
) -> None:
    layer = make(groups=groups, bias=False)
    large(layer)
    constrain(layer, presets.spectral_norm(layer))
    # Outputs by inputs of all the groups: a block for each of them, and zeros elsewhere.
    weight = layer.weight.detach()
    size = weight[0, 0].numel()
    matrix = torch.zeros(6, 4 * size)
    for group in range(groups):
        outs, ins = 6 // groups, 4 // groups
        block = weight.flatten(2)
        block = block[group * ins :][:ins].movedim(1, 0) if layer.transposed else block[group * outs :][:outs]
        matrix[group * outs :, group * ins * size :][:outs, : ins * size] = block.reshape(outs, ins * size)
    assert torch.linalg.matrix_norm(matrix, ord=2) == pytest.approx(1, rel=1e-4)


def test_torch_finds_the_norm_of_a_convolution_without_groups_to_be_1() -> None:
    for make in (nn.Conv2d, nn.ConvTranspose2d):
        layer, other = make(4, 6, 3), make(4, 6, 3)
        large(layer)
        constrain(layer, presets.spectral_norm(layer))
        with torch.no_grad():
            other.weight.copy_(layer.weight)
        nn.utils.parametrizations.spectral_norm(other, n_power_iterations=500)  # which divides by what it finds
        assert torch.allclose(layer.weight, other.weight, atol=1e-3)


def test_weight_norm_has_the_sizes_of_a_vocoder() -> None:
    def vocoder() -> nn.Sequential:
        return nn.Sequential(nn.Conv1d(8, 6, 7), nn.ConvTranspose1d(6, 4, 8, stride=4), nn.Linear(3, 3))

    model, torchs = vocoder(), vocoder()
    values = {name: tensor.detach().clone() for name, tensor in model.named_parameters()}
    constrain(model, presets.weight_norm(model))
    for layer in torchs:
        nn.utils.parametrizations.weight_norm(layer)
    for mine, other in zip(model, torchs, strict=True):
        assert mine.parametrizations.weight.original0.shape == other.parametrizations.weight.original0.shape
    for index, layer in enumerate(model):
        assert torch.allclose(layer.weight, values[f"{index}.weight"], atol=1e-6)


def test_attention_gets_three_orthogonal_maps() -> None:
    packed, apart = nn.MultiheadAttention(6, 2), nn.MultiheadAttention(6, 2, kdim=4, vdim=8)
    model = nn.ModuleDict({"packed": packed, "apart": apart})
    recipe = presets.orthogonal_qkv(model)
    assert list(recipe) == ["packed.in_proj_weight", *(f"apart.{one}_proj_weight" for one in "qkv")]
    constrain(model, recipe)
    for matrix in (*packed.in_proj_weight.chunk(3), apart.q_proj_weight, apart.k_proj_weight, apart.v_proj_weight):
        assert_orthonormal(matrix)
    x = torch.randn(3, 1, 6)
    packed(x, x, x)[0].sum().backward()


@pytest.mark.parametrize("preset", PRESETS)
def test_a_model_that_has_nothing_of_the_kind_is_an_error(preset: Callable[[nn.Module], object]) -> None:
    with pytest.raises(ValueError, match="Embedding has no layer that is a"):
        preset(nn.Embedding(3, 4))


def test_a_preset_is_plain_data_that_prints_and_merges() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    recipe = {**presets.spectral_norm(model, 2.0), "1.weight": WeightNorm()}
    assert repr(recipe) == "{'0.weight': SpectralNorm(bound=2.0), '1.weight': WeightNorm()}"
    constrain(model, recipe)


def test_a_tied_tensor_and_a_module_with_two_names_are_named_once() -> None:
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    second.weight = first.weight
    assert list(presets.weight_norm(nn.ModuleList([first, second, first]))) == ["0.weight"]


def test_what_is_parametrized_is_named_and_constrain_refuses_it() -> None:
    model = nn.LSTM(3, 4)
    constrain(model, presets.orthogonal_recurrent(model))
    with pytest.raises(ValueError, match="on it already"):
        constrain(model, presets.orthogonal_recurrent(model))


def test_a_layer_whose_weight_an_older_hook_computes_is_an_error() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    with pytest.warns(FutureWarning):
        nn.utils.weight_norm(model[1])
    with pytest.raises(ValueError, match=r"'1' of the model, has no parameter 'weight'.*take the hook off"):
        presets.weight_norm(model)


def test_the_model_must_be_one() -> None:
    with pytest.raises(TypeError, match="Expected an nn"):
        presets.weight_norm({})
