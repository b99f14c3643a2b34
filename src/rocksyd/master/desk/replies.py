"""Replies and notifications in JSON-RPC, on their way to clients.

What must live here: finding whoever asked, and putting the replies to a batch together.
What this file must not know: what was asked; why it is answered now.

A reply carries its request's id and may come in any order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from rocksyd.errors import RequestError
from rocksyd.master.desk.clients import Client, Clients
from rocksyd.master.desk.listeners import group_of
from rocksyd.master.desk.waiters import Caller
from rocksyd.wire import encode


class Encoded(list[bytes]):
    """Members of an array that is the result, encoded already."""


class Replies:
    """The way back to whoever called."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    def answer(self, caller: Caller, result: Any, *, waited: bool = True) -> None:
        """The result, to whoever called."""
        if isinstance(result, Encoded):
            self._reply(caller, waited, lambda: encode.rpc_array(caller.id, result))
        else:
            self._reply(caller, waited, lambda: encode.rpc_result(caller.id, result))

    def fail(self, caller: Caller, error: RequestError, *, waited: bool = False) -> None:
        """The error, to whoever called."""
        self._reply(caller, waited, lambda: encode.rpc_error(caller.id, error.code, str(error), error.data))

    def _reply(self, caller: Caller, waited: bool, make: Callable[[], bytes]) -> None:
        client = self._clients.by_number.get(caller.client)
        if client is None or caller.notify:
            return None
        if caller.batch:
            return self.into_batch(client, caller.batch, make())
        client.waits -= waited
        return client.send(make())

    @staticmethod
    def into_batch(client: Client, number: int, data: bytes) -> None:
        """One reply to a request of a batch, which goes out when it is the last one."""
        state = client.batches[number]
        state[1].append(data)
        if len(state[1]) == state[0]:
            del client.batches[number]
            client.send(encode.rpc_batch(state[1]))

    def group_of(self, client: int) -> int:
        """The process group that a client is in; 0 where nobody knows."""
        found = self._clients.by_number.get(client)
        return group_of(found.socket) if found is not None else 0

    def in_batch(self, caller: Caller) -> int:
        """Bytes of the replies that the batch of a request has so far."""
        client = self._clients.by_number.get(caller.client)
        state = client.batches.get(caller.batch) if client is not None else None
        return sum(map(len, state[1])) if state is not None else 0

    def notify(self, clients: Iterable[int], method: str, params: dict[str, Any]) -> None:
        """A notification to those of these clients who are still there. What cannot be written ends them (the barrier)."""
        found = [client for number in clients if (client := self._clients.by_number.get(number)) is not None]
        if not found:
            return
        try:
            line = encode.rpc_notification(method, params)
        except Exception as error:  # noqa: BLE001
            for client in found:
                self._clients.broken(client.number, error)
            return
        for client in found:
            client.send(line)

    def broken(self, client: int, error: Exception) -> None:
        """What was to be said to a client has raised what nobody expected."""
        self._clients.broken(client, error)

    def here(self, client: int) -> bool:
        """Whether a client has not gone."""
        return client in self._clients.by_number

    def owed(self, client: int) -> int | None:
        """Bytes that a client is owed and has not taken; None when it has gone."""
        found = self._clients.by_number.get(client)
        return None if found is None else len(found.out)
