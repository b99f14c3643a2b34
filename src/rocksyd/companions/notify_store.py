"""What the companion ``notify`` keeps (``notify.sqlite``): rows by name, each as JSON.

What must live here: the table, one transaction for all that a round has changed.
What this file must not know: what the rows mean (``rocksyd.alerts``).

Only the one that acts has it open (``locked_file``).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from typing import Any

from rocksyd.companions.locked_file import LockedFile, StoreError

_TABLE = "CREATE TABLE IF NOT EXISTS things (name TEXT PRIMARY KEY, value TEXT NOT NULL)"


class Store(LockedFile):
    """The open store. Only while ``acquire`` holds the lock."""

    def __init__(self, path: str) -> None:
        super().__init__(path, _TABLE)

    def load(self) -> dict[str, Any]:
        """All rows. What cannot be read is left out: it is one row's matter."""
        found = {}
        try:
            for name, value in self.db.execute("SELECT name, value FROM things"):
                try:
                    found[str(name)] = json.loads(value)
                except ValueError:
                    continue
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: {error}; move it away: it is made anew") from error
        return found

    def save(self, rows: Mapping[str, Any]) -> None:
        """All of this or nothing; None erases a row. Raises StoreError."""
        with self.writing() as db:
            db.executemany("DELETE FROM things WHERE name = ?", [(name,) for name, row in rows.items() if row is None])
            kept = [(name, json.dumps(row)) for name, row in rows.items() if row is not None]
            db.executemany("INSERT OR REPLACE INTO things VALUES (?, ?)", kept)
