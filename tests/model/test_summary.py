"""The table of a model: what stands in it, that it reads well, and that nothing happens to the model."""

import copy
import json
import math
import threading
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import paraform as pf
from paraform.model import cost
from paraform.model.summary import Summary, summary

register = pf.register_parametrization


class Table(HTMLParser):
    """The cells of a page, row by row, and all of its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, _: object) -> None:
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data


class Broken(nn.Module):
    works = True

    def forward(self, x: Tensor) -> Tensor:
        if not self.works:
            raise ValueError("this went\nwrong")
        return x


def transformer() -> nn.Module:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    model = nn.ModuleDict({"encoder": nn.TransformerEncoder(layer, 12, enable_nested_tensor=False)})
    for each in model["encoder"].layers:
        register(each.self_attn, "in_proj_weight", pf.Blocks(pf.Orthogonal(), 3))
        register(each.linear1, "weight", pf.SpectralNorm())
    return model


def row(table: Summary, name: str) -> Any:
    (found,) = [row for row in table.rows if row.name == name]
    return found


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_a_row_says_what_is_known_by_construction() -> None:
    model = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 5))
    register(model[0], "weight", pf.Orthogonal())
    register(model[1], "bias", pf.Positive())
    table = summary(model)
    first = row(table, "0.weight")
    assert (first.shape, first.layer, first.dof, first.trained) == ((5, 3), "Linear", 9, 15)  # V_3(R^5): 15 - 6
    assert first.is_inside
    assert first.residual < 1e-5
    assert first.condition == pytest.approx(1.0, rel=1e-4)
    assert row(table, "1.bias").condition is None
    assert table.totals == "2 parametrized tensors: 20 numbers train for 14 dimensions."


def test_the_text_is_aligned_and_fits_the_usual_width() -> None:
    lines = str(summary(transformer())).splitlines()
    assert max(map(len, lines)) <= 120
    head, rule, first, *_ = lines
    assert set(rule) == {"-"}
    assert first.split()[0] == "encoder.layers.0.self_attn.in_proj_weight"
    assert first.index("(48, 16)") == head.index("shape")
    assert first.index("Blocks(") == head.index("chain")
    assert first[: head.index("dof/trained") + len("dof/trained")].endswith(" 360/768")  # three times O(16): 120
    assert not any(line != line.rstrip() for line in lines)


def test_a_long_name_is_never_cut() -> None:
    inner = register(nn.Linear(2, 2), "weight", pf.Skew())
    for _ in range(6):
        inner = nn.ModuleDict({"a_rather_long_name_of_a_module": inner})
    assert "a_rather_long_name_of_a_module." * 6 + "weight" in str(summary(inner))


def test_the_html_has_the_same_cells_and_every_string_is_escaped() -> None:
    class Odd(nn.Module):
        def extra_repr(self) -> str:
            return "<script>alert('x')</script>"

        def forward(self, x: Tensor) -> Tensor:
            if bad:
                raise ValueError("<i>no</i>")
            return x

    bad: list[int] = []
    model = nn.Module()
    model.add_module("<b>&\x1b[31m", register(nn.Linear(2, 2), "weight", Odd()))
    bad.append(1)
    table = Table(page := summary(model)._repr_html_())
    assert table.tags <= {"table", "thead", "tbody", "tr", "th", "td", "br", "p"}
    assert table.rows[1][:3] == ["<b>&\\x1b[31m.weight", "(2, 2)", "Odd(<script>alert('x')</script>)"]
    assert table.rows[2][0].startswith("Evaluation failed: ValueError: <i>no</i>")
    assert "\x1b" not in page
    assert "\x1b" not in str(summary(model))


def test_the_dictionary_is_strict_json_with_all_rows() -> None:
    model = nn.Sequential(register(nn.Linear(2, 2), "weight", pf.Symmetric()))
    with torch.no_grad():
        model[0].parametrizations.weight.original.fill_(math.nan)
    data = json.loads(json.dumps(summary(model).to_dict(), allow_nan=False))
    (first,) = data["rows"]
    assert (first["name"], first["residual"], first["is_inside"], first["chain"]) == (
        "0.weight",
        None,
        False,
        ["Symmetric()"],
    )
    assert data["totals"].startswith("1 parametrized tensor: 4 numbers train for 3 dimensions")


def test_a_chain_that_raises_has_the_error_in_its_row_and_the_others_are_measured() -> None:
    step = Broken()
    model = nn.Sequential(register(nn.Linear(2, 2), "weight", step), register(nn.Linear(2, 2), "weight", pf.Skew()))
    step.works = False
    table = summary(model, sample=torch.ones(1, 2))
    broken, fine = table.rows
    assert broken.error.startswith("ValueError: this went\nwrong")
    assert (broken.shape, broken.trained, broken.residual) == ((2, 2), 4, None)
    assert (fine.error, fine.residual) == (None, 0.0)
    assert "\n    Evaluation failed: ValueError: this went\\nwrong" in str(table)


def test_what_is_outside_is_marked_and_named_below() -> None:
    class Leaking(pf.Masked):
        def forward(self, raw: Tensor) -> Tensor:
            return raw

    layer = register(nn.Linear(3, 3), "weight", Leaking(torch.eye(3).bool()))
    with torch.no_grad():
        layer.parametrizations.weight.original.copy_(torch.tensor([[1.0, 0.3, 0.4], [0, 1, 0], [0, 0, 1]]))
    text = str(summary(layer))
    assert " 0.5 ! " in text
    assert "! Outside of its set: weight." in text


def test_ties_are_one_row_that_names_them() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    register(model[0], "weight", pf.Skew())
    table = summary(model)
    (only,) = table.rows
    assert (only.name, only.ties) == ("0.weight", ("1.weight",))
    assert "One tensor: 0.weight, 1.weight." in table.notes


def test_a_raw_tensor_of_two_chains_is_counted_once_in_the_total() -> None:
    first = register(nn.Linear(3, 3), "weight", pf.Skew())
    second = pf.transfer_parametrizations_and_params(first, nn.Linear(3, 3))
    table = summary(nn.Sequential(first, second))
    assert len(table.rows) == 2
    assert table.totals.startswith("2 parametrized tensors: 9 numbers train")


def test_the_notes_say_what_is_switched_off_wants_no_gradient_and_is_of_torchs_engine() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)))
    register(model[0], "weight", pf.Skew()).parametrizations.weight.switch_off(0)
    register(model[1], "weight", pf.Skew()).requires_grad_(False)
    table = summary(model)
    assert "Steps are switched off on 0.weight." in table.notes
    assert "The raw tensors want no gradient of 1.weight." in table.notes
    assert "Of torch.nn.utils.parametrize: 2.weight." in table.notes
    assert row(table, "0.weight").chain == ("Skew() (switched off)",)
    assert table.totals == (
        "3 parametrized tensors: 30 numbers train. In the 1 whose dimension is known, 9 train for 3 dimensions."
    )


def test_the_notes_say_which_bases_an_optimizer_moves() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3))
    for layer in model:
        register(layer, "weight", pf.Orthogonal())
    optimizer = torch.optim.SGD([*model[0].parameters(), *model[1].parameters()], lr=0.1)
    still = "Bases that stay where they are (rebase_every would move them): "
    assert still + "0.weight, 1.weight." in summary(model, optimizer=optimizer).notes
    pf.rebase_every(optimizer, model[0], 10)
    notes = summary(model, optimizer=optimizer).notes
    assert "Bases move to the values every 10 steps of the SGD (rebase_every): 0.weight." in notes
    assert still + "1.weight." in notes
    assert not any("ases" in note for note in summary(model).notes)


def test_the_notes_say_what_waits_on_a_lazy_module_which_stays_lazy() -> None:
    model = nn.Sequential(nn.LazyLinear(3), register(nn.Linear(3, 3), "weight", pf.Skew()))
    register(model[0], "weight", pf.Orthogonal())
    table = summary(model, sample=torch.ones(1, 2))
    assert [each.name for each in table.rows] == ["1.weight"]
    assert "Waiting for the first forward pass: Orthogonal on 0.weight." in table.notes
    assert isinstance(model[0], nn.LazyLinear)


def test_a_plain_model_has_an_empty_table() -> None:
    table = summary(nn.Linear(2, 2))
    assert (table.rows, table.totals, table.notes) == ([], "0 parametrized tensors.", [])
    assert "0 parametrized tensors." in str(table)
    assert Table(table._repr_html_()).rows[0][0] == "tensor"


def test_a_compiled_model_is_taken_as_what_was_compiled() -> None:
    model = torch.compile(nn.Sequential(register(nn.Linear(2, 2), "weight", pf.Skew())), backend="eager")
    assert [each.name for each in summary(model, sample=torch.ones(1, 2)).rows] == ["0.weight"]


def model_with_state() -> nn.Module:
    """What a forward pass in training mode moves on: estimates of both engines, running statistics, random numbers."""
    model = nn.Sequential(
        register(nn.Linear(4, 4), "weight", pf.Orthogonal()),
        nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4)),
        nn.BatchNorm1d(4),
        nn.Dropout(),
    )
    register(model[0], "bias", nn.Dropout())
    pf.parametrizations.spectral_norm(model.append(nn.Linear(4, 4))[4])
    return model


@pytest.mark.parametrize("sample", [None, torch.ones(3, 4)], ids=["alone", "in the model"])
def test_nothing_happens_to_the_model(sample: Tensor | None) -> None:
    model = model_with_state()
    twin, before, generator = copy.deepcopy(model), state(model), torch.get_rng_state()
    table = summary(model, sample=sample)
    assert len(table.rows) == 4
    assert all(each.cost > 0 for each in table.rows)
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(module.training for module in model.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    x = torch.randn(5, 4)
    outputs = []
    for each in model, twin:
        torch.manual_seed(1)
        outputs.append(each(x))
    assert torch.equal(*outputs)


class Clock:
    """Counts as seconds what ``Work`` does: so that a test of times needs no time."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self, _: torch.device) -> float:
        return self.seconds

    def __deepcopy__(self, _: object) -> "Clock":
        return self  # there is one time, also for the copy of a model


