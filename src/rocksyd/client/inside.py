"""What a job asks the daemon about its own run: the runs that it has come after, the list whose job it is.

What must live here: reading them, some at a time, and adding jobs. What this file must not know: how the job is run.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from rocksyd import codes
from rocksyd.client.sync import Client
from rocksyd.errors import RequestError

PAGE = 100
"""Records that are in memory at once."""


def predecessors(keys: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The records of these runs, in this order. Raises NoDaemon, NotFound (one was freed)."""
    left = iter(keys)
    with Client() as client:
        while page := list(islice(left, PAGE)):
            for answer in client.answers([("status", {"key": key}) for key in page]):
                if isinstance(answer, RequestError):
                    raise answer
                yield answer


ADDED_AT_ONCE, ADDED_BYTES = 1000, 256 << 10
"""Jobs that are added with one request, and about how many bytes of JSON."""
PATIENCE, PAUSE = 60.0, 0.05
"""Seconds for which a scheduler that is being replaced is waited for, and between two tries."""


class Generation:
    """The jobs of one tick of a script, for the jobs themselves and for the hooks around them."""

    def __init__(self, key: str, client: Client | None = None) -> None:
        self.key = key
        """``SCRIPT@TIME``; with a number behind it, the key of a job's run."""
        self._client = client

    def add(self, jobs: Iterable[Any]) -> int:
        """Add a job for each of these data, which JSON can carry; returns how many are new: no data is in the list twice.

        So it may be done again: a hook that is tried again adds what is missing. Raises NotNow when the jobs are over already.
        """
        added = 0
        for page in _pages(jobs):
            added += int(self._ask("schedule.add", {"generation": self.key, "jobs": page})["added"])
        return added

    def results(self, *, limit: int = 1000) -> Iterator[dict[str, Any]]:
        """What became of each job: ``n``, ``job``, ``key``, ``outcome``, ``result``; in their order, read ``limit`` at a time."""
        after: int | None = -1
        while after is not None:
            page = self._ask("schedule.results", {"generation": self.key, "after": after, "limit": limit})
            yield from page["jobs"]
            after = page["next"]

    def progress(self) -> dict[str, Any]:
        """How far it is: ``state``, ``total``, ``ended``, ``failed``."""
        return dict(self._ask("schedule.generation", {"generation": self.key}))

    def _ask(self, method: str, params: dict[str, Any]) -> Any:
        """The answer; asked again as long as the scheduler is being replaced, which harms none of these."""
        until = time.monotonic() + PATIENCE
        while True:
            try:
                if self._client is not None:
                    return self._client.request(method, params)
                with Client() as client:
                    return client.request(method, params)
            except RequestError as error:
                gone = error.code == codes.NOT_NOW and not (isinstance(error.data, dict) and error.data.get("over"))
                if not gone or time.monotonic() > until:
                    raise
                time.sleep(PAUSE)


def _pages(jobs: Iterable[Any]) -> Iterator[list[Any]]:
    page: list[Any] = []
    size = 0
    for one in jobs:
        length = len(json.dumps(one))
        if page and (len(page) >= ADDED_AT_ONCE or size + length > ADDED_BYTES):
            yield page
            page, size = [], 0
        page.append(one)
        size += length
    if page:
        yield page
