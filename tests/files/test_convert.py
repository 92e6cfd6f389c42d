"""What torch's hooks and parametrizations left in a state dict is turned into chains with the values that torch has."""

import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations as new
from torch.nn.utils import parametrize, prune

from paraform.files import FileError
from paraform.files.convert import convert_state_dict
from paraform.files.torch_chains import Converted
from paraform.files.torch_steps import OrthogonalMaps


def spectral_hook(module: nn.Module, *inputs: Tensor, name: str = "weight", **options: Any) -> nn.Module:
    hooked = nn.utils.spectral_norm(module, name, **options)
    with torch.no_grad():
        hooked.train()(*inputs)
    return hooked


def weight_hook(module: nn.Module, name: str = "weight", **options: Any) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # it is deprecated, which is why it is converted
        hooked = nn.utils.weight_norm(module, name, **options)
    with torch.no_grad():
        hooked.get_parameter(f"{name}_g").mul_(1.5)
        hooked.get_parameter(f"{name}_v").mul_(0.5)
    return hooked


def assigned(module: nn.Module, value: Tensor) -> nn.Module:
    module.weight = value  # of a later step this makes the base
    return module


def trained(module: nn.Module) -> nn.Module:
    """Raw tensors away from where registration left them, but for what has no gradient."""
    raw = module.parametrizations["weight"].original
    with torch.no_grad():
        lower = 0.3 * torch.randn_like(raw)
        raw += lower.tril(-1) if raw.size(-2) >= raw.size(-1) else lower.triu(1)
    return module


def converted(state_dict: Any, name: str = "weight", **options: Any) -> Converted:
    return {each.name: each for each in convert_state_dict(state_dict, **options)}[name]


def value_of(each: Converted) -> Tensor:
    """The value of the chain, whose steps are asked one by one."""
    raws = [each.stored[key] for key in ("original", "original0", "original1") if key in each.stored]
    with torch.no_grad():
        x = each.chain[0](*raws)
        for step in each.chain[1:]:
            x = step(x)
    return x


def torch_value(module: nn.Module, name: str = "weight") -> Tensor:
    """What torch makes of it in eval mode; a hook computes it in a forward pass, of which the rest may fail."""
    module.eval()
    with torch.no_grad():
        for hook in module._forward_pre_hooks.values():
            hook(module, ())
        return getattr(module, name).detach().clone()


X = torch.ones(1, 4)
IMAGE = torch.ones(1, 4, 6, 6)

