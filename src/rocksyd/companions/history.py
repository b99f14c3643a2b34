"""The companion ``history``: answers what was, from the journal and the outputs, so that the master need not.

What must live here: its thread, its methods.
What this file must not know: tables (``history_index``), files (``history_outputs``), how a run is found (``journal``).

It opens the journal to read only, and anew for each look: it is never in the way of the master, which writes there. Between two
looks it waits for the journal to be written to; while nothing happens it does not wake.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import sqlite3
import threading
import time
from collections.abc import Iterator
from typing import Any

from rocksyd import codes
from rocksyd.client import failures
from rocksyd.companions.companion import Companion, Request
from rocksyd.companions.history_failures import Failures
from rocksyd.companions.history_index import Index, Text, Wanted, is_damage
from rocksyd.companions.history_outputs import Keeping, text_of
from rocksyd.errors import JournalError, RequestError
from rocksyd.journal.beside import Beside
from rocksyd.journal.search import Filter
from rocksyd.journal.store import exists
from rocksyd.model import Run
from rocksyd.posix.log import log
from rocksyd.posix.watching import Writes

BATCH = 100
"""Runs that are taken in together."""
LULL, TROUBLE = 0.5, 10.0
"""Seconds between two looks while much is going on, and after one that failed."""
SECOND_LOOKS = (1.0, 10.0)
"""Seconds after which there is another look although nothing was written: what is written can be read when the disk has it."""
BACK = 1000
"""The latest runs are compared at the beginning: a crash may have given their revisions to others."""
MOST = 3 << 20
"""Bytes of an answer; the daemon passes on 4 MiB."""
LOOKED_AT, GROUPS = 10_000, 500
"""Failures that are looked at unless another limit is given, and groups of them that are answered, the latest."""
_TRACEBACK = 16_000
NICE = 19


class History:
    """The journal, the index over it, and the methods."""

    def __init__(self, companion: Companion) -> None:
        settings = companion.settings
        self._journal_path = f"{settings['state_dir']}/journal.sqlite"
        self._folder = str(settings["state_dir"])
        self._most, self._each = int(settings["index_size"]), int(settings["index_each"])
        self._index = Index(f"{self._folder}/history/index.sqlite")
        limits = int(settings["keep_runs"]), int(settings["keep_size"])
        self._keeping = Keeping(f"{self._folder}/output", *limits, self._index)
        self._failures = Failures()
        self._leaving = False
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._acting = False
        self._position: int | None = None
        """The journal's revision up to which everything was taken in; None before the first look."""
        self._swept = 0
        """The number in the index up to which was looked whether a run is still there."""

    @contextlib.contextmanager
    def _journal(self) -> Iterator[Beside]:
        if not exists(self._journal_path):
            raise JournalError(f"{self._journal_path} is not there yet")
        journal = Beside(self._journal_path)
        try:
            yield journal
        finally:
            journal.close()

    # --- its thread ---------------------------------------------------------------------------------------------------
    def act(self) -> None:
        """Take in what ends, from when the one before has left until this one is to leave."""
        while not self._leaving:
            try:
                if not self._acting:
                    self._index.acquire()
                    self._acting = True
                with Writes(self._folder) as writes:
                    pauses = iter(SECOND_LOOKS)
                    while not self._leaving:
                        if not self._look() and self._sleep(writes.fileno(), next(pauses, None)):
                            writes.read()
                            self._sleep(-1, LULL)
                            pauses = iter(SECOND_LOOKS)
            except (JournalError, OSError, sqlite3.Error) as error:
                log("history", f"what ended is not taken in: {error}")
                if is_damage(error) and self._acting:
                    self._begin_anew()
                else:
                    self._sleep(-1, TROUBLE)

    def _begin_anew(self) -> None:
        """The index is damaged: all that the journal has is taken in again."""
        try:
            self._index.begin_anew()
            self._position = None
        except (OSError, sqlite3.Error) as error:
            log("history", f"the index cannot be made again: {error}")
            self._sleep(-1, TROUBLE)

    def _sleep(self, fd: int, seconds: float | None = None) -> bool:
        """Whether there is something to be read at ``fd``."""
        poller = select.poll()
        poller.register(self._wake, select.POLLIN)
        if fd >= 0:
            poller.register(fd, select.POLLIN)
        return any(ready == fd for ready, _ in poller.poll(None if seconds is None else seconds * 1000))

    def _look(self) -> bool:
        """Take in the next runs; whether there may be more."""
        if not exists(self._journal_path):
            return False  # the first master of all has not begun to serve
        with self._journal() as journal:
            if self._position is None:
                # So that the first who asks does not wait.
                self._failures.groups(journal, Filter(failed=True, since=0.0, limit=LOOKED_AT))
                self._position = min(self._index.position, journal.latest_ended(BACK))
            runs = journal.ended_after(self._position, BATCH)
            self._failures.take(runs)
            if runs:
                known = self._index.known([run.key for run in runs])
                new = [run for run in runs if known.get(run.key) != run.rev]
                self._position = runs[-1].rev
                self._index.add(map(self._text, new if self._most else ()), self._position, self._most)
                self._keeping.ended([(run.order.log, run.attempt.ended_at) for run in new if run.order.log])
            self._keeping.keep(journal.live_outputs)
            return self._sweep(journal) or len(runs) == BATCH

    def _text(self, run: Run) -> Text:
        order, last = run.order, run.attempt
        error = last.error or {}
        about = [run.key, order.name, *(f"{name}={value}" for name, value in order.labels.items())]
        about += [str(error.get(name) or "") for name in ("type", "message")]
        output = text_of(order.log, self._each) if order.log else ""
        return Text(run.key, run.rev, order.app, order.name, last.outcome, last.ended_at, order.log, "\n".join(about), output)

    def _sweep(self, journal: Beside) -> bool:
        """Forget what is no longer in the journal, a page at a time and round and round; whether a whole page went."""
        page = self._index.page(self._swept, BATCH)
        gone = [key for _, key, _ in page if not journal.has(key)]
        if gone:
            self._index.forget(gone)
        self._swept = page[-1][0] if len(page) == BATCH else 0
        return len(gone) == BATCH

    def leave(self, thread: threading.Thread) -> None:
        """Let the next one write."""
        self._leaving = True
        os.eventfd_write(self._wake, 1)
        thread.join(1.0)  # one that waits for its turn ends with the process
        if not thread.is_alive():
            self._index.close()

    # --- methods ------------------------------------------------------------------------------------------------------
    def search(self, request: Request) -> Any:
        """Runs in whose output, key, labels or error the words are found."""
        given = _given(request, ("text", "app", "target", "outcome", "failed", "since", "until", "limit", "after"))
        if not isinstance(given.get("text"), str):
            raise RequestError(codes.INVALID_PARAMS, "text: expected words to look for", data={"parameter": "text"})
        if not self._most:
            raise RequestError(codes.NOT_ALLOWED, "there is no index", data='index_size = "1G" in [history] makes one')
        asked = Filter.asked(given, time.time())
        wanted = Wanted(
            given["text"], asked.app, asked.target, asked.outcome, asked.failed, asked.since, asked.until,
            given.get("limit", 50), given.get("after"),
        )  # fmt: skip
        found = self._index.search(wanted)
        with self._journal() as journal:
            return list(_bounded(row for row in found if journal.has(row["key"])))

    def runs(self, request: Request) -> Any:
        """Records of ended runs: the same parameters as ``list``."""
        names = ("app", "target", "outcome", "failed", "labels", "since", "until", "limit", "after")
        given = _given(request, names)
        with self._journal() as journal:
            last = journal.get(given["after"]) if "after" in given else None
            if "after" in given and last is None:
                raise RequestError(codes.NOT_FOUND, f"no run has the key {given['after']!r}")
            wanted = Filter.asked(given, time.time())
            if last is not None:
                place = (last.attempt.ended_at, last.sequence) if wanted.timed else (last.sequence,)
                wanted = wanted._replace(after=place)
            return list(_bounded(run.record() for run in _found(journal, wanted)))

    def errors(self, request: Request) -> Any:
        """Failures that are the same one, told once; the one that was seen last comes first."""
        given = _given(request, ("app", "target", "outcome", "labels", "since", "until", "limit"), 1_000_000)
        wanted = Filter.asked({**given, "failed": True}, time.time())._replace(limit=given.get("limit", LOOKED_AT))
        with self._journal() as journal:
            groups, looked_at = self._failures.groups(journal, wanted)
            shown = [self._failures.told(journal, group) for group in groups[:GROUPS]]
        for group in shown:
            group.traceback = group.traceback[-_TRACEBACK:]
        rows = list(_bounded(map(failures.plain, shown)))
        return {"groups": rows, "looked_at": looked_at, "complete": looked_at < wanted.limit and len(rows) == len(groups)}