class Work(nn.Module):
    def __init__(self, clock: Clock, seconds: float) -> None:
        super().__init__()
        self.clock, self.seconds = clock, seconds

    def forward(self, x: Tensor) -> Tensor:
        self.clock.seconds += self.seconds
        return x


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(cost, "_now", clock)
    return clock


class Slow(nn.Module):
    """A layer of the user's own whose call takes 8 seconds, not counting the read."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.weight, self.clock = nn.Parameter(torch.eye(2)), clock

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        value = self.weight
        self.clock.seconds += 8.0
        return x @ value * scale


Call = Callable[[Tensor], object]


@pytest.mark.parametrize(
    "as_sample", [lambda x: x, lambda x: (x, 2.0), lambda x: {"x": x, "scale": 2.0}], ids=["tensor", "tuple", "dict"]
)
def test_with_a_sample_a_read_is_held_against_a_call_of_its_layer_without_reads(clock: Clock, as_sample: Call) -> None:
    layer = register(Slow(clock), "weight", Work(clock, 2.0))
    (only,) = summary(layer, sample=as_sample(torch.ones(1, 2))).rows
    assert only.cost == 0.25
    assert summary(layer).rows[0].cost is None  # nobody knows what it takes


def test_without_a_sample_a_layer_of_torchs_is_called_with_256_vectors(clock: Clock) -> None:
    class Timed(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            clock.seconds += x.shape[0] / 256
            return super().forward(x)

    layer = register(Timed(3, 2), "weight", Work(clock, 3.0))
    assert summary(layer).rows[0].cost == 3.0


def test_of_several_calls_of_a_layer_the_average_counts_and_of_several_passes_the_shortest(clock: Clock) -> None:
    class Growing(nn.Module):
        seconds = 0.0

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.eye(2))

        def forward(self, x: Tensor) -> Tensor:
            Growing.seconds += 1.0
            clock.seconds += Growing.seconds
            return x @ self.weight

    layer = register(Growing(), "weight", Work(clock, 3.0))
    before = layer.weight.detach().clone()
    assert summary(nn.Sequential(layer, layer), sample=torch.ones(1, 2)).rows[0].cost == 2.0  # 3 / mean(1, 2)
    assert torch.equal(layer.weight, before)


def test_reads_of_the_modules_below_are_not_counted_in_a_layer(clock: Clock) -> None:
    class Outer(nn.Linear):
        def __init__(self) -> None:
            super().__init__(2, 2)
            self.inner = register(nn.Linear(2, 2), "weight", Work(clock, 100.0))

        def forward(self, x: Tensor) -> Tensor:
            clock.seconds += 4.0
            return super().forward(self.inner(x))

    model = register(Outer(), "weight", Work(clock, 1.0))
    assert row(summary(model), "weight").cost == 0.25
    assert row(summary(model, sample=torch.ones(1, 2)), "weight").cost == 0.25


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(3, 2),
        nn.Conv1d(2, 3, 5),
        nn.Conv2d(2, 3, 20, dilation=2),
        nn.ConvTranspose3d(2, 3, 2),
        nn.Bilinear(2, 3, 4),
        nn.GRUCell(3, 2),
        nn.MultiheadAttention(4, 2),
        nn.MultiheadAttention(4, 2, kdim=3, vdim=5),
        nn.LSTM(3, 2, bidirectional=True),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_every_kind_of_torchs_layers_that_multiply_is_timed(layer: nn.Module) -> None:
    for name, _ in list(layer.named_parameters(recurse=False)):
        register(layer, name, Work(Clock(), 0.0))
    table = summary(layer)
    assert table.rows
    assert all(each.cost > 0 for each in table.rows)


def test_what_is_no_model_or_no_optimizer_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Expected an nn\.Module for summary, got str"):
        summary("model")
    with pytest.raises(TypeError, match=r"Expected a torch\.optim\.Optimizer for summary, got Linear"):
        summary(nn.Linear(2, 2), optimizer=nn.Linear(2, 2))


def test_an_error_of_the_model_at_the_sample_reaches_the_user() -> None:
    layer = register(nn.Linear(3, 3), "weight", pf.Skew())
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        summary(layer, sample=torch.ones(1, 4))
    assert not layer._forward_hooks


class Keeping(nn.Module):
    """Keeps what it computed, as recurrent models and those that show their attention do."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = register(nn.Linear(4, 4), "weight", pf.Orthogonal())
        self.last: Tensor | None = None
        self.calls: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append(len(self.calls))
        self.last = self.inner(x)
        return self.last