KNOWN: dict[str, tuple[Callable[[], nn.Module], str, str]] = {
    "weight hook on Linear": (lambda: weight_hook(nn.Linear(4, 3)), "weight", "weight_norm"),
    "weight hook, dim=None": (lambda: weight_hook(nn.Linear(4, 3), dim=None), "weight", "weight_norm"),
    "weight hook, dim=1": (lambda: weight_hook(nn.Linear(4, 4), dim=1), "weight", "weight_norm"),
    "weight hook on Conv1d": (lambda: weight_hook(nn.Conv1d(4, 3, 3)), "weight", "weight_norm"),
    "weight hook on ConvTranspose1d": (lambda: weight_hook(nn.ConvTranspose1d(4, 3, 3)), "weight", "weight_norm"),
    "weight hook on Embedding": (lambda: weight_hook(nn.Embedding(5, 3)), "weight", "weight_norm"),
    "weight hook on LSTM": (lambda: weight_hook(nn.LSTM(4, 4), "weight_hh_l0"), "weight_hh_l0", "weight_norm"),
    "weight hook on a bias": (lambda: weight_hook(nn.Linear(4, 3), "bias"), "bias", "weight_norm"),
    "weight hook in half": (lambda: weight_hook(nn.Linear(4, 3)).half(), "weight", "weight_norm"),
    "spectral hook on Linear": (lambda: spectral_hook(nn.Linear(4, 4), X), "weight", "spectral_norm"),
    "spectral hook on Conv2d": (lambda: spectral_hook(nn.Conv2d(4, 4, 3), IMAGE), "weight", "spectral_norm"),
    "spectral hook on ConvTranspose2d": (
        lambda: spectral_hook(nn.ConvTranspose2d(4, 4, 3), IMAGE),
        "weight",
        "spectral_norm",
    ),
    "spectral hook, dim=2": (lambda: spectral_hook(nn.Conv2d(4, 3, 3), IMAGE, dim=2), "weight", "spectral_norm"),
    "spectral hook on Embedding": (
        lambda: spectral_hook(nn.Embedding(5, 3), torch.tensor([0])),
        "weight",
        "spectral_norm",
    ),
    "spectral hook on LSTM": (
        lambda: spectral_hook(nn.LSTM(4, 4), X, name="weight_hh_l0"),
        "weight_hh_l0",
        "spectral_norm",
    ),
    "weight_norm": (lambda: new.weight_norm(nn.Linear(4, 3)), "weight", "weight_norm"),
    "weight_norm, dim=None": (lambda: new.weight_norm(nn.Linear(4, 3), dim=None), "weight", "weight_norm"),
    "weight_norm, dim=1": (lambda: new.weight_norm(nn.Conv2d(4, 3, 3), dim=1), "weight", "weight_norm"),
    "weight_norm on LSTM": (lambda: new.weight_norm(nn.LSTM(4, 4), "weight_ih_l0"), "weight_ih_l0", "weight_norm"),
    "spectral_norm": (lambda: new.spectral_norm(nn.Linear(4, 4)), "weight", "spectral_norm"),
    "spectral_norm on ConvTranspose2d": (
        lambda: new.spectral_norm(nn.ConvTranspose2d(4, 4, 3)),
        "weight",
        "spectral_norm",
    ),
    "spectral_norm, complex": (
        lambda: new.spectral_norm(nn.Linear(4, 3, dtype=torch.cfloat)),
        "weight",
        "spectral_norm",
    ),
    "spectral_norm in half": (lambda: new.spectral_norm(nn.Linear(4, 3)).half(), "weight", "spectral_norm"),
    "orthogonal, square": (lambda: trained(new.orthogonal(nn.Linear(4, 4))), "weight", "orthogonal"),
    "orthogonal, tall": (lambda: trained(new.orthogonal(nn.Linear(3, 6))), "weight", "orthogonal"),
    "orthogonal, wide": (lambda: trained(new.orthogonal(nn.Linear(6, 3))), "weight", "orthogonal"),
    "orthogonal, slices": (lambda: trained(new.orthogonal(nn.Conv2d(2, 2, 3))), "weight", "orthogonal"),
    "orthogonal, complex": (
        lambda: trained(new.orthogonal(nn.Linear(3, 6, dtype=torch.cfloat))),
        "weight",
        "orthogonal",
    ),
    "pruned": (lambda: prune.random_unstructured(nn.Linear(4, 3), "weight", 0.5), "weight", "prune"),
    "pruned in rows": (lambda: prune.ln_structured(nn.Conv2d(4, 3, 3), "weight", 0.5, 2, 0), "weight", "prune"),
    "weight_norm, then spectral_norm": (
        lambda: new.spectral_norm(new.weight_norm(nn.Linear(4, 4))),
        "weight",
        "weight_norm, spectral_norm",
    ),
    "spectral_norm, then orthogonal": (
        lambda: assigned(new.orthogonal(new.spectral_norm(nn.Linear(4, 4))), torch.eye(4)[[1, 2, 3, 0]]),
        "weight",
        "spectral_norm, orthogonal",
    ),
    "spectral_norm twice": (
        lambda: new.spectral_norm(new.spectral_norm(nn.Linear(4, 3)), dim=1),
        "weight",
        "spectral_norm, spectral_norm",
    ),
}


@pytest.mark.parametrize("case", KNOWN)
def test_what_torch_has_parametrized_keeps_the_value_that_torch_computes(case: str) -> None:
    build, name, source = KNOWN[case]
    module = build()
    wanted = torch_value(module, name)
    each = converted(module.state_dict(), name)
    assert each.source == source
    value = value_of(each)
    assert value.dtype == wanted.dtype
    torch.testing.assert_close(
        value, wanted, rtol=8 * torch.finfo(wanted.dtype).eps, atol=8 * torch.finfo(wanted.dtype).eps
    )


