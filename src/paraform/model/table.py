"""Tables as plain text and as HTML, without a dependency."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

Cells = tuple[str | tuple[str, ...], ...]
"""The cells of a row. One of several strings has a line for each."""


class Column(NamedTuple):
    title: str
    is_number: bool = False
    """Set to the right."""
    wraps: bool = False
    """Lines of it are broken where the table would else be too wide. At most one column does."""


_WIDTH = 120
_NARROWEST = 18
_GAP = "  "


def text_of(columns: Sequence[Column], rows: Sequence[tuple[Cells, str]], below: Sequence[str]) -> str:
    """A table in lines of up to 120 characters, where the cells that do not wrap leave room for that.

    Args:
        columns: what the columns are.
        rows: the cells of each row, and a remark that stands below them (or "").
        below: paragraphs under the table.

    >>> print(text_of([Column("name"), Column("size", is_number=True)], [(("a", "12"), "it is small")], ["One row."]))
    name  size
    ----------
    a       12
        it is small
    <BLANKLINE>
    One row.
    """
    grid = [[_lines(cell) for cell in cells] for cells, _ in rows]
    widths = [
        max(len(line) for lines in ((column.title,), *(row[index] for row in grid)) for line in lines)
        for index, column in enumerate(columns)
    ]
    for index, column in enumerate(columns):
        if column.wraps:
            left = _WIDTH - sum(widths) + widths[index] - len(_GAP) * (len(columns) - 1)
            widths[index] = min(widths[index], max(_NARROWEST, left))
            for row in grid:
                row[index] = [part for line in row[index] for part in _broken(line, widths[index])]
    head = _aligned(columns, widths, [column.title for column in columns])
    printed = [head, "-" * (sum(widths) + len(_GAP) * (len(columns) - 1))]
    for row, (_, remark) in zip(grid, rows, strict=True):
        for line in range(max(map(len, row))):
            printed.append(_aligned(columns, widths, [cell[line] if line < len(cell) else "" for cell in row]))
        printed += [f"    {part}" for part in _broken(printable(remark), _WIDTH - 4) if remark]
    return "\n".join([*printed, "", *(part for note in below for part in _broken(printable(note), _WIDTH))])


def html_of(columns: Sequence[Column], rows: Sequence[tuple[Cells, str]], below: Sequence[str]) -> str:
    """The same as an HTML table, with every string escaped.

    >>> html_of([Column("name")], [(("<b>",), "")], [])
    '<table><thead><tr><th scope="col">name</th></tr></thead><tbody><tr><td>&lt;b&gt;</td></tr></tbody></table>'
    """
    head = "".join(f'<th scope="col">{escape(column.title)}</th>' for column in columns)
    body = "".join(
        f"<tr>{''.join(map(_td, columns, cells))}</tr>"
        + (f'<tr><td colspan="{len(columns)}">{_escaped(remark)}</td></tr>' if remark else "")
        for cells, remark in rows
    )
    notes = "".join(f"<p>{_escaped(note)}</p>" for note in below)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{notes}"


def printable(text: str) -> str:
    """``text`` with what is no visible character (a line break, a terminal's escape) as Python would write it.

    >>> printable("a\\x1b[31m")
    'a\\\\x1b[31m'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def escape(text: str) -> str:
    """``text`` for a place in HTML."""
    import html  # which importing paraform need not load

    return html.escape(text)


def _lines(cell: str | tuple[str, ...]) -> list[str]:
    return [printable(line) for line in (cell if isinstance(cell, tuple) else (cell,))]


def _broken(text: str, width: int) -> list[str]:
    """``text`` in lines of ``width``, broken behind a space, a bracket or a comma if there is one; others indented."""
    lines = []
    while len(text) > width:
        ends = [
            match.end()
            for match in re.finditer(r" |(?<! )\(|,", text)
            if width // 3 < len(text[: match.end()].rstrip()) <= width
        ]
        end = ends[-1] if ends else width
        lines.append(text[:end].rstrip())
        text = "  " + text[end:].lstrip()
    return [*lines, text]


def _aligned(columns: Sequence[Column], widths: Sequence[int], cells: Sequence[str]) -> str:
    return _GAP.join(
        cell.rjust(width) if column.is_number else cell.ljust(width)
        for column, width, cell in zip(columns, widths, cells, strict=True)
    ).rstrip()


def _td(column: Column, cell: str | tuple[str, ...]) -> str:
    style = ' style="text-align: right"' if column.is_number else ""
    return f"<td{style}>{'<br>'.join(escape(line) for line in _lines(cell))}</td>"


def _escaped(text: str) -> str:
    return escape(printable(text))
