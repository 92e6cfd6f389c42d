"""Watching a training: what is recorded, when, what the log holds, and that the training does not notice."""

import json
import math
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import paraform as pf
from paraform.model.monitor import Monitor, flat, read_log

register = pf.register_parametrization


def model() -> nn.Module:
    """With everything that a forward pass moves on."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(4, 4), nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4)), nn.BatchNorm1d(4), nn.Dropout()
    )
    register(model[0], "weight", pf.Orthogonal())
    register(model[0], "weight", nn.Dropout(0.1))  # draws random numbers at each read
    return model


def train(model: nn.Module, steps: int, monitor: Monitor | None = None) -> list[Tensor]:
    torch.manual_seed(1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()
        if monitor is not None:
            monitor.step()
    return [*model.state_dict().values(), torch.get_rng_state()]


def test_a_training_that_is_watched_is_the_same_to_the_bit() -> None:
    watched = model()
    monitor = Monitor(watched, every=1)
    for mine, theirs in zip(train(watched, 5, monitor), train(model(), 5), strict=True):
        assert torch.equal(mine, theirs)
    assert len(monitor.history) == 5
    assert all(module.training for module in watched.modules())


def test_gradients_under_way_stay_as_they_are() -> None:
    layer = register(nn.Linear(3, 3), "weight", pf.Orthogonal())
    layer(torch.ones(1, 3)).sum().backward()
    before = layer.parametrizations.weight.original.grad.clone()
    Monitor(layer).measure()
    assert torch.equal(layer.parametrizations.weight.original.grad, before)


def test_a_record_says_what_is_known_by_construction() -> None:
    layer = register(nn.Linear(2, 2), "weight", pf.Symmetric())
    layer.weight = torch.diag(torch.tensor([4.0, -2.0]))
    register(layer, "bias", pf.Positive())
    layer.bias = torch.ones(2)
    record = Monitor(layer).step()
    assert record["step"] == 1
    weight, bias = record["tensors"]["weight"], record["tensors"]["bias"]
    assert weight == {"residual": 0.0, "condition": pytest.approx(2.0), "raw_norm": pytest.approx(math.sqrt(20))}
    assert bias["condition"] is None
    assert flat(record)["weight/condition"] == pytest.approx(2.0)
    assert "bias/condition" not in flat(record)


def test_it_measures_every_so_many_steps() -> None:
    monitor = Monitor(register(nn.Linear(2, 2), "weight", pf.Skew()), every=3)
    assert [monitor.step() is not None for _ in range(7)] == [False, False, True, False, False, True, False]
    assert [record["step"] for record in monitor.history] == [3, 6]
    assert monitor.measure()["step"] == 7  # whenever it is asked


def test_somebody_else_may_count_leave_out_steps_and_repeat_them() -> None:
    monitor = Monitor(register(nn.Linear(2, 2), "weight", pf.Skew()), every=10)
    monitor.count = 95  # a training that goes on from there
    for number in (96, 100, 100, 101, 118, 121, 3, 9, 10):  # 3: a training that starts anew
        monitor.step(number)
    assert [record["step"] for record in monitor.history] == [100, 118, 121, 10]


def test_what_is_registered_or_removed_later_is_seen() -> None:
    layer = nn.Linear(3, 3)
    monitor = Monitor(layer)
    assert monitor.step()["tensors"] == {}
    register(layer, "weight", pf.Skew())
    assert list(monitor.step()["tensors"]) == ["weight"]
    pf.remove_parametrizations(layer, "weight")
    assert monitor.step()["tensors"] == {}


def test_a_compiled_model_has_the_same_names_and_is_compiled_once() -> None:
    plain = nn.Sequential(register(nn.Linear(3, 3), "weight", pf.Skew()), nn.Linear(3, 3))
    compiled = torch.compile(plain, backend="eager")
    monitor, x = Monitor(compiled), torch.ones(1, 3)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    for _ in range(3):
        compiled(x).sum().backward()
        assert list(monitor.step()["tensors"]) == ["0.weight"]
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    plain[0] = torch.compile(plain[0], backend="eager")
    assert list(Monitor(plain).measure()["tensors"]) == ["0.weight"]


def test_what_cannot_be_measured_is_unknown_and_warns_once_while_training_goes_on() -> None:
    class Broken(nn.Module):
        works = True

        def forward(self, x: Tensor) -> Tensor:
            if not self.works:
                raise ValueError("no value today")
            return x

    step = Broken()
    layer = register(register(nn.Linear(2, 2), "weight", step), "bias", pf.Positive())
    step.works = False
    monitor = Monitor(layer)
    with pytest.warns(RuntimeWarning, match="could not measure 'weight': ValueError: no value today") as warned:
        record = monitor.step()
    assert warned[0].filename == __file__
    assert record["tensors"]["weight"] == {"residual": None, "condition": None, "raw_norm": None}
    assert record["tensors"]["bias"]["residual"] == 0.0
    assert flat(monitor.step()).keys() == {"bias/residual", "bias/raw_norm"}


def test_the_log_is_written_as_training_goes_in_strict_json(tmp_path: Path) -> None:
    layer = register(nn.Linear(4, 4), "weight", pf.Symmetric())
    monitor = Monitor(layer, log=tmp_path / "log.jsonl")
    layer.weight = torch.eye(4)
    monitor.step()
    assert (tmp_path / "log.jsonl").read_text() == (
        '{"step": 1, "tensors": {"weight": {"residual": 0.0, "condition": 1.0, "raw_norm": 2.0}}}\n'
    )
    layer.weight = torch.zeros(4, 4)
    assert monitor.step()["tensors"]["weight"]["condition"] == math.inf
    last = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1], parse_constant=pytest.fail)
    assert last["tensors"]["weight"]["condition"] is None


def test_a_log_reads_back_as_the_history(tmp_path: Path) -> None:
    watched = model()
    monitor = Monitor(watched, every=2, log=str(tmp_path / "log.jsonl"))
    train(watched, 6, monitor)
    assert read_log(tmp_path / "log.jsonl") == monitor.history


def test_a_log_that_a_crash_cut_short_is_read_and_continued(tmp_path: Path) -> None:
    log, layer = tmp_path / "log.jsonl", register(nn.Linear(2, 2), "weight", pf.Skew())
    monitor = Monitor(layer, log=log)
    monitor.step()
    monitor.step()
    log.write_bytes(log.read_bytes()[:-20])
    assert [record["step"] for record in read_log(log)] == [1]
    again = Monitor(layer, log=log)
    again.count = 1
    again.step()
    assert [record["step"] for record in read_log(log)] == [1, 2]
    assert [record["step"] for record in again.history] == [2]


@pytest.mark.parametrize(
    "text",
    [
        "not json\n",
        "not json, and not one line",
        "[]\n",
        "null\n",
        '{"step": 1}\n',
        '{"step": -1, "tensors": {}}\n',
        '{"step": true, "tensors": {}}\n',
        '{"step": 1.5, "tensors": {}}\n',
        '{"step": 1, "tensors": []}\n',
        '{"step": 1, "tensors": {"weight": 3}}\n',
        '{"step": 1, "tensors": {"weight": {"residual": "a"}}}\n',
        '{"step": 1, "tensors": {"weight": {"residual": true}}}\n',
        '{"step": 1, "tensors": {"weight": {"residual": NaN}}}\n',
        '{"step": 1, "tensors": {"weight": {"residual": 1' + 400 * "0" + "}}}\n",
        '{"step": 1' + 5000 * "0" + ', "tensors": {}}\n',
        100_000 * "[" + "\n",
        "\x00\x01\n",
        "\n",
    ],
    ids=lambda text: ascii(text[:40]),
)
def test_a_file_that_is_no_log_is_refused_and_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"monitor's log.*{re.escape(str(path))}|{re.escape(str(path))}.*log"):
        read_log(path)
    with pytest.raises(ValueError, match=re.escape(str(path))):
        Monitor(nn.Linear(2, 2), log=path)
    assert path.read_text() == text


def test_a_log_is_read_down_to_what_a_record_has(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"tensors": {"<b>": {"residual": 1e999, "raw_norm": 2, "more": "x"}}, "step": 3, "more": 1}\n')
    assert read_log(path) == [{"step": 3, "tensors": {"<b>": {"residual": None, "condition": None, "raw_norm": 2.0}}}]
    assert isinstance(read_log(path)[0]["tensors"]["<b>"]["raw_norm"], float)


def test_arguments_of_another_kind_are_refused(tmp_path: Path) -> None:
    layer = nn.Linear(2, 2)
    with pytest.raises(TypeError, match=r"Expected an nn\.Module for Monitor, got dict"):
        Monitor({})
    for every in (1.5, True, "1"):
        with pytest.raises(TypeError, match="Expected a whole number of steps"):
            Monitor(layer, every=every)
    with pytest.raises(ValueError, match="at least 1 step between measurements, got 0"):
        Monitor(layer, every=0)
    with pytest.raises(FileNotFoundError):
        Monitor(layer, log=tmp_path / "missing" / "log.jsonl")


def test_a_warning_has_no_control_characters() -> None:
    class Broken(nn.Module):
        works = True

        def forward(self, x: Tensor) -> Tensor:
            if not self.works:
                raise ValueError("went\nwrong\x1b[31m")
            return x

    model = nn.ModuleDict({"a\nb": pf.register_parametrization(nn.Linear(2, 2), "weight", Broken())})
    model["a\nb"].parametrizations.weight[0].works = False
    with pytest.warns(RuntimeWarning) as caught:
        Monitor(model).measure()
    assert str(caught[0].message).isprintable()
    assert r"'a\nb.weight': ValueError: went\nwrong\x1b[31m" in str(caught[0].message)