def test_names_of_any_prefix_are_recognised_side_by_side_and_keep_their_order() -> None:
    model = nn.ModuleDict(
        {
            "a_v": weight_hook(nn.Linear(4, 3)),
            "b": nn.Sequential(new.orthogonal(nn.Linear(4, 4)), nn.BatchNorm1d(4)),
            "parametrizations": nn.Sequential(new.weight_norm(nn.Linear(4, 3)), nn.Linear(2, 2)),
        }
    )
    found = convert_state_dict(model.state_dict())
    assert [(each.name, each.source) for each in found if each.source] == [
        ("a_v.weight", "weight_norm"),
        ("b.0.weight", "orthogonal"),
        ("parametrizations.0.weight", "weight_norm"),
    ]
    plain = nn.ModuleDict({"a_v": nn.Linear(4, 3), "b": nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))})
    plain["parametrizations"] = nn.Sequential(nn.Linear(4, 3), nn.Linear(2, 2))
    assert {each.name for each in found} == set(plain.state_dict())


def test_a_state_dict_of_paraforms_stand_ins_is_one_of_torch() -> None:
    from paraform.parametrizations import orthogonal, spectral_norm, weight_norm

    for put in (orthogonal, spectral_norm, weight_norm):
        layer = put(nn.Linear(4, 4)).eval()
        torch.testing.assert_close(value_of(converted(layer.state_dict())), layer.weight.detach())


@pytest.mark.parametrize("map", ["matrix_exp", "cayley", "householder"])
def test_the_map_of_an_orthogonal_weight_can_be_given(map: str) -> None:
    layer = trained(new.orthogonal(nn.Linear(4, 4), orthogonal_map=map))
    for maps in (OrthogonalMaps(map), OrthogonalMaps("cayley", {"weight": map}), OrthogonalMaps(None, {"w*": map})):
        each = converted(layer.state_dict(), orthogonal_maps=maps)
        torch.testing.assert_close(value_of(each), torch_value(layer))
        assert each.notes == ()


def test_a_map_that_is_assumed_is_told_unless_it_makes_no_difference() -> None:
    layer = new.orthogonal(nn.Linear(4, 4))
    assert converted(layer.state_dict()).notes == ()
    (note,) = converted(trained(layer).state_dict()).notes
    assert "matrix_exp, torch's default, is assumed" in note


@pytest.mark.parametrize("map", ["matrix_exp", "cayley", "householder"])
def test_without_a_base_only_the_map_of_that_name_makes_it_orthogonal(map: str) -> None:
    layer = trained(new.orthogonal(nn.Linear(4, 6), orthogonal_map=map, use_trivialization=False))
    for maps in (OrthogonalMaps(), OrthogonalMaps(map)):
        with pytest.raises(FileError, match="'weight' is not known: step 0 keeps nothing"):
            convert_state_dict(layer.state_dict(), maps)
    each = converted(layer.state_dict(), orthogonal_maps=OrthogonalMaps(named={"weight": map}))
    torch.testing.assert_close(value_of(each), torch_value(layer))


def test_maps_that_fit_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="out of matrix_exp, cayley, householder, got 'qr'"):
        OrthogonalMaps("qr")
    with pytest.raises(FileError, match=r"'head\.\*', but no orthogonal tensor"):
        convert_state_dict(new.orthogonal(nn.Linear(2, 2)).state_dict(), OrthogonalMaps(named={"head.*": "cayley"}))
    layer = new.orthogonal(nn.Linear(2, 2, dtype=torch.cfloat))
    with pytest.raises(FileError, match="complex"):
        convert_state_dict(layer.state_dict(), OrthogonalMaps("householder"))


def test_signs_that_have_decayed_are_told() -> None:
    layer = new.orthogonal(nn.Linear(4, 6))
    with torch.no_grad():
        layer.parametrizations["weight"].original.mul_(0.99)
    assert not torch_value(layer).any()
    each = converted(layer.state_dict())
    assert "decayed" in each.notes[-1]
    torch.testing.assert_close(value_of(each).mT @ value_of(each), torch.eye(4))


