"""On which line of a TOML document each key stands: ``tomllib`` tells it of syntax errors only.

What must live here: just enough of TOML to walk over a document that ``tomllib`` has accepted.
What this file must not know: which keys mean something, or what values are (strings are skipped, never decoded).

Source: https://toml.io/en/v1.0.0. On a document that is not valid TOML the answer is meaningless.
"""

from __future__ import annotations

import re
import tomllib
from typing import TypeAlias

KeyPath: TypeAlias = tuple[str | int, ...]
"""Keys and array indices from the top: ``("apps", "shop", "jobs", 0)``."""

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_STRING = {'"': re.compile(r'"(?:[^"\\\n]|\\.)*"'), "'": re.compile(r"'[^'\n]*'")}
# The end of a multi-line string may have one or two quotes more, which belong to the string.
_MULTILINE_END = {'"': re.compile(r'\\.|"{3,5}', re.DOTALL), "'": re.compile(r"'{3,5}")}
_SCALAR = re.compile(r"[^,\]}#\n]*")


def locate(text: str) -> dict[KeyPath, int]:
    """The line (from 1) of every key, table and array element of the valid TOML document ``text``.

    A table is where its header is; one that is only implied (``a`` in ``[a.b]`` or ``a.b = 1``) is where it is first implied.

    Raises:
        RecursionError: arrays nested deeper than Python can follow (``tomllib`` raises it too).
    """
    scanner = _Scanner(text)
    scanner.document()
    return scanner.lines


class _Scanner:
    """A position in the text, and what has been found before it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[KeyPath, int] = {}
        self._elements: dict[KeyPath, int] = {}  # arrays of tables: how many tables so far
        self._line = 1
        self._counted = 0  # the text up to here is in _line

    def document(self) -> None:
        table: KeyPath = ()
        while self._skip(_BLANK):
            if self.text.startswith("[[", self.at):
                table = self._header(2)
            elif self.text[self.at] == "[":
                table = self._header(1)
            else:
                self._pair(table)

    def _header(self, brackets: int) -> KeyPath:
        line = self._line_here()
        self.at += brackets
        keys = self._key()
        self.at += brackets
        path: KeyPath = ()
        for key in keys[:-1]:
            path = (*path, key)
            self.lines.setdefault(path, line)
            if path in self._elements:  # the last table of an array of tables is meant
                path = (*path, self._elements[path] - 1)
        path = (*path, keys[-1])
        if brackets == 2:
            self.lines.setdefault(path, line)
            index = self._elements.get(path, 0)
            self._elements[path] = index + 1
            path = (*path, index)
        self.lines[path] = line
        return path

    def _pair(self, table: KeyPath) -> None:
        line = self._line_here()
        path = table
        for key in self._key():
            path = (*path, key)
            self.lines.setdefault(path, line)
        self.at += 1  # the equals sign
        self._skip(_SPACE)
        self._value(path)

    def _key(self) -> list[str]:
        """The parts of a dotted key; the position is left at what follows it."""
        keys = []
        while True:
            self._skip(_SPACE)
            quote = self.text[self.at]
            start = self.at
            if quote in _STRING:
                self._skip(_STRING[quote])
                keys.append(str(tomllib.loads(f"key = {self.text[start : self.at]}")["key"]))
            else:
                self._skip(_BARE_KEY)
                keys.append(self.text[start : self.at])
            self._skip(_SPACE)
            if self.text[self.at] != ".":
                return keys
            self.at += 1

    def _value(self, path: KeyPath) -> None:
        first = self.text[self.at]
        if first == "[":
            self._array(path)
        elif first == "{":
            self._inline_table(path)
        elif first not in _STRING:
            self._skip(_SCALAR)
        elif self.text.startswith(first * 3, self.at):
            self.at += 3
            self._multiline(_MULTILINE_END[first])
        else:
            self._skip(_STRING[first])

    def _array(self, path: KeyPath) -> None:
        self.at += 1
        index = 0
        while self._skip(_BLANK) and self.text[self.at] != "]":
            self.lines[*path, index] = self._line_here()
            self._value((*path, index))
            index += 1
            self._separator()
        self.at += 1

    def _inline_table(self, path: KeyPath) -> None:
        self.at += 1
        while self._skip(_BLANK) and self.text[self.at] != "}":
            self._pair(path)
            self._separator()
        self.at += 1

    def _separator(self) -> None:
        if self._skip(_BLANK) and self.text[self.at] == ",":
            self.at += 1

    def _multiline(self, end: re.Pattern[str]) -> None:
        while found := end.search(self.text, self.at):
            self.at = found.end()
            if found[0][0] != "\\":
                return

    def _skip(self, pattern: re.Pattern[str]) -> bool:
        """Go behind what the pattern matches here; whether any text is left."""
        found = pattern.match(self.text, self.at)
        if found:
            self.at = found.end()
        return self.at < len(self.text)

    def _line_here(self) -> int:
        self._line += self.text.count("\n", self._counted, self.at)
        self._counted = self.at
        return self._line
