"""What is shown: for a terminal coloured and drawn with lines, for a pipe plain; never wider than 80 columns.

What must live here: columns, colours, and which claims did not hold.
What this file must not know: what is claimed.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Sequence

COLOURS = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
MOST_COLUMNS, FEWEST_COLUMNS = 80, 40
_ASCII = str.maketrans({**dict.fromkeys("╭╮╰╯├┤┬┴┼", "+"), "─": "-", "│": "|", "·": ".", "…": "~"})


class Screen:
    """Standard output."""

    def __init__(self) -> None:
        out = sys.stdout
        self.terminal = out.isatty()
        self.coloured = self.terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"
        columns = shutil.get_terminal_size().columns if self.terminal else MOST_COLUMNS
        self.width = max(FEWEST_COLUMNS, min(MOST_COLUMNS, columns))
        self.drawn = self.terminal and _can_encode(out.encoding, "─╭✓✗·…")
        self._marks = ("✓", "✗", "·") if self.drawn else ("ok", "NO", "  ")
        self.claims = 0
        self.broken: list[str] = []
        """The claims that did not hold."""
        self._act = 0
        self._live = ""

    # --- parts --------------------------------------------------------------------------------------------------------
    def headline(self, name: str, text: str) -> None:
        """The beginning."""
        inner = self.width - 4
        lines = [self._paint(name, "bold")] + [self._paint(line, "dim") for line in textwrap.wrap(text, inner)]
        plain = [name, *textwrap.wrap(text, inner)]
        self._line("╭" + "─" * (self.width - 2) + "╮", "cyan")
        for line, bare in zip(lines, plain, strict=True):
            bar = self._paint("│", "cyan")
            self._line(f"{bar} {line}{' ' * (inner - len(bare))} {bar}")
        self._line("╰" + "─" * (self.width - 2) + "╯", "cyan")

    def act(self, title: str, text: str) -> None:
        """The beginning of an act."""
        self._act += 1
        head = f" {self._act}  {title} "
        self._line("")
        self._line(self._paint(head, "bold") + self._paint("─" * max(0, self.width - len(head)), "cyan"))
        for line in textwrap.wrap(text, self.width - 4):
            self._line("    " + self._paint(line, "dim"))

    def claim(self, label: str, held: bool, value: str = "") -> None:
        """Something that was promised, and whether it was true."""
        self.claims += 1
        if not held:
            self.broken.append(f"{label} ({value})" if value else label)
        self._pair(self._marks[0 if held else 1], label, value, "green" if held else "red")

    def fact(self, label: str, value: str) -> None:
        """A figure that was measured."""
        self._pair(self._marks[2], label, value, "bold")

    def quote(self, text: str, most: int = 8) -> None:
        """What the daemon said, in its own words: the first lines of it, each as far as it fits."""
        bar = self._paint("│", "yellow")
        room = self.width - 6
        for line in text.rstrip().splitlines()[:most]:
            self._line(f"    {bar} {self._paint(line if len(line) <= room else line[: room - 1] + '…', 'yellow')}")

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """All acts at a glance; where the columns do not fit, one after another."""
        self._line("")
        widths = [max(len(row[n]) for row in (head, *rows)) for n in range(len(head))]
        if sum(widths) + 3 * len(widths) + 1 > self.width:
            for n in range(1, len(head)):
                self._line(" " + self._paint(head[n], "bold"))
                for row in rows:
                    self._pair(" ", row[0], row[n], "")
            return
        widths[0] += self.width - (sum(widths) + 3 * len(widths) + 1)
        for edges, row in (("╭┬╮", None), ("", head), ("├┼┤", None), *(("", row) for row in rows), ("╰┴╯", None)):
            if row is None:
                self._line(edges[0] + edges[1].join("─" * (width + 2) for width in widths) + edges[2], "cyan")
                continue
            bar = self._paint("│", "cyan")
            cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
            self._line(bar + bar.join(f" {self._paint(cell, 'bold' if row is head else '')} " for cell in cells) + bar)

    def live(self, text: str) -> None:
        """What happens now: one line that the next one replaces. Nothing where there is no terminal."""
        if self.terminal:
            text = f"    {text}"[: self.width - 1]
            self._write("\r\x1b[K" + self._paint(text, "dim"))
            self._live = text

    def end(self, text: str, *, good: bool | None = None) -> None:
        """The last words."""
        self._line("")
        colour = {True: "green", False: "red", None: "yellow"}[good]
        for line in textwrap.wrap(text, self.width - 1):
            self._line(self._paint(f" {line}", colour))

    # --- lines --------------------------------------------------------------------------------------------------------
    def _pair(self, mark: str, label: str, value: str, colour: str) -> None:
        """A line: mark, label, dots, value; where it is too long for one, the value stands below."""
        left = len(mark) + 3
        painted = self._paint(mark, colour if colour != "bold" else "dim")
        room = self.width - left - len(label) - len(value) - 2
        if not value:
            return self._line(f"  {painted} {label}")
        if room >= 1:
            dots = self._paint("·" * room if room > 2 else " " * room, "dim")
            return self._line(f"  {painted} {label} {dots} {self._paint(value, colour)}")
        for number, line in enumerate(textwrap.wrap(label, self.width - left)):
            self._line(f"  {painted if not number else ' ' * len(mark)} {line}")
        for line in textwrap.wrap(value, self.width - left - 2):
            self._line(" " * (self.width - len(line)) + self._paint(line, colour))
        return None

    def _paint(self, text: str, colour: str) -> str:
        return f"\x1b[{COLOURS[colour]}m{text}\x1b[0m" if self.coloured and colour and text else text

    def _line(self, text: str, colour: str = "") -> None:
        if self._live:
            self._write("\r\x1b[K")
            self._live = ""
        self._write(self._paint(text, colour) + "\n")

    def _write(self, text: str) -> None:
        if not self.drawn:
            text = text.translate(_ASCII)
            text = text.encode(sys.stdout.encoding or "ascii", "replace").decode(sys.stdout.encoding or "ascii")
        sys.stdout.write(text)
        sys.stdout.flush()


def _can_encode(encoding: str | None, text: str) -> bool:
    try:
        text.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
