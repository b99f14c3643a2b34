"""Orders and questions to the daemon itself.

What must live here: everything that is about no single run.
What this file must not know: how it is asked (``sync``), but for stopping, which ends with the connection.
"""

from __future__ import annotations

import os
import time
from typing import Any, NoReturn

from rocksyd.client.address import Place
from rocksyd.client.conversation import Call, Conversation, Line
from rocksyd.client.link import LinkLost
from rocksyd.client.protocol import Reply, result_of
from rocksyd.client.service import wait_gone, watch
from rocksyd.errors import NoDaemon, RequestError


class Control:
    """The half of the client that is about the daemon itself."""

    place: Place
    timeout: float
    _line: Line

    def request(self, method: str, params: dict[str, Any] | None = None, *, wait: bool = False) -> Any:
        """Call any method of the protocol and return its result."""
        raise NotImplementedError

    def _no_answer(self, method: str) -> NoReturn:
        raise NotImplementedError

    def stats(self) -> dict[str, Any]:
        """Numbers about the daemon, and ``restarts``: the list of the last hand-overs."""
        stats: dict[str, Any] = self.request("stats")
        return stats

    def pools(self) -> list[dict[str, Any]]:
        """Sizes and numbers of every pool."""
        pools: list[dict[str, Any]] = self.request("pools")
        return pools

    def health(self) -> dict[str, Any]:
        """Whether the daemon can do its work (``ok``), and if not, why (``problems``)."""
        health: dict[str, Any] = self.request("health")
        return health

    def targets(self, app: str | None = None) -> list[dict[str, Any]]:
        """What may be run: ``app``, ``name``, ``target``, ``kind``, ``settings``, ``signature``. Raises NotFound."""
        targets: list[dict[str, Any]] = self.request("targets", {} if app is None else {"app": app})
        return targets

    def restart(self) -> int:
        """Load the code and the configuration anew and hand over to it; returns the generation that serves then.

        Raises NotNow, with the reason, when the new code cannot serve: then nothing has changed.
        """
        return generation_of(self.request("restart", wait=True))

    def reload(self) -> int:
        """Read the configuration again and restart. Raises as ``restart``."""
        return generation_of(self.request("reload", wait=True))

    def drain(self) -> int:
        """Take no more runs; returns when the present ones have ended."""
        return generation_of(self.request("drain", wait=True))

    def stop(self, *, wait: bool = True) -> None:
        """Stop the daemon in order; ``wait`` until it is gone: its process if that is of this machine, else its connection."""
        process = self._process() if wait else None
        try:
            self._stop(wait=wait)
            if process is not None:
                fd, process = process, None
                wait_gone(fd)
        finally:
            if process is not None:
                os.close(process)

    def _process(self) -> int | None:
        try:
            return watch(self.stats().get("pid")) if self.place.address.kind == "unix" else None
        except RequestError:
            return None

    def _stop(self, *, wait: bool) -> None:
        """Order it and, with ``wait``, stay until the connection has ended."""
        conversation = self._line.take()
        try:
            while not self._ordered_to_stop(conversation):
                conversation.close()
                try:
                    conversation = Conversation(self.place)
                except NoDaemon:
                    return
            while wait:
                conversation.events(None)
        except LinkLost:
            pass  # the daemon ends the connections when it has stopped
        finally:
            conversation.close()

    def _ordered_to_stop(self, conversation: Conversation) -> bool:
        """Whether the daemon has taken the order; false when the connection was lost before it said so (it crashed or went)."""
        try:
            conversation.ask({0: Call("stop", {})}, self.timeout)
            while conversation.unanswered:
                for event in conversation.events(time.monotonic() + self.timeout):
                    if isinstance(event, Reply):
                        result_of(event)
        except LinkLost:
            return False
        except TimeoutError:
            self._no_answer("stop")
        return True


def generation_of(result: Any) -> int:
    """What the orders to the daemon answer."""
    return int(result.get("generation", 0)) if isinstance(result, dict) else 0
