"""The companion ``scheduler``: submits the ticks of ``[scripts.NAME]``, and answers ``schedule.…``.

What must live here: its methods.
What this file must not know: which tick is due and what becomes of it (``rocksyd.schedule``), in which steps (``ticking``), when
it acts (``acting``), where scripts are from (``schedule_sources``).
"""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Literal
from uuid import uuid4

from rocksyd import codes, config
from rocksyd.companions.companion import CannotAttend, Companion, Request
from rocksyd.errors import ConfigError, RequestError
from rocksyd.posix.zone import system_zone
from rocksyd.ticks import FORMAT

try:
    from rocksyd.companions import generation_methods
    from rocksyd.companions.acting import ACTING, Acting
    from rocksyd.companions.backfill import Backfill
    from rocksyd.companions.by_hand import BY, note, who
    from rocksyd.companions.consuming import Consumers
    from rocksyd.companions.generations import Generations
    from rocksyd.companions.schedule_editing import APPLY, Editing
    from rocksyd.companions.schedule_sources import Sources
    from rocksyd.companions.schedule_store import Account, Entry, Store
    from rocksyd.companions.telling import Telling
    from rocksyd.companions.ticking import Ticking
    from rocksyd.schedule import consumer, generation, words
    from rocksyd.schedule.consumer import Consumer, as_script
    from rocksyd.schedule.explain import effects
    from rocksyd.schedule.marks import marks
    from rocksyd.schedule.script import Script, define_all
except ImportError as missing:
    raise CannotAttend(
        f"[scripts] needs cronsim, which {sys.executable} does not have: pip install rocksyd[scheduler]"
    ) from missing

_SCOPES: dict[str, Literal["read", "run", "admin"]] = {
    "run": "run", "backfill": "run", "kill": "run", "pause": "run", "resume": "run", "add": "run", "apply": "admin",
}  # fmt: skip
"""What somebody at the gateway must be allowed to order these; the others only tell."""
_NAME: dict[str, Any] = {"name": "name", "schema": {"type": "string"}, "required": True, "description": "the script"}
_FORMER: dict[str, Any] = {**_NAME, "description": "the script, or one that there was"}
_COUNT: dict[str, Any] = {
    "name": "count",
    "schema": {"type": "integer", "minimum": 1, "maximum": 1000},
    "description": "how many; 1 if left out",
}


_FROM: dict[str, Any] = {
    "name": "from",
    "schema": {"type": "string"},
    "required": True,
    "description": "the first time, RFC 3339 or a day",
}
_TO: dict[str, Any] = {**_FROM, "name": "to", "description": "the last time, RFC 3339, or a day (to its end)"}
_AGAIN: dict[str, Any] = {"name": "again", "schema": {"type": "boolean"}, "description": "run those again that have been run"}
_AFTER: dict[str, Any] = {
    "name": "after",
    "schema": {"type": "integer", "minimum": 0},
    "description": "the number of the last account that is known",
}
NOT_YET = "the scheduler has not begun to act: it reads its scripts, or that of the generation before has not left yet"
BACKFILL = 1000
"""Ticks that are filled at once, at most."""


