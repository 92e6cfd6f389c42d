"""``python -m tests.files.damage FOLDER SEED`` tries all damaged and hostile files.

That runs in a process of its own, with a limit on its memory and an alarm: a file may be refused, or be used, but it
must not crash, hang, fill memory, execute anything or leave a model half changed.
"""

from __future__ import annotations

import faulthandler
import json
import resource
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from paraform.files import FileError, SavedFile, load
from paraform.files.reading import TensorFile
from tests.files.damaged import Model, corpus

SECONDS = 300
"""After so long a hang is taken for one; all of it takes some seconds."""
ROOM = 700 * 2**20
"""So much memory may be taken, in bytes, beyond what the process has when it begins."""


def state_of(model: nn.Module) -> list[Any]:
    modules = [(id(module), type(module)) for module in model.modules()]
    tensors = [(id(tensor), tensor) for tensor in (*model.parameters(), *model.buffers())]
    return [*modules, *[(key, torch.view_as_real(x).tolist() if x.is_complex() else x.tolist()) for key, x in tensors]]


def outcome(path: Path, model: nn.Module) -> tuple[str, bool]:
    """What happened, and whether ``model`` was loaded into."""
    looked, text = "used", ""
    try:
        with SavedFile(path) as saved:
            for tensor in saved:
                tensor.recipe, tensor.stored, tensor.shape, tensor.dtype, tensor.value()
    except FileError as error:
        looked, text = "refused", str(error)
    assert "alloc" not in text, text  # refused by the memory, and not by us
    before = state_of(model)
    try:
        load(path, model)
    except FileError as error:
        text = str(error)
    else:
        return "used", True
    assert str(path) in text
    assert text.replace("\n", "").isprintable(), text
    assert "alloc" not in text, text
    assert len(text) < 20_000
    if state_of(model) != before:
        return "changed", False
    return "refused" if looked == "refused" else "only looked into", False


def main(folder: Path, seed: int) -> None:
    sys.setrecursionlimit(10**6)  # as some programs do, for whom deep data would end in a crash
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    torch.set_num_threads(1)
    model = Model()
    files = list(corpus(seed))
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, used + ROOM))
    path = folder / "damaged.safetensors"
    for damaged in files:
        path.write_bytes(damaged.content)
        try:
            what, loaded = outcome(path, model)
        except BaseException as error:
            what, loaded = f"failed: {type(error).__name__}: {error}"[:500], True
        if loaded:
            model = Model()
        if accepted(path) and not accepted_by_others(path):
            what = f"failed: the safetensors package refuses it, and we do not ({what})"
        print(json.dumps({"name": damaged.name, "rule": damaged.rule, "what": what}), flush=True)


def accepted(path: Path) -> bool:
    """Whether our reader of the format takes it for a file without damage."""
    try:
        TensorFile(path).close()
    except FileError:
        return False
    return True


def accepted_by_others(path: Path) -> bool:
    """Whether the reader of the safetensors package does."""
    try:
        with safe_open(path, framework="pt"):
            return True
    except SafetensorError:
        return False


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
