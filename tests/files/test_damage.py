"""Hundreds of damaged and hostile files (tests/files/damaged.py), tried in a process with little memory."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.files.damaged import MAY, MUST

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    found = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.files.damage", str(tmp_path_factory.mktemp("damage")), str(seed)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]), "OMP_NUM_THREADS": "1"},
    )
    assert found.returncode == 0, f"seed {seed}: {found.stderr}"
    return [json.loads(line) for line in found.stdout.splitlines()]


def test_no_file_crashes_hangs_fills_memory_or_leaves_a_model_half_changed(outcomes: list[dict[str, str]]) -> None:
    assert len(outcomes) >= 200
    assert [each for each in outcomes if each["what"] not in ("refused", "used", "only looked into")] == []


def test_what_is_damaged_for_certain_is_refused(outcomes: list[dict[str, str]]) -> None:
    certain = [each for each in outcomes if each["rule"] == MUST]
    assert len(certain) >= 200
    assert [each for each in certain if each["what"] != "refused"] == []


def test_what_is_whole_is_used(outcomes: list[dict[str, str]]) -> None:
    whole = [each for each in outcomes if each["rule"] not in (MUST, MAY)]
    assert [each["what"] for each in whole] == ["used", "used"]


def test_other_numbers_in_the_data_are_numbers(outcomes: list[dict[str, str]]) -> None:
    flips = [each for each in outcomes if each["name"].endswith("of the data")]
    assert {each["what"] for each in flips} == {"used"}