class Scheduler:
    """The scheduler's parts, and its methods."""

    def __init__(self, companion: Companion, scripts: dict[str, Script], consumers: dict[str, Consumer]) -> None:
        self._companion = companion
        self._store = Store(companion.settings["store"])
        self.client = companion.client()
        self._ticking = Ticking(self._store, self.client, time.time)
        self.consumers = Consumers(consumers, companion.client, lambda name: bool(self._ticking.entries[name].paused))
        self._sources = Sources(companion.settings, scripts, system_zone(), socket.gethostname())
        self.generations = Generations(
            self._store.path, companion.address, companion.token,
            lambda name: name in self._ticking.entries and bool(self._ticking.entries[name].paused),
        )  # fmt: skip
        self._ticking.generations = self.generations
        tell = companion.settings.get("tell", "")
        self._telling = Telling(self._ticking, self._store, self.generations, self.client, tell)
        self.acting = Acting(self._sources, self._store, self._ticking, self.generations)
        self._sources.beside = {name: as_script(consumer) for name, consumer in consumers.items()}
        self.acting.begins = self.consumers.begin
        self._editing = Editing(self._sources, self._store, self.acting.carry_out, self._ticking.lock)

    @property
    def _scripts(self) -> dict[str, Script]:
        return self._ticking.scripts

    # --- its methods --------------------------------------------------------------------------------------------------
    def declare(self) -> None:
        """Add the methods to the protocol."""
        methods: list[tuple[str, Callable[[dict[str, Any], Request], Any], str, list[dict[str, Any]]]] = [
            ("list", self._list, "All scripts: when they are due, were due, and whose they are.", []),
            ("next", self._next, "When scripts are due next.", [{**_NAME, "required": False}, _COUNT]),
            ("explain", self._explain, "What the changes of the clock in the next two years do to a script.", [_NAME]),
            ("show", self._show, "A script, and what became of its latest ticks.", [_NAME, _COUNT]),
            ("accounts", self._telling.accounts, "What became of ticks of all scripts, after an account.", [_AFTER]),
            ("run", self._run, "Run a script now.", [_NAME, BY]),
            (
                "backfill",
                self._backfill,
                "Run ticks of a time that has passed which were not run.",
                [_NAME, _FROM, _TO, _AGAIN, BY],
            ),
            ("kill", self._kill, "End the runs of a script that wait or run.", [_NAME, BY]),
            ("pause", self._pause, "Let a script have no ticks for now; what runs goes on.", [_NAME, BY]),
            ("resume", self._resume, "Let it have ticks again.", [_NAME, BY]),
            *generation_methods.GenerationMethods(self.generations, self._companion.client).declared(),
            ("apply", self._editing.apply, "Let these be scripts from now on.", APPLY),
            ("versions", self._editing.versions, "What a script was, who changed it when, and how; the latest first.", [_FORMER]),
        ]
        for name, function, summary, params in methods:
            answer, scope = self._answering(function, params), _SCOPES.get(name, "read")
            self._companion.method(f"schedule.{name}", answer, summary=summary, params=params, scope=scope)

    def _answering(
        self, function: Callable[[dict[str, Any], Request], Any], params: list[dict[str, Any]]
    ) -> Callable[[Request], Any]:
        names = [str(one["name"]) for one in params]

        def answer(request: Request) -> Any:
            given = request.params
            if isinstance(given, list):
                given = dict(zip(names, given, strict=False))
            unknown = next((name for name in given if name not in names), None)
            if unknown is not None:
                raise _wrong(f"{request.method} has no parameter {unknown!r}", names)
            name, count = given.get("name"), given.get("count", 1)
            if not self.acting.acting.wait(ACTING):
                raise RequestError(codes.NOT_NOW, NOT_YET, data="try again")
            if name is not None and name not in self._scripts and _FORMER not in params:
                there = ", ".join(self._scripts) or "none"
                raise RequestError(codes.NOT_FOUND, f"there is no script {name!r}", data={"advice": f"there are: {there}"})
            missing = next((one["name"] for one in params if one.get("required") and given.get(one["name"]) is None), None)
            if missing is not None:
                raise _wrong(f"{request.method} needs the parameter {missing!r}", names)
            if type(count) is not int or not 1 <= count <= 1000:
                raise _wrong("count must be a whole number from 1 to 1000", names)
            if type(given.get("after", 0)) is not int:
                raise _wrong("after must be a whole number", names)
            return function({**given, "count": count}, request)

        return answer

    def _list(self, given: dict[str, Any], request: Request) -> Any:
        with self._ticking.lock:
            rows = [self._row(script, self._ticking.entries[name]) for name, script in self._scripts.items()]
        keys = [row["last_key"] for row in rows if row["last_key"]]
        records = self._records(keys)
        for row in rows:
            row["last_outcome"] = _outcome(records.get(row["last_key"]))
            row["generation"] = _progress(records.get(row["last_key"]))
        return rows

    def _records(self, keys: list[str]) -> dict[str, Any]:
        found = {key: generation_methods.record(one) for key in keys if (one := self.generations.store.get(key)) is not None}
        keys = [key for key in keys if key not in found]
        with self._companion.client() as client:
            answers = client.answers([("status", {"key": key}) for key in keys]) if keys else []
        return found | {key: answer for key, answer in zip(keys, answers, strict=True) if not isinstance(answer, RequestError)}

    def _row(self, script: Script, entry: Entry) -> dict[str, Any]:
        following = None if entry.paused else _after(script, entry.position)
        return {
            "name": script.name,
            "schedule": words.schedule(script),
            "when": script.when,
            "zone": script.zone,
            "next": _moment(following, script),
            "last": _moment(entry.last, script),
            "paused": bool(entry.paused),
            "owner": script.owner,
            "source": self._sources.said_of(script.name).source,
            "tags": list(script.tags),
            "target": script.order["target"],
            "command": list(script.command) or None,
            "app": script.order.get("app"),
            "misfire": script.misfire,
            "overlap": script.overlap,
            "depends_on": list(script.depends_on),
            "last_key": entry.last_key or None,
            **self.consumers.row(script.name),
        }

    def _next(self, given: dict[str, Any], request: Request) -> Any:
        names = [given["name"]] if given.get("name") else list(self._scripts)
        found = []
        for name in names:
            script, entry = self._scripts[name], self._ticking.entries[name]
            tick: int | None = max(entry.position, int(time.time()) - script.delay)
            for _ in range(given["count"]):
                if entry.paused or tick is None or (tick := _after(script, tick)) is None:
                    break
                found.append((tick, {"name": name, "at": _moment(tick, script), "zone": script.zone}))
        return [row for _, row in sorted(found, key=lambda one: one[0])]

    def _explain(self, given: dict[str, Any], request: Request) -> Any:
        script = self._scripts[given["name"]]
        found = effects(script, int(time.time()))
        return {
            "name": script.name,
            "schedule": words.schedule(script),
            "zone": script.zone,
            "changes": [{"at": _moment(one.at, script), "clock": one.clock, "effect": one.effect} for one in found],
        }

    def _show(self, given: dict[str, Any], request: Request) -> Any:
        script = self._scripts[given["name"]]
        limit = given["count"] if given["count"] > 1 else 20
        with self._ticking.lock:
            entry = self._ticking.entries[script.name]
            row = self._row(script, entry)
            accounts = self._store.accounts(script.name, limit)
            orders = self._store.orders(script.name, limit)
            going = list(entry.going)
        going += [one.key for one in self.generations.going_of(script.name) if one.key not in going]
        going += self.consumers.going(script.name)
        records = self._records([account.key for account in accounts if account.key] + going)
        row["last_outcome"] = _outcome(records.get(row["last_key"]))
        row["generation"] = _progress(records.get(row["last_key"]))
        order = {name: value for name, value in script.order.items() if name not in ("labels", "concurrency_key")}
        return {
            **row,
            "paused_by": entry.paused or None,
            "place": self._sources.said_of(script.name).place,
            "shadowed": [one._asdict() for one in self._sources.book.shadowed.get(script.name, [])],
            "jitter": script.delay,
            "order": order,
            "going": [key for key in going if _outcome(records.get(key)) in ("waiting", "running")],
            "by_hand": [{**one._asdict(), "at": _moment(int(one.at), script)} for one in orders],
            "ticks": [_account(account, script, records.get(account.key)) for account in accounts],
        }

    def _run(self, given: dict[str, Any], request: Request) -> Any:
        script = self._scripts[given["name"]]
        author = who(given, request)
        key = f"{script.name}!{uuid4().hex[:12]}"
        tick = {"script": script.name, "time": datetime.now(UTC).strftime(FORMAT)}
        if script.listed:
            self._ticking.ordered(script.name, key)
            self._note(script.name, "run", author, key)
            return generation_methods.begin_by_hand(self.generations, script, key, tick["time"])
        with self._companion.client() as client:
            record = client.request("run", {**script.order, "key": key, "tick": tick})
        self._ticking.ordered(script.name, key)
        self._note(script.name, "run", author, key)
        return record

    def _note(self, script: str, what: str, author: str, text: str = "") -> None:
        with self._ticking.lock:
            note(self._store, script, what, author, text)

    def _backfill(self, given: dict[str, Any], request: Request) -> Any:
        script, author = self._scripts[given["name"]], who(given, request)
        if script.timetable is None:
            raise RequestError(codes.INVALID_PARAMS, f"{script.name} has no schedule: there is nothing to fill")
        begin, end = (_said(given, name, script.timetable.zone) for name in ("from", "to"))
        end = min(end, int(time.time()))
        number = script.timetable.number(begin - 1, end)
        if number > BACKFILL:
            text = f"{script.name} has {number:,} ticks between these times, and {BACKFILL:,} can be filled at once"
            raise RequestError(codes.INVALID_PARAMS, text, data="choose a shorter time, and go on from its end")
        ticks = list(script.timetable.between(begin - 1, end))
        if script.listed:
            found = generation_methods.fill(self.generations, self._scripts, script.name, ticks)
        else:
            with self._companion.client() as client:
                found = Backfill(script, client).fill(ticks, again=bool(given.get("again")))
        span = f"{given['from']} to {given['to']}: {len(found['ordered']):,} ordered, {len(found['again']):,} again"
        self._note(script.name, "backfill", author, span)
        return found

    def _kill(self, given: dict[str, Any], request: Request) -> Any:
        author = who(given, request)
        with self._ticking.lock:
            going = list(self._ticking.entries[given["name"]].going)
        by = f"by {author}, {datetime.now(UTC).strftime(FORMAT)}"
        listed = [one.key for one in self.generations.going_of(given["name"])]
        for key in reversed(listed):  # or the next would begin when the one before it has ended
            self.generations.kill(key, by)
        going = [key for key in going if self.generations.store.get(key) is None]
        going += self.consumers.going(given["name"])
        with self._companion.client() as client:
            answers = client.answers([("terminate", {"key": key}) for key in going]) if going else []
        ended = [key for key, answer in zip(going, answers, strict=True) if not isinstance(answer, RequestError)]
        self._note(given["name"], "kill", author, ", ".join([*listed, *ended][:20]) or "nothing was running")
        return {"name": given["name"], "ended": listed + ended}

    def _pause(self, given: dict[str, Any], request: Request) -> Any:
        author = who(given, request)
        self._ticking.pause(given["name"], f"by {author}, {datetime.now(UTC).strftime(FORMAT)}")
        self._note(given["name"], "pause", author)
        self.acting.wake()
        return {"name": given["name"], "paused": True}

    def _resume(self, given: dict[str, Any], request: Request) -> Any:
        author = who(given, request)
        left_out = self._ticking.resume(given["name"])
        self._note(given["name"], "resume", author, f"{left_out:,} ticks were left out" if left_out else "")
        self.acting.wake()
        self.consumers.wake(given["name"])
        self.generations.resumed(given["name"])
        return {"name": given["name"], "paused": False, "left_out": left_out}


