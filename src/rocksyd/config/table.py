"""One table of the document, read key by key; what is wrong is collected, never raised.

What must live here: asking for a key, the sentence for a wrong value, the search for a misspelt key's meaning.
What this file must not know: which keys there are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

from rocksyd.config.locate import KeyPath
from rocksyd.errors import ConfigError
from rocksyd.units import shown

T = TypeVar("T")
Convert = Callable[[object], T]
"""Turns a TOML value into a setting, or raises ValueError with "expected ..., got ..."."""

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


class Place(NamedTuple):
    """Where a key stands; in the order of the files and their lines."""

    number: int
    """Of the file: 0 for ``rocksyd.toml``."""
    line: int
    """From 1; 0 for the file as a whole."""
    file: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


class Problems:
    """What is wrong with a configuration: sentences with their file, line and key."""

    def __init__(self, file: str, places: dict[KeyPath, Place]) -> None:
        self._whole = Place(0, 0, file)
        self._places = places
        self._found: list[tuple[Place, str, KeyPath]] = []

    def add(self, path: KeyPath, sentence: str, place: Place | None = None) -> None:
        """Note ``sentence`` about ``path``, at ``place``: if left out the key's own, else that of the nearest table around it."""
        around = (path[:size] for size in range(len(path), 0, -1))
        place = place or next((self._places[one] for one in around if one in self._places), self._whole)
        self._found.append((place, f"{place}: {dotted(path)}: {sentence}", path))

    def concern(self, path: KeyPath) -> bool:
        """Whether something is wrong with ``path`` already, or with something in it or around it."""
        return any(path[: len(one)] == one or one[: len(path)] == path for _, _, one in self._found)

    def sorted(self, within: KeyPath = ()) -> list[str]:
        """Those that are about ``within`` or something in it, in the order of the files and their lines."""
        found = [one for one in self._found if one[2][: len(within)] == within]
        return [sentence for _, sentence, _ in sorted(found, key=lambda item: item[0])]

    def raise_if_any(self) -> None:
        """Raise ConfigError with all of them, one a line."""
        if self._found:
            raise ConfigError("\n".join(self.sorted()))


def dotted(path: KeyPath) -> str:
    """``apps.shop.jobs[1]``, keys quoted where TOML would want it."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _BARE_KEY.fullmatch(part) else json.dumps(part))
    return text


class Source(NamedTuple):
    """The file that tables are of."""

    problems: Problems
    folder: str
    """Absolute path of the folder it is in."""
    homes: dict[str, str] = {}
    """Where keys belong, for those that stand in the wrong table."""


class Table:
    """A table of the document. ``complain_of_rest`` comes last: keys nobody asked for are unknown."""

    def __init__(self, values: dict[str, object], path: KeyPath, source: Source, *, wrong: bool = False) -> None:
        self.values = values
        self.path = path
        self.source = source
        self.wrong = wrong
        """It is no table, which has been noted: that keys are missing in it is then no news."""
        self._asked: set[str] = set()

    def given(self, key: str) -> bool:
        """Whether the file says anything for ``key``."""
        return key in self.values

    def problem(self, sentence: str, *path: str | int) -> None:
        """Note what is wrong with this table, or with the key or element ``path`` in it."""
        self.source.problems.add((*self.path, *path), sentence)

    def get(self, key: str, default: T, convert: Convert[T]) -> T:
        """The value of ``key``; ``default`` when it is absent, or wrong (and then noted)."""
        self._asked.add(key)
        if key not in self.values:
            return default
        try:
            return convert(self.values[key])
        except ValueError as error:
            self.problem(str(error), key)
            return default

    def array(self, key: str, example: str, convert: Convert[T]) -> tuple[T, ...]:
        """The elements of the array ``key`` that are right; () when it is absent or no array."""
        return tuple(self.elements(key, example, convert).values())

    def elements(self, key: str, example: str, convert: Convert[T]) -> dict[int, T]:
        """As ``array``, by their index in the file."""
        self._asked.add(key)
        given = self.values.get(key, [])
        if not isinstance(given, list):
            self.problem(f'expected an array such as ["{example}"], got {shown(given)}', key)
            return {}
        elements = {}
        for index, value in enumerate(given):
            try:
                elements[index] = convert(value)
            except ValueError as error:
                self.problem(str(error), key, index)
        return elements

    def table(self, key: str) -> Table:
        """The table ``key``; an empty one when it is absent or no table."""
        self._asked.add(key)
        given = self.values.get(key, {})
        if not isinstance(given, dict):
            self.problem(f"expected a table such as [{dotted((*self.path, key))}], got {shown(given)}", key)
            return Table({}, (*self.path, key), self.source, wrong=True)
        return Table(given, (*self.path, key), self.source)

    def tables(self) -> Iterator[tuple[str, Table]]:
        """Each key of this table with the table it names."""
        for key in self.values:
            yield key, self.table(key)

    def complain_of_rest(self) -> None:
        """Note every key that was not asked for, and where it belongs."""
        homes = self.source.homes
        for key in self.values:
            if key in self._asked:
                continue
            near = nearest(key, self._asked)
            if key in homes:
                self.problem(f"unknown key here; {key} belongs {homes[key]}", key)
            elif near:
                self.problem(f"unknown key; did you mean {near}?", key)
            else:
                self.problem(f"unknown key; known here: {', '.join(sorted(self._asked))}", key)


def nearest(word: str, words: set[str] | tuple[str, ...]) -> str:
    """The one of ``words`` that ``word`` was probably meant to be, else ""."""
    import difflib  # noqa: PLC0415  (only a wrong file needs it)

    found = difflib.get_close_matches(word[:100], sorted(words), n=1, cutoff=0.6)
    return found[0] if found else ""
