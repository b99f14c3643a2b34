"""A terminal's screen for tests: bytes in, lines of text out. As much of ECMA-48 and xterm as the command line uses, no more."""

from __future__ import annotations

import codecs
import re
import unicodedata

_CONTROL = re.compile(r"\x1b\[([?>=]?)([0-9;]*)([@-~])|\x1b[()][0-9A-B]|\x1b[=>78cM]|\x1b\][^\x07]*\x07")
_UNFINISHED = re.compile(r"\x1b(?:\[[?>=]?[0-9;]*|[()]|\][^\x07]*)?\Z")


class Screen:
    """Two screens (the other one for programs that take all of it), a cursor, and which modes are on."""

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self.raw = ""
        self.modes = {25: True, 7: True}
        self.colours: set[str] = set()
        self.overflowed = False
        """Whether something was written beyond the last column while wrapping was off, and is still there."""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""
        self._other: list[list[str]] = []
        self._cells: list[list[str]] = [[] for _ in range(rows)]
        self._row = self._column = 0

    # --- looking ------------------------------------------------------------------------------------------------------
    @property
    def lines(self) -> list[str]:
        return ["".join(cells).rstrip() for cells in self._cells]

    @property
    def text(self) -> str:
        return "\n".join(self.lines).rstrip()

    @property
    def is_other(self) -> bool:
        return self.modes.get(1049, False)

    def line_with(self, word: str) -> str:
        return next((line for line in self.lines if word in line), "")

    # --- feeding ------------------------------------------------------------------------------------------------------
    def resize(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self._cells = [cells[:columns] for cells in self._cells[:rows]] + [[] for _ in range(rows - len(self._cells))]
        self._row, self._column = min(self._row, rows - 1), min(self._column, columns - 1)

    def feed(self, data: bytes) -> None:
        text = self._rest + self._decoder.decode(data)
        unfinished = _UNFINISHED.search(text)
        self._rest = unfinished[0] if unfinished else ""
        text = text[: len(text) - len(self._rest)]
        self.raw += text
        at = 0
        while at < len(text):
            found = _CONTROL.match(text, at)
            if found:
                if found[3]:
                    self._control(found[1], found[2], found[3])
                at = found.end()
            else:
                self._put(text[at])
                at += 1

    def _put(self, character: str) -> None:
        if character == "\n":
            self._down()
        elif character == "\r":
            self._column = 0
        elif character == "\b":
            self._column = max(0, self._column - 1)
        elif character == "\t":
            self._column = min(self.columns - 1, (self._column // 8 + 1) * 8)
        elif character.isprintable():
            self._print(character)

    def _print(self, character: str) -> None:
        if unicodedata.combining(character):
            return
        width = 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if self._column + width > self.columns:
            if not self.modes.get(7):
                self.overflowed = True
                return
            self._column = 0
            self._down()
        cells = self._cells[self._row]
        cells += [" "] * (self._column + width - len(cells))
        cells[self._column : self._column + width] = [character, *[""] * (width - 1)]
        self._column += width

    def _down(self) -> None:
        if self._row + 1 < self.rows:
            self._row += 1
        else:
            self._cells = [*self._cells[1:], []]

    def _control(self, private: str, parameters: str, final: str) -> None:
        numbers = [int(word or 0) for word in parameters.split(";")]
        if final == "m":
            self.colours |= {word for word in parameters.split(";") if word not in ("", "0")}
        elif final in "Hf":
            row, column = [*numbers, 0][:2]
            self._row, self._column = min(max(row, 1), self.rows) - 1, min(max(column, 1), self.columns) - 1
        elif final == "K" and numbers[0] == 0:
            del self._cells[self._row][min(self._column, self.columns - 1) :]  # behind a full line it is still on its last column
        elif final == "J" and numbers[0] == 2:
            self._cells = [[] for _ in range(self.rows)]
            self.overflowed = False
        elif final == "J":
            del self._cells[self._row][self._column :]
            self._cells[self._row + 1 :] = [[] for _ in range(self.rows - self._row - 1)]
        elif final in "ABCD":
            step = max(numbers[0], 1)
            rows, columns = {"A": (-step, 0), "B": (step, 0), "C": (0, step), "D": (0, -step)}[final]
            self._row = min(max(self._row + rows, 0), self.rows - 1)
            self._column = min(max(self._column + columns, 0), self.columns - 1)
        elif final in "hl" and private == "?":
            for number in numbers:
                self._mode(number, on=final == "h")

    def _mode(self, number: int, *, on: bool) -> None:
        if number == 1049 and on != self.is_other:
            self._cells, self._other = self._other or [[] for _ in range(self.rows)], self._cells
        self.modes[number] = on