def _said(given: dict[str, Any], name: str, zone: tzinfo) -> int:
    """A time that a client gives, by the clock of the script's zone where it names none. Raises RequestError."""
    text = given[name]
    try:
        found = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise RequestError(codes.INVALID_PARAMS, f"{name} is no time: write 2026-01-31T03:00:00+01:00, or 2026-01-31") from None
    if len(text) == 10 and name == "to":
        found += timedelta(days=1, seconds=-1)
    return int((found if found.tzinfo else found.replace(tzinfo=zone)).timestamp())


def _wrong(message: str, names: list[str]) -> RequestError:
    return RequestError(codes.INVALID_PARAMS, message, data={"advice": f"parameters: {', '.join(names) or 'none'}"})


def _after(script: Script, instant: int) -> int | None:
    return script.timetable.after(instant) if script.timetable else None


def _moment(instant: int | None, script: Script) -> str | None:
    if instant is None:
        return None
    return words.moment(instant, script.timetable.zone if script.timetable else UTC)


def _outcome(record: dict[str, Any] | None) -> str | None:
    return None if record is None else record["outcome"] or record["state"]


def _progress(record: dict[str, Any] | None) -> dict[str, Any] | None:
    one = (record or {}).get("generation")
    return generation.progress(one) if isinstance(one, generation.Generation) else None


