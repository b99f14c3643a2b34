"""What the tests of the gateway share: a daemon with one, and speaking HTTP to it as curl does."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from rocksyd.testing import Daemon
from rocksyd.testing.daemon import Conversation, until
from tests.companions.stage import companion, wait_ready
from tests.restart.stage import IDLE_POOL, JOBS

GATEWAY = '\n[gateway]\nlisten = ["http://127.0.0.1:0"]\n'


class Load:
    """Clients, a thread each, that ask without a pause: ``ask(load, which)`` counts in ``answered`` until it is ``over``."""

    def __init__(self, ask: Callable[[Load, int], None], number: int) -> None:
        self.answered = [0] * number
        self.failures: list[str] = []
        self.over = threading.Event()
        self._ask = ask
        self._threads = [threading.Thread(target=self._run, args=(which,)) for which in range(number)]
        for thread in self._threads:
            thread.start()

    def _run(self, which: int) -> None:
        try:
            self._ask(self, which)
        except BaseException as failure:
            self.failures.append(repr(failure))
            raise

    def more(self) -> None:
        """Wait until every client has had further answers."""
        before = list(self.answered)
        until(
            lambda: bool(self.failures) or all(now > then + 2 for now, then in zip(self.answered, before, strict=True)),
            "further answers",
        )

    def end(self) -> None:
        self.over.set()
        for thread in self._threads:
            thread.join()


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class Web:
    """The gateway of a daemon, as somebody with this token (or none) sees it."""

    def __init__(self, address: str, token: str = "") -> None:
        self.address = address
        host, _, port = address.partition("://")[2].rpartition(":")
        self.host, self.port = host, int(port)
        self._token = token

    def of(self, token: str) -> Web:
        return Web(self.address, token)

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.host, self.port, timeout=60)

    def ask(self, verb: str, path: str, body: Any = None, **headers: str) -> Answer:
        """A header ``Content_Type`` is ``Content-Type``; one that is "" is left out."""
        given = {"Content-Type": "application/json"} if verb not in ("GET", "HEAD") else {}
        if self._token:
            given["Authorization"] = f"Bearer {self._token}"
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        link = self.connection()
        try:
            link.request(verb, path, data, {name: value for name, value in given.items() if value})
            reply = link.getresponse()
            return Answer(reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read().decode())
        finally:
            link.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, **headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        return self.ask("POST", path, body, **headers)


def daemon(folder: Path, more: str = "", jobs: str = JOBS, pool: str = IDLE_POOL, **arguments: Any) -> Daemon:
    """A daemon with a gateway; ``more``: further lines of its table, and other tables."""
    return Daemon(folder, jobs, parts={"top": GATEWAY + more, "pool": pool}, **arguments)


def web(talk: Conversation, token: str = "") -> Web:
    """Its gateway."""
    return Web(companion(talk, "gateway")["listen"][0], token)


__all__ = ["GATEWAY", "IDLE_POOL", "JOBS", "Answer", "Web", "companion", "daemon", "wait_ready", "web"]
