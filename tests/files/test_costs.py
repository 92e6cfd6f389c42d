"""What a small file may cost: neither the memory nor the hours that its recipe asks for are spent."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from paraform.cli import app
from paraform.files import FileError, SavedFile, write_tensors

SIDE = 4096


def step(name: str, **arguments: Any) -> dict[str, Any]:
    return {"name": name, "arguments": arguments}


def written(
    path: Path,
    chains: dict[str, tuple[tuple[int, ...], list[dict[str, Any]], dict[str, tuple[int, ...]]]],
    ties: dict[str, str] | None = None,
    shared: dict[str, str] | None = None,
) -> Path:
    """A file made by hand: by name the shape, the chain, and the shapes of what is stored of it."""
    ties, shared = ties or {}, shared or {}
    keys = {
        f"parametrizations.{name}.{own}": shape
        for name, (_, _, stored) in chains.items()
        for own, shape in stored.items()
        if f"parametrizations.{name}.{own}" not in shared
    }
    recipe = {
        "format": 1,
        "version": "0",
        "names": [*chains, *ties],
        "parametrized": {
            name: {"shape": shape, "dtype": "float32", "chain": steps} for name, (shape, steps, _) in chains.items()
        },
        "ties": ties,
        "shared": shared,
        "pairs": [],
    }
    torch.manual_seed(0)
    specs = {key: (shape, torch.float32) for key, shape in keys.items()}
    tensors = iter([torch.randn(shape) for shape in keys.values()])
    write_tensors(path, specs, tensors, {"paraform": json.dumps(recipe)})
    return path


def low(side: int, *more: dict[str, Any]) -> tuple[tuple[int, ...], list[dict[str, Any]], dict[str, tuple[int, ...]]]:
    return (side, side), [step("LowRank", rank=1), *more], {"original0": (side, 1), "original1": (1, side)}


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app(), [str(argument) for argument in arguments])
    return result.exit_code, result.output


def refused(path: Path, name: str, text: str) -> None:
    with SavedFile(path) as saved:
        for compute in (saved[name].chain, saved[name].value):
            with pytest.raises(FileError, match=text):
                compute()


def test_a_value_of_half_a_gigabyte_from_kilobytes_is_refused(tmp_path: Path) -> None:
    refused(written(tmp_path / "x", {"w": low(12_000)}), "w", "its value takes 576000000 bytes, and 96000 are stored")


def test_a_large_product_can_be_folded_but_not_decomposed(tmp_path: Path) -> None:
    path = written(tmp_path / "x", {"w": low(SIDE)})
    with SavedFile(path) as saved:
        assert saved["w"].value().shape == (SIDE, SIDE)
    for command in ("inspect", "check"):
        code, output = run(command, path)
        assert code == 1
        assert "far more than a file of" in output
    assert run("fold", path, tmp_path / "out")[0] == 0


def test_a_decomposition_behind_a_large_product_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "x", {"w": low(SIDE, step("SpectralNorm", exact=True))})
    refused(path, "w", "far more than a file of")
    assert run("fold", path, tmp_path / "out")[0] == 2
    assert not (tmp_path / "out").exists()


def test_dimensions_without_entries_count_in_what_a_norm_over_them_takes(tmp_path: Path) -> None:
    shape = (0, 10**9)
    path = written(tmp_path / "x", {"w": (shape, [step("UnitNorm", dim=0)], {"original": shape})})
    refused(path, "w", "its value takes 4000000000 bytes, and 0 are stored")


@pytest.mark.parametrize("kind", ["matrix_exp", "cayley"])
def test_torchs_orthogonal_completes_a_column_to_a_matrix_which_counts(tmp_path: Path, kind: str) -> None:
    shape = (30_000, 1)
    orthogonal = step("parametrizations.orthogonal", orthogonal_map=kind, use_trivialization=False)
    path = written(tmp_path / "x", {"w": (shape, [orthogonal], {"original": shape})})
    refused(path, "w", "its value takes 3600000000 bytes")


def test_many_chains_on_one_tensor_are_refused_together_and_small_ones_are_not(tmp_path: Path) -> None:
    shape, steps = (300, 300), [step("SpectralNorm", exact=True, bound=float(1 + bound)) for bound in range(60)]
    names = [f"w{index}" for index in range(40)]
    shared = {f"parametrizations.{name}.original": "parametrizations.w0.original" for name in names[1:]}
    chains: dict[str, Any] = {name: (shape, steps, {"original": shape}) for name in names}
    path = written(tmp_path / "x", {**chains, "small": ((3, 3), [step("Skew")], {"original": (3, 3)})}, shared=shared)
    refused(path, "w3", "far more than a file of")
    with SavedFile(path) as saved:
        assert saved["small"].value().shape == (3, 3)


def test_a_value_is_not_folded_under_names_without_end(tmp_path: Path) -> None:
    path = written(tmp_path / "x", {"w": low(2048)}, ties={f"t{index}": "w" for index in range(100)})
    code, output = run("fold", path, tmp_path / "out")
    assert code == 2
    assert f"its values take {101 * 4 * 2048**2} bytes" in output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("shape", "stored"), [((50_257, 768), {"original0": (50_257, 16), "original1": (16, 768)}), ((16, 16), None)]
)
def test_honest_compression_is_within_what_is_computed(
    tmp_path: Path, shape: tuple[int, ...], stored: dict[str, tuple[int, ...]] | None
) -> None:
    stored = stored or {"original0": (shape[0], 1), "original1": (1, shape[1])}
    rank = stored["original0"][1]
    path = written(tmp_path / "x", {"w": (shape, [step("LowRank", rank=rank)], stored)})
    with SavedFile(path) as saved:
        assert saved["w"].chain()[0].rank == rank
    assert path.stat().st_size < 4 * math.prod(shape) + 10_000
