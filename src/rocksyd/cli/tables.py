"""Tables for a terminal or a pipe: aligned, cut to the terminal's width, coloured where that is wanted.

What must live here: columns, widths, colours.
What this file must not know: what is in them.
"""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from rocksyd.cli.output import clean

COLOURS = {"bold": "1", "dim": "2", "red": "31", "green": "32", "magenta": "35", "cyan": "36"}
"""SGR parameters. No yellow, white or blue: the first two cannot be read on light backgrounds, the last not on dark ones."""
GAP = "  "
NARROWEST = 6
"""Columns of text that a cell is never cut below."""
_NARROWEST_HUNG = 20
"""Columns below which nothing is indented."""
READABLE = 24
"""Columns of text that a cell is not cut below as long as another column can be left out."""


class Column(NamedTuple):
    """A title; ``right``: numbers; ``gives``: may be cut when the line is too long (the widest of these gives first).

    ``hangs``, of one that gives: nothing of it is cut, it goes on in further lines below itself.
    """

    title: str
    right: bool = False
    gives: bool = False
    rank: int = 0
    """When the line is too long, the columns with the highest rank are left out first; those with 0 never."""
    hangs: bool = False


class Cell(NamedTuple):
    """Text with a colour (a key of COLOURS, or "")."""

    text: str
    colour: str = ""


class Screen(NamedTuple):
    """What the output can show: ``width`` None means that nothing is cut."""

    width: int | None = None
    coloured: bool = False


elsewhere: Screen | None = None
"""Where this process writes to another that shows it: what that one can show."""


def screen() -> Screen:
    """Standard output as it is: a terminal has a width and colours (not with ``NO_COLOR``, https://no-color.org)."""
    if elsewhere is not None:
        return elsewhere
    if not sys.stdout.isatty():
        return Screen()
    coloured = not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"
    return Screen(shutil.get_terminal_size().columns, coloured)


def render(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], target: Screen) -> str:
    """The table as text, a line a row, titles first; empty columns are left out, and no line is wider than the target."""
    return "".join(f"{line}\n" for line in lines_of(columns, rows, target))


def lines_of(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], target: Screen) -> list[str]:
    """The table's lines, the titles first. A row has several where a column hangs."""
    rows = [[Cell(clean(cell.text), cell.colour) for cell in row] for row in rows]
    lines = [[Cell(column.title, "bold") for column in columns], *rows]
    widths = [max(columns_of(line[n].text) for line in lines) for n in range(len(columns))]
    used = [n for n in range(len(columns)) if not rows or any(row[n].text for row in rows)]
    if target.width is not None:
        used = _chosen(used, widths, columns, target.width)
    columns, widths = [columns[n] for n in used], [widths[n] for n in used]
    if target.width is not None:
        widths = _fitted(widths, columns, max(target.width, 1))
    shown = range(len(widths))
    columns = [columns[n] for n in shown]
    return [text for line in lines for text in _row([line[used[n]] for n in shown], columns, widths, target)]


def _chosen(used: list[int], widths: Sequence[int], columns: Sequence[Column], width: int) -> list[int]:
    """The columns that fit with their text readable; of those that are not, the last of the highest rank goes first."""
    used = list(used)
    while True:
        least = [min(widths[n], max(READABLE, len(columns[n].title))) if columns[n].gives else widths[n] for n in used]
        seldom = max(used, key=lambda n: (columns[n].rank, n), default=None)
        if sum(least) + len(GAP) * (len(used) - 1) <= width or seldom is None or not columns[seldom].rank:
            return used
        used.remove(seldom)


def _fitted(widths: list[int], columns: Sequence[Column], width: int) -> list[int]:
    """Widths that fit: those columns give that may; if that is not enough all do, and then the last ones are left out."""
    widths = list(widths)
    while widths and sum(widths) + len(GAP) * (len(widths) - 1) > width:
        giving = [n for n, size in enumerate(widths) if columns[n].gives and size > max(NARROWEST, len(columns[n].title))]
        widest = max(giving or range(len(widths)), key=lambda n: widths[n])
        if widths[widest] > 1:
            widths[widest] -= 1
        else:
            widths.pop()
    return widths


def _row(cells: Sequence[Cell], columns: Sequence[Column], widths: Sequence[int], target: Screen) -> list[str]:
    """The lines of one row."""
    parts = [
        wrapped(cell.text, width) if column.hangs else [cell.text]
        for cell, column, width in zip(cells, columns, widths, strict=True)
    ]
    lines = []
    for n in range(max((len(part) for part in parts), default=1) or 1):
        here = [Cell(part[n] if n < len(part) else "", cell.colour) for cell, part in zip(cells, parts, strict=True)]
        lines.append(_line(here, columns, widths, target))
    return lines


def _line(cells: Sequence[Cell], columns: Sequence[Column], widths: Sequence[int], target: Screen) -> str:
    parts = []
    for cell, column, width in zip(cells, columns, widths, strict=True):
        text = cut(cell.text, width)
        padding = " " * (width - columns_of(text))
        text = coloured(text, cell.colour, target)
        parts.append(padding + text if column.right else text + padding)
    return GAP.join(parts).rstrip()


def cut(text: str, width: int) -> str:
    """``text`` in at most ``width`` columns, with an ellipsis where it was cut."""
    if columns_of(text) <= width:
        return text
    kept, used = "", 0
    for character in text:
        used += columns_of(character)
        if used > width - 1:
            break
        kept += character
    return kept + "…"


def wrapped(text: str, width: int | None) -> list[str]:
    """``text`` in lines of at most ``width`` columns, broken between words where that is possible; none for no text."""
    if width is None or columns_of(text) <= width:
        return [text] if text else []
    lines = []
    while columns_of(text) > width:
        fits, used = 0, 0
        for character in text:
            used += columns_of(character)
            if used > width:
                break
            fits += 1
        fits = max(fits, 1)  # a wide character on a screen of one column: there is no better place for it
        space = fits if text[fits : fits + 1] == " " else text.rfind(" ", 0, fits)
        at = space if space > 0 and text[:space].strip() else fits
        lines.append(text[:at].rstrip(" ") if at == space else text[:at])
        text = text[at:].lstrip(" ") if at == space else text[at:]
    return [*lines, text] if text else lines


def hung(lead: str, text: str, target: Screen, colour: str) -> list[str]:
    """``text`` behind ``lead``, its further lines indented as far, each in ``colour`` (a key of COLOURS, or "")."""
    if target.width is not None and target.width < _NARROWEST_HUNG:
        return wrapped(clean(text), max(target.width, 1))
    width = None if target.width is None else target.width - len(lead)
    lines = wrapped(clean(text), width)
    return [f"{' ' * len(lead) if n else lead}{coloured(line, colour, target)}" for n, line in enumerate(lines)]


def coloured(text: str, colour: str, target: Screen) -> str:
    """``text`` in a colour, where the target has any."""
    return f"\x1b[{COLOURS[colour]}m{text}\x1b[0m" if target.coloured and colour and text.strip() else text


def columns_of(text: str) -> int:
    """Columns that a terminal takes for ``text``: two for East Asian wide characters, none for combining ones."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )
