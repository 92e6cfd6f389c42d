"""``paraform report``: a saved model as one HTML page."""

import json
import math
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from paraform.report.page import Report


def report(
    file: Annotated[str, typer.Argument(help="A file of paraform.save, or `demo` for a small model made up for it.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Where the page goes.")] = Path("report.html"),
    history: Annotated[
        Path | None, typer.Option(help="The log of a monitor, JSON lines: its courses are drawn.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
) -> None:
    """Write a page that shows each parametrized tensor of a saved model, in one file that loads nothing.

    It has each tensor's chain, residual, singular values before and after, eigenvalues where a set is about them, and
    its history where a monitor's log is given. A file that is named demo is `./demo`.

    Exit code: 0; 1 where a tensor is outside its set or cannot be computed (the page is written all the same);
    2 for a file or a log that cannot be read.

    Example: `paraform report model.safetensors -o report.html --history monitor.jsonl`
    """
    from paraform.files import FileError, SavedFile
    from paraform.report.demo import trained_demo
    from paraform.report.history import HistoryError
    from paraform.report.page import collect, render

    try:
        if file == "demo":
            model, records = trained_demo()
            found = collect(model, history if history is not None else records, title="demo")
        else:
            with SavedFile(Path(file)) as saved:
                found = collect(saved, history)
        write_atomically(out, render(found))
    except (FileError, HistoryError) as error:
        _stop(str(error))
    except OSError as error:
        _stop(f"Expected files to read and to write, but {error.filename}: {error.strerror}; choose others.")
    if as_json:
        typer.echo(json.dumps(as_data(found, file, out), allow_nan=False))
    else:
        typer.echo(f"{out}: {sentence(found)}")
    raise typer.Exit(1 if found.outside else 0)


def sentence(found: "Report") -> str:
    """What the page says at its head, in a line."""
    count = len(found.entries)
    if found.outside:
        return f"{len(found.outside)} of {count} parametrized tensors are not inside their sets."
    unknown = f", {len(found.unknown)} without a set that is known" if found.unknown else ""
    return f"{count} parametrized tensors, none outside its set{unknown}."


def as_data(found: "Report", file: str, out: Path) -> dict[str, Any]:
    """What was found, for a program; null for what is not known or not finite."""
    return {
        "file": file,
        "report": str(out),
        "written_by": found.written_by,
        "tensors": len(found.entries) + len(found.plain),
        "parametrized": [
            {
                "name": entry.name,
                "state": entry.state,
                "shape": entry.shape,
                "dtype": entry.dtype,
                "chain": [step.text for step in entry.steps],
                "dof": entry.measured and entry.measured.dof,
                "trained": entry.measured and entry.measured.trained,
                "residual": _finite(entry.measured and entry.measured.residual),
                "condition": _finite(entry.measured and entry.measured.condition),
                "error": entry.error,
            }
            for entry in found.entries
        ],
        "outside": [entry.name for entry in found.outside],
    }


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that there is the whole of it, or what was there before."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)  # a temporary file is for its owner alone
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None


def _stop(message: str) -> None:
    typer.echo(message, err=True)
    raise typer.Exit(2)
