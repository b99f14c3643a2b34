"""Keys from the bytes that a terminal sends for them.

What must live here: escape sequences of the terminals that there are (xterm's, which all others follow; the Linux console's).
What this file must not know: what a key does.

A lone escape is the key; one that more follows in the same read begins a sequence. Terminals send a sequence in one write.
"""

from __future__ import annotations

import codecs
import re

_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O[@-~]|\[\[[A-E])")
_NAMES = {
    "\x1b[A": "up", "\x1bOA": "up", "\x1b[B": "down", "\x1bOB": "down", "\x1b[C": "right", "\x1bOC": "right",
    "\x1b[D": "left", "\x1bOD": "left", "\x1b[5~": "page-up", "\x1b[6~": "page-down",
    "\x1b[H": "home", "\x1b[1~": "home", "\x1bOH": "home", "\x1b[F": "end", "\x1b[4~": "end", "\x1bOF": "end",
    "\r": "enter", "\n": "enter", "\x7f": "backspace", "\x08": "backspace", " ": "space", "\x03": "ctrl-c", "\x1b": "esc",
    "\x15": "esc",
}  # fmt: skip


class Keys:
    """Bytes to keys: a name such as ``up``, or the character itself. What has no name and cannot be printed is left out."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("ignore")

    def read(self, data: bytes) -> list[str]:
        """The keys in what was read at once."""
        text = self._decoder.decode(data)
        keys, at = [], 0
        while at < len(text):
            found = _SEQUENCE.match(text, at)
            piece = found[0] if found else text[at]
            at += len(piece)
            if piece in _NAMES:
                keys.append(_NAMES[piece])
            elif len(piece) == 1 and piece.isprintable():
                keys.append(piece)
        return keys