def _found(journal: Beside, wanted: Filter) -> Iterator[Run]:
    for keys in journal.search(wanted):
        for key in keys:
            run = journal.get(key)
            if run is not None:
                yield run


def _bounded(rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """As many of them as an answer takes, one at least."""
    size = 0
    for row in rows:
        length = len(json.dumps(row))
        if size and size + length > MOST:
            return
        size += length
        yield row


def _given(request: Request, names: tuple[str, ...], most: int = 1000) -> dict[str, Any]:
    """The parameters, of the right types. Raises RequestError."""
    params = request.params
    if not isinstance(params, dict):
        raise RequestError(codes.INVALID_PARAMS, "expected parameters by name", data=f"parameters: {', '.join(names)}")
    for name, value in params.items():
        if name not in names:
            raise RequestError(codes.INVALID_PARAMS, f"unknown parameter {name!r}", data=f"parameters: {', '.join(names)}")
        if value is not None and not _FITS[name](value):
            raise RequestError(codes.INVALID_PARAMS, f"{name}: expected {_EXPECTED[name]}", data={"parameter": name})
    given = {name: value for name, value in params.items() if value is not None}
    if given.get("limit", 1) > most:
        raise RequestError(codes.INVALID_PARAMS, f"limit: at most {most}", data={"parameter": "limit"})
    return given


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_moment(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _is_strings(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(one, str) for one in value.values())


def _is_count(value: Any) -> bool:
    return type(value) is int and value > 0


_KINDS: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "text": (_is_text, "words to look for", {"type": "string"}),
    "app": (_is_text, "an application's name", {"type": "string"}),
    "target": (_is_text, "a target", {"type": "string"}),
    "outcome": (_is_text, "an outcome", {"type": "string"}),
    "after": (_is_text, "a key", {"type": "string"}),
    "failed": (lambda value: isinstance(value, bool), "true or false", {"type": "boolean"}),
    "labels": (_is_strings, "an object whose values are strings", {"type": "object"}),
    "since": (_is_moment, "Unix seconds, or how long ago", {"type": ["number", "string"]}),
    "until": (_is_moment, "Unix seconds, or how long ago", {"type": ["number", "string"]}),
    "limit": (_is_count, "a whole number above 0", {"type": "integer", "minimum": 1}),
}
_FITS = {name: fits for name, (fits, _, _) in _KINDS.items()}
_EXPECTED = {name: expected for name, (_, expected, _) in _KINDS.items()}


def _described(*names: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "schema": _KINDS[name][2], "description": _KINDS[name][1], "required": name == "text"} for name in names
    ]


def serve(companion: Companion) -> None:
    """Be the companion."""
    with contextlib.suppress(OSError):
        os.nice(NICE)
    history = History(companion)
    filters = ("app", "target", "outcome", "failed", "since", "until", "limit", "after")
    companion.method(
        "history.search", history.search, scope="read", params=_described("text", *filters),
        summary="Ended runs in whose output, key, labels or error the words are found, latest first, with a piece of the text.",
    )  # fmt: skip
    companion.method(
        "history.runs", history.runs, params=_described(*filters, "labels"), scope="read",
        summary="Records of ended runs, latest first.",
    )  # fmt: skip
    companion.method(
        "history.errors", history.errors, scope="read",
        params=_described("app", "target", "outcome", "labels", "since", "until", "limit"),
        summary="What failed, each failure once: how often, first and last when, a traceback.",
    )  # fmt: skip
    thread = threading.Thread(target=history.act, name="history", daemon=True)
    thread.start()
    companion.ready()
    companion.serve()
    history.leave(thread)
