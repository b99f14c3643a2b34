"""JSON-RPC 2.0: one small function a method.

What must live here: what serves each method, where replies go.
What this file must not know: bytes (``wire``), decisions (``core``); what a method takes and who may call it (``methods``).

A reply carries its request's id and may come in any order. A method that is answered later returns LATER.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from rocksyd import __version__
from rocksyd.core import events as ev
from rocksyd.core import outcome, reasons
from rocksyd.core.engine import not_found
from rocksyd.errors import JournalError, RequestError
from rocksyd.journal.store import Filter
from rocksyd.master import methods, openrpc
from rocksyd.master.clients import Client
from rocksyd.master.methods import EVENTS, INVALID_PARAMS
from rocksyd.master.orders import Requester
from rocksyd.master.waiters import Caller, Follower, Subscriber, Waiter
from rocksyd.model import ENDED, OK, Now, Run
from rocksyd.units import parse_duration
from rocksyd.wire import encode, jsonrpc, requests

if TYPE_CHECKING:
    from rocksyd.master.server import Server

JOB_FAILED = -32000
LATER = object()
_OPTIONS = ("priority", "timeout", "start_within", "delay", "retries", "env", "labels", "each", "concurrency_key")
_LOCKED = "not authorised: call auth with the token first"
MOST_WAITS = 20_000
"""Replies that one connection may wait for: each costs memory until it is given."""
MOST_REPLIED = 16 << 20
"""Bytes of replies in one batch."""


class Rpc:
    """The methods, and the way back to whoever called."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._batch = 0
        self._prefix = uuid4().hex[:20]
        """Begins every key that this master makes up; with a number behind it as unlike any other as a UUID, and cheaper."""
        self._keys = 0
        self._serve: dict[str, Callable[[Caller, dict[str, Any]], Any]] = {
            "run": self._run,
            "call": self._call,
            "status": self._status,
            "list": self._list,
            "wait": self._wait,
            "terminate": self._terminate,
            "free": self._free,
            "retry": self._retry,
            "logs": self._logs,
            "why": self._why,
            "stack": self._stack,
            "subscribe": self._subscribe,
            "targets": self._targets,
            "stats": self._stats,
            "pools": self._pools,
            "health": self._health,
            "restart": self._restart,
            "reload": self._reload,
            "stop": self._stop,
            "drain": self._drain,
            "auth": self._auth,
            "rpc.discover": self._discover,
        }

    # --- in -----------------------------------------------------------------------------------------------------------
    def call(self, client: Client, request: requests.Call, batch: int = 0) -> None:
        """One request."""
        caller = Caller(client.number, request.id, batch, request.notify)
        try:
            if not client.authorised and request.method != "auth":
                raise RequestError(encode.NOT_ALLOWED, _LOCKED, data="the token is in the daemon's token_file")
            method = methods.METHODS.get(request.method)
            if method is None:
                known = ", ".join(sorted(methods.METHODS))
                raise RequestError(encode.METHOD_NOT_FOUND, "Method not found", data=f"{request.method!r}; there are: {known}")
            if method.trusted and not client.trusted:
                raise RequestError(encode.NOT_ALLOWED, "only the daemon's own user or root may order that")
            if self._waits(client) >= MOST_WAITS:
                text = f"{MOST_WAITS} replies and news are still to come on this connection"
                raise RequestError(encode.TOO_BUSY, text, data="wait for some of them, or use another connection")
            result = self._serve[request.method](caller, methods.arguments(request.method, method, request.params))
        except RequestError as error:
            return self.fail(caller, error)
        except JournalError as error:
            return self.fail(caller, RequestError(encode.INTERNAL_ERROR, "the journal cannot be read", data=str(error)))
        if result is LATER:
            client.waits += not request.notify and not batch
            return None
        return self.answer(caller, result, waited=False)

    def _waits(self, client: Client) -> int:
        """How much is still to come for a client, at most."""
        return client.waits + jsonrpc.MAX_BATCH * len(client.batches) + self._server.waiters.listening.get(client.number, 0)

    def batch(self, client: Client, request: requests.Batch) -> None:
        """Several at once, answered as one array when the last is answered."""
        self._batch = max([self._batch, *client.batches]) + 1
        number = self._batch
        expected = sum(1 for call in request.calls if isinstance(call, requests.Answer) or not call.notify)
        state: list[Any] = [expected, []]
        client.batches[number] = state
        for call in request.calls:
            if isinstance(call, requests.Answer):
                self._into_batch(client, number, call.data)
            elif sum(map(len, state[1])) > MOST_REPLIED:
                text = f"the replies to this batch have {MOST_REPLIED} bytes already"
                error = RequestError(encode.TOO_BUSY, text, data="send it in parts")
                self.fail(Caller(client.number, call.id, number, call.notify), error)
            else:
                self.call(client, call, number)
        if not expected:
            del client.batches[number]

    # --- out ----------------------------------------------------------------------------------------------------------
    def answer(self, caller: Caller, result: Any, *, waited: bool = True) -> None:
        """The result, to whoever called."""
        self._reply(caller, waited, lambda: encode.rpc_result(caller.id, result))

    def fail(self, caller: Caller, error: RequestError, *, waited: bool = False) -> None:
        """The error, to whoever called."""
        self._reply(caller, waited, lambda: encode.rpc_error(caller.id, error.code, str(error), error.data))

    def _reply(self, caller: Caller, waited: bool, make: Callable[[], bytes]) -> None:
        client = self._server.clients.by_number.get(caller.client)
        if client is None or caller.notify:
            return None
        if caller.batch:
            return self._into_batch(client, caller.batch, make())
        client.waits -= waited
        return client.send(make())

    @staticmethod
    def _into_batch(client: Client, number: int, data: bytes) -> None:
        state = client.batches[number]
        state[1].append(data)
        if len(state[1]) == state[0]:
            del client.batches[number]
            client.send(encode.rpc_batch(state[1]))

    def notify(self, client: int, method: str, params: dict[str, Any]) -> None:
        """A notification to a client, if it is still there."""
        found = self._server.clients.by_number.get(client)
        if found is not None:
            found.send(encode.rpc_notification(method, params))

    # --- runs ---------------------------------------------------------------------------------------------------------
    def _run(self, caller: Caller, params: dict[str, Any]) -> Any:
        event = self._submission(params)
        self._server.order(event, lambda answer: self._answered(caller, answer))
        return LATER

    def _call(self, caller: Caller, params: dict[str, Any]) -> Any:
        event = self._submission(params)
        if "key" not in params and not caller.notify:
            event = event._replace(unnamed=True)

        def accepted(answer: ev.Answer) -> None:
            if answer.run is None:
                self._answered(caller, answer)
            elif answer.run.state == ENDED or answer.run.answered_at:
                self.ended(Waiter(caller, event.key, call=True), answer.run)
            elif not caller.notify:
                self._server.waiters.wait(Waiter(caller, event.key, call=True))

        self._server.order(event, accepted)
        return LATER

    def _submission(self, params: dict[str, Any]) -> ev.Submit:
        key = params.get("key")
        if key:
            self._server.lookup(key)
        else:
            self._keys += 1
            key = f"{self._prefix}{self._keys:012x}"
        options = {name: params[name] for name in _OPTIONS if name in params}
        return ev.Submit(0, key, params["target"], params.get("params", []), params.get("app"), options, typed=True)

    def _answered(self, caller: Caller, answer: ev.Answer) -> None:
        if answer.error is not None:
            self.fail(caller, answer.error, waited=True)
        else:
            assert answer.run is not None
            self.answer(caller, answer.run.record())

    def _known(self, params: dict[str, Any]) -> Run:
        key = params["key"]
        run = self._server.lookup(key)
        if run is None:
            raise not_found(key)
        return run

    def _status(self, caller: Caller, params: dict[str, Any]) -> Any:
        return self._known(params).record()

    def _wait(self, caller: Caller, params: dict[str, Any]) -> Any:
        run = self._known(params)
        if run.state == ENDED or caller.notify:
            return run.record()
        deadline = 0.0
        if "timeout" in params:
            deadline = time.monotonic() + _duration(params["timeout"], "timeout")
        self._server.waiters.wait(Waiter(caller, run.key, deadline=deadline))
        return LATER

    def ended(self, waiter: Waiter, run: Run) -> None:
        """The run that a caller waited for has ended, or has answered."""
        if not waiter.call:
            self.answer(waiter.caller, run.record())
        elif run.outcome == OK or run.answered_at:
            self.answer(waiter.caller, run.returned())
        else:
            self.fail(waiter.caller, _job_failed(run), waited=True)

    def timed_out(self, waiter: Waiter, run: Run | None) -> None:
        """A caller has waited long enough."""
        record = run.record() if run is not None else {"key": waiter.key}
        self.answer(waiter.caller, {**record, "timed_out": True})

    def _by_key(self, params: dict[str, Any], make: Callable[[str], Any], caller: Caller) -> Any:
        key = params["key"]
        self._server.lookup(key)
        self._server.order(make(key), lambda answer: self._answered(caller, answer))
        return LATER

    def _terminate(self, caller: Caller, params: dict[str, Any]) -> Any:
        number = _signal(params.get("signal", "TERM"))
        return self._by_key(params, lambda key: ev.Terminate(0, key, number), caller)

    def _free(self, caller: Caller, params: dict[str, Any]) -> Any:
        return self._by_key(params, lambda key: ev.Free(0, key), caller)

    def _retry(self, caller: Caller, params: dict[str, Any]) -> Any:
        return self._by_key(params, lambda key: ev.Retry(0, key), caller)

    def _list(self, caller: Caller, params: dict[str, Any]) -> Any:
        before = self._known({"key": params["after"]}).sequence if "after" in params else 0
        wanted = Filter(params.get("app"), params.get("target"), params.get("outcome"), params.get("limit", 100), before)
        return [run.record() for run in self._server.select(params.get("state"), wanted)]

    def _why(self, caller: Caller, params: dict[str, Any]) -> Any:
        return reasons.why(self._server.engine, self._known(params), Now(time.monotonic(), time.time()))

    def _stack(self, caller: Caller, params: dict[str, Any]) -> Any:
        run = self._known(params)

        def told(text: str, trouble: str) -> None:
            if trouble:
                self.fail(caller, RequestError(encode.NOT_NOW, trouble, data="rocksyd why says how the run is"), waited=True)
            else:
                self.answer(caller, {"key": run.key, "pid": run.pid, "text": text})

        self._server.stacks.ask(run, told)
        return LATER

    # --- output -------------------------------------------------------------------------------------------------------
    def _logs(self, caller: Caller, params: dict[str, Any]) -> Any:
        run = self._known(params)
        offset, follow = params.get("offset", 0), params.get("follow", False)
        ended = run.state == ENDED
        chunk = self._server.outputs.read(run.output, offset, final=ended)
        complete = ended and chunk.end
        if follow and not complete:
            self._server.waiters.follow(Follower(caller.client, caller.id, run.key, chunk.offset))
            self._server.news.follow_soon(run)
        return {"text": chunk.text, "offset": chunk.offset, "ended": complete, "truncated": run.log_cut > 0}

    def follow(self, follower: Follower, run: Run) -> bool:
        """Send one piece of output to a follower; true when there is nothing more to come now."""
        ended = run.state == ENDED
        chunk = self._server.outputs.read(run.output, follower.offset, final=ended)
        complete = ended and chunk.end
        if chunk.text or complete:
            follower.offset = chunk.offset
            params = {"id": follower.id, "key": run.key, "text": chunk.text, "offset": chunk.offset, "ended": complete}
            self.notify(follower.client, "logs", params)
        return chunk.end

    # --- news ---------------------------------------------------------------------------------------------------------
    def _subscribe(self, caller: Caller, params: dict[str, Any]) -> Any:
        server = self._server
        position = params.get("position", server.news.position)
        missed = server.news.missed(position) if "position" in params else []
        wanted = {name: params.get(name) for name in ("app", "target", "keys", "events", "labels")}
        server.waiters.subscribe(Subscriber(caller.client, caller.id, **wanted), position, missed)
        events = params.get("events") or list(EVENTS)
        return {"subscribed": events, "position": position, "generation": server.engine.generation}

    # --- the daemon ---------------------------------------------------------------------------------------------------
    def _auth(self, caller: Caller, params: dict[str, Any]) -> Any:
        if not self._server.clients.by_number[caller.client].show_token(self._server.token, params["token"]):
            raise RequestError(encode.NOT_ALLOWED, "wrong token", data="the token is in the daemon's token_file")
        return {"authorised": True}

    def _discover(self, caller: Caller, params: dict[str, Any]) -> Any:
        return openrpc.document()

    def _targets(self, caller: Caller, params: dict[str, Any]) -> Any:
        applications, app = self._server.engine.applications, params.get("app")
        if app is not None and app not in applications:
            known = ", ".join(sorted(applications))
            raise RequestError(encode.NOT_FOUND, f"no application is called {app!r}", data=f"there are: {known}")
        return [row for name, offered in sorted(applications.items()) if app in (None, name) for row in offered.rows()]

    def _stats(self, caller: Caller, params: dict[str, Any]) -> Any:
        return self._server.numbers.full()

    def _pools(self, caller: Caller, params: dict[str, Any]) -> Any:
        return self._server.numbers.pools()

    def _health(self, caller: Caller, params: dict[str, Any]) -> Any:
        return {**self._server.numbers.health(), "version": __version__}

    def _restart(self, caller: Caller, params: dict[str, Any]) -> Any:
        requester = Requester(caller.client, False, caller.id, caller.batch, caller.notify)
        self._server.generations.order("restart", f"client {caller.client}", requester)
        return LATER

    def _reload(self, caller: Caller, params: dict[str, Any]) -> Any:
        requester = Requester(caller.client, False, caller.id, caller.batch, caller.notify)
        self._server.generations.order("reload", f"client {caller.client}", requester)
        return LATER

    def _stop(self, caller: Caller, params: dict[str, Any]) -> Any:
        self._server.stopping.stop(f"client {caller.client}")
        return {"generation": self._server.engine.generation}

    def _drain(self, caller: Caller, params: dict[str, Any]) -> Any:
        self._server.waiters.drains.append(caller)
        self._server.stopping.drain()
        return LATER


def _signal(value: Any) -> int:
    """A signal's number, from itself or from its name with or without SIG."""
    if isinstance(value, str):
        value = signal.Signals.__members__.get("SIG" + value.upper().removeprefix("SIG"))
    if isinstance(value, int) and not isinstance(value, bool) and value in signal.valid_signals():
        return int(value)
    raise RequestError(INVALID_PARAMS, "signal must be the name or number of a signal, such as TERM, KILL or 15")


def _duration(value: Any, name: str) -> float:
    try:
        return parse_duration(value)
    except ValueError as error:
        raise RequestError(INVALID_PARAMS, f"{name}: {error}") from error


def _job_failed(run: Run) -> RequestError:
    error = run.error or {"type": run.outcome, "message": f"the run {run.outcome}, retcode {run.retcode}", "traceback": ""}
    data = {**error, "key": run.key, "outcome": run.outcome, "retcode": run.retcode, "signal": run.signal or None}
    code = encode.TOO_BUSY if error["type"] == outcome.TOO_BUSY and not run.started_at else JOB_FAILED
    return RequestError(code, f"{error['type']}: {error['message']}", data=data)
