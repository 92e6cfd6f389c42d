"""What was saved comes back, to the bit: into a plain model, into a constrained one, and without a model."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Uniform, constraints

import paraform as pf
from paraform import parametrizations
from paraform.files import SavedFile, load, save
from tests.constraints.sets import CASES, Case

Change = Callable[[nn.Module], object]


class Plain(nn.Module):
    """A module with one tensor, none of whose numbers is one."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full(case.shape, torch.nan, dtype=case.dtype))


def of_each(make: Callable[[Case], nn.Module]) -> nn.Module:
    """All cases of the table in one model: a load looks at all that is alive, which takes its time."""
    return nn.ModuleDict({f"{index}": make(case) for index, case in enumerate(CASES)})


def constrained(case: Case) -> nn.Module:
    return case.layer(pf.parametrize)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    """A trained layer for each set of the table, and where they are saved."""
    torch.manual_seed(0)
    model = trained(of_each(constrained))
    path = tmp_path_factory.mktemp("table") / "table.safetensors"
    save(model, path)
    return model, path


def trained(model: nn.Module, steps: int = 3) -> nn.Module:
    """The model after some steps of AdamW, in training mode, away from where registration left it."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        sum(value.abs().square().sum() for value in (*values(model), *model.parameters())).backward()
        optimizer.step()
    return model


def values(model: nn.Module) -> list[Tensor]:
    return [
        getattr(module, name)
        for module in model.modules()
        if pf.is_parametrized(module) and not isinstance(module, nn.ModuleDict)
        for name in module.parametrizations
    ]


def assert_same_state(one: nn.Module, other: nn.Module) -> None:
    first, second = one.state_dict(), other.state_dict()
    assert list(first) == list(second)
    for key, tensor in first.items():
        assert second[key].dtype == tensor.dtype
        assert torch.equal(second[key], tensor), key
    assert [name for name, _ in one.named_parameters()] == [name for name, _ in other.named_parameters()]


@pytest.mark.parametrize("onto", ["plain", "meta", "constrained"])
def test_every_set_comes_back_to_the_bit_and_trains_on_to_the_bit(onto: str, table: tuple[nn.Module, Path]) -> None:
    model, path = table
    other = of_each(constrained if onto == "constrained" else Plain)
    if onto == "meta":
        other = other.to("meta")
    before = torch.get_rng_state()

    assert load(path, other) is other

    assert torch.equal(torch.get_rng_state(), before)
    assert_same_state(model, other)
    model = copy.deepcopy(model)
    for _ in range(2):
        for case, one, two in zip(CASES, model.values(), other.values(), strict=True):
            assert torch.equal(one.weight, two.weight), case
            assert repr(one.parametrizations) == repr(two.parametrizations)
        assert_same_state(trained(model), trained(other))


@pytest.mark.parametrize("index", range(len(CASES)), ids=map(str, CASES))
def test_every_set_is_known_without_the_model(index: int, table: tuple[nn.Module, Path]) -> None:
    case, layer = CASES[index], table[0][str(index)]
    with SavedFile(table[1]) as saved:
        tensor = saved[f"{index}.weight"]
        assert (tensor.name, tensor.shape, tensor.dtype) == (f"{index}.weight", case.shape, case.dtype)
        assert tensor.is_parametrized
        assert set(tensor.stored) == {f"{index}.{key}" for key in layer.state_dict()}
        assert torch.equal(tensor.value(), layer.weight)
        chain = tensor.chain()
        assert repr(chain) == repr(layer.parametrizations.weight)
        assert not chain.training
        assert chain[0].contains(chain()).all()


def on(*names: str, by: Callable[[nn.Module, str], object]) -> Change:
    def change(model: nn.Module) -> nn.Module:
        for name in names:
            path, _, last = name.rpartition(".")
            by(model.get_submodule(path), last)
        return model

    return change


def put(make: Callable[[], object], **options: bool) -> Callable[[nn.Module, str], object]:
    return lambda module, name: pf.register_parametrization(module, name, make(), **options)


def two() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Conv1d(4, 4, 4))


def masked() -> pf.Masked:
    return pf.Masked(torch.tensor([[True, False], [False, True]]).repeat(2, 2))


def nested() -> pf.Flatten:
    return pf.Flatten(pf.Blocks(pf.Scaled(pf.Transposed(pf.Orthogonal())), 2))


def encoder() -> nn.Module:
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 8, batch_first=True), 2, enable_nested_tensor=False)


def between() -> pf.from_distribution:
    return pf.from_distribution(Uniform(torch.tensor([-1.0, -2.0, -3.0, -4.0]), 5.0).support)


CHANGES: dict[str, tuple[Callable[[], nn.Module], Change]] = {
    "nothing": (two, on(by=put(pf.Skew))),
    "nested": (
        two,
        on("2.weight", by=put(lambda: pf.Flatten(pf.Blocks(pf.Scaled(pf.Transposed(pf.Orthogonal())), 2)))),
    ),
    "mask in blocks": (two, on("0.weight", by=put(lambda: pf.Transposed(masked())))),
    "bounds of torch's that are tensors": (two, on("0.weight", by=put(between))),
    "real vectors": (two, on("0.weight", by=put(lambda: pf.from_distribution(constraints.real_vector)))),
    "two constraints": (two, lambda model: on("0.weight", by=put(pf.Symmetric))(on("0.weight", by=put(masked))(model))),
    "buffer": (two, on("1.running_var", by=put(pf.Positive))),
    "orthogonal": (two, on("0.weight", by=parametrizations.orthogonal)),
    "no base": (
        two,
        on("0.weight", by=lambda m, n: parametrizations.orthogonal(m, n, "cayley", use_trivialization=False)),
    ),
    "spectral_norm": (two, on("0.weight", "2.weight", by=parametrizations.spectral_norm)),
    "weight_norm": (two, on("0.weight", "2.weight", by=parametrizations.weight_norm)),
    "half precision": (lambda: two().bfloat16(), on("0.weight", by=put(pf.Orthogonal))),
    "LSTM": (
        lambda: nn.LSTM(3, 4, 2, bidirectional=True),
        on("weight_hh_l0", "weight_hh_l1_reverse", by=put(lambda: pf.Blocks(pf.Orthogonal(), 4))),
    ),
    "Transformer": (
        lambda: nn.TransformerEncoder(
            nn.TransformerEncoderLayer(8, 2, 8, batch_first=True), 2, enable_nested_tensor=False
        ),
        on(
            "layers.0.self_attn.in_proj_weight",
            "layers.1.self_attn.in_proj_weight",
            by=put(lambda: pf.Blocks(pf.Orthogonal(), 3)),
        ),
    ),
    "frozen": (lambda: two().requires_grad_(False), on("0.weight", by=put(lambda: pf.LowRankUpdate(2)))),
}


@pytest.mark.parametrize(
    ("name", "onto"),
    [
        *((name, "plain") for name in CHANGES),
        *((name, onto) for name in ("nested", "mask in blocks", "buffer", "LSTM") for onto in ("meta", "constrained")),
    ],
)
def test_models_come_back_whole(name: str, onto: str, tmp_path: Path) -> None:
    make, change = CHANGES[name]
    torch.manual_seed(0)
    model = make()
    change(model)
    if any(parameter.requires_grad for parameter in model.parameters()):
        model = trained(model, steps=2)
    save(model, tmp_path / "model.safetensors")
    torch.manual_seed(1)
    other = make()
    if onto == "constrained":
        change(other)
    if onto == "meta":
        other = other.to("meta")

    load(tmp_path / "model.safetensors", other)

    assert_same_state(model, other)
    assert [parameter.requires_grad for parameter in model.parameters()] == [
        parameter.requires_grad for parameter in other.parameters()
    ]
    model.eval()
    other.eval()
    plain = pf.plain_state_dict(model)
    assert list(pf.plain_state_dict(other)) == list(plain)
    with SavedFile(tmp_path / "model.safetensors") as saved:
        assert saved.names == list(plain)
        for tensor in saved:
            assert torch.equal(tensor.value(), plain[tensor.name]), tensor.name
            assert (tensor.shape, tensor.dtype) == (tuple(plain[tensor.name].shape), plain[tensor.name].dtype)


def test_outputs_of_an_lstm_on_the_meta_device_are_those_of_the_saved_one(tmp_path: Path) -> None:
    model = nn.LSTM(3, 4)
    pf.register_parametrization(model, "weight_hh_l0", pf.Blocks(pf.Orthogonal(), 4))
    save(model, tmp_path / "model.safetensors")
    with torch.device("meta"):
        other = nn.LSTM(3, 4)
    load(tmp_path / "model.safetensors", other)
    x = torch.randn(5, 2, 3)
    assert torch.equal(other(x)[0], model(x)[0])


class Language(nn.Module):
    def __init__(self, tied: bool = True) -> None:
        super().__init__()
        self.embedding = nn.Embedding(6, 4)
        self.head = nn.Linear(4, 6, bias=False)
        if tied:
            self.head.weight = self.embedding.weight


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("parametrized", [True, False])
def test_what_is_tied_is_stored_once_and_tied_again(tied: bool, parametrized: bool, tmp_path: Path) -> None:
    model = Language()
    if parametrized:
        pf.register_parametrization(model.embedding, "weight", pf.Orthogonal())
    save(model, tmp_path / "model.safetensors")
    with SavedFile(tmp_path / "model.safetensors") as saved:
        assert saved.names == ["embedding.weight", "head.weight"]
        assert saved.ties == {"head.weight": "embedding.weight"}
        assert saved["head.weight"].stored == saved["embedding.weight"].stored
        assert torch.equal(saved["head.weight"].value(), model.head.weight)
    other = load(tmp_path / "model.safetensors", Language(tied))
    assert_same_state(model, other)
    assert len(list(other.parameters())) == 1
    if parametrized:
        assert other.head.parametrizations.weight is other.embedding.parametrizations.weight
    else:
        assert other.head.weight is other.embedding.weight


def test_a_raw_tensor_that_two_chains_share_is_stored_once_and_shared_again(tmp_path: Path) -> None:
    def make() -> nn.Module:
        return nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))

    model = make()
    pf.register_parametrization(model[0], "weight", pf.Skew())
    pf.transfer_parametrizations_and_params(model[0], model[1], "weight")
    save(model, tmp_path / "model.safetensors")
    other = load(tmp_path / "model.safetensors", make())
    assert_same_state(model, other)
    assert other[0].parametrizations.weight.original is other[1].parametrizations.weight.original


@pytest.mark.parametrize(
    "put_on",
    [nn.utils.parametrizations.spectral_norm, nn.utils.parametrizations.weight_norm],
    ids=["spectral", "weight"],
)
def test_chains_of_torch_are_saved_as_those_of_paraform(put_on: Callable[..., nn.Module], tmp_path: Path) -> None:
    model = put_on(nn.Linear(4, 3)).eval()
    save(model, tmp_path / "model.safetensors")
    other = load(tmp_path / "model.safetensors", nn.Linear(4, 3).eval())
    assert_same_state(model, other)
    torch.testing.assert_close(other.weight, model.weight)
    assert isinstance(other.parametrizations.weight, pf.ParametrizationList)


def test_steps_that_are_switched_off_stay_so(tmp_path: Path) -> None:
    model = pf.register_parametrization(nn.Linear(4, 4), "weight", pf.Symmetric())
    pf.register_parametrization(model, "weight", masked())
    model.parametrizations.weight.switch_off(1)
    save(model, tmp_path / "model.safetensors")
    fresh = nn.Linear(4, 4)
    constrained = copy.deepcopy(model)
    constrained.parametrizations.weight.switch_on(1)
    for other in (load(tmp_path / "model.safetensors", fresh), load(tmp_path / "model.safetensors", constrained)):
        assert not other.parametrizations.weight.is_on(1)
        assert torch.equal(other.weight, model.weight)


def test_keys_of_an_edited_chain_stay_what_they_are(tmp_path: Path) -> None:
    model = pf.register_parametrization(nn.Linear(4, 4), "weight", pf.Symmetric())
    pf.register_parametrization(model, "weight", masked())
    model.parametrizations.weight.remove(0)
    save(model, tmp_path / "model.safetensors")
    assert_same_state(model, load(tmp_path / "model.safetensors", nn.Linear(4, 4)))


def test_the_model_decides_on_the_precision(tmp_path: Path) -> None:
    model = pf.register_parametrization(nn.Linear(4, 4), "weight", pf.Orthogonal())
    save(model, tmp_path / "model.safetensors")
    other = load(tmp_path / "model.safetensors", nn.Linear(4, 4).double())
    assert {tensor.dtype for tensor in other.state_dict().values()} == {torch.float64}
    torch.testing.assert_close(other.weight.float(), model.weight)
    half = load(tmp_path / "model.safetensors", nn.Linear(4, 4).bfloat16())
    assert half.weight.dtype == torch.bfloat16
    torch.testing.assert_close(half.weight.float(), model.weight, atol=0.02, rtol=0.02)


def test_a_parameter_stays_the_same_object_so_that_an_optimizer_goes_on(tmp_path: Path) -> None:
    model = pf.register_parametrization(nn.Linear(4, 4), "weight", pf.Orthogonal())
    save(model, tmp_path / "model.safetensors")
    other = nn.Linear(4, 4)
    weight = other.weight
    load(tmp_path / "model.safetensors", other)
    assert other.parametrizations.weight.original is weight


def test_the_mode_stays_that_of_the_model(tmp_path: Path) -> None:
    model = parametrizations.spectral_norm(nn.Linear(4, 4)).eval()
    save(model, tmp_path / "model.safetensors")
    other = nn.Linear(4, 4)
    load(tmp_path / "model.safetensors", other)
    assert all(module.training for module in other.modules())


def test_what_training_has_ruined_is_saved_and_loaded_all_the_same(tmp_path: Path) -> None:
    model = pf.register_parametrization(nn.Linear(3, 3), "weight", pf.Skew())
    with torch.no_grad():
        model.parametrizations.weight.original.fill_(torch.nan)
    save(model, tmp_path / "model.safetensors")
    assert load(tmp_path / "model.safetensors", nn.Linear(3, 3)).weight.isnan().any()


def test_files_open_with_the_safetensors_package_under_the_keys_of_the_state_dict(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    model = two()
    CHANGES["spectral_norm"][1](model)
    save(model, tmp_path / "model.safetensors")
    found = load_file(tmp_path / "model.safetensors")
    assert set(found) == set(model.state_dict())
    assert all(torch.equal(found[key], tensor) for key, tensor in model.state_dict().items())


def test_saving_again_what_was_loaded_writes_the_same_bytes(tmp_path: Path) -> None:
    model = two()
    CHANGES["nested"][1](model)
    save(model, tmp_path / "one")
    save(load(tmp_path / "one", two()), tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_neither_inference_mode_nor_a_default_device_has_a_say(tmp_path: Path) -> None:
    model = pf.register_parametrization(nn.Linear(4, 4), "weight", pf.LowRank(2))
    other = nn.Linear(4, 4)
    with torch.inference_mode(), torch.device("meta"):
        save(model, tmp_path / "model.safetensors")
        load(tmp_path / "model.safetensors", other)
        with SavedFile(tmp_path / "model.safetensors") as saved:
            value = saved["weight"].value()
    assert torch.equal(value, model.weight)
    assert torch.equal(other.weight, model.weight)
    other.weight.sum().backward()
    assert all(parameter.grad is not None for parameter in other.parametrizations.parameters())


def test_an_optimizer_made_before_trains_what_was_loaded(tmp_path: Path) -> None:
    model = pf.register_parametrization(nn.Linear(4, 4), "weight", pf.Orthogonal())
    save(model, tmp_path / "model.safetensors")
    other = nn.Linear(4, 4)
    optimizers = [torch.optim.AdamW(each.parameters()) for each in (other, model)]
    load(tmp_path / "model.safetensors", other)
    for each, optimizer in zip((other, model), optimizers, strict=True):
        each.weight[0].sum().backward()
        optimizer.step()
    assert torch.equal(other.weight, model.weight)


def test_what_torchs_engine_has_parametrized_is_loaded_into(tmp_path: Path) -> None:
    model, other = (nn.utils.parametrizations.orthogonal(nn.Linear(3, 3)) for _ in range(2))
    save(model, tmp_path / "model.safetensors")
    load(tmp_path / "model.safetensors", other)
    assert torch.equal(other.weight, model.weight)
