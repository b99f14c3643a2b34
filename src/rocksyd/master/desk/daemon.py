"""The methods about the daemon itself: what it offers, how it is, and the orders to it.

What must live here: what each of these methods asks, and of which part. What this file must not know: how a part does it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rocksyd import __version__, codes
from rocksyd.errors import RequestError
from rocksyd.master.desk import openrpc
from rocksyd.master.desk.clients import Clients, who
from rocksyd.master.desk.flags import Flags
from rocksyd.master.desk.generations import Generations
from rocksyd.master.desk.numbers import Numbers
from rocksyd.master.desk.orders import Requester
from rocksyd.master.desk.pieces import Work
from rocksyd.master.desk.rpc import LATER, Rpc
from rocksyd.master.desk.stopping import Stopping
from rocksyd.master.desk.waiters import Caller
from rocksyd.master.turn import Turn

_READ_AT_ONCE = 50
"""Rows of the audit that are read in a piece."""


class Daemon:
    """What callers ask of the daemon as a whole."""

    def __init__(self, turn: Turn, clients: Clients, numbers: Numbers, generations: Generations, stopping: Stopping) -> None:
        self._turn = turn
        self._clients = clients
        self._numbers = numbers
        self._generations = generations
        self._stopping = stopping

    def serve(self, rpc: Rpc, added: Callable[[], dict[str, dict[str, Any]]]) -> None:
        """Serve these methods. ``added`` gives those that companions have added, with their descriptions."""
        rpc.serves("auth", self._auth)
        rpc.serves("rpc.discover", lambda caller, params: openrpc.document(added()))
        rpc.serves("targets", self._targets)
        rpc.serves("restarts", self._restarts)
        rpc.serves("stats", lambda caller, params: self._numbers.full())
        rpc.serves("costs", self._costs)
        rpc.serves("durations", lambda caller, params: self._numbers.durations())
        rpc.serves("pools", lambda caller, params: self._numbers.pools())
        rpc.serves("services", lambda caller, params: self._numbers.services.rows())
        rpc.serves("health", lambda caller, params: {**self._numbers.health(), "version": __version__})
        rpc.serves("restart", lambda caller, params: self._order("restart", caller))
        rpc.serves("reload", lambda caller, params: self._order("reload", caller))
        rpc.serves("stop", self._stop)
        rpc.serves("drain", self._drain)
        Flags(self._turn, self._clients).serve(rpc)

    def _auth(self, caller: Caller, params: dict[str, Any]) -> Any:
        if not self._clients.by_number[caller.client].show_token(params["token"]):
            raise RequestError(codes.NOT_ALLOWED, "wrong token", data="the token is in the daemon's token_file")
        return {"authorised": True}

    def _restarts(self, caller: Caller, params: dict[str, Any]) -> Work:
        found: list[dict[str, Any]] = []
        left = params.get("limit", 20)
        while left > 0:
            some = self._generations.records(min(left, _READ_AT_ONCE), len(found))
            found += some
            left = left - len(some) if some else 0
            yield
        return found

    def _costs(self, caller: Caller, params: dict[str, Any]) -> Work:
        found = []
        for row in self._turn.engine.costs.rows():
            found.append(row)
            yield
        return found

    def _targets(self, caller: Caller, params: dict[str, Any]) -> Any:
        applications, app = self._turn.engine.applications, params.get("app")
        if app is not None and app not in applications:
            known = ", ".join(sorted(applications))
            raise RequestError(codes.NOT_FOUND, f"no application is called {app!r}", data=f"there are: {known}")
        return [row for name, offered in sorted(applications.items()) if app in (None, name) for row in offered.rows()]

    def _order(self, kind: str, caller: Caller) -> Any:
        requester = Requester(caller.client, False, caller.id, caller.batch, caller.notify)
        self._generations.order(kind, who(self._clients, caller.client), requester)
        return LATER

    def _stop(self, caller: Caller, params: dict[str, Any]) -> Any:
        self._stopping.stop(who(self._clients, caller.client))
        return {"generation": self._turn.engine.generation}

    def _drain(self, caller: Caller, params: dict[str, Any]) -> Any:
        self._stopping.drain(caller)
        return LATER
