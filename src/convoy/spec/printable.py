"""Text from elsewhere as it may be shown: no control characters, no forged lines, no bidirectional controls."""

from __future__ import annotations

import re
from typing import Final

# What moves a cursor, changes a terminal's state, ends a line, or reorders what is read. Newline and tab stand apart.
_ACTS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_ENDS: Final = re.compile(rf"\n|{_ACTS.pattern}")
_BYTES: Final = re.compile(  # the same in UTF-8
    rb"[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]|\xd8\x9c|\xe2\x80[\x8e\x8f\xa8-\xae]|\xe2\x81[\xa6-\xa9]"
)
_ACTIVE: Final = {*range(9), *range(11, 32), *b"\x7f\xc2\xd8\xe2"}  # the bytes with which one begins
_IDLE: Final = bytes(it for it in range(256) if it not in _ACTIVE)
BEFORE: Final = 2  # bytes of a character of three that may stand before what comes now


def one_line(text: str) -> str:
    r"""Return text as one line that does nothing: a newline is shown as `\n`, an escape character as `\x1b`."""
    if text.isascii() and text.isprintable():
        return text  # as nearly all of what is shown
    return _ENDS.sub(_shown, text)


def many_lines(text: str) -> str:
    """Return text whose newlines and tabs stay, and whose other control characters are shown as escapes."""
    return _ACTS.sub(_shown, text.replace("\r\n", "\n"))


def blanked(data: bytes, before: bytes = b"") -> bytes:
    """Return the bytes of a log, as many as there were: each that belongs to a control character is a `?`.

    Newlines and tabs stay. `before` is what stands before them: a character may begin there.
    """
    if not data.translate(None, _IDLE) and not before[-BEFORE:].translate(None, _IDLE):
        return data  # as nearly all of what is printed
    tail = before[-BEFORE:]
    return _BYTES.sub(lambda found: b"?" * len(found[0]), tail + data)[len(tail) :]


def _shown(found: re.Match[str]) -> str:
    code = ord(found[0])
    return "\\n" if code == 10 else f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
