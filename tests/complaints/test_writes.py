"""Row 1: what is written to a parametrized weight. Row 33: its gradient. Row 17: looking at it."""

import math

import torch
from torch import Tensor, nn

from tests.complaints.layers import doubled, original
from tests.complaints.registry import Engine, complaint, raises, wrong
from tests.parametrize.cases import Double


@complaint(
    1,
    "pytorch#180968",
    symptom="nn.init on a parametrized weight does nothing, without a word",
    on_torch=wrong("the weight was not initialised"),
)
def test_pytorch_180968_an_initialisation_is_what_the_layer_has(engine: Engine) -> None:
    layer = doubled(engine)
    nn.init.eye_(layer.weight)
    assert torch.equal(layer.weight, torch.eye(3)), "the weight was not initialised"


@complaint(
    1,
    "hifi-gan#145",
    "NVIDIA/DeepLearningExamples#1331",
    symptom="apply(init_weights) that writes to weight.data trains a vocoder from the default initialisation",
    on_torch=wrong("the default initialisation was kept"),
)
def test_hifi_gan_145_weights_that_are_written_by_apply_are_used(engine: Engine) -> None:
    def init_weights(module: nn.Module, mean: float = 0.0, std: float = 0.01) -> None:
        if "Conv" in type(module).__name__:
            module.weight.data.normal_(mean, std)

    torch.manual_seed(0)
    model = nn.Sequential(*(engine.parametrizations.weight_norm(nn.Conv1d(16, 16, 7)) for _ in range(3)))
    model.apply(init_weights)
    for layer in model:
        std = float(layer.weight.detach().std())
        assert math.isclose(std, 0.01, rel_tol=0.1), "the default initialisation was kept"


@complaint(
    1,
    "fastai#2846",
    symptom="an assignment into a slice of the weight under no_grad does nothing",
    on_torch=wrong("the row was not written"),
)
def test_fastai_2846_a_row_that_is_written_is_what_the_layer_has(engine: Engine) -> None:
    layer = doubled(engine)
    with torch.no_grad():
        layer.weight[0] = 7.0
    assert torch.equal(layer.weight[0], torch.full((3,), 7.0)), "the row was not written"


@complaint(
    1,
    "pytorch#25092",
    symptom="reset_parameters() leaves a parametrized weight as it is",
    on_torch=wrong("the weight was not reset"),
)
def test_pytorch_25092_reset_parameters_draws_a_new_weight(engine: Engine) -> None:
    plain, layer = nn.Linear(3, 3), doubled(engine)
    for each in (plain, layer):
        torch.manual_seed(3)
        each.reset_parameters()
    assert torch.equal(layer.weight, plain.weight), "the weight was not reset"


@complaint(
    1,
    symptom="a Hugging Face style _init_weights loop leaves parametrized weights as they are",
    on_torch=wrong("the weight was not initialised"),
)
def test_an_init_weights_loop_of_a_pretrained_model_reaches_the_weight(engine: Engine) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(8, 3, padding_idx=0)
            self.head = nn.Linear(3, 8)

        def _init_weights(self, module: nn.Module) -> None:
            if isinstance(module, nn.Linear):
                module.weight.data.normal_(mean=0.0, std=0.02)
                if module.bias is not None:
                    module.bias.data.zero_()
            elif isinstance(module, nn.Embedding):
                module.weight.data.normal_(mean=0.0, std=0.02)
                if module.padding_idx is not None:
                    module.weight.data[module.padding_idx].zero_()

    plain, model = Model(), Model()
    for layer in (model.embedding, model.head):
        engine.parametrize.register_parametrization(layer, "weight", Double())
    for each in (plain, model):
        torch.manual_seed(0)
        each.apply(each._init_weights)
    for layer, expected in ((model.embedding, plain.embedding), (model.head, plain.head)):
        assert torch.equal(layer.weight, expected.weight), "the weight was not initialised"


@complaint(
    1,
    symptom="a loop that asks `type(module) == nn.Linear` passes parametrized layers by; there is no way round",
    on_torch=raises(AttributeError, "module 'torch.nn.utils.parametrize' has no attribute 'writable'"),
)
def test_a_whole_model_can_be_initialised_as_its_plain_self(engine: Engine) -> None:
    layer = doubled(engine)
    model = nn.Sequential(layer, nn.ReLU())

    def init_weights(module: nn.Module) -> None:
        if type(module) is nn.Linear:
            nn.init.eye_(module.weight)

    with engine.parametrize.writable(model):
        model.apply(init_weights)
    assert torch.equal(layer.weight, torch.eye(3))


@complaint(
    1,
    symptom="an initialisation of a weight whose parametrization has no right_inverse is lost without a word",
    on_torch=wrong("no error"),
)
def test_an_initialisation_that_cannot_be_kept_is_an_error(engine: Engine) -> None:
    class Exp(nn.Module):
        def forward(self, X: Tensor) -> Tensor:
            return torch.matrix_exp(X)

    layer = engine.parametrize.register_parametrization(nn.Linear(3, 3), "weight", Exp())
    try:
        nn.init.eye_(layer.weight)
    except RuntimeError as error:
        refusal = str(error)
    else:
        refusal = ""
    assert refusal, "no error"
    assert "right_inverse" in refusal


@complaint(
    33,
    "geotorch#44",
    symptom="layer.weight.grad is None with a hint that does not say where the gradient is",
    on_torch=wrong("it was not said where the gradient is"),
)
def test_geotorch_44_the_gradient_is_told_where_to_find(engine: Engine) -> None:
    import warnings

    layer = doubled(engine)
    layer(torch.ones(1, 3)).sum().backward()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert layer.weight.grad is None
    told = any("parametrizations.weight.original.grad" in str(warning.message) for warning in caught)
    assert told, "it was not said where the gradient is"
    assert original(layer).grad is not None


@complaint(
    17,
    symptom="in training mode every look at the weight runs a power iteration, so the result depends on who looks",
    on_torch=wrong("two looks differ"),
)
def test_two_looks_at_a_weight_in_training_mode_see_the_same(engine: Engine) -> None:
    torch.manual_seed(0)
    layer = engine.parametrizations.spectral_norm(nn.Linear(8, 8))
    with torch.no_grad():
        original(layer).copy_(torch.randn(8, 8))
    assert torch.equal(layer.weight, layer.weight), "two looks differ"
    before = {key: value.clone() for key, value in layer.state_dict().items()}
    assert hasattr(layer, "weight")
    for key, value in layer.state_dict().items():
        assert torch.equal(value, before[key])
    layer(torch.ones(1, 8))
    assert not torch.equal(layer.parametrizations.weight[0]._u, before["parametrizations.weight.0._u"])
