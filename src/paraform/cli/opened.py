"""Saved files as the commands read them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paraform.cli.output import printable
from paraform.files.errors import FileError

if TYPE_CHECKING:
    from paraform.files import SavedTensor
    from paraform.model.measure import Measurement

# Characters of one text; a chain may have lists of numbers as arguments.
LONGEST = 500


@contextmanager
def unchanged(path: Path) -> Iterator[None]:
    """A context in which a file is read; one that is another file by the end was read partly old, partly new.

    A file that was replaced by a new one of its name is no such: the old one stays open.

    Raises:
        FileError: it was written to.
    """
    before = os.stat(path)
    yield
    try:
        after = os.stat(path)
    except FileNotFoundError:
        return
    is_same = (before.st_dev, before.st_ino) == (after.st_dev, after.st_ino)
    if is_same and (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise FileError(f"'{printable(path)}' was written to while it was read; run the command again.")


def measured(tensor: "SavedTensor") -> "Measurement | str":
    """The measurement of a parametrized tensor, or in words why there is none."""
    from paraform.files.names import reason
    from paraform.model.measure import measure

    try:
        return measure(tensor.chain(), tensor.name)
    except FileError as error:
        return str(error)
    except OSError:
        raise
    except Exception as error:  # a parametrization may raise anything on numbers that are damaged
        return reason(error)


def chain_text(recipe: list[dict[str, Any]]) -> str:
    """A chain as it is written in Python, from a recipe alone.

    >>> inner = {"name": "Orthogonal", "arguments": {"map": "cayley"}}
    >>> chain_text([{"name": "Flatten", "arguments": {"constraint": inner}}, {"name": "Skew", "arguments": {}}])
    "Flatten(Orthogonal(map='cayley')), Skew()"
    """
    return visible(", ".join(step_text(step) for step in recipe))


def step_text(step: dict[str, Any]) -> str:
    """A parametrization of a recipe as it is written in Python."""
    off = " (switched off)" if step.get("off") else ""
    return f"{step['name']}({_arguments(step['arguments'])}){off}"


def visible(text: str) -> str:
    """``text`` without characters that mean something to a terminal; brackets stay, so it is no markup of rich's."""
    cut = text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
    return "".join(char if char.isprintable() else printable(char) for char in cut)


def _arguments(arguments: dict[str, Any]) -> str:
    return ", ".join(
        text if isinstance(value, dict) and "name" in value else f"{key}={text}"
        for key, value in arguments.items()
        for text in [_argument(value)]
    )


def _argument(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_argument, value))}]"
    if not isinstance(value, dict):
        return repr(value)
    if isinstance(value.get("arguments"), dict):
        return f"{value.get('name', value.get('set'))}({_arguments(value['arguments'])})"
    if "entries" in value:
        return f"dict({_arguments(value['entries'])})"
    return "tensor" if "tensor" in value else str(value.get("number", value.get("numbers")))
