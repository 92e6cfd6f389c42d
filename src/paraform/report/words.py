"""Words and numbers as the page shows them."""

from __future__ import annotations

import math
import re
from typing import Any

from markupsafe import Markup, escape

from ..model.table import printable

LONGEST = 300  # characters of a name or a line: more would be read by nobody

TIMES = "\N{MULTIPLICATION SIGN}"

_SIGNS = {
    "top": "T", "le": "≤", "ge": "≥", "ne": "≠", "in": "∈", "dots": "…", "sum": "Σ", "lVert": "‖", "rVert": "‖",
    "bmod": "mod", "sqrt": "√", "operatorname": "", "lambda": "λ", "mu": "μ", "tau": "τ",
    "alpha": "\N{GREEK SMALL LETTER ALPHA}", "rho": "\N{GREEK SMALL LETTER RHO}",
    "sigma": "\N{GREEK SMALL LETTER SIGMA}", ",": "\N{THIN SPACE}", ";": " ", " ": " ", "{": "{", "}": "}",
}  # fmt: skip
_MARKS = re.compile(r":math:`(?P<math>[^`]+)`|``(?P<code>.+?)``|:\w+:`~?(?P<role>[^`]+)`")
_MATH = re.compile(r"\\(?P<name>[A-Za-z]+|.)|(?P<script>[\^_])|(?P<brace>[{}])|(?P<text>[^\\^_{}]+)")


def number(value: float | None) -> str:
    """A number in few digits.

    >>> number(0.0), number(1234567), number(0.12344), number(1.5e-7), number(float("nan")), number(None)
    ('0', '1,234,567', '0.1234', '1.50e-07', 'nan', 'not known')
    """
    if value is None:
        return "not known"
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    return f"{value:.4g}" if 1e-3 <= abs(value) < 1e5 else f"{value:.2e}"


def exactly(value: float | None) -> str:
    """A number for a script to sort by, with every digit; nothing where it is not known.

    >>> exactly(0.1), exactly(float("nan")), exactly(float("inf")), exactly(None)
    ('0.1', 'NaN', 'Infinity', '')
    """
    if value is None:
        return ""
    return (
        repr(value) if math.isfinite(value) else "NaN" if math.isnan(value) else f"{'-' if value < 0 else ''}Infinity"
    )


def shape(sizes: tuple[int, ...]) -> str:
    """A shape as it is said.

    >>> shape((4, 3)), shape(()), shape((7,))
    ('4 × 3', 'one number', '7')
    """
    return f" {TIMES} ".join(map(str, sizes)) or "one number"


def shortened(text: str) -> str:
    """``text``, or its beginning and its end where it is long; characters that are not printed are escaped.

    >>> shortened("a\\x1b[2Jb\\u202e")
    'a\\\\x1b[2Jb\\\\u202e'
    >>> len(shortened(1000 * "x"))
    300
    """
    if len(text) > LONGEST:
        kept = (LONGEST - 1) // 2
        text = f"{text[: LONGEST - 1 - kept]}…{text[-kept:]}"
    return printable(text)


def breakable(name: str) -> Markup:
    """A name that may go on in a new line behind its dots.

    >>> breakable("encoder.0.<b>")
    Markup('encoder.<wbr>0.<wbr>&lt;b&gt;')
    """
    return Markup(".<wbr>").join(shortened(name).split("."))


def meaning(step: Any) -> Markup:
    """What a parametrization makes, in a line: the first one of its own docstring, or nothing.

    >>> from paraform.constraints import Skew
    >>> meaning(Skew())
    Markup('Skew-symmetric matrices, <i>X<sup>T</sup> = -X</i>; ... ones, <i>X<sup>H</sup> = -X</i>.')
    """
    text = vars(type(step)).get("__doc__")
    line = next(iter(text.strip().splitlines()), "") if isinstance(text, str) else ""
    return _prose(line if len(line) <= LONGEST else shortened(line))


def _prose(text: str) -> Markup:
    parts, end = [], 0
    for mark in _MARKS.finditer(text):
        parts.append(escape(text[end : mark.start()]))
        if mark["math"]:
            parts.append(Markup("<i>{}</i>").format(_formula(mark["math"])))
        elif mark["code"]:
            parts.append(Markup("<code>{}</code>").format(mark["code"]))
        else:
            parts.append(escape(mark["role"]))
        end = mark.end()
    return Markup("").join([*parts, escape(text[end:])])


def _formula(text: str) -> Markup:
    """A line of LaTeX with indices and exponents raised and lowered; of commands the names are left."""
    # Beside a command for a space, a space means nothing.
    text = re.sub(r" *\\([,;]) *", r"\\\1", text)
    parts: list[Markup] = []
    raised: list[str | None] = []  # for each open brace, the tag that it closes
    script: str | None = None
    for token in _MATH.finditer(text):
        if token["script"]:
            script = "sup" if token["script"] == "^" else "sub"
        elif token["brace"] == "{":
            parts.append(Markup(f"<{script}>") if script else Markup(""))
            raised.append(script)
            script = None
        elif token["brace"] == "}":
            tag = raised.pop() if raised else None
            parts.append(Markup(f"</{tag}>") if tag else Markup(""))
        else:
            name = token["name"]
            words = token["text"] if name is None else _SIGNS.get(name, name)
            if script:
                # Without braces it is one character, or one command, that is raised.
                first, words = (words[:1], words[1:]) if name is None else (words, "")
                parts.append(Markup(f"<{script}>{{}}</{script}>").format(first))
                script = None
            parts.append(escape(words))
    return Markup("").join([*parts, *(Markup(f"</{tag}>") for tag in reversed(raised) if tag)])
