"""``paraform report``: a saved model as one HTML page."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from paraform.report.entries import Entry
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
    from paraform.files import FileError
    from paraform.files.writing import replacing
    from paraform.report.demo import trained_demo
    from paraform.report.history import HistoryError
    from paraform.report.page import collect, render

    if not out.parent.is_dir():  # before the work, so that a bad folder costs nobody a minute
        _stop(f"Expected a file in a folder for the page, but {out.parent} is none; choose another --out.")
    try:
        if file == "demo":
            model, records = trained_demo()
            found = collect(model, history if history is not None else records, title="demo")
        else:
            from paraform.files import SavedFile

            with SavedFile(Path(file)) as saved:
                found = collect(saved, history)
        with replacing(out) as page:
            page.write(render(found).encode())
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
                "dof": _of(entry, "dof"),
                "trained": _of(entry, "trained"),
                "residual": _of(entry, "residual"),
                "condition": _of(entry, "condition"),
                "error": entry.error,
            }
            for entry in found.entries
        ],
        "outside": [entry.name for entry in found.outside],
    }


def _of(entry: "Entry", quantity: str) -> float | None:
    number: float | None = getattr(entry.measured, quantity, None)
    return number if number is not None and math.isfinite(number) else None


def _stop(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(2)
