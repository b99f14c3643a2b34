"""JSON-RPC 2.0: each request to whatever serves its method.

What must live here: who may call now, and what becomes of a request that fails.
What this file must not know: what a method takes (``methods``) and does (whoever registered for it); decisions (``core``).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import GeneratorType
from typing import Any

from rocksyd import codes
from rocksyd.errors import JournalError, RequestError
from rocksyd.master.desk import methods
from rocksyd.master.desk.clients import Client
from rocksyd.master.desk.forwarding import Forwarding
from rocksyd.master.desk.listeners import user_of
from rocksyd.master.desk.pieces import Pieces, Task
from rocksyd.master.desk.replies import Replies
from rocksyd.master.desk.waiters import Caller
from rocksyd.master.turn import SHARE
from rocksyd.wire import jsonrpc, requests

LATER = object()
"""What a method returns that is answered later."""
_LOCKED = "not authorised: call auth with the token first"
MOST_WAITS = 20_000
"""Replies that one connection may wait for: each costs memory until it is given."""
MOST_REPLIED = 16 << 20
"""Bytes of replies in one batch."""

Serve = Callable[[Caller, dict[str, Any]], Any]


class Rpc:
    """The methods that are served. Modules register for theirs with ``serves``."""

    def __init__(self, replies: Replies, forwarding: Forwarding, pieces: Pieces) -> None:
        self._replies = replies
        self.pieces = pieces
        self._forwarding = forwarding
        self._batch = 0
        self.methods: dict[str, Serve] = {}

    def serves(self, name: str, serve: Serve) -> None:
        """Have ``serve(caller, parameters)`` serve a method: it returns the result, or LATER, or raises RequestError.

        One that may take long is a generator, which returns the result (``pieces``).
        """
        self.methods[name] = serve

    def call(self, client: Client, request: requests.Call, batch: int = 0) -> None:
        """One request."""
        caller = Caller(client.number, request.id, batch, request.notify)
        try:
            if not client.authorised and request.method != "auth":
                raise RequestError(codes.NOT_ALLOWED, _LOCKED, data="the token is in the daemon's token_file")
            method = methods.METHODS.get(request.method)
            if method is None and not self._forwarding.has(request.method):
                known = ", ".join(sorted(methods.METHODS))
                raise RequestError(codes.METHOD_NOT_FOUND, "Method not found", data=f"{request.method!r}; there are: {known}")
            if method is not None and method.trusted and not client.trusted:
                raise RequestError(codes.NOT_ALLOWED, "only the daemon's own user or root may order that")
            if _waits(client) >= MOST_WAITS:
                text = f"{MOST_WAITS} replies and news are still to come on this connection"
                raise RequestError(codes.TOO_BUSY, text, data="wait for some of them, or use another connection")
            if method is None:
                self._forwarding.ask(
                    caller, request.method, request.params, (client.trusted, client.address, user_of(client.socket))
                )
                result: Any = LATER
            else:
                result = self.methods[request.method](caller, methods.arguments(request.method, method, request.params))
        except (RequestError, JournalError) as error:
            return self._fail(caller, error)
        if type(result) is GeneratorType:
            client.waits += not request.notify and not batch
            answer, fail = self._replies.answer, self._fail
            task = Task(
                client.number, result, lambda found: answer(caller, found), lambda error: fail(caller, error, waited=True)
            )
            return self.pieces.begin(task)
        if result is LATER:
            client.waits += not request.notify and not batch
            return None
        return self._replies.answer(caller, result, waited=False)

    def _fail(self, caller: Caller, error: RequestError | JournalError, *, waited: bool = False) -> None:
        if isinstance(error, JournalError):
            error = RequestError(codes.INTERNAL_ERROR, "the journal cannot be read", data=str(error))
        self._replies.fail(caller, error, waited=waited)

    def batch(self, client: Client, request: requests.Batch) -> None:
        """Several at once, answered as one array when the last is answered."""
        self._batch = max([self._batch, *client.batches]) + 1
        number = self._batch
        expected = sum(1 for call in request.calls if isinstance(call, requests.Answer) or not call.notify)
        client.batches[number] = [expected, []]
        client.parts.extend((number, call) for call in request.calls)
        self.go_on(client)

    def go_on(self, client: Client, share: float = SHARE) -> None:
        """Serve what is left of a client's batch, for ``share`` seconds, and one request at least."""
        until = time.monotonic() + share
        while client.parts:
            number, call = client.parts.popleft()
            if isinstance(call, requests.Answer):
                self._replies.into_batch(client, number, call.data)
            # A batch that has all its replies is gone already; notifications may be left of it.
            elif self._replies.in_batch(caller := Caller(client.number, call.id, number, call.notify)) > MOST_REPLIED:
                text = f"the replies to this batch have {MOST_REPLIED} bytes already"
                self._replies.fail(caller, RequestError(codes.TOO_BUSY, text, data="send it in parts"))
            else:
                self.call(client, call, number)
            if not client.parts and number in client.batches and not client.batches[number][0]:
                del client.batches[number]  # nothing but notifications
            if time.monotonic() >= until:
                return


def _waits(client: Client) -> int:
    """How much is still to come for a client, at most."""
    return client.waits + jsonrpc.MAX_BATCH * len(client.batches) + client.owner.listening.get(client.number, 0)
