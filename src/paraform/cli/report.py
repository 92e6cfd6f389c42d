"""``paraform report``: a saved model as one HTML page."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paraform.cli.opened import unchanged, visible
from paraform.cli.output import FINDING, AsJson, show, show_json, stop

if TYPE_CHECKING:
    from paraform.report.entries import Entry
    from paraform.report.page import Report

DEMO = "demo"


def report(
    file: Annotated[str, typer.Argument(help="A file of paraform.save, or `demo` for a small model made for it.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Where the page goes.")] = Path("report.html"),
    history: Annotated[
        Path | None, typer.Option(help="The log of a monitor, JSON lines: what it measured is drawn.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a page about the parametrized tensors of a saved model: one HTML file, which loads nothing.

    Each has its chain, its residual, singular values before and after, eigenvalues where its set is about them,
    and its history where a monitor's log is given. A file that is named demo is `./demo`.

    Exit code: 0; 1 where a value is outside, not finite or cannot be computed (the page is written all the same);
    2 for a file or a log that cannot be read.

    Example: `paraform report model.safetensors -o report.html --history monitor.jsonl`
    """
    from paraform.files import SavedFile
    from paraform.files.writing import replacing
    from paraform.report.demo import trained_demo
    from paraform.report.history import HistoryError, read_history
    from paraform.report.page import collect, render

    if not out.parent.is_dir():  # before the work, so that a bad folder costs nobody a minute
        stop(f"Expected a folder for the page, but '{visible(str(out.parent))}' is none; choose another --out.")
    try:
        read = None if history is None else read_history(history)
    except HistoryError as error:
        stop(str(error))
    if file == DEMO:
        model, records = trained_demo()
        found = collect(model, records if read is None else read, title=DEMO)
    else:
        with unchanged(Path(file)), SavedFile(file) as saved:
            found = collect(saved, read)
    with replacing(out) as page:
        page.write(render(found).encode())
    if as_json:
        show_json(as_data(found, file, out))
    else:
        show(f"{visible(str(out))}: {sentence(found)}")
    raise typer.Exit(FINDING if found.outside else 0)


def sentence(found: "Report") -> str:
    """What the page says at its head, in a line."""
    count = len(found.entries)
    if found.outside:
        return f"{len(found.outside)} of {count} parametrized tensors not inside their sets"
    unknown = f", {len(found.unknown)} of no set that is known" if found.unknown else ""
    return f"{count} parametrized tensors, none outside its set{unknown}"


def as_data(found: "Report", file: str, out: Path) -> dict[str, Any]:
    """What was found, for a program."""
    return {
        "file": file,
        "report": str(out),
        "written_by": found.written_by,
        "findings": [entry.name for entry in found.outside],
        "plain": len(found.plain),
        "tensors": [_as_data(entry) for entry in found.entries],
    }


def _as_data(entry: "Entry") -> dict[str, Any]:
    measured = entry.measured
    data = {
        "name": entry.name,
        "state": entry.state,
        "shape": entry.shape,
        "dtype": entry.dtype,
        "chain": [step.text for step in entry.steps],
    }
    if measured is None:
        return data | {"error": entry.error}
    quantities = ("dof", "trained", "raw_norm", "residual", "condition", "is_finite")
    return data | {quantity: getattr(measured, quantity) for quantity in quantities}
