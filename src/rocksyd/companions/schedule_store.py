"""What the scheduler keeps (``schedule.sqlite``): how far each script has come, whether it is paused, what became of its ticks.

What must live here: the tables, and one transaction for each thing that has happened.
What this file must not know: when a script is due, how a run is ordered.

Only the scheduler that acts has it open (``locked_file``).
A position is moved only after the daemon has acknowledged the run: what a crash loses is submitted again, under the same key.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rocksyd.companions.locked_file import LockedFile
from rocksyd.schedule.book import Said, Version
from rocksyd.schedule.decide import Verdict

KEPT = 1000
"""Accounts that are kept of each script, the latest."""
WHOLE = "ended"
"""An account that says how a generation has ended, which nobody has: its reason is "" where that was well. It is no tick's."""
ORDERS = 100
"""What was ordered by hand that is kept of each script, the latest."""
VERSIONS = 100
"""Versions that are kept of each script, the latest."""
_TABLES = """
CREATE TABLE IF NOT EXISTS scripts (name TEXT PRIMARY KEY, position INTEGER NOT NULL, data TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS accounts (
    number INTEGER PRIMARY KEY, script TEXT NOT NULL, what TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
    count INTEGER NOT NULL, reason TEXT NOT NULL, key TEXT NOT NULL, at REAL NOT NULL);
CREATE INDEX IF NOT EXISTS accounts_script ON accounts (script, number);
CREATE TABLE IF NOT EXISTS sources (
    source TEXT NOT NULL, name TEXT NOT NULL, place TEXT NOT NULL, settings TEXT NOT NULL, PRIMARY KEY (source, name));
CREATE TABLE IF NOT EXISTS versions (
    script TEXT NOT NULL, number INTEGER NOT NULL, source TEXT NOT NULL, place TEXT NOT NULL, settings TEXT, author TEXT NOT NULL,
    at REAL NOT NULL, PRIMARY KEY (script, number));
CREATE TABLE IF NOT EXISTS orders (
    number INTEGER PRIMARY KEY, script TEXT NOT NULL, what TEXT NOT NULL, author TEXT NOT NULL, text TEXT NOT NULL,
    at REAL NOT NULL);
CREATE INDEX IF NOT EXISTS orders_script ON orders (script, number);
CREATE TABLE IF NOT EXISTS generations (
    number INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, script TEXT NOT NULL, over INTEGER NOT NULL, data TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS generations_script ON generations (script, over, number);
CREATE TABLE IF NOT EXISTS jobs (
    generation TEXT NOT NULL, n INTEGER NOT NULL, digest BLOB NOT NULL, data TEXT NOT NULL, outcome TEXT, result TEXT,
    PRIMARY KEY (generation, n)) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS jobs_digest ON jobs (generation, digest);
"""
BEGIN_GENERATION = "INSERT OR IGNORE INTO generations (key, script, over, data) VALUES (?, ?, ?, ?)"


@dataclass
class Entry:
    """How a script is. Moments are Unix seconds."""

    position: int
    """Every tick up to this nominal time has a verdict."""
    paused: str = ""
    """Who has paused it and when; "" while it is not."""
    retired: float = 0.0
    """When it had gone from the configuration; 0 while it is there."""
    last: int | None = None
    """The nominal time of the latest tick that was run."""
    last_key: str = ""
    going: list[str] = field(default_factory=list)
    """Keys of runs that may not have ended."""


class Account(NamedTuple):
    """What became of ticks."""

    script: str
    verdict: Verdict
    key: str = ""
    """Of the run, where it was run."""
    at: float = 0.0


class Order(NamedTuple):
    """What somebody has ordered by hand."""

    what: str
    """``run``, ``kill``, ``backfill``, ``pause`` or ``resume``."""
    author: str
    text: str
    """What came of it: a key, or how much."""
    at: float
    """Unix seconds."""


