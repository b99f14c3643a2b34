"""What the companion ``history`` keeps (``history/index.sqlite``): texts of ended runs, to be searched, and their files' sizes.

What must live here: the tables, one transaction for each batch of runs, and the queries.
What this file must not know: the journal, the outputs' files.

Everything in it can be made again from the journal and the outputs: a damaged file is moved aside and another one begun. Only the
companion that holds the lock writes; the one of the generation before may still read.
Source: https://www.sqlite.org/fts5.html
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from rocksyd import codes
from rocksyd.companions.locked_file import LockedFile
from rocksyd.errors import RequestError
from rocksyd.journal.file import transaction
from rocksyd.units import format_duration

LONGEST = 5.0
"""Seconds that one search may take."""
SHOWN = 24
"""Words of a text that are shown round what was found."""
_TABLES = """
CREATE TABLE IF NOT EXISTS runs (
    id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE, rev INTEGER NOT NULL, app TEXT NOT NULL,
    target TEXT NOT NULL, outcome TEXT NOT NULL, ended_at REAL NOT NULL, log TEXT NOT NULL, size INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS runs_log ON runs (log);
CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, at REAL NOT NULL, size INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS files_at ON files (at);
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value);
CREATE VIRTUAL TABLE IF NOT EXISTS texts USING fts5(about, output, tokenize = "unicode61 remove_diacritics 2");
"""
_MARKS = "\2\3"
_WORD = re.compile(r'"([^"]*)"?|(\S+)')


class Text(NamedTuple):
    """What can be found of a run."""

    key: str
    rev: int
    app: str
    target: str
    outcome: str
    ended_at: float
    log: str
    about: str
    """Its key, labels and error."""
    output: str


class Wanted(NamedTuple):
    """What is searched for, and among which runs."""

    text: str
    app: str | None = None
    target: str | None = None
    outcome: str | None = None
    failed: bool = False
    since: float | None = None
    until: float | None = None
    limit: int = 50
    after: str | None = None


class Index(LockedFile):
    """The open index. Only while ``acquire`` holds the lock it may be written."""

    def __init__(self, path: str) -> None:
        super().__init__(path, _TABLES)
        self.size = 0
        """Characters of all texts."""

    def acquire(self, *, wait: bool = True) -> bool:
        """Become the one who writes, when the one before has ended. Raises OSError, sqlite3.Error."""
        if not self.lock(wait=wait):
            return False
        try:
            self.open()
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            self.begin_anew()
        self.size = int(self.db.execute("SELECT coalesce(sum(size), 0) FROM runs").fetchone()[0])
        return True

    def begin_anew(self) -> None:
        """Move a damaged file aside. Raises OSError, sqlite3.Error."""
        self.shut()
        for end in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.replace(self.path + end, f"{self.path}.damaged{end}")
        self.open()
        self.size = 0

    # --- writing ------------------------------------------------------------------------------------------------------
    def known(self, keys: Sequence[str]) -> dict[str, int]:
        """The revision at which each of these runs was taken in, by its key."""
        marks = ", ".join("?" * len(keys))
        return dict(self.db.execute(f"SELECT key, rev FROM runs WHERE key IN ({marks})", keys))

    def add(self, texts: Iterable[Text], position: int, most: int) -> None:
        """Take these in, and let the oldest go that are more than ``most`` characters together; all of it or nothing."""
        db = self.db
        with transaction(db):
            for text in texts:
                self._remove("key = ?", text.key)
                size = len(text.about) + len(text.output)
                row = (text.key, text.rev, text.app, text.target, text.outcome, text.ended_at, text.log, size)
                number = db.execute("INSERT INTO runs VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?)", row).lastrowid
                db.execute("INSERT INTO texts (rowid, about, output) VALUES (?, ?, ?)", (number, text.about, text.output))
                self.size += size
            while self.size > most:
                oldest = db.execute("SELECT key FROM runs ORDER BY id LIMIT 1").fetchone()
                if oldest is None:
                    break
                self._remove("key = ?", oldest[0])
            self._put("position", position)

    def _remove(self, which: str, value: str) -> None:
        db = self.db
        for number, size in db.execute(f"SELECT id, size FROM runs WHERE {which}", (value,)).fetchall():
            db.execute("DELETE FROM texts WHERE rowid = ?", (number,))
            db.execute("DELETE FROM runs WHERE id = ?", (number,))
            self.size -= size

    def _put(self, name: str, value: Any) -> None:
        self.db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    def forget(self, keys: Iterable[str]) -> None:
        """These runs can no longer be found."""
        with transaction(self.db):
            for key in keys:
                self._remove("key = ?", key)

    def page(self, after: int, most: int) -> list[tuple[int, str, str]]:
        """Number, key and output's path of the runs behind a number, in its order."""
        return self.db.execute("SELECT id, key, log FROM runs WHERE id > ? ORDER BY id LIMIT ?", (after, most)).fetchall()

    @property
    def position(self) -> int:
        """The journal's revision up to which everything was taken in."""
        found = self.db.execute("SELECT value FROM meta WHERE name = 'position'").fetchone()
        return int(found[0]) if found is not None else 0

    # --- the outputs' files -------------------------------------------------------------------------------------------
    def put_files(self, files: Iterable[tuple[str, float, int]]) -> None:
        """Outputs of ended runs: path, when they were written last, bytes on the disk."""
        with transaction(self.db):
            self.db.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", files)

    def files_kept(self) -> tuple[int, int]:
        """How many outputs of ended runs there are, and their bytes."""
        number, size = self.db.execute("SELECT count(*), coalesce(sum(size), 0) FROM files").fetchone()
        return int(number), int(size)

    def oldest_files(self, most: int) -> list[tuple[str, int]]:
        """Path and bytes of those that were written longest ago."""
        return self.db.execute("SELECT path, size FROM files ORDER BY at LIMIT ?", (most,)).fetchall()

    def drop_files(self, paths: Sequence[str]) -> None:
        """These outputs are gone, and so is what was found in them."""
        with transaction(self.db):
            for path in paths:
                self.db.execute("DELETE FROM files WHERE path = ?", (path,))
                self._remove("log = ?", path)

    # --- reading ------------------------------------------------------------------------------------------------------
    def search(self, wanted: Wanted) -> list[dict[str, Any]]:
        """The latest runs in which all of the words are found, with a piece of the text. Raises RequestError. For any thread."""
        words = _query(wanted.text)
        where, values = _conditions(wanted)
        try:
            with contextlib.closing(sqlite3.connect(f"file:{_quoted(self.path)}?mode=ro", uri=True)) as db:
                until = time.monotonic() + LONGEST
                db.set_progress_handler(lambda: time.monotonic() > until, 10_000)
                rows = db.execute(
                    f"SELECT r.key, r.app, r.target, r.outcome, r.ended_at, snippet(texts, -1, ?, ?, '…', {SHOWN}) "
                    f"FROM texts JOIN runs AS r ON r.id = texts.rowid WHERE texts MATCH ?{where} "
                    "ORDER BY texts.rowid DESC LIMIT ?",
                    (*_MARKS, words, *values, wanted.limit),
                ).fetchall()
        except sqlite3.OperationalError as error:
            if "interrupted" in str(error):
                text = f"the search took more than {format_duration(LONGEST)}"
                raise RequestError(codes.TOO_BUSY, text, data="ask for rarer words, or for less time (since, until)") from None
            if "unable to open" in str(error) or "no such table" in str(error):
                return []  # nothing was taken in so far
            raise RequestError(codes.INTERNAL_ERROR, "the index cannot be read", data=str(error)) from error
        names = ("key", "app", "target", "outcome", "ended_at")
        return [{**dict(zip(names, row, strict=False)), "text": _pieces(row[5])} for row in rows]


