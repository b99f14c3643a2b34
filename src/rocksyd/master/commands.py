"""The classic and memcached dialects: each request to what it means here.

What must live here: one small function a request, and the order of replies.
What this file must not know: bytes (``wire``), decisions (``core``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rocksyd import __version__
from rocksyd.core import events as ev
from rocksyd.core import outcome
from rocksyd.master.clients import MOST_OWED, Client, Slot
from rocksyd.master.orders import Requester
from rocksyd.model import ENDED, REASONS
from rocksyd.wire import encode, requests

if TYPE_CHECKING:
    from rocksyd.master.rpc import Rpc
    from rocksyd.master.server import Server

_STILL_RUNNING = encode.classic_error("Still running")
_NOT_FOUND = encode.classic_error("Hash not found")
_OK = encode.classic_error("OK")
_LOCKED = 'Not authorised: say auth {"token":"..."} first'
_UNLOCKED = (requests.Auth, requests.Bye, requests.Quit, requests.Version, requests.Answer, requests.Call, requests.Batch)
"""What a client without authority may say; calls are looked at one by one (``rpc``)."""
_FORBIDDEN = encode.classic_error("Not allowed: only the daemon's own user or root may order that")
_COSTS = {requests.Check: 1, requests.Run: 8, requests.Batch: 64}


class Commands:
    """What clients may ask for."""

    def __init__(self, server: Server, rpc: Rpc) -> None:
        self._server = server
        self._rpc = rpc
        self.served = 0
        self._verbs: dict[type[Any], Callable[[Client, Any], None]] = {
            requests.Check: self._check,
            requests.Run: self._run,
            requests.Terminate: self._terminate,
            requests.Free: self._free,
            requests.Order: self._order,
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

        Less when one of them holds up the next, or when the client is owed more than it should be (some replies are large).
        """
        next_request = client.connection.next_request
        find = self._server.engine.find
        while budget > 0 and not client.held:
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
                if run is not None and not run.signal and run.outcome not in REASONS:
                    client.reply(b'{"retcode":%d}\n' % (run.retcode or 0))
                    continue
            budget -= _COSTS.get(kind, 4)
            if client.authorised or kind in _UNLOCKED:
                self._verbs[kind](client, request)
            else:
                client.reply(encode.memcached_error(_LOCKED) if kind is requests.Stats else encode.classic_error(_LOCKED))
            if len(client.out) >= MOST_OWED:
                return

    # --- runs ---------------------------------------------------------------------------------------------------------
    def _check(self, client: Client, request: requests.Check) -> None:
        run = self._server.lookup(request.key)
        client.reply(encode.classic_reply(outcome.classic(run)) if run is not None else _NOT_FOUND)

    def _run(self, client: Client, request: requests.Run) -> None:
        event = ev.Submit(0, request.key, request.target, request.params, request.app, request.options)
        self._server.lookup(request.key)
        self._server.order(event, _fill(client))

    def _terminate(self, client: Client, request: requests.Terminate) -> None:
        self._server.lookup(request.key)
        self._server.order(ev.Terminate(0, request.key), _fill(client))

    def _free(self, client: Client, request: requests.Free) -> None:
        self._server.lookup(request.key)
        self._server.order(ev.Free(0, request.key), _fill(client))

    # --- the daemon ---------------------------------------------------------------------------------------------------
    def _order(self, client: Client, request: requests.Order) -> None:
        server = self._server
        if not client.trusted:
            client.reply(_FORBIDDEN)
        elif request.name in ("restart", "reload"):
            client.held = True
            client.reserve()
            server.generations.order(request.name, f"client {client.number}", Requester(client.number, classic=True))
        elif request.name == "stop":
            client.reply(_OK)
            server.stopping.stop(f"client {client.number}")
        else:
            client.reply(_OK)
            server.stopping.drain()

    @staticmethod
    def _bye(client: Client, request: Any) -> None:
        client.closing = True

    def _auth(self, client: Client, request: requests.Auth) -> None:
        client.reply(_OK if client.show_token(self._server.token, request.token) else encode.classic_error("Wrong token"))

    @staticmethod
    def _answer(client: Client, request: requests.Answer) -> None:
        client.reply(request.data)
        if request.close:
            client.closing = True

    def _stats(self, client: Client, request: requests.Stats) -> None:
        client.reply(encode.stats(self._server.numbers.flat(request.arguments)))

    @staticmethod
    def _version(client: Client, request: requests.Version) -> None:
        client.reply(encode.version(__version__))


def _fill(client: Client) -> Callable[[ev.Answer], None]:
    """Fills the place in the order of replies that is reserved now."""
    slot: Slot = client.reserve()

    def fill(answer: ev.Answer) -> None:
        text = answer.error.classic if answer.error is not None else "OK"
        client.fill(slot, encode.classic_error(text) if text != "OK" else _OK)

    return fill
