"""A docstring of ours as Markdown: formulas, code and links; lists of arguments; examples."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Mapping

SECTIONS = {"Args:": "Arguments", "Attributes:": "Attributes", "Returns:": "Returns", "Raises:": "Raises"}
_MARKS = re.compile(r":(?P<role>[a-z]+):`(?P<text>[^`]+)`|``(?P<code>.+?)``", re.DOTALL)
_SENTENCE = re.compile(r"(?:``.+?``|:math:`[^`]+`|[^.;]|[.;](?!\s|$))*")
_OVERLAP = re.compile(r"\\[^A-Za-z]|[*_|<]")  # where GitHub would take a part of a formula for Markdown


def inline(text: str, links: Mapping[str, str]) -> str:
    """Formulas between dollars, code between backticks, and a link where ``links`` has the name of a class.

    >>> inline("``a`` of :class:`paraform.Ball`, :math:`x`, :math:`x_i`", {"Ball": "vectors.md#ball"})
    '`a` of [`Ball`](vectors.md#ball), $x$, $`x_i`$'
    """
    return _MARKS.sub(lambda mark: _marked(mark, links), text)


def _marked(mark: re.Match[str], links: Mapping[str, str]) -> str:
    if mark["code"]:
        return f"`{mark['code']}`"
    text = mark["text"]
    if mark["role"] == "math":
        return f"$`{text}`$" if _OVERLAP.search(text) else f"${text}$"
    name = text.rpartition(".")[2]
    return f"[`{name}`]({links[name]})" if name in links else f"`{text.removeprefix('~')}`"


def first_sentence(docstring: str) -> str:
    """What comes before the first full stop or semicolon, without it.

    >>> first_sentence("Numbers above 0.5, ``a; b``; open.")
    'Numbers above 0.5, ``a; b``'
    """
    paragraph = inspect.cleandoc(docstring).split("\n\n")[0].replace("\n", " ")
    return _SENTENCE.match(paragraph)[0]


def cell(text: str) -> str:
    """``text`` where a ``|`` would end the cell of a table."""
    return text.replace("|", "\\|")


def docstring(text: str, links: Mapping[str, str]) -> str:
    """The whole of it: paragraphs, sections as lists, examples as blocks of code."""
    return "\n\n".join(_block(block, links) for block in re.split(r"\n\s*\n", inspect.cleandoc(text)))


def _block(block: str, links: Mapping[str, str]) -> str:
    if block.startswith(">>>"):
        return f"```python\n{block}\n```"
    head, _, body = block.partition("\n")
    if head in SECTIONS:
        return f"{SECTIONS[head]}:\n\n{inline(_items(textwrap.dedent(body)), links)}"
    return inline(block, links)


def _items(body: str) -> str:
    """``name: words`` as an item each; what is indented goes on with the item.

    >>> print(_items("a: one\\n    two\\nb: three"))
    - ``a``: one
      two
    - ``b``: three
    """
    return re.sub(r"(?m)^(\w+):", r"- ``\1``:", re.sub(r"(?m)^ +", "  ", body))