def old_spectral(weight: Tensor) -> dict[str, Tensor]:
    """What torch 0.4 saved after a forward pass: the weight, the value and u, but no v."""
    v = torch.nn.functional.normalize(weight.T @ torch.randn(weight.size(0)), dim=0)
    u = torch.nn.functional.normalize(weight @ v, dim=0)
    return {"weight_orig": weight, "weight": weight / (u @ weight @ v), "weight_u": u}


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5, 3), (1, 4), (4, 1)])
def test_a_spectral_norm_from_before_torch_1_keeps_the_value_that_was_saved(shape: tuple[int, int]) -> None:
    saved = old_spectral(torch.randn(shape))
    hooked = nn.utils.spectral_norm(nn.Linear(shape[1], shape[0], bias=False))
    hooked.load_state_dict(dict(saved))  # torch's own way
    each = converted(saved)
    torch.testing.assert_close(value_of(each), saved["weight"])
    torch.testing.assert_close(value_of(each), torch_value(hooked), rtol=1e-4, atol=1e-4)
    assert each.notes == ()
    assert [found.name for found in convert_state_dict(saved)] == ["weight"]


def test_a_spectral_norm_without_v_whose_value_says_nothing_is_told() -> None:
    saved = old_spectral(torch.randn(4, 3))
    u, weight = saved["weight_u"], saved["weight_orig"]
    wanted = weight / torch.linalg.vector_norm(weight.T @ u)
    for value in (None, torch.randn(4, 3), saved["weight"] / 1000):
        state = {key: tensor for key, tensor in {**saved, "weight": value}.items() if tensor is not None}
        each = converted(state)
        torch.testing.assert_close(value_of(each), wanted)
        assert len(each.notes) == 1


def test_averaged_singular_vectors_are_told() -> None:
    layer = new.spectral_norm(nn.Linear(4, 3))
    layer.parametrizations["weight"][0]._u.mul_(0.5)
    assert "average" in converted(layer.state_dict()).notes[0]


def test_vectors_that_fit_two_dimensions_alike_are_refused() -> None:
    hooked = nn.utils.spectral_norm(nn.Linear(8, 8))  # no forward pass: the vectors are random
    with pytest.raises(FileError, match=r"fit dimension \d as well as \d"):
        convert_state_dict(hooked.state_dict())


def test_symmetric_weights_fit_both_dimensions_and_are_no_matter() -> None:
    layer = nn.Linear(4, 4)
    with torch.no_grad():
        layer.weight.copy_(layer.weight + layer.weight.T)
    new.spectral_norm(layer)
    torch.testing.assert_close(value_of(converted(layer.state_dict())), torch_value(layer))


T = torch.ones
PLAIN: dict[str, dict[str, Tensor]] = {
    "sizes of another shape": {"gain_g": T(5), "gain_v": T(3, 4)},
    "sizes of another dtype": {"gain_g": T(3, 1, dtype=torch.half), "gain_v": T(3, 4)},
    "sizes and directions beside the value": {"gain": T(3, 4), "gain_g": T(3, 1), "gain_v": T(3, 4)},
    "integers": {"gain_g": T(3, 1).long(), "gain_v": T(3, 4).long()},
    "directions alone": {"bias_v": T(1, 1, 4), "bias_k": T(1, 1, 4)},
    "an original alone": {"x_orig": T(3, 4)},
    "a mask alone": {"x_mask": T(3, 4), "x": T(3, 4)},
    "a mask of another shape": {"x_orig": T(3, 4), "x_mask": T(4)},
    "a vector of another size": {"x_orig": T(3, 4), "x_u": T(5)},
    "a pair of vectors that does not fit": {"x_orig": T(3, 4), "x_u": T(3), "x_v": T(3)},
    "a vector's vector": {"x_orig": T(3), "x_u": T(3)},
    "no name": {"_g": T(3, 1), "_v": T(3, 4), "a._orig": T(3, 4), "a._mask": T(3, 4)},
    "a module that is called so": {"parametrizations.weight.0.bias": T(3), "parametrizations.0.original.weight": T(2)},
    "a compiled module": {"_orig_mod.weight": T(2)},
    "nothing": {},
}


