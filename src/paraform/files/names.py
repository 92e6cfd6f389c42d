"""Names that come from a file, made fit to be shown."""

from __future__ import annotations

_LONGEST = 200
_LONGEST_REASON = 1000
# Markup of a terminal's or a browser's, quotes around a name, and the sign that escapes are written with.
_SPECIAL = frozenset("[]<>&\"'`\\")


def printable(name: object) -> str:
    r"""``name`` in characters that mean nothing to a terminal, to rich's markup, in HTML or in an attribute of it.

    Whatever is not printable (control characters, terminal escapes, marks that turn the direction of writing), and
    brackets, quotes and backslashes are written as escapes of Python's. A long name loses its middle.

    >>> printable("encoder.layers.0.weight")
    'encoder.layers.0.weight'
    >>> print(printable("\x1b[31mred<script>"))
    \x1b\x5b31mred\x3cscript\x3e
    """
    return _escaped(_cut(str(name), _LONGEST), _SPECIAL)


def reason(error: BaseException) -> str:
    r"""What an error says, in one line that no character of a file's leads astray.

    >>> reason(ValueError("no\x1bname,\n\tand none here"))
    'no\\x1bname, and none here'
    """
    text = " ".join(map(str, [error, *getattr(error, "__notes__", ())]))
    return _escaped(_cut(" ".join(text.split()), _LONGEST_REASON), frozenset())


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest // 2]}...{text[-longest // 2 :]}"


def _escaped(text: str, special: frozenset[str]) -> str:
    return "".join(char if char.isprintable() and char not in special else _escape(ord(char)) for char in text)


def _escape(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
