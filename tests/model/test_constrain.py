"""A recipe is applied to a whole model, or not at all."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize as torchs

from paraform.constraints import (
    Blocks,
    Circulant,
    ConstraintError,
    Orthogonal,
    Positive,
    Skew,
    SpectralNorm,
    Symmetric,
    WeightNorm,
)
from paraform.model import constrain, presets
from paraform.parametrize import Function, is_parametrized, plain_state_dict, register_parametrization
from paraform.parametrize.named import named_chains
from tests.parametrize.photographs import photograph, photograph_of_optimizer


def names_of(model: nn.Module) -> list[str]:
    return [each.name for each in named_chains(model)]


def perceptron() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 4))


def trained(model: nn.Module) -> torch.optim.Optimizer:
    optimizer = torch.optim.Adam(model.named_parameters(), lr=0.01)
    model(torch.randn(5, 3)).sum().backward()
    optimizer.step()
    return optimizer


def test_the_model_itself_is_returned_and_trains_within_its_sets() -> None:
    model = perceptron()
    assert constrain(model, {"[02].weight": Orthogonal(), "4.weight": WeightNorm()}) is model
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(5, 3)).pow(2).sum().backward()
        optimizer.step()
    assert torch.allclose(model[2].weight @ model[2].weight.mT, torch.eye(3), atol=1e-5)


def test_the_order_of_the_rules_makes_no_difference() -> None:
    recipe = {"4.weight": WeightNorm(), "0.weight": Skew(), "0.bias": Positive()}
    torch.manual_seed(0)
    first = constrain(perceptron(), recipe)
    torch.manual_seed(0)
    second = constrain(perceptron(), dict(reversed(recipe.items())))
    assert list(first.state_dict()) == list(second.state_dict())
    assert names_of(first) == ["0.weight", "0.bias", "4.weight"]


def test_the_optimizer_goes_on_with_all_that_trains() -> None:
    model = perceptron()
    optimizer = trained(model)
    constrain(model, {"*.weight": WeightNorm()}, optimizer=optimizer)
    (group,) = optimizer.param_groups
    assert set(group["params"]) == set(model.parameters())
    assert sorted(group["param_names"]) == sorted(name for name, _ in model.named_parameters())


class Interrupting(nn.Module):
    def forward(self, raw: Tensor) -> Tensor:
        return raw

    def right_inverse(self, value: Tensor) -> Tensor:
        raise KeyboardInterrupt


class PeculiarError(Exception):
    def __init__(self, number: int, text: str) -> None:
        super().__init__(number, text)


class Peculiar(nn.Module):
    def forward(self, raw: Tensor) -> Tensor:
        raise PeculiarError(3, "peculiar")


def scribble(tensor: Tensor) -> Any:
    tensor.detach().zero_()
    raise ZeroDivisionError


FAILURES: dict[str, tuple[type[BaseException], dict[Any, Any]]] = {
    "a shape that does not suit": (ValueError, {"*.bias": WeightNorm(), "*.weight": Skew()}),
    "a shape that is changed before": (ValueError, {"[02].weight": Circulant(), "4.weight": Skew()}),
    "two rules": (ValueError, {"0.*": Function(torch.sin), "*.bias": Positive()}),
    "an exception of its own": (PeculiarError, {"0.weight": Skew(), "4.weight": Peculiar()}),
    "an interruption": (KeyboardInterrupt, {"[02].weight": WeightNorm(), "4.weight": Interrupting()}),
    "a function that writes": (ZeroDivisionError, {"0.weight": WeightNorm(), "4.weight": scribble}),
}


@pytest.mark.parametrize("with_optimizer", [False, True])
@pytest.mark.parametrize(("error", "recipe"), FAILURES.values(), ids=FAILURES)
def test_after_an_error_model_and_optimizer_are_to_the_bit_what_they_were(
    error: type[BaseException], recipe: dict[Any, Any], with_optimizer: bool
) -> None:
    model = perceptron()
    optimizer = trained(model)
    before = photograph(model), photograph_of_optimizer(optimizer)
    with pytest.raises(error) as caught:
        constrain(model, recipe, optimizer=optimizer if with_optimizer else None)
    assert type(caught.value) is error
    assert photograph(model) == before[0]
    assert photograph_of_optimizer(optimizer) == before[1]


def test_after_an_error_what_was_constrained_before_is_as_it_was() -> None:
    model = constrain(perceptron(), {"*.bias": Positive()})
    optimizer = trained(model)
    before = photograph(model), photograph_of_optimizer(optimizer)
    with pytest.raises(ValueError, match="square"):
        constrain(model, {"*.weight": Skew()}, optimizer=optimizer)
    assert (photograph(model), photograph_of_optimizer(optimizer)) == before


def test_after_an_error_the_same_call_without_the_mistake_works() -> None:
    model = perceptron()
    optimizer = trained(model)
    recipe = {"*.weight": WeightNorm(), "0.bias": Skew()}
    with pytest.raises(ValueError, match="square"):
        constrain(model, recipe, optimizer=optimizer)
    recipe["0.bias"] = Positive()
    constrain(model, recipe, optimizer=optimizer)
    assert names_of(model) == ["0.weight", "0.bias", "2.weight", "4.weight"]


def test_all_refused_tensors_are_listed_with_their_reasons() -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the words are looked at below)
        constrain(perceptron(), {"*.weight": Skew(), "0.bias": Peculiar(), "2.bias": Positive()})
    text = str(caught.value)
    assert text.startswith("2 tensors are refused, and nothing was changed:")
    assert "- Skew() expects square matrices" in text
    assert "(the rule '*.weight'):\n    4.weight, shape (4, 3)" in text
    assert "PeculiarError: (3, 'peculiar') (the rule '0.bias'):\n    0.bias, shape (3,)" in text
    assert "2.bias" not in text


def test_an_error_says_its_kind_and_the_rule_once() -> None:
    with pytest.raises(TypeError) as caught:
        constrain(perceptron(), {"4.weight": lambda tensor: tensor})
    text = str(caught.value)
    assert (text.count("The rule '4.weight'"), text.count("the rule"), text.count("TypeError")) == (1, 0, 0)
    assert text.endswith(":\n    4.weight, shape (4, 3)")


def test_an_exception_of_its_own_stays_itself_and_says_where() -> None:
    with pytest.raises(PeculiarError) as caught:
        constrain(perceptron(), {"4.weight": Peculiar()})
    if hasattr(caught.value, "__notes__"):
        assert "constraining '4.weight'" in "".join(caught.value.__notes__)


def test_an_optimizer_that_does_not_train_a_tensor_is_refused() -> None:
    model = perceptron()
    optimizer = torch.optim.SGD([model[0].weight], lr=0.1)
    before = photograph(model), photograph_of_optimizer(optimizer)
    with pytest.raises(ValueError, match=r"(?s)SGD does not train 'weight'.*4.weight"):
        constrain(model, {"[04].weight": WeightNorm()}, optimizer=optimizer)
    assert (photograph(model), photograph_of_optimizer(optimizer)) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(({}, {}), "Expected an nn.Module"), ((nn.Linear(2, 2), {"weight": Skew()}), "torch.optim.Optimizer")],
)
def test_arguments_of_another_type_are_refused(arguments: tuple[Any, Any], words: str) -> None:
    with pytest.raises(TypeError, match=words):
        constrain(*arguments, optimizer=[])


def test_the_same_recipe_twice_makes_no_double_chain() -> None:
    model = constrain(perceptron(), {"*.weight": WeightNorm()})
    before = photograph(model)
    with pytest.raises(ValueError, match=r"(?s)3 tensors.*WeightNorm\(\) is on it already.*remove_parametrizations"):
        constrain(model, {"*.weight": WeightNorm()})
    assert photograph(model) == before
    constrain(model, {"*.bias": Positive()})


def test_what_torchs_engine_parametrized_is_refused_too() -> None:
    layer = nn.Linear(3, 3)
    torchs.register_parametrization(layer, "weight", nn.Identity())
    with pytest.raises(ValueError, match=r"Identity\(\) is on it already"):
        constrain(layer, {"weight": Skew()})


class Gpt(nn.Module):
    """A language model whose head and embedding share their weight."""

    def __init__(self) -> None:
        super().__init__()
        self.wte = nn.Embedding(7, 4)
        self.block = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
        self.lm_head = nn.Linear(4, 7, bias=False)
        self.lm_head.weight = self.wte.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.lm_head(self.block(self.wte(tokens)))


@pytest.mark.parametrize("key", ["wte.weight", "lm_head.weight", "*.weight", (nn.Embedding, "weight")])
def test_a_tied_weight_is_one_tensor_under_each_of_its_names(key: Any) -> None:
    model = Gpt()
    only = {key: lambda tensor: SpectralNorm(0.5) if tensor.shape == (7, 4) else None}
    constrain(model, only)
    assert model.wte.parametrizations.weight is model.lm_head.parametrizations.weight
    assert len(model.wte.parametrizations.weight) == 1
    model(torch.zeros(1, 3, dtype=torch.long)).sum().backward()


def test_rules_for_two_names_of_one_tie_are_in_conflict() -> None:
    model = Gpt()
    before = photograph(model)
    with pytest.raises(ValueError, match=r"(?s)'wte.weight' and 'lm_head.weight'.*wte.weight = lm_head.weight"):
        constrain(model, {"wte.weight": SpectralNorm(), "lm_head.weight": SpectralNorm()})
    assert photograph(model) == before


def test_a_tie_to_a_module_outside_is_undone_there_too() -> None:
    model, outside = perceptron(), nn.Linear(3, 3)
    outside.weight = model[0].weight
    before = photograph(outside)
    with pytest.raises(ValueError, match="square"):
        constrain(model, {"*.weight": Skew()})
    assert photograph(outside) == before
    constrain(model, {"0.weight": Skew()})
    assert torch.equal(outside.weight, -outside.weight.mT)


def test_a_module_with_two_names_is_constrained_once() -> None:
    layer = nn.Linear(3, 3)
    model = nn.ModuleDict({"first": layer, "second": nn.ModuleList([layer])})
    constrain(model, {"*.weight": Skew(), "second.0.bias": Positive()})
    assert len(layer.parametrizations.weight) == len(layer.parametrizations.bias) == 1


def test_two_tensors_in_one_memory_are_refused() -> None:
    model = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])
    model[1].weight.data = model[0].weight.data
    with pytest.raises(ValueError, match="two tensors in one memory"):
        constrain(model, {"0.weight": Skew()})


def test_a_lazy_module_has_it_put_off() -> None:
    model = constrain(nn.Sequential(nn.LazyLinear(3)), {"0.weight": Orthogonal()})
    assert not names_of(model)
    with pytest.raises(ValueError, match=r"Orthogonal\(.*on it already"):
        constrain(model, {"0.weight": Orthogonal()})
    model(torch.zeros(2, 5))
    assert names_of(model) == ["0.weight"]


@pytest.mark.parametrize(
    ("recipe", "options", "words"),
    [
        ({"0.weight": lambda _: Skew()}, {}, "has a function of the tensor.*no shape yet. Run one forward pass"),
        ({"0.weight": Skew()}, {"strict": True}, "no entries yet.*Run one forward pass"),
    ],
)
def test_what_a_lazy_module_cannot_tell_yet_is_refused(recipe: Any, options: Any, words: str) -> None:
    model = nn.Sequential(nn.LazyLinear(3))
    with pytest.raises(RuntimeError, match=words):
        constrain(model, recipe, **options)
    assert "parametrizations" not in model[0]._modules
    assert len(model[0]._forward_pre_hooks) == 1  # torch's own


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_strict_takes_what_is_in_the_set_but_for_rounding(dtype: torch.dtype) -> None:
    model = nn.ModuleList([nn.Linear(8, 8), nn.Linear(16, 16)]).to(dtype)
    for layer in model:
        layer.weight.data = Orthogonal().sample(layer.weight.shape, dtype=dtype)
    constrain(model, {"*.weight": Orthogonal()}, strict=True)
    assert names_of(model) == ["0.weight", "1.weight"]


def test_strict_names_all_that_would_move_and_how_far() -> None:
    model = perceptron()
    model[2].weight.data = Symmetric().sample((3, 3))
    for layer in (model[0], model[4]):
        nn.init.zeros_(layer.bias)
    model[0].weight.data = torch.tensor([[0.0, 2.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    before = photograph(model)
    with pytest.raises(ConstraintError) as caught:
        constrain(model, {"[02].weight": Symmetric(), "4.bias": lambda _: Function(torch.exp)}, strict=True)
    text = str(caught.value)
    assert "0.weight, shape (3, 3)" in text
    assert "would move by 1.41 (0.71 of its norm)" in text  # to the mean of 2 and 0, in two entries
    assert "4.bias, shape (4,)" in text
    assert "would move by 2" in text  # from 0 to 1, in four entries
    assert "2.weight" not in text
    assert photograph(model) == before


def test_strict_asks_for_the_value_behind_all_steps_of_a_chain() -> None:
    rotation = torch.matrix_exp(Skew().sample((3, 3)))
    chain = [
        Skew(),
        Function(torch.matrix_exp, lambda value: torch.linalg.solve(value + torch.eye(3), value - torch.eye(3))),
    ]
    layer = nn.Linear(3, 3)
    layer.weight.data = rotation
    with pytest.raises(ConstraintError, match="would move"):  # that is Cayley's inverse, not a logarithm
        constrain(layer, {"weight": chain}, strict=True)
    layer.weight.data = torch.eye(3)
    constrain(layer, {"weight": chain}, strict=True)
    assert torch.equal(layer.weight, torch.eye(3))


def test_a_dry_run_changes_nothing_not_even_the_random_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    class Random(nn.Module):
        def forward(self, raw: Tensor) -> Tensor:
            return raw + torch.rand(())

    model = perceptron()
    optimizer = trained(model)
    before = photograph(model), photograph_of_optimizer(optimizer), torch.get_rng_state()
    recipe = {"[02].weight": Circulant(), "4.weight": WeightNorm(), "4.bias": Random()}
    assert constrain(model, recipe, optimizer=optimizer, dry_run=True) is model
    assert photograph(model) == before[0]
    assert photograph_of_optimizer(optimizer) == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])
    assert capsys.readouterr().out


def test_a_dry_run_prints_what_would_be_done(capsys: pytest.CaptureFixture[str]) -> None:
    model = perceptron()
    model[0].weight.data = torch.tensor([[0.0, 2.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    recipe = {"0.weight": Symmetric(), (nn.Linear, "bias"): [Positive(), Function(torch.sin)], "4.weight": Symmetric()}
    for layer in (model[0], model[2], model[4]):
        nn.init.zeros_(layer.bias)
    constrain(model, recipe, dry_run=True)
    lines = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    rows = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert rows[0] == ["tensor", "shape", "gets", "moves by", "rule"]
    assert rows[1] == ["0.weight", "(3, 3)", "Symmetric()", "1.41 (0.71 of its norm)", "'0.weight'"]
    assert rows[2][:3] == ["0.bias", "(3,)", "Positive(), Function(sin)"]
    assert rows[4] == ["4.weight", "(4, 3)", "Symmetric()", "is refused", "'4.weight'"]
    assert rows[7] == ["Refused, so that nothing would be changed (1 of 5):"]
    assert rows[8][0].startswith("- Symmetric() expects square matrices")
    assert not names_of(model)


def test_a_dry_run_of_what_is_not_applied_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    constrain(perceptron(), {"*": lambda _: None}, dry_run=True)
    assert capsys.readouterr().out == "The recipe puts nothing on any tensor.\n"


def test_a_dry_run_of_a_lazy_model_and_of_one_on_meta(capsys: pytest.CaptureFixture[str]) -> None:
    model = nn.Sequential(nn.Linear(3, 3, device="meta"), nn.LazyLinear(3))
    constrain(model, {"*.weight": Orthogonal()}, dry_run=True)
    first, second = capsys.readouterr().out.splitlines()[1:]
    assert first.split()[:3] == ["0.weight", "(3,", "3)"]
    assert "put off until the first forward pass" in second
    assert type(model[0]) is nn.Linear


def test_a_model_on_meta_is_constrained() -> None:
    model = perceptron().to("meta")
    constrain(model, {"[02].weight": Orthogonal(), "4.weight": WeightNorm()}, strict=True)
    assert names_of(model) == ["0.weight", "2.weight", "4.weight"]
    assert model[4].weight.is_meta


MODELS: dict[str, tuple[Callable[[], nn.Module], dict[Any, Any], Callable[[nn.Module], Any]]] = {
    "a transformer": (
        lambda: nn.Transformer(8, 2, 2, 2, 16, batch_first=True),
        {"*.in_proj_weight": Blocks(Orthogonal(), 3), (nn.Linear, "weight"): WeightNorm(), "*norm*.weight": Positive()},
        lambda model: model(torch.randn(2, 3, 8), torch.randn(2, 4, 8)),
    ),
    "an LSTM": (
        lambda: nn.LSTM(4, 6, num_layers=3, bidirectional=True, proj_size=3),
        {(nn.LSTM, "weight_hh*"): Blocks(Orthogonal(), 4), (nn.LSTM, "weight_hr*"): WeightNorm()},
        lambda model: model(torch.randn(2, 1, 4))[0],
    ),
    "a discriminator": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.LeakyReLU(), nn.ConvTranspose2d(4, 2, 3), nn.Flatten(), nn.LazyLinear(1)
        ),
        {"[02].bias": Positive(), "4.weight": SpectralNorm()},
        lambda model: model(torch.randn(2, 3, 5, 5)),
    ),
    "parameter lists and dicts": (
        lambda: nn.ModuleList([nn.ParameterList([torch.randn(3, 3)]), nn.ParameterDict({"w": torch.randn(3, 3)})]),
        {"0.0": Skew(), "1.*": Orthogonal()},
        lambda model: model[0][0] @ model[1]["w"],
    ),
    "a language model": (
        Gpt,
        {"*self_attn.in_proj_weight": Blocks(Orthogonal(), 3), "lm_head.*": WeightNorm()},
        lambda model: model(torch.zeros(2, 3, dtype=torch.long)),
    ),
}


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize(("make", "recipe", "call"), MODELS.values(), ids=MODELS)
def test_models_as_they_are_built_train_copy_and_load(
    make: Callable[[], nn.Module], recipe: dict[Any, Any], call: Callable[[nn.Module], Tensor]
) -> None:
    model = constrain(make(), recipe)
    call(model).sum().backward()
    assert names_of(model)
    twin = copy.deepcopy(model).eval()
    twin.load_state_dict(model.eval().state_dict())
    torch.manual_seed(0)
    expected = call(model)
    torch.manual_seed(0)
    assert torch.equal(call(twin), expected)


def test_a_compiled_model_is_constrained_under_the_names_of_its_state_dict() -> None:
    model = perceptron()
    compiled = torch.compile(model, backend="eager")
    x = torch.randn(2, 3)
    compiled(x)
    constrain(compiled, {"_orig_mod.0.weight": Skew(), (nn.Linear, "bias"): Positive()})
    assert names_of(model) == ["0.weight", "0.bias", "2.bias", "4.bias"]
    assert torch.allclose(compiled(x), model(x))
    with pytest.raises(ValueError, match=r"Did you mean: _orig_mod\.2\.weight"):
        constrain(compiled, {"2.weight": Skew()})


@pytest.mark.filterwarnings("ignore:`torch.jit.trace:DeprecationWarning")
def test_a_part_that_torchscript_compiled_is_refused_and_the_others_are_constrained() -> None:
    model = nn.Sequential(nn.Linear(3, 3), torch.jit.trace(nn.Linear(3, 3), torch.ones(1, 3)))
    with pytest.raises(TypeError, match=r"(?s)TorchScript compiled cannot be parametrized.*1\.weight"):
        constrain(model, {"*.weight": Skew()})
    assert type(model[0]) is nn.Linear
    constrain(model, {"0.weight": Skew()})
    assert names_of(model) == ["0.weight"]
    assert list(plain_state_dict(model)) == ["0.weight", "0.bias", "1.weight", "1.bias"]


def test_a_real_model_of_hugging_face_is_constrained() -> None:
    transformers = pytest.importorskip("transformers", reason="needs the package transformers")
    config = transformers.GPT2Config(vocab_size=11, n_positions=8, n_embd=8, n_layer=2, n_head=2)
    model = transformers.GPT2LMHeadModel(config)
    recipe = {"transformer.h.*.attn.c_attn.weight": Blocks(Orthogonal(), 3, dim=1), "lm_head.weight": SpectralNorm()}
    constrain(model, recipe)
    assert names_of(model) == ["transformer.wte.weight", *(f"transformer.h.{i}.attn.c_attn.weight" for i in (0, 1))]
    assert is_parametrized(model.lm_head)
    tokens = torch.zeros(1, 3, dtype=torch.long)
    model(tokens, labels=tokens).loss.backward()


def test_a_preset_and_what_is_merged_with_it() -> None:
    model = nn.ModuleDict({"rnn": nn.LSTM(3, 4), "head": nn.Linear(4, 3)})
    constrain(model, {**presets.orthogonal_recurrent(model), "head.weight": WeightNorm()})
    assert names_of(model) == ["rnn.weight_hh_l0", "head.weight"]


def test_a_constrained_model_takes_a_further_step_by_hand() -> None:
    layer = constrain(nn.Linear(3, 3), {"weight": Skew()})
    register_parametrization(layer, "weight", Function(torch.matrix_exp))
    assert len(layer.parametrizations.weight) == 2