def is_damage(error: Exception) -> bool:
    """Whether the file is damaged, and not only locked or without room."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _conditions(wanted: Wanted) -> tuple[str, tuple[Any, ...]]:
    found: list[tuple[str, Any]] = [
        (f"r.{name} = ?", value)
        for name, value in (("app", wanted.app), ("target", wanted.target), ("outcome", wanted.outcome))
        if value is not None
    ]
    if wanted.failed:
        found.append(("r.outcome <> ?", "ok"))
    if wanted.since is not None:
        found.append(("r.ended_at >= ?", wanted.since))
    if wanted.until is not None:
        found.append(("r.ended_at <= ?", wanted.until))
    if wanted.after is not None:
        found.append(("texts.rowid < coalesce((SELECT id FROM runs WHERE key = ?), 0)", wanted.after))
    return "".join(f" AND {text}" for text, _ in found), tuple(value for _, value in found)


def _query(text: str) -> str:
    """What FTS5 is asked: each word, or each phrase in quotes, has to be there; ``word*`` is the beginning of one."""
    found = []
    for phrase, word in _WORD.findall(text.replace("\0", " ")):
        plain = phrase or word.rstrip("*").replace('"', " ")
        if re.search(r"\w", plain):
            found.append(f'"{plain}"' + ("*" if word.endswith("*") else ""))
    if not found:
        raise RequestError(codes.INVALID_PARAMS, "text: expected words to look for", data={"parameter": "text"})
    return " AND ".join(found)


def _pieces(text: str) -> list[str]:
    """What is before a word that was found, that word, what follows, and so on: every second piece was found."""
    return re.split(f"[{_MARKS}]", text)


def _quoted(path: str) -> str:
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
