"""The companion ``profiler``: where the time of a run goes, as a flame graph, of one that runs or of all of a target for a while.

What must live here: its methods, whom it looks at, the flags that end by themselves, and what it keeps.
What this file must not know: how a process is looked at (``profiling``), what becomes of stacks (``flames``).

It is an ordinary client, and looks at workers from beside: neither the master nor the worker does anything for it, and a job is
slowed down only while it is looked at.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

from rocksyd import codes
from rocksyd.companions import flames
from rocksyd.companions.companion import CannotAttend, Companion, Request
from rocksyd.companions.profile_store import Profile, Profiles
from rocksyd.companions.profiling import CannotProfile, Look, program
from rocksyd.core import schema
from rocksyd.errors import NotFound, RequestError, RocksydError
from rocksyd.posix.log import log
from rocksyd.units import format_duration, parse_duration

AT_ONCE = 4
"""Runs that are looked at at the same time."""
SECONDS, LONGEST = 10.0, 600.0
"""For which a run is looked at if nothing else is said, and at most."""
RATE, FASTEST = 100, 1000
"""Looks a second."""
FLAG, LONGEST_FLAG = 3600.0, 7 * 86_400.0
"""Seconds for which all runs of a target are looked at if nothing else is said, and at most."""
WAIT = 20.0
"""Seconds for which an answer waits, at most."""
MOST = 2 << 20
"""Characters of stacks in an answer; the daemon passes on 4 MiB."""
FUNCTIONS = 100
"""Functions that are told beside the stacks."""
_PAUSE = 1.0

_TEXT: dict[str, Any] = {"type": "string", "minLength": 1}
_SPAN: dict[str, Any] = {"type": ["number", "string"]}


def _param(name: str, schema: dict[str, Any], text: str, *, required: bool = False) -> dict[str, Any]:
    return {"name": name, "schema": schema, "description": text, "required": required}


_TARGET = _param("target", _TEXT, "a target, as it is ordered")
_SCRIPT = _param("script", _TEXT, "or a script")
_FOR = _param("seconds", _SPAN, f"for how long a run is looked at, at most; {format_duration(SECONDS)} if left out")
_RATE = _param("rate", {"type": "integer", "minimum": 1, "maximum": FASTEST}, f"looks a second; {RATE} if left out")
_IDLE = _param("idle", {"type": "boolean"}, "also threads that wait")
_FORMAT = _param("format", {"enum": ["stacks", "svg"]}, "collapsed stacks, a line each (if left out), or a picture")


class Profiler:
    """Who is looked at, and the methods."""

    def __init__(self, companion: Companion) -> None:
        self._companion = companion
        self._profiles = Profiles(companion.settings["folder"])
        self._changed = threading.Condition()
        """Guards what follows; told when something of it changes."""
        self._going: dict[str, Look | None] = {}
        """Runs that are looked at by their keys; None: not yet."""
        self._listening: dict[str, bool] = {}
        """Flags whose runs are to be heard of, and whether they are."""
        self._leaving = False

    def declare(self) -> None:
        """Add the methods to the protocol."""
        many = [_TARGET, _SCRIPT]
        span = _param("for", _SPAN, "for how long; an hour if left out")
        wait = _param("wait", _SPAN, f"until what is looked at has been, at most {format_duration(WAIT)}")
        key = _param("key", _TEXT, "the run")
        for name, function, params, scope, summary in (
            ("start", self._start, [{**key, "required": True}, _FOR, _RATE, _IDLE], "run", "Look where the time of a run goes."),
            ("get", self._get, [key, *many, _FORMAT, wait], "read", "Where the time of a run went, or of all of a target."),
            ("list", self._list, [], "read", "What was looked at and is kept, the latest first, and what is looked at."),
            ("flag", self._flag, [*many, span, _FOR, _RATE, _IDLE], "run", "Look at all runs of a target for a while."),
            ("unflag", self._unflag, many, "run", "Do so no longer."),
            ("flags", self._flags, [], "read", "Of which targets all runs are looked at, and until when."),
        ):  # fmt: skip
            self._companion.method(f"profile.{name}", _named(function, params), summary=summary, params=params, scope=scope)  # type: ignore[arg-type]

    # --- one run ------------------------------------------------------------------------------------------------------
    def _start(self, given: dict[str, Any]) -> dict[str, Any]:
        seconds, rate, idle = _how(given)
        with self._companion.client() as client:
            record = client.request("status", {"key": given["key"]})
        self.look_at(record, seconds, rate, idle=idle)
        return {"key": record["key"], "state": "looking", "seconds": seconds}

    def look_at(self, record: dict[str, Any], seconds: float, rate: int, *, idle: bool) -> None:
        """Begin to look at a run; one that is looked at stays that. Raises RequestError."""
        key = record["key"]
        if record["state"] != "running" or not record.get("pid"):
            raise RequestError(codes.NOT_NOW, f"run {key!r} does not run", data="only what runs can be looked at")
        with self._changed:
            if key in self._going:
                return
            if len(self._going) >= AT_ONCE:
                text = f"{AT_ONCE} runs are looked at now, and no more are at the same time"
                raise RequestError(codes.TOO_BUSY, text, data="try again in a moment")
            self._going[key] = None
        threading.Thread(target=self._watch, args=(record, seconds, rate, idle), name=f"look {key}", daemon=True).start()

    def _watch(self, record: dict[str, Any], seconds: float, rate: int, idle: bool) -> None:
        key, began = record["key"], time.time()
        profile = Profile(key, record["target"], (record.get("tick") or {}).get("script", ""), record["pid"], began)
        try:
            look = Look(record["pid"], seconds, rate, idle=idle)
            with self._changed:
                self._going[key] = look
                if self._leaving:
                    look.end()
            threading.Thread(target=self._until_its_end, args=(key, seconds, look), name=f"end {key}", daemon=True).start()
            stacks = look.stacks()
            profile = profile._replace(
                stacks=stacks, reason="" if stacks else "nothing ran in it: it waited all the time (`idle`)"
            )
        except CannotProfile as error:
            profile = profile._replace(reason=str(error))
        except Exception as error:  # noqa: BLE001  (whoever asked is told, whatever it is)
            profile = profile._replace(reason=f"{type(error).__name__}: {error}")
        try:
            self._profiles.keep(profile._replace(seconds=round(time.time() - began, 3)))
        except OSError as error:
            log("profiler", f"what was seen of run {key} cannot be kept: {error}")
        with self._changed:
            del self._going[key]
            self._changed.notify_all()

    def _until_its_end(self, key: str, seconds: float, look: Look) -> None:
        """A worker goes on with other runs: what is seen then is not this one's."""
        try:
            with self._companion.client(timeout=seconds + 30.0) as client:
                for _ in client.wait(key, timeout=seconds):
                    look.end()
        except RocksydError:
            return  # it goes on, and the time is over; or the daemon is gone, and its time will be

    # --- what was seen ------------------------------------------------------------------------------------------------
    def _get(self, given: dict[str, Any]) -> dict[str, Any]:
        chosen = _one_of(given, ("key", "target", "script"))
        wait = min(WAIT, _seconds(given, "wait", 0.0))
        if chosen == "key":
            with self._changed:
                done = self._changed.wait_for(lambda: given["key"] not in self._going, wait)
            if not done:
                return {"key": given["key"], "state": "looking"}
        found = self._profiles.found(chosen, given[chosen])
        if not found:
            text = (
                f"no run of {chosen} {given[chosen]!r} was looked at"
                if chosen != "key"
                else f"run {given['key']!r} was not looked at"
            )
            raise NotFound(
                codes.NOT_FOUND, text, data={"advice": "profile.start looks at a run, profile.flag at those of a target"}
            )
        stacks = sum((one.stacks for one in found), flames.Stacks())
        text, left = flames.write(stacks, MOST)
        if given.get("format") == "svg":
            text = flames.svg(stacks, str(given[chosen]))
            if len(text) > MOST:
                raise RequestError(codes.INTERNAL_ERROR, "the picture is too large", data="ask for the stacks")
        latest = found[0]
        return {
            **latest.row(), "state": "done", "profiles": len(found), "samples": stacks.total(), "left_out": left,
            "functions": [list(one) for one in flames.totals(stacks)[:FUNCTIONS]], given.get("format", "stacks"): text,
        }  # fmt: skip

    def _list(self, given: dict[str, Any]) -> dict[str, Any]:
        with self._changed:
            looking = list(self._going)
        return {"looking": looking, "profiles": [one.row() for one in self._profiles.all()]}

    # --- flags --------------------------------------------------------------------------------------------------------
    def _flag(self, given: dict[str, Any]) -> dict[str, Any]:
        chosen = _one_of(given, ("target", "script"))
        span = _seconds(given, "for", FLAG)
        if not 0 < span <= LONGEST_FLAG:
            raise RequestError(codes.INVALID_PARAMS, f"for must be more than 0 and at most {format_duration(LONGEST_FLAG)}")
        seconds, rate, idle = _how(given)
        row = {chosen: given[chosen], "until": time.time() + span, "seconds": seconds, "rate": rate, "idle": idle}
        try:
            self._profiles.put_flag(f"{chosen}:{given[chosen]}", row)
        except OSError as error:
            raise RequestError(codes.NOT_NOW, f"that cannot be written down: {error}", data="make room in state_dir") from error
        self.begin()
        with self._changed:  # a run that is ordered from now on is looked at
            self._changed.wait_for(lambda: self._listening.get(f"{chosen}:{given[chosen]}", True), WAIT)
        return row

    def _unflag(self, given: dict[str, Any]) -> dict[str, Any]:
        chosen = _one_of(given, ("target", "script"))
        return {"removed": self._profiles.drop_flag(f"{chosen}:{given[chosen]}")}

    def _flags(self, given: dict[str, Any]) -> list[dict[str, Any]]:
        return list(self._profiles.flags(time.time()).values())

    def begin(self) -> None:
        """Hear of the runs of all that are flagged."""
        with self._changed:
            for name in self._profiles.flags(time.time()).keys() - self._listening.keys():
                self._listening[name] = False
                threading.Thread(target=self._listen, args=(name,), name=f"flag {name}", daemon=True).start()

    def _listen(self, name: str) -> None:
        """Look at what begins. The first that begins after the flag's end is not looked at, and ends this."""
        while (flag := self._flag_of(name)) is not None:
            wanted = {"target": flag["target"]} if "target" in flag else {"labels": {"script": flag["script"]}}
            try:
                with self._companion.client() as client, client.subscribe(events=["run.started"], **wanted) as news:
                    with self._changed:
                        self._listening[name] = True
                        self._changed.notify_all()
                    for event in news:
                        flag = self._flag_of(name)
                        if flag is None:
                            break
                        with contextlib.suppress(RequestError):  # it has ended, or too many are looked at
                            self.look_at(event.record, flag["seconds"], flag["rate"], idle=flag["idle"])
            except RocksydError as error:
                log("profiler", f"what begins cannot be heard, tried again: {error}")
                time.sleep(_PAUSE)

    def _flag_of(self, name: str) -> dict[str, Any] | None:
        with self._changed:
            flag = None if self._leaving else self._profiles.flags(time.time()).get(name)
            if flag is None:
                self._listening.pop(name, None)
            return flag

    def leave(self) -> None:
        """Keep what was seen up to now."""
        with self._changed:
            self._leaving = True
            for look in self._going.values():
                if look is not None:
                    look.end()
            self._changed.wait_for(lambda: not self._going, 5.0)