class Store(LockedFile):
    """The open store. Only while ``acquire`` holds the lock."""

    def __init__(self, path: str) -> None:
        super().__init__(path, _TABLES)
        self.begun: list[tuple[Any, ...]] = []
        """Rows of generations that begin with what is saved next."""

    def load(self) -> dict[str, Entry]:
        """How each script is, by name."""
        known = Entry.__dataclass_fields__.keys()
        return {
            name: Entry(position, **{key: value for key, value in json.loads(data).items() if key in known})
            for name, position, data in self.db.execute("SELECT name, position, data FROM scripts")
        }

    def save(self, entries: dict[str, Entry], accounts: Iterable[Account] = ()) -> None:
        """All of this, and the generations that have ``begun``, or nothing. Raises StoreError."""
        now = time.time()
        with self.writing() as db:
            rows = [(name, entry.position, json.dumps(_rest(entry))) for name, entry in entries.items()]
            db.executemany("INSERT OR REPLACE INTO scripts VALUES (?, ?, ?)", rows)
            db.executemany(BEGIN_GENERATION, self.begun)
            for account in accounts:
                what, first, last, number, reason, _ = account.verdict
                row = (account.script, what, first, last, number, reason, account.key, account.at or now)
                db.execute("INSERT INTO accounts VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?)", row)
                self._prune(account.script)
        self.begun = []

    # --- what was ordered by hand -------------------------------------------------------------------------------------
    def note(self, script: str, order: Order) -> None:
        """Somebody has ordered something. Raises StoreError."""
        oldest = "SELECT number FROM orders WHERE script = ? ORDER BY number DESC LIMIT 1 OFFSET ?"
        with self.writing() as db:
            db.execute("INSERT INTO orders VALUES (NULL, ?, ?, ?, ?, ?)", (script, *order))
            db.execute(f"DELETE FROM orders WHERE script = ? AND number <= ({oldest})", (script, script, ORDERS))

    def orders(self, script: str, limit: int) -> list[Order]:
        """What was ordered of a script, latest first."""
        query = "SELECT what, author, text, at FROM orders WHERE script = ? ORDER BY number DESC LIMIT ?"
        return [Order(*row) for row in self.db.execute(query, (script, limit))]

    # --- which scripts there are --------------------------------------------------------------------------------------
    def sources(self) -> dict[str, dict[str, Said]]:
        """What the API says, and what each application's code said last, by source (``api``, ``code:APP``) and name."""
        found: dict[str, dict[str, Said]] = {}
        for source, name, place, settings in self.db.execute("SELECT source, name, place, settings FROM sources"):
            found.setdefault(source, {})[name] = Said(source.partition(":")[0], place, json.loads(settings))
        return found

    def define(self, sources: dict[str, dict[str, Said]], versions: dict[str, Version]) -> None:
        """Keep what the sources say, all of them, and new versions, one a script. All or nothing. Raises StoreError."""
        with self.writing() as db:
            db.execute("DELETE FROM sources")
            rows = [
                (source, name, said.place, json.dumps(said.settings))
                for source, of in sources.items()
                for name, said in of.items()
            ]
            db.executemany("INSERT INTO sources VALUES (?, ?, ?, ?)", rows)
            for name, version in versions.items():
                said = version.said or Said("", "", {})
                settings = None if version.said is None else json.dumps(said.settings)
                row = (name, version.number, said.source, said.place, settings, version.author, version.at)
                db.execute("INSERT OR REPLACE INTO versions VALUES (?, ?, ?, ?, ?, ?, ?)", row)
                db.execute("DELETE FROM versions WHERE script = ? AND number <= ?", (name, version.number - VERSIONS))

    def versions(self, script: str, limit: int = VERSIONS) -> list[Version]:
        """The latest versions of a script, latest first."""
        columns = "number, source, place, settings, author, at"
        query = f"SELECT {columns} FROM versions WHERE script = ? ORDER BY number DESC LIMIT ?"
        return [_version(row) for row in self.db.execute(query, (script, limit))]

    def latest_versions(self) -> dict[str, Version]:
        """The latest version of each script."""
        query = "SELECT script, max(number), source, place, settings, author, at FROM versions GROUP BY script"
        return {name: _version(row) for name, *row in self.db.execute(query)}

    def _prune(self, script: str) -> None:
        oldest = "SELECT number FROM accounts WHERE script = ? ORDER BY number DESC LIMIT 1 OFFSET ?"
        self.db.execute(f"DELETE FROM accounts WHERE script = ? AND number <= ({oldest})", (script, script, KEPT))

    def accounts(self, script: str, limit: int = 20) -> list[Account]:
        """What became of the script's latest ticks, latest first."""
        columns = "what, first, last, count, reason, key, at"
        query = f"SELECT {columns} FROM accounts WHERE script = ? AND what <> ? ORDER BY number DESC LIMIT ?"
        rows = self.db.execute(query, (script, WHOLE, limit))
        return [Account(script, Verdict(*row[:5]), row[5], row[6]) for row in rows]

    def accounts_after(self, number: int, limit: int = 1000) -> list[tuple[int, Account]]:
        """What became of ticks of all scripts after the account with this number, in order, each with its number."""
        columns = "number, script, what, first, last, count, reason, key, at"
        query = f"SELECT {columns} FROM accounts WHERE number > ? ORDER BY number LIMIT ?"
        rows = self.db.execute(query, (number, limit))
        return [(row[0], Account(row[1], Verdict(*row[2:7]), row[7], row[8])) for row in rows]

    def last_account(self) -> int:
        """The number of the latest account; 0 where there is none."""
        return int(self.db.execute("SELECT coalesce(max(number), 0) FROM accounts").fetchone()[0])


def _version(row: Sequence[Any]) -> Version:
    number, source, place, settings, author, at = row
    return Version(number, None if settings is None else Said(source, place, json.loads(settings)), author, at)


def _rest(entry: Entry) -> dict[str, Any]:
    found = vars(entry).copy()
    del found["position"]
    return found
