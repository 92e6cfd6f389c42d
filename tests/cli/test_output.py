"""What all commands share: sentences and exit codes, JSON, tables wide and narrow, colours, pipes."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from paraform import Skew, __version__, cli, register_parametrization
from paraform.cli import output
from paraform.cli.opened import chain_text
from paraform.files import save
from tests.cli.saved import only_sentence, run, saved

COMMANDS = ("inspect", "check", "fold")


def arguments(command: str, file: Path, folder: Path) -> list[Any]:
    return [command, file, *([folder / "out.safetensors"] if command == "fold" else [])]


def test_version_and_help() -> None:
    assert run("--version").stdout == f"paraform {__version__}\n"
    shown = run("--help").stdout
    listed = [shown.index(f" {command} ") for command in ("inspect", "check", "fold", "doctor", "demo")]
    assert listed == sorted(listed)


@pytest.mark.parametrize("command", [*COMMANDS, "doctor"])
def test_help_has_an_example(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"Example: paraform {command} " in " ".join(result.stdout.split())
    assert "--json" in result.stdout


def cut_off(folder: Path) -> Path:
    path = saved(folder)[1]
    os.truncate(path, path.stat().st_size - 1)
    return path


def pickled(folder: Path) -> Path:
    torch.save({"weight": torch.zeros(2)}, folder / "model.pt")
    return folder / "model.pt"


def plain(folder: Path) -> Path:
    save_file({"weight": torch.zeros(2)}, folder / "plain.safetensors")
    return folder / "plain.safetensors"


def empty(folder: Path) -> Path:
    (folder / "empty.safetensors").touch()
    return folder / "empty.safetensors"


def strange_name(folder: Path) -> Path:
    return folder / "\x1b[31m[red]\nmissing"


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing": (lambda folder: folder / "missing.safetensors", "No such file"),
    "folder": (lambda folder: folder, "folder"),
    "device": (lambda _: Path(os.devnull), "no regular file"),
    "strange name": (strange_name, "No such file"),
    "empty": (empty, "0 bytes"),
    "cut off": (cut_off, "cut off"),
    "pickle": (pickled, "paraform convert"),
    "plain": (plain, "without a recipe"),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", BAD)
def test_a_file_that_cannot_be_read_is_one_sentence(kind: str, command: str, tmp_path: Path) -> None:
    make, words = BAD[kind]
    for options in ((), ("--json",)):
        sentence = only_sentence(run(*arguments(command, make(tmp_path), tmp_path), *options))
        assert words in sentence
        assert sentence.isprintable()
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_no_permission_to_read_is_one_sentence(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, path = saved(tmp_path)
    opened = os.open

    def refuse(name: Any, *rest: Any, **options: Any) -> int:
        if Path(name) == path:  # root is refused nothing, so the system's answer is given here
            raise PermissionError(13, "Permission denied", str(name))
        return opened(name, *rest, **options)

    monkeypatch.setattr(os, "open", refuse)
    assert "Permission denied" in only_sentence(run(*arguments(command, path, tmp_path)))


def test_a_place_that_cannot_be_written_to_is_one_sentence(tmp_path: Path) -> None:
    _, path = saved(tmp_path)
    assert "folder that exists" in only_sentence(run("fold", path, tmp_path / "no" / "out.safetensors"))
    assert "folder" in only_sentence(run("fold", path, tmp_path))
    read_only = tmp_path / "read-only.safetensors"
    read_only.touch()
    read_only.chmod(0o444)
    assert "read-only" in only_sentence(run("fold", path, read_only))


@pytest.mark.parametrize("command", [*COMMANDS, "doctor", "no-such-command"])
def test_wrong_use_is_no_traceback(command: str) -> None:
    result = run(command, "--no-such-option")
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_a_narrow_terminal_shows_all_that_a_wide_one_does(tmp_path: Path) -> None:
    _, path = saved(tmp_path)
    wide = run("inspect", path, FORCE_COLOR="1", NO_COLOR="1", COLUMNS="150").stdout
    narrow = run("inspect", path, FORCE_COLOR="1", NO_COLOR="1", COLUMNS="40").stdout
    (row,) = (line.split() for line in wide.splitlines() if line.startswith("convolution.weight"))
    paragraphs = narrow.replace(",", "").split()
    assert all(cell in paragraphs for cell in row[1:])
    assert "residual" in paragraphs
    assert max(len(line.rstrip()) for line in re.sub(r"\x1b\[[0-9;]*m", "", narrow).splitlines()) <= 40


def test_a_name_is_broken_into_lines_where_the_rest_fits(tmp_path: Path) -> None:
    _, path = saved(tmp_path)
    shown = run("inspect", path, "--no-values", FORCE_COLOR="1", NO_COLOR="1", COLUMNS="62").stdout
    lines = [line.split() for line in shown.splitlines()]
    assert any("4x2x3" in line for line in lines)
    joined = "".join(line[0] for line in lines if line)
    assert "convolution.weight" in joined


def test_colours_are_for_terminals_that_want_them(tmp_path: Path) -> None:
    _, path = saved(tmp_path)
    assert "\x1b" not in run("inspect", path).stdout
    colours = ("\x1b[3", "\x1b[4;3", "\x1b[1;3", "\x1b[9")
    forced = run("inspect", path, FORCE_COLOR="1", NO_COLOR="1").stdout
    assert not any(colour in forced for colour in colours)


def test_into_a_pipe_a_row_is_a_line_however_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    model = nn.ModuleDict({"long" * 40: register_parametrization(nn.Linear(2, 2), "weight", Skew())})
    save(model, tmp_path / "model.safetensors")
    result = run("inspect", tmp_path / "model.safetensors")
    (line,) = (line for line in result.stdout.splitlines() if "Skew()" in line)
    assert line.startswith("long" * 40 + ".weight ")


def test_a_table_of_ten_thousand_rows_is_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    columns = (output.Column("tensor", folds=True), output.Column("stored", is_number=True))
    output.show_rows(columns, [(f"layer{index}", str(index)) for index in range(10_000)])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10_001
    assert {len(line) for line in lines} == {len("layer9999  stored")}


def test_json_has_null_for_what_is_no_number(capsys: pytest.CaptureFixture[str]) -> None:
    output.show_json({"a": [float("nan"), (float("inf"), 1.5)], "name": "\x1b[31m"})
    shown = capsys.readouterr().out
    assert json.loads(shown) == {"a": [None, [None, 1.5]], "name": "\x1b[31m"}
    assert "\x1b" not in shown


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, "Some()"),
        ({"map": "cayley", "special": True}, "Some(map='cayley', special=True)"),
        ({"mask": {"tensor": "mask"}}, "Some(mask=tensor)"),
        ({"bound": {"number": "inf"}}, "Some(bound=inf)"),
        ({"x": {"entries": {"a": [1, 2]}}}, "Some(x=dict(a=[1, 2]))"),
        ({"set": {"set": "interval", "arguments": {"lower": 0.0}}}, "Some(set=interval(lower=0.0))"),
        ({"parts": [{"name": "Skew", "arguments": {}}]}, "Some(parts=[Skew()])"),
        ({"name": "\x1b[31m"}, "Some(name='\\x1b[31m')"),
    ],
)
def test_a_chain_reads_like_python(arguments: dict[str, Any], expected: str) -> None:
    assert chain_text([{"name": "Some", "arguments": arguments}]) == expected
    off = [{"name": "Some", "arguments": arguments, "off": True}] * 2
    assert chain_text(off) == f"{expected} (switched off), {expected} (switched off)"


RUN = [sys.executable, "-c", "from paraform.cli import main; main()"]


def started(*arguments: object, **streams: Any) -> subprocess.Popen[str]:
    path = os.pathsep.join(filter(None, sys.path))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, "PYTHONIOENCODING": "ascii"}
    command = [*RUN, *map(str, arguments)]
    return subprocess.Popen(command, text=True, stderr=subprocess.PIPE, env=environment, **streams)


def test_real_processes_end_with_their_exit_code_also_when_the_reader_has_left(tmp_path: Path) -> None:
    # `head` has left: a pipe that nobody reads
    reading, writing = os.pipe()
    os.close(reading)
    _, path = saved(tmp_path)
    refused = tmp_path / "r\u00e9sum\u00e9"
    processes = {"left": started("inspect", path, stdout=writing), "refused": started("check", refused)}
    os.close(writing)
    told = {name: process.communicate()[1] for name, process in processes.items()}
    assert {name: process.returncode for name, process in processes.items()} == {"left": 0, "refused": 2}, told
    assert told["left"] == ""
    assert "r\\xe9sum\\xe9" in told["refused"]
    assert len(told["refused"].splitlines()) == 1


def test_a_stream_that_was_closed_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, path = saved(tmp_path)
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(SystemExit) as ended:
        cli.app()(["check", str(path)])
    assert ended.value.code == 0
