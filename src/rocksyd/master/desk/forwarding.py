"""Requests that the master passes on to companions, and the way back of the answers.

What must live here: who asked what of which companion, until when, and how much of that there may be.
What this file must not know: how a companion is started and spoken to (``companions``), what its methods mean.

A request is answered once: by the companion, or with -32005 when its time is over or the process that had it is gone. Across a
restart the table goes with the snapshot, and the process of the old generation answers what it was asked before it leaves.
"""

from __future__ import annotations

import json
import time
from dataclasses import astuple, dataclass
from typing import Any

from rocksyd import codes
from rocksyd import messages as m
from rocksyd.core.companions import READY
from rocksyd.errors import RequestError
from rocksyd.master.desk.replies import Replies
from rocksyd.master.desk.waiters import Caller
from rocksyd.master.staff.companions import Companions, Process
from rocksyd.units import format_duration

TIMEOUT = 30.0
"""Seconds in which a companion has to answer."""
MOST = 1000
"""Requests under way with one companion, those included that it has not answered in time."""
MOST_BYTES = 16 << 20
"""Bytes of their parameters."""
MOST_ANSWERED = 4 << 20
"""Bytes of one answer."""


@dataclass(slots=True)
class Question:
    """One request that a companion has not answered."""

    caller: Caller
    companion: str
    process: str
    """The title of the process that was asked."""
    deadline: float
    size: int
    late: bool = False
    """Whether the client has been told that it takes too long; an answer is then heard and dropped."""


class Forwarding:
    """The requests under way, by number."""

    def __init__(self, companions: Companions, replies: Replies) -> None:
        self._companions = companions
        self._replies = replies
        self._asked: dict[int, Question] = {}
        self._last = 0
        companions.replied = self.replied
        companions.gone = self.gone

    def has(self, method: str) -> bool:
        """Whether the method is in a companion's namespace."""
        return bool(self._holder(method))

    def ask(self, caller: Caller, method: str, params: Any, who: tuple[bool, str, str]) -> None:
        """Pass a request on. ``who``: whether the client is trusted, the address it came to, who it is. Raises RequestError."""
        name = self._holder(method)
        life = self._companions.lives[name]
        known = self.methods()
        if life.state == READY and method not in known:
            there = ", ".join(sorted(other for other in known if self._holder(other) == name))
            raise RequestError(codes.METHOD_NOT_FOUND, "Method not found", data=f"{method!r}; the companion {name} has: {there}")
        if known.get(method, {}).get("trusted") and not who[0]:
            raise RequestError(codes.NOT_ALLOWED, "only the daemon's own user or root may order that")
        size = len(json.dumps(params))
        under_way = [question for question in self._asked.values() if question.companion == name]
        if len(under_way) >= MOST or sum(question.size for question in under_way) + size > MOST_BYTES:
            text = f"the companion {name} has {len(under_way)} requests to answer"
            raise RequestError(codes.TOO_BUSY, text, data="wait for some of them; `rocksyd health` shows how it is")
        self._last += 1
        process = self._companions.ask(name, m.Ask(self._last, method, params, *who))
        if process is None:
            reason = f": {life.reason.splitlines()[0]}" if life.reason else ""
            text = f"the companion {name} is {life.state}{reason}"
            raise RequestError(codes.NOT_NOW, text, data="try again later; `rocksyd health` shows how it is")
        self._asked[self._last] = Question(caller, name, process.title, time.monotonic() + TIMEOUT, size)

    def _holder(self, method: str) -> str:
        """The companion in whose namespace the method is; "" for none."""
        namespace = method.partition(".")[0]
        configured = self._companions.configured
        return next((name for name, companion in configured.items() if companion.namespace == namespace), "")

    def methods(self) -> dict[str, dict[str, Any]]:
        """The methods of companions that are ready, with their descriptions."""
        lives, serving = self._companions.lives, self._companions.serving
        ready = (process for name, process in serving.items() if lives[name].state == READY)
        return {method: described for process in ready for method, described in process.methods.items()}

    def replied(self, process: Process, reply: m.Reply) -> str:
        """An answer has come; returns what is wrong with it, and then nobody has been answered."""
        question = self._asked.get(reply.number)
        if question is None or question.process != process.title:
            return f"for request {reply.number}, which it has not been asked or has answered"
        wrong = _wrong(reply)
        if wrong:
            return wrong
        del self._asked[reply.number]
        if question.late:
            return ""
        if reply.error is not None:
            code, message, data = (reply.error.get(name) for name in ("code", "message", "data"))
            self._fail(question.caller, RequestError(int(str(code)), str(message), data=data))
            return ""
        try:
            self._replies.answer(question.caller, reply.result)
        except Exception as error:  # noqa: BLE001  (the barrier: the companion has done nothing wrong)
            self._replies.broken(question.caller.client, error)
        return ""

    def _fail(self, caller: Caller, error: RequestError) -> None:
        try:
            self._replies.fail(caller, error, waited=True)
        except Exception as broken:  # noqa: BLE001  (the barrier: the others are told all the same)
            self._replies.broken(caller.client, broken)

    def gone(self, process: Process, how: str) -> None:
        """This process will answer nothing further."""
        for number in [number for number, question in self._asked.items() if question.process == process.title]:
            question = self._asked.pop(number)
            if not question.late:
                text = f"the companion {question.companion} has ended without an answer: {how.splitlines()[0]}"
                self._fail(question.caller, _unknown(text))

    # --- time ---------------------------------------------------------------------------------------------------------
    def next_deadline(self) -> float | None:
        """CLOCK_MONOTONIC seconds; None for never."""
        if not self._asked:
            return None
        return min((question.deadline for question in self._asked.values() if not question.late), default=None)

    def on_time(self, now: float) -> None:
        """Tell those who have waited long enough."""
        for question in self._asked.values():
            if not question.late and now >= question.deadline:
                question.late = True
                text = f"the companion {question.companion} has not answered for {format_duration(TIMEOUT)}"
                self._fail(question.caller, _unknown(text))

    # --- the hand-over ------------------------------------------------------------------------------------------------
    def dump(self) -> dict[str, Any]:
        """The table, for the next master."""
        return {"last": self._last, "asked": [[number, *astuple(question)] for number, question in self._asked.items()]}

    def load(self, state: dict[str, Any]) -> None:
        """Go on with the table of the master before."""
        self._last = int(state.get("last", 0))
        for number, caller, companion, process, deadline, size, late, *_ in state.get("asked", ()):
            self._asked[number] = Question(Caller(*caller[:4]), companion, process, deadline, size, late)
        here = self._companions.processes
        for title in {question.process for question in self._asked.values()} - here.keys():
            self.gone(Process(self._companions, "", title, None), "it is not there any more")


def _unknown(text: str) -> RequestError:
    return RequestError(codes.NOT_NOW, text, data="whether it did what was asked is not known")


def _wrong(reply: m.Reply) -> str:
    """What is wrong with an answer."""
    try:
        size = len(json.dumps([reply.result, reply.error], allow_nan=False))
    except (ValueError, RecursionError):
        return "with what is not JSON"
    if size > MOST_ANSWERED:
        return f"of {size} bytes; {MOST_ANSWERED} are allowed"
    error = reply.error
    if error is not None and (type(error.get("code")) is not int or not isinstance(error.get("message"), str)):
        return "with an error that has no code or no message"
    return ""
