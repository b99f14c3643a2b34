"""The files of one configuration, ``rocksyd.toml`` and ``scripts.d/*.toml`` beside it, as one document.

What must live here: what each file may hold, how they become one, where each key stands, and the one text that is kept of them.
What this file must not know: the disk, and what settings mean.
"""

from __future__ import annotations

import json
import os.path
import re
import tomllib
from collections.abc import Iterable
from typing import Any, NamedTuple

from rocksyd.config.locate import KeyPath, locate
from rocksyd.config.table import Place, Problems
from rocksyd.errors import ConfigError

PARTS = "scripts.d"
"""The folder beside ``rocksyd.toml`` with further tables of scripts and consumers."""
_TABLES = ("scripts", "consumers")
"""What a further file may hold."""
_SYNTAX_ERROR = re.compile(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", re.DOTALL)
_KEPT = "# rocksyd: lengths of "


class Part(NamedTuple):
    """A further file of the configuration."""

    name: str
    """Relative to the folder of ``rocksyd.toml``: ``scripts.d/shop.toml``."""
    text: str


def is_part(name: str) -> bool:
    """Whether a file of this name in the folder is read: neither hidden ones nor an editor's copies are."""
    return name.endswith(".toml") and not name.startswith(".")


def together(text: str, path: str, parts: Iterable[Part]) -> tuple[dict[str, Any], dict[KeyPath, Place], Problems]:
    """The document of all files, where its keys stand, and what is wrong with how the files go together.

    Raises:
        ConfigError: one of them is not TOML; every such file is named, one a line.
    """
    files = [(path, text), *((os.path.join(os.path.dirname(path), part.name), part.text) for part in parts)]
    read: list[tuple[dict[str, Any], dict[KeyPath, Place]]] = []
    wrong: list[str] = []
    for number, (file, content) in enumerate(files):
        try:
            document, lines = _document(content, file)
        except ConfigError as error:
            wrong.append(str(error))
        else:
            read.append((document, {key: Place(number, line, file) for key, line in lines.items()}))
    if wrong:
        raise ConfigError("\n".join(wrong))
    document, places = read[0]
    problems = Problems(path, places)
    for part, there in read[1:]:
        _add(document, places, problems, part, there)
    return document, places, problems


def _add(
    document: dict[str, Any], places: dict[KeyPath, Place], problems: Problems, part: dict[str, Any], there: dict[KeyPath, Place]
) -> None:
    """Add a part's scripts and consumers to the document."""
    taken: set[KeyPath] = set()
    for key, value in part.items():
        if key not in _TABLES:
            text = (
                f"a file of {PARTS} has tables [scripts.NAME] and [consumers.NAME] and nothing else; move {key} to rocksyd.toml"
            )
            problems.add((key,), text, there[(key,)])
            continue
        known = document.setdefault(key, {})
        if not isinstance(value, dict):
            problems.add((key,), f"expected tables such as [{key}.nightly]", there[(key,)])
        elif isinstance(known, dict):
            for name, table in value.items():
                if name in known:
                    text = f"the same name as at {places[key, name]}; rename or remove one of the two"
                    problems.add((key, name), text, there[key, name])
                    taken.add((key, name))
                else:
                    known[name] = table
    # In one pass: there may be many thousands of scripts, and as many places.
    added = ((path, place) for path, place in there.items() if len(path) > 1 and path[0] in _TABLES)
    places.update({path: place for path, place in added if path[:2] not in taken})


def _document(text: str, path: str) -> tuple[dict[str, Any], dict[KeyPath, int]]:
    text = text.removeprefix("\ufeff")  # some editors put it there; tomllib does not skip it
    try:
        return tomllib.loads(text), locate(text)
    except RecursionError as error:
        raise ConfigError(f"{path}: arrays or tables are nested too deeply; no setting needs more than four levels") from error
    except ValueError as error:  # a number of more than 4300 digits is a ValueError that is no TOMLDecodeError
        found = _SYNTAX_ERROR.fullmatch(str(error))
        if found is None:
            raise ConfigError(f"{path}: not valid TOML: {error}") from error
        sentence, line, column = found.groups()
        if line is None:
            lines = text.split("\n")
            line, column = len(lines), len(lines[-1]) + 1
        cure = "; a string stands in quotes" if sentence == "Invalid value" else ""
        raise ConfigError(f"{path}:{line}:{column}: not valid TOML: {sentence}{cure}") from error


def kept(text: str, parts: Iterable[Part]) -> str:
    """All files as one text, which ``unkept`` takes apart. A version that does not take it apart reads it as one file."""
    parts = [Part(part.name, part.text.removeprefix("\ufeff")) for part in parts]
    lengths = json.dumps([["", len(text)], *([part.name, len(part.text)] for part in parts)])
    return "\n".join([text, *(part.text for part in parts), _KEPT + lengths])


def unkept(text: str) -> tuple[str, tuple[Part, ...]]:
    """``rocksyd.toml`` and the other files. What was kept by a version that knew one file is that file."""
    last = text.rpartition("\n")[2]
    if not last.startswith(_KEPT):
        return text, ()
    found, at = [], 0
    for name, length in json.loads(last.removeprefix(_KEPT)):
        found.append(Part(name, text[at : at + length]))
        at += length + 1
    return found[0].text, tuple(found[1:])
