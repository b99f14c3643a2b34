"""The classic and memcached dialects: each request to what it means here.

What must live here: one small function a request, and the order of replies.
What this file must not know: how requests and replies are spelt (``wire``), what is decided (``core``), sockets.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rocksyd import __version__
from rocksyd.core import events as ev
from rocksyd.core import outcome
from rocksyd.master.desk.clients import MOST_OWED, Client, Slot
from rocksyd.master.desk.generations import Generations
from rocksyd.master.desk.listeners import peer_of
from rocksyd.master.desk.monitoring import Monitoring
from rocksyd.master.desk.numbers import Numbers
from rocksyd.master.desk.orders import Requester
from rocksyd.master.desk.pieces import Task
from rocksyd.master.desk.rpc import Rpc
from rocksyd.master.desk.stopping import Stopping
from rocksyd.master.turn import SHARE, Turn
from rocksyd.model import ENDED, REASONS
from rocksyd.wire import encode, memcached, requests

_STILL_RUNNING = encode.classic_error("Still running")
_NOT_FOUND = encode.classic_error("Hash not found")
_OK = encode.classic_error("OK")
_UNREADABLE = encode.memcached_failed("the journal cannot be read")
_LOCKED = 'Not authorised: say auth {"token":"..."} first'
_UNLOCKED = (requests.Auth, requests.Bye, requests.Quit, requests.Version, requests.Answer, requests.Call, requests.Batch)
"""What a client without authority may say; calls are looked at one by one (``rpc``)."""
_FORBIDDEN = encode.classic_error("Not allowed: only the daemon's own user or root may order that")
_COSTS = {requests.Check: 1, ev.Submit: 8, requests.Batch: 64}


class Classic:
    """What clients may ask for in these dialects; what they say in JSON-RPC is passed on to ``rpc``."""

    def __init__(self, turn: Turn, numbers: Numbers, generations: Generations, stopping: Stopping, rpc: Rpc) -> None:
        self._turn = turn
        self._numbers = numbers
        self._monitoring = Monitoring(turn, numbers, generations)
        self._generations = generations
        self._stopping = stopping
        self._rpc = rpc
        self.served = 0
        """Requests so far, in every dialect."""
        self._verbs: dict[type[Any], Callable[[Client, Any], None]] = {
            requests.Check: self._check,
            ev.Submit: self._of_a_run,
            ev.Terminate: self._of_a_run,
            ev.Free: self._of_a_run,
            requests.DaemonOrder: self._order,
            requests.Bye: self._bye,
            requests.Quit: self._bye,
            requests.Auth: self._auth,
            requests.Answer: self._answer,
            requests.Call: rpc.call,
            requests.Batch: rpc.batch,
            requests.Stats: self._stats,
            requests.Version: self._version,
        }

    def serve(self, client: Client, budget: int) -> None:
        """Serve requests of one client worth ``budget`` (a check is worth 1).

        Less when one of them holds up the next, when they take longer than SHARE, or when the client is owed more than it should
        be (some replies are large).
        """
        try:
            self._serve(client, budget)
        finally:
            self._numbers.rates.note(self.served, time.monotonic())

    def _serve(self, client: Client, budget: int) -> None:
        next_request = client.connection.next_request
        find = self._turn.engine.find
        until = time.monotonic() + SHARE
        if client.parts:
            self._rpc.go_on(client)
        while budget > 0 and not client.held and not client.parts:
            request = next_request()
            if request is None:
                return
            self.served += 1
            kind = type(request)
            if kind is requests.Check and client.authorised:  # the cheap path: pollers are most of the traffic
                budget -= 1
                run = find(request.key)  # type: ignore[union-attr]
                if run is not None and run.state != ENDED:
                    client.reply(_STILL_RUNNING)
                    continue
                if run is not None and not run.attempt.signal and run.attempt.outcome not in REASONS:
                    client.reply(b'{"retcode":%d}\n' % (run.attempt.retcode or 0))
                    continue
            budget -= _COSTS.get(kind, 4)
            if client.authorised or kind in _UNLOCKED:
                self._verbs[kind](client, request)
            else:
                client.reply(encode.memcached_error(_LOCKED) if kind is requests.Stats else encode.classic_error(_LOCKED))
            if len(client.out) >= MOST_OWED or time.monotonic() >= until:
                return

    # --- runs ---------------------------------------------------------------------------------------------------------
    def _check(self, client: Client, request: requests.Check) -> None:
        run = self._turn.lookup(request.key)
        client.reply(encode.classic_reply(outcome.classic(run)) if run is not None else _NOT_FOUND)

    def _of_a_run(self, client: Client, order: ev.Submit | ev.Terminate | ev.Free) -> None:
        self._turn.lookup(order.key)
        self._turn.order(order, _fill(client))

    # --- the daemon ---------------------------------------------------------------------------------------------------
    def _order(self, client: Client, request: requests.DaemonOrder) -> None:
        if not client.trusted:
            client.reply(_FORBIDDEN)
        elif request.name in ("restart", "reload"):
            client.held = True
            client.reserve()
            self._generations.order(request.name, peer_of(client.socket), Requester(client.number, classic=True))
        elif request.name == "stop":
            client.reply(_OK)
            self._stopping.stop(peer_of(client.socket))
        else:
            client.reply(_OK)
            self._stopping.drain()

    @staticmethod
    def _bye(client: Client, request: Any) -> None:
        client.closing = True

    def _auth(self, client: Client, request: requests.Auth) -> None:
        client.reply(_OK if client.show_token(request.token) else encode.classic_error("Wrong token"))

    @staticmethod
    def _answer(client: Client, request: requests.Answer) -> None:
        client.reply(request.data)
        if request.close:
            client.closing = True

    def _stats(self, client: Client, request: requests.Stats) -> None:
        slot = client.reserve()
        client.held = True

        def made(reply: bytes) -> None:
            client.held = False
            client.fill(slot, reply)

        task = Task(client.number, self._monitoring.answer(request.arguments), made, lambda error: made(_UNREADABLE))
        self._rpc.pieces.begin(task)

    @staticmethod
    def _version(client: Client, request: requests.Version) -> None:
        client.reply(encode.version(f"{memcached.DIALECT}-rocksyd-{__version__}"))


def _fill(client: Client) -> Callable[[ev.Answer], None]:
    """Fills the place in the order of replies that is reserved now."""
    slot: Slot = client.reserve()

    def fill(answer: ev.Answer) -> None:
        try:
            text = answer.error.classic if answer.error is not None else "OK"
            client.fill(slot, encode.classic_error(text) if text != "OK" else _OK)
        except Exception as error:  # noqa: BLE001  (the barrier)
            client.owner.broken(client.number, error)

    return fill
