"""Docstrings, written in reStructuredText with Google's sections, as the Markdown that GitHub shows.

What is understood is what the docstrings use: paragraphs, sections of named entries (``Args:``), examples with ``>>>``,
double backticks, ``:math:`` and the roles that name an object. It is no general converter.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field

TITLES = {"Args": "Arguments", "Attributes": "Attributes", "Raises": "Errors", "Returns": "Returns"}
LABEL = r"(Shape:|Freedom:|Freedom and map:|Raw tensors?:|Two raw tensors:?|Samples:|The nearest point:?)(?=[ ,])"
FACTS = re.compile(rf"(?:^|(?<=[.)]) ){LABEL}")
INLINE = re.compile(
    r":math:`(?P<math>[^`]+)`"
    r"|:(?:attr|class|data|exc|func|meth|mod|obj):`~?(?P<role>[^`]+)`"
    r"|``(?P<code>.+?)``"
    r"|(?P<sign><)"
)
SAID_ONCE = "see :class:`Constraint`."  # of ``strict``, which the pages explain in one place


@dataclass(frozen=True)
class Section:
    """Entries that have a name: arguments, attributes, errors."""

    title: str
    entries: dict[str, str]


@dataclass(frozen=True)
class Docstring:
    """A docstring, taken apart."""

    summary: str
    """The first sentence: what the weight is."""
    details: list[str] = field(default_factory=list)
    """The paragraphs after it."""
    sections: list[Section] = field(default_factory=list)
    example: list[str] = field(default_factory=list)
    """Paragraphs, and blocks that begin with ``>>>``: the code, and what is said between it and the last section."""

    @property
    def freedom(self) -> str:
        """What the docstring says of the number of dimensions, without the case of complex numbers; "" if nothing.

        >>> parse("A set.\\n\\nShape: any. Freedom: ``n.m`` a matrix (complex: twice that). Samples: none.").freedom
        '``n.m`` a matrix'
        """
        found = re.search(r"\bFreedom: ((?:``.+?``|[^.;`])+?)(?: \(complex|[.;])", "\n".join(self.details))
        return found[1] if found else ""


def parse(text: str) -> Docstring:
    """Take a docstring apart.

    >>> made = parse("A set.\\n\\nArgs:\\n    n: how\\n        many.\\n\\nA use:\\n\\n>>> 1\\n1\\n")
    >>> made.summary, made.sections, made.example
    ('A set.', [Section(title='Arguments', entries={'n': 'how many.'})], ['A use:', '>>> 1\\n1'])
    """
    summary, *blocks = re.split(r"\n{2,}", inspect.cleandoc(text))
    made = Docstring(joined(summary))
    for block in blocks:
        heading, _, body = block.partition("\n")
        if heading.rstrip(":") in TITLES and heading.endswith(":"):
            made.sections.append(Section(TITLES[heading[:-1]], entries(body)))
        elif block.startswith(">>>"):
            made.example.append(block)
        elif made.sections or made.example:
            made.example.append(joined(block))
        else:
            made.details.append(joined(block))
    return made


def entries(body: str) -> dict[str, str]:
    """The entries of a section, by name; a deeper indented line goes on with the one before."""
    found: dict[str, str] = {}
    for line in re.split(r"\n(?=\S)", textwrap.dedent(body)):
        name, _, text = joined(line).partition(": ")
        if text != SAID_ONCE:
            found[name] = text
    return found


def joined(lines: str) -> str:
    return re.sub(r"\s*\n\s*", " ", lines)


def markdown(text: str, links: Mapping[str, str]) -> str:
    """The inline marks of a paragraph as Markdown; names in ``links`` become links to what they stand for.

    >>> markdown("``a | b`` and :math:`x < y` in :class:`Skew`; :func:`paraform.f`", {"Skew": "linear.md#skew"})
    '`a | b` and $`x < y`$ in [`Skew`](linear.md#skew); `paraform.f`'
    """

    def made(found: re.Match[str]) -> str:
        if found["math"]:
            return f"$`{found['math']}`$"  # between these marks GitHub reads no Markdown
        if found["sign"]:
            return "&lt;"
        return code(found["role"] or found["code"], links)

    return INLINE.sub(made, text)


def code(text: str, links: Mapping[str, str]) -> str:
    """A name or an expression in code's type, linked where it is a name in ``links``, or a call or member of one."""
    name = re.match(r"\w*", text)[0]  # type: ignore[index]
    linked = name in links and text[len(name) :][:1] in ("", "(", ".")
    return f"[`{text}`]({links[name]})" if linked else f"`{text}`"


def facts(paragraph: str) -> str:
    """A paragraph that begins with a fact, ``Shape: ...``, as a list of them; any other as it is.

    >>> print(facts("Shape: any. Freedom: all entries. The nearest point leaves the rest out."))
    - **Shape:** any.
    - **Freedom:** all entries.
    - **The nearest point** leaves the rest out.
    """
    if not re.match(LABEL, paragraph):
        return paragraph
    _, *parts = FACTS.split(paragraph)
    return "\n".join(f"- **{label}**{text}" for label, text in zip(parts[::2], parts[1::2], strict=True))


def cell(text: str) -> str:
    """Markdown, in a table: no bar ends the cell.

    >>> cell("$`|x| < 1`$, `a | b`")
    '$`\\\\vert x\\\\vert  < 1`$, `a \\\\| b`'
    """
    text = re.sub(r"\$`.+?`\$", lambda math: math[0].replace(r"\|", r"\Vert ").replace("|", r"\vert "), text)
    return text.replace("|", r"\|")
