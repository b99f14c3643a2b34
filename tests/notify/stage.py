"""What the tests of alerts share: a daemon whose jobs fail on order."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from rocksyd.testing import Daemon
from rocksyd.testing.daemon import until

JOBS = """
import os
from rocksyd import job

HERE = os.path.dirname(__file__)

@job
def ok(*params, **named):
    return params or named

@job
def fails(*params, **named):
    print("about to fail")
    raise ValueError(f"not today: {named.get('password', '')}")

@job
def fails_else():
    raise KeyError("else")

@job
def dies():
    os._exit(3)

@job
def by_file():
    if not os.path.exists(os.path.join(HERE, "well")):
        raise RuntimeError("not well")

@job
def gate():
    with open(os.path.join(HERE, "gate")) as file:
        return file.read()
"""


def daemon(folder: Path, tables: str, **arguments: Any) -> Daemon:
    """A daemon with these tables."""
    return Daemon(folder, JOBS, parts={"top": tables, **arguments.pop("parts", {})}, **arguments)


OF_THE_DAEMON = 'on = ["failed", "late", "missed", "long", "short", "restart", "crash", "pool", "companion"]'
"""All but ``health``: whether the machine that the tests run on is overloaded, or its disk nearly full, is not theirs."""


def webhook(url: str, more: str = "", name: str = "hook") -> str:
    """The table of a receiver."""
    return f'[notify.{name}]\nwebhook = "{url}"\n{OF_THE_DAEMON}\n{more}\n'


def wait_hears(served: Daemon, *streams: str) -> None:
    """Wait until the news are heard: the companion is ready before, and what ends until then is nobody's news.

    ``streams``: ``failed``, and ``scripts`` where there are some.
    """
    path = served.folder / "var" / "notify.sqlite"

    def hears() -> bool:
        try:
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
                names = {name for (name,) in db.execute("SELECT name FROM things")}
        except sqlite3.OperationalError:  # it is not there yet
            return False
        return {f"heard/{stream}" for stream in streams or ("failed",)} <= names

    until(hears, "the news to be heard")
