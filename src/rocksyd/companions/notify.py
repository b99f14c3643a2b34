"""The companion ``notify``: hears how runs, ticks and the daemon are, and tells receivers.

What must live here: its threads, its inbox, its methods, and the order in which something is heard, written down and sent.
What this file must not know: what is an alert and who is told (``rocksyd.alerts``), how a receiver is reached (``receivers``).

The order is the promise: what was heard, how far, and what is to be sent because of it are written down together, then it is
sent. Whatever dies in between, the news are asked for again from there, and nothing is told twice or not at all.
"""

from __future__ import annotations

import os
import queue
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple
from uuid import uuid4

from rocksyd import codes
from rocksyd.alerts.alert import TEST, Alert
from rocksyd.alerts.letter import moment, payload
from rocksyd.alerts.rows import Rows
from rocksyd.alerts.throttle import Throttle, Wish
from rocksyd.alerts.watch import Expected, Watch
from rocksyd.client import Client
from rocksyd.companions.companion import Companion, Request
from rocksyd.companions.hearing import Hearing, Stream
from rocksyd.companions.locked_file import StoreError
from rocksyd.companions.notify_store import Store
from rocksyd.companions.outbox import Post
from rocksyd.companions.receivers import NotDelivered, deliver, place_of
from rocksyd.errors import NoDaemon, RequestError
from rocksyd.posix.log import WARNING, log

AGAIN = 5.0
"""Seconds until it is tried again to write down what could not be, and to ask what was not answered."""
RECOVERY = 60.0
"""Seconds between two looks whether jobs that have failed are well again."""
LOOKED_AT = 100
"""Failing jobs that are looked at each time."""
FORGOTTEN = 7 * 86_400.0
"""Seconds after its last failure until a job that never ran again is forgotten."""
OUTPUT = 4096
"""Bytes of the end of a run's output that are sent with an alert."""
_BATCH = 500
_LOOK, _STOP = "look", "stop"


class Done(NamedTuple):
    """A receiver has been told, or will not be."""

    receiver: str
    number: str


