"""The history in the report: a monitor's log, whole or damaged."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import paraform as pf
from paraform import register_parametrization
from paraform.model.monitor import Monitor
from paraform.report.history import HistoryError, read_history
from paraform.report.page import MOST_POINTS, build_report
from tests.report.pages import HOSTILE, parsed


def record(step: Any = 0, **measured: Any) -> dict[str, Any]:
    return {"step": step, "tensors": {"weight": measured}}


def test_a_log_is_drawn_with_gaps_where_nothing_is_known(tmp_path: Path) -> None:
    layer = register_parametrization(nn.Linear(3, 3), "weight", pf.Skew())
    log = tmp_path / "log.jsonl"
    residuals = [0.5, 0.25, None, 0.125, 0.0625]
    log.write_text("".join(json.dumps(record(step, residual=r)) + "\n" for step, r in enumerate(residuals)))
    page = parsed(build_report(layer, log))
    (figure,) = [f for f in page.all("figure") if f.one("h4").text == "Residual over the training"]
    assert [row.all("td")[1].text for row in figure.all("tr")[1:]] == ["0.5", "0.25", "not finite", "0.125", "0.0625"]
    assert len(figure.one("svg", class_="plot").all("path", class_="line")) == 2
    assert "not known or not finite at 1 of them" in figure.text


def test_what_only_the_log_has_is_said() -> None:
    layer = register_parametrization(nn.Linear(3, 3), "weight", pf.Skew())
    page = parsed(build_report(layer, [{"step": 0, "tensors": {HOSTILE: {"residual": 1.0}}}]))
    assert "1 tensor that is not parametrized here" in page.text


DAMAGED = {
    "empty": b"",
    "no JSON": b"residual 3\n",
    "cut off": json.dumps(record(residual=1.0)).encode()[:-3],
    "binary": bytes(range(256)),
    "a list": b"[1, 2]\n",
    "no step": b'{"tensors": {}}\n',
    "a step that is no number": b'{"step": "1", "tensors": {}}\n',
    "a step that is true": b'{"step": true, "tensors": {}}\n',
    "a step too large": b'{"step": 1' + b"0" * 400 + b', "tensors": {}}\n',
    "a step of too many digits": b'{"step": ' + b"1" * 5000 + b', "tensors": {}}\n',
    "tensors that are a list": b'{"step": 1, "tensors": []}\n',
    "a tensor that is a number": b'{"step": 1, "tensors": {"weight": 1}}\n',
    "a residual that is text": json.dumps(record(residual="small")).encode(),
    "deep": b'{"step": 1, "tensors": ' + b"[" * 100_000,
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_log_is_refused_in_a_sentence(name: str, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_bytes(DAMAGED[name])
    with pytest.raises(HistoryError, match=r"(?s)^Expected .*log\.jsonl.*; give the log of a monitor") as raised:
        read_history(log)
    assert "\n" not in str(raised.value)


def test_a_last_line_that_was_not_finished_is_left_out(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    line = json.dumps(record(3, residual=1.0))
    log.write_text(f"{line}\n{line[:-4]}")
    assert read_history(log)["weight"]["residual"].points == [(3.0, 1.0)]
    log.write_text(f"{line[:-4]}\n{line}\n")
    with pytest.raises(HistoryError, match="line 1 of"):
        read_history(log)


def test_a_monitors_history_and_its_log_are_drawn_alike(tmp_path: Path) -> None:
    layer = register_parametrization(nn.Linear(3, 3), "weight", pf.Orthogonal())
    monitor = Monitor(layer, log=tmp_path / "log.jsonl")
    for _ in range(3):
        monitor.step()
    assert read_history(tmp_path / "log.jsonl") == read_history(monitor.history)
    assert build_report(layer, tmp_path / "log.jsonl") == build_report(layer, monitor.history)


def test_a_long_log_is_thinned_and_keeps_its_peak() -> None:
    layer = register_parametrization(nn.Linear(3, 3), "weight", pf.Skew())
    steps = 10_000
    log = (record(step, residual=9.0 if step == 4321 else 1.0) for step in range(steps))
    page = parsed(build_report(layer, log))
    (figure,) = [f for f in page.all("figure") if f.one("h4").text == "Residual over the training"]
    values = [float(row.all("td")[1].text) for row in figure.all("tr")[1:]]
    assert len(values) <= MOST_POINTS
    assert max(values) == 9.0
    assert "of 10,000 measurements, of neighbours the largest" in figure.text


@pytest.mark.parametrize("number", [0.0, 5e-324, 1e-310, 1e308, 1.7e308])
def test_numbers_at_the_ends_of_float64_are_drawn(number: float) -> None:
    layer = register_parametrization(nn.Linear(3, 3), "weight", pf.Skew())
    page = build_report(layer, [record(0, residual=number), record(1, residual=1.0), record(2, residual=number)])
    assert not re.search(r'd="[^"]*(nan|inf)', page)
