"""What the commands share: how they print tables and JSON, and how they say what is wrong.

Exit codes: 0 fine; 1 a finding (a residual past its tolerance, a warning); 2 wrong use, or a file that cannot be used.
Results go to stdout, messages to stderr. Text of a file is shown by ``printable``, and never taken for rich's markup.
"""

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, NamedTuple, NoReturn

import typer
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.progress import track
from rich.table import Table
from rich.text import Text

from paraform.files.names import printable
from paraform.model.measure import as_json

FINDING, REFUSED = 1, 2

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")]

# rich takes about a millisecond a row; more rows than this are for a program such as grep, not for the eye
MOST_ROWS = 1000
# A column whose text may be broken into lines gets at least so many characters.
NARROWEST = 14
GAP = "  "


class Column(NamedTuple):
    """A column of a table."""

    title: str
    is_number: bool = False
    folds: bool = False
    """Whether its text may be broken into lines, where a terminal is narrow."""


def stop(sentence: str) -> NoReturn:
    """End the command with one sentence on stderr and exit code 2."""
    say(sentence)
    raise typer.Exit(REFUSED)


def say(sentence: str) -> None:
    """Print a message on stderr."""
    typer.echo(_encodable(sentence, sys.stderr), err=True)


def show(*parts: RenderableType) -> None:
    """Print what rich can print on stdout: in colour on a terminal, without limits of width into a pipe or a file.

    A reader that leaves early (``paraform inspect FILE | head``) is no error: the rest is not written.
    """
    console = _console()
    with console.capture() as captured:
        console.print(*parts, sep="\n", highlight=False, markup=False)
    _write(captured.get())


def show_json(document: Any) -> None:
    """Print one JSON document on stdout; None (``null``) stands for numbers that are not finite."""
    _write(json.dumps(as_json(document), indent=2, allow_nan=False) + "\n")


def show_rows(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on stdout: by rich on a terminal, else, and where it is very long, a line a row.

    On a terminal too narrow for the columns, each row is a paragraph that names them.
    """
    console = _console()
    if not console.is_terminal or len(rows) > MOST_ROWS:
        _write(_lines(columns, rows))
    elif _least_width(columns, rows) > console.width:
        show(*(_paragraph(columns, row) for row in rows))
    else:
        show(_table(columns, rows))


def watched(things: Iterable[Any], what: str, count: int) -> Iterable[Any]:
    """``things``, under a bar of progress where stderr is a terminal."""
    console = Console(stderr=True)
    return track(things, what, count, console=console, transient=True, disable=not console.is_terminal)


def shape_text(shape: Sequence[int]) -> str:
    """A shape as in ``64x32``; a number has none.

    >>> shape_text((64, 32)), shape_text(())
    ('64x32', 'number')
    """
    return "x".join(map(str, shape)) or "number"


def number_text(number: float | None) -> str:
    """A measured number in three digits; a dash where it cannot be known.

    >>> number_text(1.23456e-7), number_text(12.0), number_text(0), number_text(None)
    ('1.23e-07', '12', '0', '-')
    """
    return "-" if number is None else f"{number:.3g}"


def bytes_text(count: int) -> str:
    """A size in units of 1000 bytes.

    >>> bytes_text(999), bytes_text(1_530_000)
    ('999 B', '1.53 MB')
    """
    size, units = float(count), ["B", "kB", "MB", "GB", "TB", "PB", "EB"]
    while round(size) >= 1000 and len(units) > 1:
        size /= 1000
        del units[0]
    return f"{size:.0f} {units[0]}" if size == count else f"{size:.3g} {units[0]}"


def _console() -> Console:
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 1_000_000  # lines are broken for an eye, which is not there
    return console


def _table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(box=None, padding=(0, len(GAP), 0, 0), pad_edge=False, header_style="bold underline")
    for column in columns:
        table.add_column(
            column.title,
            justify="right" if column.is_number else "left",
            no_wrap=not column.folds,
            overflow="fold",
            min_width=NARROWEST if column.folds else None,
        )
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _lines(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> str:
    every = [[column.title for column in columns], *rows]
    widths = _widths(columns, rows)
    return "".join(
        GAP.join(
            " " * (width - cell_len(cell)) + cell if column.is_number else cell + " " * (width - cell_len(cell))
            for column, width, cell in zip(columns, widths, row, strict=True)
        ).rstrip()
        + "\n"
        for row in every
    )


def _paragraph(columns: Sequence[Column], row: Sequence[str]) -> Group:
    others = ", ".join(f"{column.title} {cell}" for column, cell in zip(columns[1:], row[1:], strict=True))
    return Group(
        Text(row[0], style="bold", overflow="fold"), Padding(Text(others, overflow="fold"), (0, 0, 0, len(GAP)))
    )


def _least_width(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> int:
    widths = _widths(columns, rows)
    least = (max(NARROWEST, cell_len(c.title)) if c.folds else w for c, w in zip(columns, widths, strict=True))
    return sum(least) + len(GAP) * (len(columns) - 1)


def _widths(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> list[int]:
    widths = [cell_len(column.title) for column in columns]
    for row in rows:
        widths = [max(width, cell_len(cell)) for width, cell in zip(widths, row, strict=True)]
    return widths


def _write(text: str) -> None:
    if sys.stdout is None:  # closed by whoever started the command, who wants the exit code only
        return
    try:
        sys.stdout.write(_encodable(text, sys.stdout))
        sys.stdout.flush()
    except BrokenPipeError:
        # The command goes on, so that its exit code still says what it found; nothing is flushed into a closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _encodable(text: str, stream: Any) -> str:
    """``text`` with escapes for what the encoding of ``stream`` lacks, as ASCII lacks most names."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


__all__ = [
    "FINDING",
    "REFUSED",
    "AsJson",
    "Column",
    "bytes_text",
    "number_text",
    "printable",
    "say",
    "shape_text",
    "show",
    "show_json",
    "show_rows",
    "stop",
    "watched",
]