class Notifier:
    """The one thread that decides; others hear and deliver."""

    def __init__(self, companion: Companion) -> None:
        settings = companion.settings
        self._companion = companion
        self._client: Client = companion.client()
        self._store = Store(settings["store"])
        self._settings = {one["name"]: one for one in settings["receivers"]}
        self._where = {"host": socket.gethostname(), "daemon": settings["daemon"]}
        self._scripts = {name: Expected.of(said) for name, said in settings["scripts"].items()}
        self._rows = Rows()
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._posts = {name: Post(one, self._done) for name, one in self._settings.items()}
        self._acting = threading.Event()
        self._ask_ticks = settings["schedules"]
        self._again = self._recovery = 0.0
        self._trouble = ""

    # --- its thread ---------------------------------------------------------------------------------------------------
    def act(self) -> None:
        """Be the one that tells, from when the one before has ended until this one is to leave."""
        while not self._acting.is_set():
            try:
                self._store.acquire()
                self._begin(self._store.load())
            except StoreError as error:
                log("notify", f"alerts wait: {error}", level=WARNING)
                time.sleep(AGAIN)
        while True:
            batch = self._take()
            alerts = self._heard([one for one in batch if isinstance(one, Stream)])
            alerts += self._by_time(time.time())
            self._tell(alerts, [one for one in batch if isinstance(one, Done)])
            if _STOP in batch:
                return

    def _begin(self, rows: dict[str, Any]) -> None:
        self._rows = Rows(rows)
        self._watch = Watch(self._scripts, self._rows)
        self._throttle = Throttle([_wish(one) for one in self._settings.values()], self._rows)
        self._hearing = Hearing(self._companion.client, self._rows, self._inbox, scripts=self._companion.settings["schedules"])
        for name, row in sorted(self._rows.of("out"), key=lambda one: one[1]["since"]):
            receiver, _, number = name.partition("/")
            if receiver in self._posts:
                self._posts[receiver].put(number, row)
            else:
                self._rows.drop(f"out/{name}")  # there is no such receiver any longer
        for post in self._posts.values():
            post.begin()
        self._hearing.begin()
        self._acting.set()

    def _take(self) -> list[Any]:
        """What has come; waits for something, or until something is due."""
        found = []
        due = [
            at
            for at in (self._watch.next(), self._throttle.next(), self._again or None, self._recovery or None)
            if at is not None
        ]
        try:
            found.append(self._inbox.get(timeout=max(0.0, min(due) - time.time()) if due else None))
            while len(found) < _BATCH:
                found.append(self._inbox.get_nowait())
        except queue.Empty:
            pass
        if _LOOK in found:
            self._ask_ticks = True
        return found

    # --- what is heard ------------------------------------------------------------------------------------------------
    def _heard(self, streams: list[Stream]) -> list[Alert]:
        found: list[Alert] = []
        for one in streams:
            if not self._hearing.is_new(one):
                continue
            name, record = one.event
            now = time.time()
            if name == "run.started":
                found += self._watch.started(record, now)
            elif name == "run.ended" and (one.name == "scripts" or not record.get("tick")):
                found += self._watch.ended(record, now, self._streak(record))
            elif name == "health":
                found += self._health(record, now)
            self._ask_ticks |= one.name == "scripts"
        return found

    def _streak(self, record: dict[str, Any]) -> int:
        """How many runs of a job have failed in a row; 0 where nobody wants to know, or its script's are counted."""
        most = max((one["after"] for one in self._settings.values()), default=1)
        if record.get("tick") or most == 1:
            return 0
        wanted = {"app": record["app"], "target": record["target"], "state": "ended", "limit": most}
        try:
            records = self._client.request("list", wanted)
        except (RequestError, NoDaemon):
            return 0
        outcomes = [one["outcome"] for one in records if one["outcome"] != "cancelled"]
        return next((number for number, outcome in enumerate(outcomes) if outcome == "ok"), len(outcomes))

    def _health(self, said: dict[str, Any], now: float) -> list[Alert]:
        problems = list(zip(said.get("kinds", ()), said.get("problems", ()), said.get("advice", ()), strict=False))
        problems += [(one["kind"], one["text"], one["advice"]) for one in said.get("warnings", ())]
        found = self._watch.health(problems, now)
        if self._rows.get("restarts") is None or said.get("recorded") != self._rows.get("recorded"):
            try:
                found += self._watch.restarts(self._client.restarts(50), now)
            except (RequestError, NoDaemon):
                self._again = now + AGAIN
                return found
            self._rows.put("recorded", said.get("recorded"))
        return found

    def _ticks(self, now: float) -> list[Alert]:
        """What has become of ticks since it was asked last."""
        found: list[Alert] = []
        first = not self._rows.get("asked")
        try:
            while True:
                after = {} if first else {"after": self._rows.get("accounts", 0)}
                said = self._client.request("schedule.accounts", after)
                self._watch.due(said["due"])
                found += self._watch.accounts(said["accounts"], now)
                self._rows.put("accounts", said["position"])
                self._rows.put("asked", True)
                if not said["more"]:
                    self._ask_ticks = False
                    return found
        except (RequestError, NoDaemon) as error:
            if isinstance(error, RequestError) and error.code == codes.METHOD_NOT_FOUND:
                self._ask_ticks = False  # there is no scheduler; when there is one, its runs are heard of
            else:  # it is being replaced, say
                self._again = now + AGAIN
            return found

    # --- time ---------------------------------------------------------------------------------------------------------
    def _by_time(self, now: float) -> list[Alert]:
        if self._again and now >= self._again:
            self._again = 0.0
        found = self._ticks(now) if self._ask_ticks and not self._again else []
        found += self._watch.on_time(now)
        failing = self._watch.failing()
        if not failing:
            self._recovery = 0.0
        elif not self._recovery:
            self._recovery = now + RECOVERY
        elif now >= self._recovery:
            self._recovery = now + RECOVERY
            found += self._recovered(failing, now)
        return found

    def _recovered(self, failing: list[tuple[str, dict[str, Any]]], now: float) -> list[Alert]:
        for name, row in failing:
            if now - row["at"] > FORGOTTEN:
                self._rows.drop(name)
        asked = sorted(failing, key=lambda one: -one[1]["at"])[:LOOKED_AT]
        wanted = [("list", {"app": row["app"], "target": row["subject"], "state": "ended", "limit": 1}) for _, row in asked]
        found: list[Alert] = []
        try:
            answers = self._client.answers(wanted)
        except NoDaemon:
            return found
        for (name, row), answer in zip(asked, answers, strict=True):
            last = None if isinstance(answer, RequestError) or not answer else answer[0]
            if last is not None and last["outcome"] == "ok" and last["ended_at"] >= row["at"]:
                found += self._watch.recovered(name, last["ended_at"])
        return found

    # --- what is told -------------------------------------------------------------------------------------------------
    def _tell(self, alerts: list[Alert], done: list[Done]) -> None:
        now = time.time()
        sent = [one for alert in alerts for one in self._throttle.take(alert, now)]
        sent += self._throttle.due(now)
        new = []
        for receiver, alert in sent:
            number = uuid4().hex
            said = payload(number, _with_output(alert), self._where, tuple(self._settings[receiver]["redact"]))
            new.append((receiver, number, {"said": said, "since": now}))
            self._rows.put(f"out/{receiver}/{number}", new[-1][2])
        for one in done:
            self._rows.drop(f"out/{one.receiver}/{one.number}")
        self._save(now)
        for receiver, number, row in new:
            for beyond in self._posts[receiver].put(number, row):
                self._rows.drop(f"out/{receiver}/{beyond}")

    def _save(self, now: float) -> None:
        """Write down what this round has changed. What cannot be written is told all the same: a full disk is an alert itself."""
        changed = self._rows.take_changed()
        if not changed:
            return
        try:
            self._store.save(changed)
            self._trouble = ""
        except StoreError as error:
            if not self._trouble:
                log("notify", f"alerts are sent, and not written down: {error}", level=WARNING)
            self._trouble = str(error)
            self._rows.not_written(changed)
            self._again = now + AGAIN

    def _done(self, receiver: str, number: str) -> None:
        self._inbox.put(Done(receiver, number))

    def leave(self, thread: threading.Thread) -> None:
        """End its threads, and let the next one act."""
        if self._acting.is_set():
            for post in self._posts.values():
                post.leave()
            self._inbox.put(_STOP)
            thread.join()
            self._store.close()
        self._client.close()

    # --- its methods --------------------------------------------------------------------------------------------------
    def declare(self) -> None:
        """Add the methods to the protocol."""
        name = {"name": "name", "schema": {"type": "string"}, "description": "the receiver; all if left out"}
        methods: list[tuple[str, Callable[[Request], Any], str, list[dict[str, Any]]]] = [
            ("list", self._list, "Who is told of alerts, and whether they can be reached.", []),
            ("test", self._test, "Send an alert to try a receiver.", [name]),
            ("look", self._look, "Look what became of ticks.", []),
        ]
        for method, function, summary, params in methods:
            self._companion.method(f"notify.{method}", function, summary=summary, params=params)

    def _look(self, request: Request) -> Any:
        self._inbox.put(_LOOK)
        return True

    def _list(self, request: Request) -> Any:
        return [
            {
                "name": name,
                "way": next(way for way in ("webhook", "mail", "command") if one[way]),
                "to": place_of(one),
                "on": list(one["on"]),
                "only": list(one["only"]),
                "waiting": len(post.waiting),
                "delivered": post.delivered,
                "given_up": post.given_up,
                "trouble": post.trouble or None,
            }
            for name, one in self._settings.items()
            for post in (self._posts[name],)
        ]

    def _test(self, request: Request) -> Any:
        given = request.params if isinstance(request.params, dict) else dict(zip(("name",), request.params, strict=False))
        name = given.get("name")
        if name is not None and name not in self._settings:
            there = ", ".join(self._settings)
            raise RequestError(codes.NOT_FOUND, f"there is no receiver {name!r}", data={"advice": f"there are: {there}"})
        found = []
        for one in [name] if name else list(self._settings):
            alert = Alert(TEST, "test", "test", "this is a test", f"Somebody asked for it at {moment(time.time())}.", time.time())
            try:
                deliver(self._settings[one], payload(uuid4().hex, alert, self._where, ()))
                found.append({"name": one, "ok": True, "error": None})
            except NotDelivered as error:
                found.append({"name": one, "ok": False, "error": str(error)})
        return found


def _wish(said: dict[str, Any]) -> Wish:
    return Wish(said["name"], tuple(said["on"]), tuple(said["only"]), said["after"], said["every"], said["recovered"])


def _with_output(alert: Alert) -> Alert:
    """With the end of what the run has printed."""
    path = alert.about.get("log")
    about = {name: value for name, value in alert.about.items() if name != "log"}
    if path:
        try:
            with open(path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                file.seek(max(0, size - OUTPUT))
                text = file.read(OUTPUT).decode(errors="replace")
            if text.strip():
                about["output"] = text
        except OSError:
            pass
    return alert._replace(about=about)


def serve(companion: Companion) -> None:
    """Be the companion."""
    notifier = Notifier(companion)
    notifier.declare()
    companion.ready()
    thread = threading.Thread(target=notifier.act, name="notify", daemon=True)
    thread.start()
    companion.serve()
    notifier.leave(thread)