def _account(account: Account, script: Script, record: dict[str, Any] | None) -> dict[str, Any]:
    verdict = account.verdict
    return {
        "what": verdict.what,
        "first": _moment(verdict.first, script),
        "last": _moment(verdict.last, script),
        "count": verdict.number,
        "reason": verdict.reason or None,
        "key": account.key or None,
        "outcome": _outcome(record),
        "at": words.moment(int(account.at), script.timetable.zone if script.timetable else UTC),
        "marks": marks(script, verdict.first, record or {}, time.time()) if account.key else [],
    }


def defined(settings: dict[str, Any]) -> dict[str, Script]:
    """The scripts of the configuration. Raises CannotAttend, which says what is wrong with them, each with its line."""
    scripts, problems = define_all(settings, {}, system_zone(), socket.gethostname())
    if problems:
        try:
            places = config.load(settings["file"]).places
        except ConfigError:
            places = {}
        raise CannotAttend("\n".join(define_all(settings, places, system_zone())[1]))
    return scripts


def serve(companion: Companion) -> None:
    """Be the companion."""
    consumers = {name: consumer.define(name, said) for name, said in companion.settings.get("consumers", {}).items()}
    scheduler = Scheduler(companion, defined(companion.settings), consumers)
    scheduler.declare()
    companion.hears_code(scheduler.acting.hear)
    companion.ready()
    scheduler.acting.start()
    companion.serve()
    scheduler.consumers.leave()
    scheduler.acting.leave()
    scheduler.client.close()
