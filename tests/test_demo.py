"""The demo measures what it says, writes what it promises, and repeats itself; never who wins or how fast."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.image import imread
from typer.testing import CliRunner, Result

from paraform import cli
from paraform.cli import digits
from paraform.report.pictures import draw_runs

ORTHOGONAL = 1e-4  # Frobenius; float32 rounding alone is about 1e-6 here
PICTURES = ("accuracy.png", "gradient_norm.png", "singular_values.png")
WIDE = "500"  # columns, so that no sentence is broken into lines
SMALL = ("demo", "--seeds", "1", "--epochs", "2", "--hidden", "12")


def demo(*options: str) -> Result:
    return CliRunner().invoke(cli.app(), options, env={"COLUMNS": WIDE})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "made" / "on demand"


@pytest.fixture(scope="module")
def small(folder: Path) -> Iterator[Result]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digits, "TIMED_EPOCHS", 1)
        yield demo(*SMALL, "--json", "--out", str(folder))


@pytest.fixture(scope="module")
def results(small: Result) -> dict[str, Any]:
    return json.loads(small.stdout)


def run(network: str, seed: int) -> digits.Run:
    return digits.run(network, digits.load(), hidden=8, epochs=1, seed=seed, on_epoch=lambda: None)


def test_a_run_succeeds_and_says_where_its_files_are(small: Result, folder: Path) -> None:
    assert small.exit_code == 0
    assert str(folder) in small.stderr


def test_json_on_stdout_is_what_the_file_holds(results: dict[str, Any], folder: Path) -> None:
    assert results == json.loads((folder / "results.json").read_text(encoding="utf-8"))


def test_the_results_hold_every_promised_number(results: dict[str, Any]) -> None:
    assert results["environment"]["torch"] == torch.__version__
    assert results["settings"]["seeds"] == [0]
    assert results["settings"]["images"] == {"train": 1257, "validation": 180, "test": 360}
    assert set(results["seconds_an_epoch"]) == {"free", "orthogonal, cached", "orthogonal, not cached"}
    assert set(results["networks"]) == {"free", "orthogonal"}
    for network in results["networks"].values():
        (measured,) = network["runs"]
        assert 0 <= measured["test_accuracy"] <= 1
        assert len(measured["validation_accuracy"]) == 2
        assert len(measured["singular_values"]) == 12
        assert len(measured["gradient_norms"]) == 64
        assert network["mean"]["gradient_norm_first_step"] == measured["gradient_norms"][0]
        assert network["mean"]["gradient_norm_last_step"] == measured["gradient_norms"][-1]


def test_only_the_constrained_kernel_is_orthogonal_after_training(results: dict[str, Any]) -> None:
    networks = results["networks"]
    assert networks["orthogonal"]["mean"]["orthogonality_error"] < ORTHOGONAL
    assert networks["free"]["mean"]["orthogonality_error"] > ORTHOGONAL
    assert networks["orthogonal"]["runs"][0]["singular_values"] == pytest.approx([1.0] * 12, abs=ORTHOGONAL)


def test_a_picture_shows_each_run_and_not_only_the_mean(tmp_path: Path) -> None:
    for name, spread in (("narrow.png", 0.1), ("wide.png", 0.4)):
        runs = [[0.5 - spread, 0.5 + spread], [0.5 + spread, 0.5 - spread]]  # their mean is 0.5 throughout
        draw_runs(tmp_path / name, {"a": runs}, title="t", x="x", y="y")
    assert (tmp_path / "narrow.png").read_bytes() != (tmp_path / "wide.png").read_bytes()


@pytest.mark.parametrize("name", PICTURES)
def test_the_pictures_are_real(name: str, small: Result, folder: Path) -> None:
    pixels = imread(folder / name)
    assert min(pixels.shape[:2]) > 500
    assert pixels.std() > 0.01  # a blank page has no spread


def test_the_table_shows_each_measurement(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(digits, "TIMED_EPOCHS", 1)
    shown = demo(*SMALL, "--epochs", "1", "--out", str(tmp_path)).stdout
    for part in ("test accuracy", "orthogonality error", "step 1", "step 64", "without cached()"):
        assert part in shown


def test_the_same_seed_gives_the_same_numbers() -> None:
    assert run("orthogonal", seed=3) == run("orthogonal", seed=3)
    assert run("orthogonal", seed=3) != run("orthogonal", seed=4)


def test_both_networks_start_from_the_same_values() -> None:
    free, orthogonal = (digits.build(network, 8, seed=1) for network in digits.LEARNING_RATES)
    images = digits.load().test
    torch.testing.assert_close(free.cell.weight_hh, orthogonal.cell.weight_hh)
    torch.testing.assert_close(free(images.pixels), orthogonal(images.pixels))


def test_the_parts_of_the_data_are_disjoint_and_hold_every_digit() -> None:
    parts = digits.load()
    images = torch.cat([part.pixels for part in parts]).flatten(1)
    assert len(images.unique(dim=0)) == len(images) == 1797
    assert images.min() == 0
    assert images.max() == 1
    assert all(len(part.labels.unique()) == 10 for part in parts)


def test_the_gradient_at_the_last_step_is_that_of_softmax_regression() -> None:
    model, images = digits.build("orthogonal", 8, seed=0), digits.load().test
    errors = model(images.pixels).softmax(dim=1) - torch.nn.functional.one_hot(images.labels)
    expected = (errors @ model.classify.weight).norm(dim=1).mean()
    assert digits.gradient_norms(model, images)[-1] == pytest.approx(expected.item(), rel=1e-5)


def test_an_orthogonal_kernel_keeps_a_gradient_that_meets_no_bias() -> None:
    # modReLU is the identity while its bias is zero, so a gradient goes back through orthogonal matrices alone.
    norms = digits.gradient_norms(digits.build("orthogonal", 8, seed=0), digits.load().test)
    assert norms[0] == pytest.approx(norms[-1], rel=1e-4)


def test_the_demo_leaves_the_random_state_and_the_threads_alone() -> None:
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    with digits.threads(threads + 1):
        run("free", seed=0)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("option", ["--seeds", "--epochs", "--hidden"])
def test_a_count_below_one_is_refused_with_its_name(option: str) -> None:
    refused = demo("demo", option, "0")
    assert refused.exit_code == 2
    assert option in refused.stderr


def test_a_folder_that_cannot_be_made_is_refused_before_training(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    refused = demo("demo", "--out", str(tmp_path / "taken"))
    assert refused.exit_code == 2
    assert "choose another" in refused.stderr


def test_help_shows_an_example() -> None:
    assert "paraform demo --seeds 5" in demo("demo", "--help").stdout


def test_without_the_extra_one_sentence_says_how_to_get_it_and_nothing_counts_as_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "typer", None)  # what Python holds for a package that cannot be imported
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2  # 1 would say that a weight has left its set
    out, err = capsys.readouterr()
    assert out == ""
    assert re.search(r'need typer, .* pip install "paraform\[tools\]"', err)


@pytest.mark.parametrize(
    ("missing", "raised"), [("sklearn.datasets", SystemExit), ("paraform.gone", ModuleNotFoundError)]
)
def test_only_a_missing_tool_is_blamed_on_the_extra(
    missing: str, raised: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    def command() -> None:
        raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    monkeypatch.setattr(cli, "app", lambda: command)
    with pytest.raises(raised):
        cli.main()


def test_importing_paraform_brings_none_of_the_tools() -> None:
    code = f"import sys, paraform, paraform.cli; print({cli.TOOLS!r} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