def test_a_model_that_keeps_its_last_result_keeps_it() -> None:
    model, x = Keeping(), torch.randn(2, 4)
    model(x)
    kept = model.last
    (only,) = summary(model, sample=x).rows
    assert only.cost is not None
    assert model.last is kept
    assert kept.requires_grad
    assert model.calls == [0]


def test_a_model_that_cannot_be_copied_is_timed_itself() -> None:
    model = Keeping()
    model.lock = threading.Lock()
    (only,) = summary(model, sample=torch.randn(2, 4)).rows
    assert only.cost is not None
    assert model.calls


def test_who_reads_the_model_meanwhile_has_its_own_tensors() -> None:
    class Watching(nn.Linear):
        model: nn.Module
        seen: bool | None = None

        def forward(self, x: Tensor) -> Tensor:
            Watching.seen = dict(Watching.model.named_buffers())["0.running_mean"] is buffer
            return super().forward(x)

    Watching.model = nn.Sequential(nn.BatchNorm1d(4), register(Watching(4, 4), "weight", pf.Orthogonal()))
    buffer = Watching.model[0].running_mean
    summary(Watching.model, sample=torch.randn(3, 4))
    assert Watching.seen is True


def test_a_list_is_one_argument_as_it_is_for_the_doctor() -> None:
    class Of(nn.Linear):
        def forward(self, xs: list[Tensor]) -> Tensor:
            return super().forward(torch.cat(xs))

    layer = register(Of(4, 4), "weight", pf.Orthogonal())
    (only,) = summary(layer, sample=[torch.ones(1, 4), torch.ones(1, 4)]).rows
    assert only.cost is not None


def test_a_sample_in_the_place_of_the_optimizer_is_told_where_it_goes() -> None:
    with pytest.raises(TypeError, match=r"Expected a torch\.optim\.Optimizer .* got Tensor; a sample goes to sample="):
        summary(nn.Linear(2, 2), torch.ones(1, 2))