@pytest.mark.parametrize("case", PLAIN)
def test_what_only_has_a_name_like_a_hooks_is_copied_as_it_is(case: str) -> None:
    found = convert_state_dict(PLAIN[case])
    assert [(each.name, each.chain) for each in found] == [(name, ()) for name in PLAIN[case]]
    assert all(each.stored[""] is PLAIN[case][each.name] for each in found)


class Own(nn.Module):
    def __init__(self, *buffers: str) -> None:
        super().__init__()
        for name in buffers:
            self.register_buffer(name, torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x

    def right_inverse(self, x: Tensor) -> Tensor:
        return x / 2


class Two(Own):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:  # type: ignore[override]
        return x + y

    def right_inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return x, x - x


def with_steps(layer: nn.Module, *steps: nn.Module) -> dict[str, Any]:
    for step in steps:
        parametrize.register_parametrization(layer, "weight", step)
    return layer.state_dict()


def twisted(**changes: Any) -> dict[str, Any]:
    """The state of an orthogonal weight with other tensors in it."""
    state = dict(new.orthogonal(nn.Linear(3, 3, bias=False)).state_dict())
    short = {key.removeprefix("parametrizations.weight."): key for key in state}
    for name, tensor in changes.items():
        state[short.get(name.replace("_", "."), name)] = tensor
    return state


def mask_of(number: float) -> dict[str, Tensor]:
    return {"weight_orig": T(2, 2), "weight_mask": torch.full((2, 2), number)}


def doubly(module: nn.Module, *names: str) -> dict[str, Any]:
    for name in names:
        prune.l1_unstructured(module, name, 1)
    return module.state_dict()


def constrained(constraint: nn.Module) -> dict[str, Any]:
    from paraform.parametrize import register_parametrization

    return register_parametrization(nn.Linear(3, 3), "weight", constraint).state_dict()


def _constraints() -> Any:
    import paraform

    return paraform


REFUSED: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "a step that keeps nothing": (lambda: with_steps(nn.Linear(3, 3), Own()), "step 0 keeps nothing"),
    "a step of the user's": (
        lambda: with_steps(nn.Linear(3, 3), Own("scale")),
        "'scale' of step 0 is nothing",
    ),
    "two raw tensors of the user's": (lambda: with_steps(nn.Linear(3, 3), Two()), "not the sizes and directions"),
    "a step behind weight_norm": (
        lambda: with_steps(new.weight_norm(nn.Linear(3, 3)), Own()),
        "it has 2 steps|step 1 keeps nothing",
    ),
    "a step behind spectral_norm": (
        lambda: with_steps(new.spectral_norm(nn.Linear(3, 3)), Own()),
        "step 1 keeps nothing",
    ),
    "a step in front of spectral_norm": (
        lambda: new.spectral_norm(parametrize.register_parametrization(nn.Linear(3, 3), "weight", Own())).state_dict(),
        "step 0 keeps nothing",
    ),
    "spectral_norm of a vector": (
        lambda: new.spectral_norm(nn.Linear(3, 3), "bias").state_dict(),
        "spectral_norm of a vector",
    ),
    "paraform.Orthogonal": (lambda: constrained(_constraints().Orthogonal()), "as that of paraform.Orthogonal"),
    "paraform.Skew": (lambda: constrained(_constraints().Skew()), "paraform's constraints"),
    "paraform.Masked": (
        lambda: constrained(_constraints().Masked(torch.eye(3))),
        "'mask' of step 0 is nothing",
    ),
    "paraform.PositiveDefinite": (lambda: constrained(_constraints().PositiveDefinite()), "is not known"),
    "a base of another set": (lambda: twisted(**{"0_base": 2 * torch.eye(3)}), "its base is not orthogonal"),
    "a base that is nan": (lambda: twisted(**{"0_base": torch.full((3, 3), math.nan)}), "its base is not orthogonal"),
    "a base of another shape": (lambda: twisted(**{"0_base": torch.eye(4)}), "its base of shape \\(4, 4\\)"),
    "the value too": (lambda: twisted(weight=T(3, 3)), "'weight' is there more than once"),
    "a large index": (
        lambda: {"parametrizations.w.original": T(2), f"parametrizations.w.{10**30}.x": T(2)},
        "is no key that",
    ),
    "a number with an accent": (
        lambda: {"parametrizations.w.original": T(2), "parametrizations.w.\u0661.x": T(2)},
        "is no key",
    ),
    "a parametrization within one": (
        lambda: {"parametrizations.w.original": T(2), "parametrizations.w.0.parametrizations.w.original": T(2)},
        "parametrization of another tensor|step 0 keeps nothing",
    ),
    "three raw tensors": (lambda: {f"parametrizations.w.original{i}": T(2) for i in range(3)}, "original2. is no key"),
    "one raw tensor of two": (
        lambda: {"parametrizations.w.original0": T(2)},
        "not the sizes and directions of weight_norm",
    ),
    "a mask of other numbers": (lambda: mask_of(0.5), "other numbers than 0 and 1"),
    "a mask of nan": (lambda: mask_of(math.nan), "other numbers than 0 and 1"),
    "a mask and a value": (lambda: {**mask_of(1), "weight": T(2, 2)}, "there in another way too"),
    "a mask and vectors": (lambda: {**mask_of(1), "weight_u": T(2), "weight_v": T(2)}, "there in another way too"),
    "pruned directions": (
        lambda: doubly(weight_hook(nn.Linear(3, 3)), "weight_v"),
        "weight_norm of a pruned tensor, 'weight_v'",
    ),
    "pruned sizes": (
        lambda: doubly(weight_hook(nn.Linear(3, 3)), "weight_g"),
        "weight_norm of a pruned tensor, 'weight_g'",
    ),
    "a pruned weight under spectral_norm": (
        lambda: doubly(spectral_hook(nn.Linear(4, 3), X), "weight_orig"),
        "spectral_norm of a pruned tensor",
    ),
    "a pruned raw tensor": (
        lambda: prune_raw(new.spectral_norm(nn.Linear(4, 3))),
        "spectral_norm of a pruned tensor",
    ),
    "two hooks at once": (
        lambda: {"w_g": T(3), "w_v": T(3), "w_orig": T(3, 3), "w_u": T(3)},
        "can be one of them only",
    ),
    "spectral_norm and the value": (
        lambda: {**spectral_hook(nn.Linear(4, 3), X).state_dict(), "weight": T(3, 4)},
        "but 'weight' is there too",
    ),
    "no tensor": (lambda: {"epoch": 3}, "'epoch' is no tensor but of type int"),
    "no name": (lambda: {3: T(2)}, "'3' is no name of a tensor: it is of type int"),
    "a sparse tensor": (lambda: {"w": torch.eye(2).to_sparse()}, "make it dense"),
    "a tensor without entries": (lambda: {"w": torch.empty(2, device="meta")}, "without numbers"),
    "a name as long as a book": (lambda: {"parametrizations." * 10**5: T(2)}, "or too long"),
}


def prune_raw(layer: nn.Module) -> dict[str, Any]:
    chain: Any = layer.parametrizations["weight"]  # type: ignore[index]
    prune.l1_unstructured(chain, "original", 1)
    return layer.state_dict()


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_known_is_refused_and_never_guessed(case: str) -> None:
    build, reason = REFUSED[case]
    with pytest.raises(FileError, match=reason):
        convert_state_dict(build())


def test_hostile_names_are_printable_in_errors() -> None:
    with pytest.raises(FileError) as caught:
        convert_state_dict({"\x1b[31mparametrizations.\x1b[0m": T(2), "a\n.parametrizations.\x1b[2J.original": T(2)})
    assert str(caught.value).isprintable()


def test_nothing_of_the_state_dict_is_changed() -> None:
    state = new.spectral_norm(new.spectral_norm(nn.Linear(4, 4)), dim=1).state_dict()
    state["parametrizations.weight.0._u"].mul_(0.5)  # an average, which a read would estimate anew
    before = {key: tensor.clone() for key, tensor in state.items()}
    convert_state_dict(state)
    for key, tensor in state.items():
        torch.testing.assert_close(tensor, before[key], rtol=0, atol=0)
