"""What the companion ``profiler`` keeps: the latest profiles, a file each, and the flags, one file.

What must live here: the folder. What this file must not know: who is looked at, and how.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections import Counter
from datetime import UTC, datetime
from typing import Any, NamedTuple

from rocksyd.companions import flames

KEPT = 200
"""Profiles that are kept, the latest."""
_FLAGS = "flags.json"


class Profile(NamedTuple):
    """What was seen of one run."""

    key: str
    target: str
    script: str
    """"" for a run of none."""
    pid: int
    at: float
    """When it began, in Unix seconds."""
    seconds: float = 0.0
    stacks: flames.Stacks = Counter()
    reason: str = ""
    """Why there is nothing in it."""

    def row(self) -> dict[str, Any]:
        """What is said of it, without the stacks."""
        said = self._asdict()
        del said["stacks"]
        at = datetime.fromtimestamp(self.at, UTC).isoformat(timespec="seconds")
        return {**said, "at": at, "samples": self.stacks.total(), "reason": self.reason or None}


class Profiles:
    """The folder. For any thread."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._lock = threading.Lock()

    def keep(self, profile: Profile) -> None:
        """Keep it; the oldest beyond KEPT go. Raises OSError."""
        lines, _ = flames.write(profile.stacks)
        data = {**profile._asdict(), "stacks": lines}
        name = hashlib.sha256(profile.key.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        with self._lock:
            self._write(f"{name}.json", data)
            files = sorted(((entry.stat().st_mtime_ns, entry.path) for entry in self._files()), reverse=True)
            for _, path in files[KEPT:]:
                os.unlink(path)

    def all(self) -> list[Profile]:
        """All of them, the latest first."""
        with self._lock:
            found = [one for one in (_read(entry.path) for entry in self._files()) if one is not None]
        return sorted((_profile(one) for one in found), key=lambda one: one.at, reverse=True)

    def found(self, by: str, value: str) -> list[Profile]:
        """Those of a ``key``, a ``target`` or a ``script``, the latest first."""
        return [one for one in self.all() if getattr(one, by) == value]

    # --- flags --------------------------------------------------------------------------------------------------------
    def flags(self, now: float) -> dict[str, dict[str, Any]]:
        """Those that have not ended, by name."""
        with self._lock:
            return {name: row for name, row in (_read(f"{self._folder}/{_FLAGS}") or {}).items() if row["until"] > now}

    def put_flag(self, name: str, row: dict[str, Any]) -> None:
        """Let it be, in the place of what there is. Raises OSError."""
        with self._lock:
            self._write(_FLAGS, {**(_read(f"{self._folder}/{_FLAGS}") or {}), name: row})

    def drop_flag(self, name: str) -> bool:
        """Let it be no more; whether it was there. Raises OSError."""
        with self._lock:
            rows = _read(f"{self._folder}/{_FLAGS}") or {}
            there = rows.pop(name, None) is not None
            if there:
                self._write(_FLAGS, rows)
            return there

    def _files(self) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self._folder) as found:
                return [entry for entry in found if entry.name.endswith(".json") and entry.name != _FLAGS]
        except FileNotFoundError:
            return []

    def _write(self, name: str, data: dict[str, Any]) -> None:
        """All of it or nothing."""
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        path = f"{self._folder}/{name}"
        fd = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="utf-8") as file:
            json.dump(data, file)
        os.replace(f"{path}.new", path)


def _read(path: str) -> dict[str, Any] | None:
    """What stands in a file; None where nothing can be read, as after the machine has lost its power."""
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _profile(data: dict[str, Any]) -> Profile:
    known = {name: value for name, value in data.items() if name in Profile._fields}
    return Profile(**{**known, "stacks": flames.read(data.get("stacks", ""))})
