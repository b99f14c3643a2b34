"""Runs for tests, made from the flat fields of the journal's row."""

from __future__ import annotations

from typing import Any

from rocksyd.model import Run


def run_of(key: str, **fields: Any) -> Run:
    """A run with these fields, as if it had been read from the journal."""
    return Run.load({"key": key, **fields})
