"""``paraform report``: what it writes, what it says, and how it refuses."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from typer.testing import CliRunner, Result

import paraform as pf
from paraform import cli, register_parametrization
from paraform.files import SavedFile, save
from paraform.report import demo
from paraform.report.page import collect
from tests.report.pages import HOSTILE, parsed

WIDE = "500"  # columns, so that no sentence is broken into lines


def report(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app(), ["report", *arguments], env={"COLUMNS": WIDE})


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "STEPS", 4)


def test_the_demo_has_something_in_every_part(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = report("demo", "-o", str(page))
    assert done.exit_code == 0, done.output
    assert str(page) in done.stdout
    assert "none outside its set" in done.stdout
    shown = parsed(page.read_text(encoding="utf-8"))
    titles = {figure.one("h4").text for figure in shown.all("figure")}
    assert {"Singular values", "Eigenvalues", "Residual over the training", "Condition over the training"} <= titles
    assert {mark for mark in ("disc", "edge") if shown.all("circle", class_=mark)} == {"disc", "edge"}
    assert shown.all("path", class_="band")
    assert shown.all("h2", id="plain")


def test_the_page_goes_to_report_html_if_nothing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert report("demo").exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_json_is_all_of_stdout(tmp_path: Path) -> None:
    done = report("demo", "-o", str(tmp_path / "page.html"), "--json")
    found = json.loads(done.stdout)
    assert found["findings"] == []
    assert found["plain"] == 7
    assert len(found["tensors"]) == 11
    by_name = {tensor["name"]: tensor for tensor in found["tensors"]}
    assert by_name["recurrence.weight_hh_l0"]["dof"] == 32 * 31 // 2
    assert by_name["recurrence.weight_hh_l0"]["state"] == "inside"
    assert by_name["mix.bias"]["residual"] is None


def test_the_demo_is_seeded_and_leaves_the_random_state_alone() -> None:
    state = torch.get_rng_state()
    (first, history), (second, again) = demo.trained_demo(), demo.trained_demo()
    assert torch.equal(torch.get_rng_state(), state)
    assert history == again
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_the_training_of_the_demo_moves_every_set() -> None:
    model, history = demo.trained_demo()
    first, last = history[0]["tensors"], history[-1]["tensors"]
    assert all(first[name]["raw_norm"] != last[name]["raw_norm"] for name in first)
    assert not collect(model).outside


def test_a_log_takes_the_place_of_the_demos_own(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text('{"step": 7, "tensors": {"flow.weight": {"condition": 2.5}}}\n')
    assert report("demo", "-o", str(tmp_path / "page.html"), "--history", str(log)).exit_code == 0
    shown = parsed((tmp_path / "page.html").read_text(encoding="utf-8"))
    titles = [figure.one("h4").text for figure in shown.all("figure")]
    assert titles.count("Condition over the training") == 1
    assert "Residual over the training" not in titles


@pytest.mark.parametrize("name", ["damaged", "missing", "folder"])
def test_a_log_that_cannot_be_read_is_refused_and_nothing_is_written(name: str, tmp_path: Path) -> None:
    (tmp_path / "damaged").write_text("no log")
    (tmp_path / "folder").mkdir()
    page = tmp_path / "page.html"
    page.write_text("as before")
    refused = report("demo", "-o", str(page), "--history", str(tmp_path / name))
    assert refused.exit_code == 2
    assert name in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
    assert refused.stdout == ""
    assert page.read_text() == "as before"
    assert {path.name for path in tmp_path.iterdir()} == {"damaged", "folder", "page.html"}


def test_a_folder_that_is_not_there_is_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "trained_demo", None)
    refused = report("demo", "-o", str(tmp_path / "none" / "page.html"))
    assert refused.exit_code == 2
    assert "choose another --out" in refused.stderr


def test_a_tensor_outside_its_set_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, history = demo.trained_demo()
    with torch.no_grad():
        model.flow.parametrizations.weight.original[0, 0] = torch.nan
    monkeypatch.setattr(demo, "trained_demo", lambda: (model, history))
    found = report("demo", "-o", str(tmp_path / "page.html"))
    assert found.exit_code == 1
    assert "1 of 11 parametrized tensors not inside their sets" in found.stdout
    assert (tmp_path / "page.html").exists()


def test_help_shows_an_example() -> None:
    assert "paraform report model.safetensors" in report("--help").stdout


def saved_model(folder: Path) -> tuple[nn.Module, Path]:
    torch.manual_seed(0)
    hostile = HOSTILE.replace(".", "")
    model = nn.ModuleDict({"first": nn.Linear(4, 4), hostile: nn.Linear(4, 4), "conv": nn.Conv2d(2, 3, 2)})
    register_parametrization(model["first"], "weight", pf.Hurwitz(0.5))
    register_parametrization(model[hostile], "weight", pf.Skew())
    register_parametrization(model["conv"], "weight", pf.Flatten(pf.Orthogonal()))
    model["again"] = model["first"]
    file = folder / "model.safetensors"
    save(model, file)
    return model, file


def test_a_saved_model_is_reported_as_the_one_in_memory(tmp_path: Path) -> None:
    model, file = saved_model(tmp_path)
    done = report(str(file), "-o", str(tmp_path / "page.html"), "--json")
    assert done.exit_code == 0, done.output
    with SavedFile(file) as saved:
        found, expected = collect(saved), collect(model)
    assert [(e.name, e.also, e.shape, e.dtype, e.state) for e in found.entries] == [
        (e.name, e.also, e.shape, e.dtype, e.state) for e in expected.entries
    ]
    for entry, other in zip(found.entries, expected.entries, strict=True):
        assert entry.after is not None
        assert other.after is not None
        assert entry.after.high == pytest.approx(other.after.high)
        assert (entry.before is None) == (other.before is None)
        assert (entry.eigenvalues is None) == (other.eigenvalues is None)
    page = parsed((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert page.one("h1").text == "model.safetensors"
    assert not page.all("img")
    assert "The same tensor is also again.weight." in page.text


def test_a_damaged_file_is_refused_in_a_sentence(tmp_path: Path) -> None:
    _, file = saved_model(tmp_path)
    file.write_bytes(file.read_bytes()[:-20])
    refused = report(str(file), "-o", str(tmp_path / "page.html"))
    assert refused.exit_code == 2
    assert len(refused.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "page.html").exists()


def test_numbers_of_a_file_that_are_broken_are_a_finding(tmp_path: Path) -> None:
    model, file = saved_model(tmp_path)
    with torch.no_grad():
        model["conv"].parametrizations.weight.original[0, 0] = torch.nan
    save(model, file)
    found = report(str(file), "-o", str(tmp_path / "page.html"))
    assert found.exit_code == 1, found.output
    assert "1 of 3 parametrized tensors not inside their sets" in found.stdout


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    refused = report(str(tmp_path / "nothing.safetensors"), "-o", str(tmp_path / "page.html"))
    assert refused.exit_code == 2
    assert "nothing.safetensors" in refused.stderr
