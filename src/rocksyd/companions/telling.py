"""What became of ticks, for whoever has to tell somebody: the method ``schedule.accounts``, and the word that there is news.

What must live here: accounts in the order in which they were written, from any place on; a thread that says when ticks were left
out, or a generation has ended. What this file must not know: whom that interests, and why ticks are left out.

The word is only a word: who was not there asks for the accounts when it comes, from where it had got to.
"""

from __future__ import annotations

import threading
from typing import Any

from rocksyd.client import Client
from rocksyd.companions.companion import Request
from rocksyd.companions.generations import Generations
from rocksyd.companions.schedule_store import Store
from rocksyd.companions.ticking import Ticking
from rocksyd.errors import RocksydError
from rocksyd.schedule.decide import due_at

MOST = 1000
"""Accounts in one answer."""


class Telling:
    """Of one scheduler. ``tell``: the method that is called when ticks were left out or a generation has ended; "" for none."""

    def __init__(self, ticking: Ticking, store: Store, generations: Generations, client: Client, tell: str) -> None:
        self._ticking = ticking
        self._store = store
        self._client = client
        self._tell = tell
        self._news = threading.Event()
        if tell:
            ticking.left_out = self._news.set
            generations.tell(self._news.set)
            threading.Thread(target=self._work, name="telling", daemon=True).start()

    def _work(self) -> None:
        while True:
            self._news.wait()
            self._news.clear()
            try:
                self._client.request(self._tell)
            except RocksydError:
                continue  # it is not there: it asks when it comes

    def accounts(self, given: dict[str, Any], request: Request) -> dict[str, Any]:
        """The accounts after the one with the number ``after``; without it none, but the number of the last one.

        ``due``: when the scripts of these accounts (without ``after``: all) are due next, and how long after the nominal time.
        """
        with self._ticking.lock:
            if given.get("after") is None:
                rows, position, names = [], self._store.last_account(), list(self._ticking.scripts)
            else:
                rows = self._store.accounts_after(given["after"], MOST)
                position = rows[-1][0] if rows else given["after"]
                names = list(dict.fromkeys(account.script for _, account in rows if account.script in self._ticking.scripts))
            due = {name: self._due(name) for name in names}
        return {
            "position": position,
            "more": len(rows) == MOST,
            "accounts": [
                {
                    "script": account.script, "what": account.verdict.what, "first": account.verdict.first,
                    "last": account.verdict.last, "count": account.verdict.number, "reason": account.verdict.reason,
                    "key": account.key,
                }
                for _, account in rows
            ],
            "due": due,
        }  # fmt: skip

    def _due(self, name: str) -> dict[str, Any]:
        script, entry = self._ticking.scripts[name], self._ticking.entries[name]
        return {"at": None if entry.paused else due_at(script, entry.position), "delay": script.delay, "expects": script.expects}
