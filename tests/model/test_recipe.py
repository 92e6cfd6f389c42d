"""What the keys and values of a recipe mean, and what is said to somebody who writes them otherwise."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from paraform.constraints import Blocks, Orthogonal, Positive, Skew, Symmetric, WeightNorm
from paraform.model import constrain
from paraform.parametrize import Function, is_parametrized, register_parametrization
from paraform.parametrize.named import named_chains


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        self.layers = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])
        self.heads = nn.ModuleDict({"one": nn.Linear(3, 2), "two": nn.Bilinear(3, 3, 2)})
        self.norm = nn.BatchNorm1d(3)
        self.register_buffer("table", torch.eye(3))


def named(recipe: dict[Any, Any], model: nn.Module | None = None) -> list[str]:
    """The tensors on which a recipe puts something."""
    return [each.name for each in named_chains(constrain(Net() if model is None else model, recipe))]


KEYS = {
    "a full name": ("layers.0.weight", ["layers.0.weight"]),
    "the name of a tensor of the model itself": ("scale", ["scale"]),
    "the full name of a buffer": ("norm.running_var", ["norm.running_var"]),
    "a pattern, whose star crosses dots": (
        "*.weight",
        [f"{path}.weight" for path in ("layers.0", "layers.1", "heads.one", "heads.two", "norm")],
    ),
    "a pattern with a question mark": ("layers.?.weight", ["layers.0.weight", "layers.1.weight"]),
    "a pattern with a choice": ("layers.[!0].weight", ["layers.1.weight"]),
    "a pattern is for parameters, not for buffers": ("norm.*", ["norm.weight", "norm.bias"]),
    "a type": ((nn.Linear, "weight"), ["layers.0.weight", "layers.1.weight", "heads.one.weight"]),
    "several types": (((nn.Bilinear, nn.BatchNorm1d), "weight"), ["heads.two.weight", "norm.weight"]),
    "a type above": ((nn.modules.batchnorm._NormBase, "weight"), ["norm.weight"]),
    "a type with a pattern": ((nn.BatchNorm1d, "*"), ["norm.weight", "norm.bias"]),
    "a type with the name of a buffer": ((nn.BatchNorm1d, "running_mean"), ["norm.running_mean"]),
    "a type of the model itself": ((Net, "table"), ["table"]),
    "a predicate": (
        lambda name, tensor: name.startswith("heads") and tensor.ndim == 1,
        ["heads.one.bias", "heads.two.bias"],
    ),
}


@pytest.mark.parametrize(("key", "names"), KEYS.values(), ids=KEYS)
def test_a_key_is_for_these_tensors(key: Any, names: list[str]) -> None:
    assert named({key: Function(torch.sin)}) == names


def test_upper_and_lower_case_are_different() -> None:
    with pytest.raises(ValueError, match="names no tensor"):
        named({"Layers.*": Function(torch.sin)})


def test_a_full_name_is_no_pattern() -> None:
    model = nn.ParameterDict({"w[ab]": torch.ones(2), "wa": torch.ones(2)})
    assert named({"w[ab]": Positive()}, model) == ["w[ab]"]


def test_a_predicate_gets_full_names_and_the_tensors_themselves() -> None:
    model, asked = Net(), {}

    def note(name: str, tensor: Tensor) -> bool:
        asked[name] = tensor
        return name == "scale"

    named({note: Positive()}, model)
    assert list(asked) == [name for name, _ in Net().named_parameters()]
    assert asked["heads.one.weight"] is model.heads["one"].weight


def test_raw_tensors_and_what_parametrizations_train_are_never_named() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    register_parametrization(model[0], "weight", nn.Linear(2, 2))
    asked = []
    constrain(model, {lambda name, _: asked.append(name) or name == "1.bias": Positive()})
    assert asked == ["0.weight", "0.bias", "1.weight", "1.bias"]


def test_each_tensor_gets_its_own_copy() -> None:
    constraint = Skew()
    model = constrain(nn.Sequential(nn.Linear(2, 2), nn.Linear(3, 3)), {"*.weight": constraint})
    steps = [model[0].parametrizations.weight[0], model[1].parametrizations.weight[0], constraint]
    assert len(set(steps)) == 3
    assert [step.learned for step in steps] == [True, True, False]


def test_a_list_is_a_chain_the_first_one_first() -> None:
    layer = constrain(nn.Linear(3, 3), {"weight": [Skew(), Function(torch.matrix_exp)]})
    raw = layer.parametrizations.weight.original
    skew = raw.triu(1) - raw.triu(1).mT
    assert torch.allclose(layer.weight, torch.matrix_exp(skew))


def test_a_chain_keeps_the_value_through_all_its_inverses() -> None:
    layer = nn.Linear(3, 3)
    nn.init.constant_(layer.weight, 2.0)
    before = layer.weight.detach().clone()
    constrain(layer, {"weight": [Symmetric(), Function(torch.exp, torch.log)]})
    assert torch.allclose(layer.weight, before)


def test_a_function_chooses_by_the_tensor() -> None:
    def by_shape(tensor: Tensor) -> Any:
        square = tensor.ndim == 2 and tensor.shape[0] == tensor.shape[1]
        return [Skew(), Function(torch.matrix_exp)] if square else WeightNorm() if tensor.ndim == 2 else None

    model = constrain(Net(), {"layers.*": by_shape, "heads.one.*": by_shape})
    found = {each.name: list(map(type, each.chain)) for each in named_chains(model)}
    assert found == {
        "layers.0.weight": [Skew, Function],
        "layers.1.weight": [Skew, Function],
        "heads.one.weight": [WeightNorm],
    }


def test_a_function_that_always_says_none_is_fine() -> None:
    model = Net()
    assert constrain(model, {"*": lambda _: None}) is model
    assert not list(named_chains(model))


def test_where_a_function_says_none_another_rule_may_be() -> None:
    recipe = {"*": lambda tensor: Skew() if tensor.shape == (3, 3) else None, "scale": Positive()}
    assert named(recipe) == ["scale", "layers.0.weight", "layers.1.weight"]


def test_an_empty_recipe_does_nothing() -> None:
    assert named({}) == []


BAD = {
    "a recipe that is a list": (TypeError, [("weight", Skew())], r"recipe as a dict.*got a list"),
    "a recipe that is a constraint": (TypeError, Skew(), "recipe as a dict.*got a Skew"),
    "a type alone": (TypeError, {nn.Linear: Skew()}, r"Name the tensor too: \(Linear, \"weight\"\)"),
    "a module": (TypeError, {nn.Linear(2, 2): Skew()}, "a module is no key"),
    "a number": (TypeError, {3: Skew()}, "Expected as a key"),
    "a pair of names": (TypeError, {("Linear", "weight"): Skew()}, "first of a pair is a type"),
    "a pair with a type of something else": (TypeError, {(Tensor, "weight"): Skew()}, "first of a pair is a type"),
    "a pair without a type": (TypeError, {((), "weight"): Skew()}, "first of a pair is a type"),
    "a class": (TypeError, {"scale": Orthogonal}, r"Did you mean Orthogonal\(\)\?"),
    "None": (TypeError, {"scale": None}, "got None"),
    "a string": (TypeError, {"scale": "Skew"}, "expects a parametrization.*got a str"),
    "a pair of functions": (TypeError, {"scale": (torch.exp, torch.log)}, r"written Function\(f, inverse\)"),
    "a tuple of parametrizations": (TypeError, {"scale": (Skew(), Skew())}, "chain is written as a list"),
    "a ModuleList": (TypeError, {"scale": nn.ModuleList([Skew()])}, "write a chain as a list"),
    "an empty list": (ValueError, {"scale": []}, "empty list"),
    "a function in a list": (TypeError, {"scale": [torch.exp]}, r"written Function\(exp\)"),
    "a class in a list": (TypeError, {"scale": [Skew]}, r"Did you mean Skew\(\)"),
    "a function that is the parametrization": (TypeError, {"scale": torch.exp}, r"got a Tensor.*written Function\(f\)"),
    "a function that gives something else": (TypeError, {"scale": lambda _: Skew}, r"the class Skew from its function"),
    "a chain whose second step gives several raw tensors": (
        ValueError,
        {"layers.0.weight": [Skew(), WeightNorm()]},
        "WeightNorm gives 2 tensors, which only the first.*Put it first",
    ),
    "two rules": (
        ValueError,
        {"*.weight": Skew(), "layers.0.*": Skew()},
        r"layers.0.weight|2 rules name it: '\*.weight' and 'layers.0.\*'.*a list",
    ),
    "two predicates": (
        ValueError,
        {lambda n, _: n == "scale": Positive(), lambda n, _: "a" in n: Positive()},
        "place 1.* and .*place 2",
    ),
    "a typo in a name": (
        ValueError,
        {"layers.0.wieght": Skew()},
        r"'layers.0.wieght' names no tensor of Net. Did you mean: layers.0.weight",
    ),
    "a typo in a module": (ValueError, {"layer.1.weight": Skew()}, r"Did you mean: layers.1.weight"),
    "a typo in a pattern's tail": (ValueError, {"*.wieght": Skew()}, r"Did you mean: \*.weight\?"),
    "a module's name": (
        ValueError,
        {"heads.one": Skew()},
        "That is a module; its tensors are: heads.one.weight, heads.one.bias",
    ),
    "a tail in another place": (
        ValueError,
        {"encoder.attention.projection.weight": Skew()},
        "There is a 'weight' in: layers.0, layers.1, heads.one",
    ),
    "nothing near": (ValueError, {"q": Skew()}, "The model has: scale, table, layers.0.weight"),
    "a pattern for buffers": (
        ValueError,
        {"*running*": Positive()},
        "for parameters only.*norm.running_mean, norm.running_var",
    ),
    "a type that is not there": (
        ValueError,
        {(nn.Conv2d, "weight"): Skew()},
        r"\(Conv2d, 'weight'\) names no tensor.*types.*: Net, Linear, Bilinear, BatchNorm1d",
    ),
    "a tensor that the type has not": (
        ValueError,
        {((nn.Linear, nn.Bilinear), "weights"): Skew()},
        r"\(\(Linear, Bilinear\), 'weights'\).*have: weight, bias",
    ),
    "a pattern for buffers of a type": (ValueError, {(nn.BatchNorm1d, "running_*"): Skew()}, "name a buffer exactly"),
    "a predicate for nothing": (
        ValueError,
        {lambda *_: False: Skew()},
        "names no tensor.*name a buffer by its full name",
    ),
}


@pytest.mark.parametrize(("error", "recipe", "words"), BAD.values(), ids=BAD)
def test_the_error_says_what_to_write(error: type[Exception], recipe: Any, words: str) -> None:
    model = Net()
    with pytest.raises(error) as caught:
        constrain(model, recipe)
    assert re.search(words, str(caught.value), re.DOTALL)
    assert not list(named_chains(model))


def test_all_rules_that_name_nothing_are_told_at_once() -> None:
    with pytest.raises(ValueError, match=r"(?s)'a'.*'scael' names no tensor of Net. Did you mean: scale"):
        constrain(Net(), {"a": Skew(), "scale": Positive(), "scael": Positive()})


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
@pytest.mark.parametrize("key", ["[02].weight", "2.weight", "*.weight", (nn.Linear, "weight"), (nn.Linear, "w*t")])
def test_a_tensor_that_a_hook_computes_is_told_from_one_that_is_not_there(key: Any) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
    nn.utils.weight_norm(model[0])
    prune.l1_unstructured(model[2], "weight", 2)
    with pytest.raises(ValueError, match=r"Neither parameter nor buffer is: .*2\.weight\. .*the hook is taken off"):
        constrain(model, {key: Skew()})


def test_a_constraint_that_serves_another_tensor_is_refused() -> None:
    used = Blocks(Skew(), 1)
    register_parametrization(nn.Linear(3, 3), "weight", used)
    with pytest.raises(ValueError, match=r"serves the tensor that it was registered on.*the rule 'layers.0.weight'"):
        constrain(Net(), {"layers.0.weight": used})


def test_what_a_predicate_raises_says_which_tensor_it_was_asked_about() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        constrain(Net(), {lambda name, tensor: 1 / 0: Skew()})
    assert "'scale'" in "".join(getattr(caught.value, "__notes__", caught.value.args))


def test_a_parametrized_module_is_found_by_its_type_of_before() -> None:
    model = constrain(nn.Sequential(nn.Linear(3, 3)), {(nn.Linear, "bias"): Positive()})
    constrain(model, {(nn.Linear, "weight"): Skew()})
    assert is_parametrized(model[0], "weight")