def _named(function: Any, params: list[dict[str, Any]]) -> Any:
    """A method whose parameters come by name or in order, and are known and of the right kind."""
    schemas = {str(one["name"]): one["schema"] for one in params}

    def answer(request: Request) -> Any:
        given = dict(zip(schemas, request.params, strict=False)) if isinstance(request.params, list) else request.params
        for name, value in given.items():
            if name not in schemas:
                advice = f"parameters: {', '.join(schemas)}"
                raise RequestError(codes.INVALID_PARAMS, f"{request.method} has no parameter {name!r}", data={"advice": advice})
            if trouble := schema.problem(value, schemas[name], name):
                raise RequestError(codes.INVALID_PARAMS, trouble, data={"parameter": name})
        missing = next((one["name"] for one in params if one.get("required") and one["name"] not in given), None)
        if missing is not None:
            raise RequestError(
                codes.INVALID_PARAMS, f"{request.method} needs the parameter {missing!r}", data={"parameter": missing}
            )
        return function(given)

    return answer


def _one_of(given: dict[str, Any], names: tuple[str, ...]) -> str:
    found = [name for name in names if name in given]
    if len(found) != 1:
        raise RequestError(codes.INVALID_PARAMS, f"name one of {', '.join(names)}")
    return found[0]


def _seconds(given: dict[str, Any], name: str, otherwise: float) -> float:
    try:
        return parse_duration(given[name]) if name in given else otherwise
    except ValueError as error:
        raise RequestError(codes.INVALID_PARAMS, f"{name}: {error}", data={"parameter": name}) from None


def _how(given: dict[str, Any]) -> tuple[float, int, bool]:
    seconds = _seconds(given, "seconds", SECONDS)
    if not 1 <= seconds <= LONGEST:
        raise RequestError(
            codes.INVALID_PARAMS, f"seconds must be from 1s to {format_duration(LONGEST)}", data={"parameter": "seconds"}
        )
    return seconds, given.get("rate", RATE), given.get("idle", False)


def serve(companion: Companion) -> None:
    """Be the companion."""
    if not program():
        raise CannotAttend("[profiler] needs py-spy, which is not there: pip install rocksyd[profiler]")
    profiler = Profiler(companion)
    profiler.declare()
    companion.ready()
    profiler.begin()
    companion.serve()
    profiler.leave()
