"""The methods that order runs, ask for them and wait for them.

What must live here: what each of these methods is to the engine, and the answers that come later.
What this file must not know: what is decided about a run; how a reply reaches a client (``replies``).
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from rocksyd import codes, ticks
from rocksyd.core import events as ev
from rocksyd.core import reasons
from rocksyd.core.engine import not_found
from rocksyd.errors import RequestError
from rocksyd.master.desk.endings import Endings
from rocksyd.master.desk.lists import Lists
from rocksyd.master.desk.pieces import Work
from rocksyd.master.desk.replies import Replies
from rocksyd.master.desk.rpc import LATER, Rpc
from rocksyd.master.desk.waiters import Caller, Waiter, Waiters
from rocksyd.master.staff.left_behind import LeftBehind
from rocksyd.master.staff.stacks import Stacks
from rocksyd.master.turn import Turn
from rocksyd.model import ENDED, WAITING, Now, Run
from rocksyd.options import ORDERED
from rocksyd.units import parse_duration


class Runs:
    """Callers' runs."""

    def __init__(self, turn: Turn, waiters: Waiters, replies: Replies, stacks: Stacks, left_behind: LeftBehind) -> None:
        self._turn = turn
        self._waiters = waiters
        self._replies = replies
        self._stacks = stacks
        self._left_behind = left_behind
        self._prefix = uuid4().hex[:20]
        """Begins every key that this master makes up; with a number behind it as unlike any other as a UUID, and cheaper."""
        self._keys = 0
        self.lists = Lists(turn, replies)
        self.endings = Endings(turn, waiters, replies)

    def serve(self, rpc: Rpc) -> None:
        """Serve these methods."""
        rpc.serves("run", self._run)
        rpc.serves("call", self._call)
        rpc.serves("status", lambda caller, params: self.lists.shown(self.known(params["key"])))
        self.lists.serve(rpc)
        rpc.serves("wait", self._wait)
        rpc.serves("terminate", self._terminate)
        rpc.serves("free", lambda caller, params: self._by_key(params["key"], ev.Free, caller))
        rpc.serves("retry", lambda caller, params: self._by_key(params["key"], ev.Retry, caller))
        rpc.serves("edit", self._edit)
        rpc.serves("why", self._why)
        rpc.serves("stack", self._stack)
        rpc.serves("left_behind", lambda caller, params: self._left_behind.processes())

    # --- orders -------------------------------------------------------------------------------------------------------
    def _run(self, caller: Caller, params: dict[str, Any]) -> Any:
        event = self._submission(params)
        self._turn.order(event, lambda answer: self._accepted(caller, answer))
        return LATER

    def _call(self, caller: Caller, params: dict[str, Any]) -> Any:
        unnamed = "key" not in params and "tick" not in params and not caller.notify
        event = self._submission(params, unnamed=unnamed)

        def accepted(answer: ev.Answer) -> None:
            if answer.run is None:
                self._accepted(caller, answer)
            elif answer.run.state == ENDED or answer.run.attempt.answered_at:
                self.endings.tell(Waiter(caller, event.key, call=True), answer.run)
            elif not caller.notify:
                self._waiters.wait(Waiter(caller, event.key, call=True))

        self._turn.order(event, accepted)
        return LATER

    def _submission(self, params: dict[str, Any], *, unnamed: bool = False) -> ev.Submit:
        if "tick" in params:
            try:
                params = {"key": ticks.key_of(ticks.read(params["tick"])), **params}
            except ValueError as error:
                raise RequestError(codes.INVALID_PARAMS, f"tick: {error}", data={"parameter": "tick"}) from error
        return submission(self._key(params), params, unnamed=unnamed)

    def _key(self, params: dict[str, Any]) -> str:
        key: str = params.get("key", "")
        if key:
            self._turn.lookup(key)
            return key
        self._keys += 1
        return f"{self._prefix}{self._keys:012x}"

    def _by_key(self, key: str, make: Callable[[str], Any], caller: Caller) -> Any:
        self._turn.lookup(key)
        self._turn.order(make(key), lambda answer: self._accepted(caller, answer))
        return LATER

    def _terminate(self, caller: Caller, params: dict[str, Any]) -> Any:
        number = _signal(params.get("signal", "TERM"))
        return self._by_key(params["key"], lambda key: ev.Terminate(key, number), caller)

    def _edit(self, caller: Caller, params: dict[str, Any]) -> Any:
        changes = {name: value for name, value in params.items() if name != "key"}
        return self._by_key(params["key"], lambda key: ev.Edit(key, changes), caller)

    def _accepted(self, caller: Caller, answer: ev.Answer) -> None:
        try:
            if answer.error is not None:
                self._replies.fail(caller, answer.error, waited=True)
            elif answer.known:
                self._replies.answer(caller, {"key": answer.known, "known": True})
            else:
                assert answer.run is not None
                self._replies.answer(caller, answer.run.record())
        except Exception as error:  # noqa: BLE001  (the barrier)
            self._replies.broken(caller.client, error)

    # --- questions ----------------------------------------------------------------------------------------------------
    def known(self, key: str) -> Run:
        """The run under this key. Raises RequestError when there is none."""
        run = self._turn.lookup(key)
        if run is None:
            raise not_found(key)
        return run

    def _why(self, caller: Caller, params: dict[str, Any]) -> Work:
        run, engine = self.known(params["key"]), self._turn.engine
        ahead = (yield from reasons.ahead_of(engine, run)) if run.state == WAITING else None
        found = reasons.why(engine, run, Now(time.monotonic(), time.time()), self._awaited, ahead=ahead)
        if run.state == ENDED and run.order.log:
            left = yield from self._left_behind.processes(run.order.log)
            found["reasons"] += [reasons.left_behind(one)._asdict() for one in left]
        return found

    def _awaited(self) -> dict[int, list[str]]:
        """By process group: keys of the runs that its processes wait for. A worker leads the group of all that its run starts."""
        found: dict[int, list[str]] = {}
        for client, keys in self._waiters.awaited():
            group = self._replies.group_of(client)
            if group:
                found.setdefault(group, []).extend(keys)
        return found

    def _stack(self, caller: Caller, params: dict[str, Any]) -> Any:
        run = self.known(params["key"])

        def told(text: str, trouble: str) -> None:
            if trouble:
                error = RequestError(codes.NOT_NOW, trouble, data="rocksyd why says how the run is")
                self._replies.fail(caller, error, waited=True)
            else:
                self._replies.answer(caller, {"key": run.key, "pid": run.attempt.pid, "text": text})

        self._stacks.ask(run, told)
        return LATER

    # --- the end of a run ---------------------------------------------------------------------------------------------
    def _wait(self, caller: Caller, params: dict[str, Any]) -> Any:
        run = self.known(params["key"])
        if run.state == ENDED or caller.notify:
            return run.record()
        deadline = 0.0
        if "timeout" in params:
            deadline = time.monotonic() + _duration(params["timeout"], "timeout")
        self._waiters.wait(Waiter(caller, run.key, deadline=deadline))
        return LATER


def submission(key: str, params: dict[str, Any], *, unnamed: bool = False) -> ev.Submit:
    """The event that orders a run under ``key``, from the parameters of ``run`` and ``call``."""
    options = {name: params[name] for name in ORDERED if name in params}
    return ev.Submit(key, params["target"], params.get("params", []), params.get("app"), options, True, "", unnamed)


def _signal(value: Any) -> int:
    """A signal's number, from itself or from its name with or without SIG."""
    if isinstance(value, str):
        value = signal.Signals.__members__.get("SIG" + value.upper().removeprefix("SIG"))
    if isinstance(value, int) and not isinstance(value, bool) and value in signal.valid_signals():
        return int(value)
    raise RequestError(codes.INVALID_PARAMS, "signal must be the name or number of a signal, such as TERM, KILL or 15")


def _duration(value: Any, name: str) -> float:
    try:
        return parse_duration(value)
    except ValueError as error:
        raise RequestError(codes.INVALID_PARAMS, f"{name}: {error}") from error
