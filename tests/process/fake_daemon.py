"""A daemon for tests of clients: it speaks JSON-RPC over a real socket and answers what the test tells it to."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import socket
import threading
from collections.abc import Callable
from typing import Any

Handler = Callable[["Caller", dict[str, Any]], Any]


class Refusal(Exception):
    """Answer with this JSON-RPC error."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.data = data


class Silence(Exception):
    """Do not answer (now)."""


class Crash(Exception):
    """Close the connection without an answer, as a master that dies does."""


class Caller:
    """One connection as a handler sees it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.id: Any = None

    def say(self, message: dict[str, Any]) -> None:
        self.sock.sendall(json.dumps(message).encode() + b"\n")

    def notify(self, method: str, params: dict[str, Any]) -> None:
        self.say({"jsonrpc": "2.0", "method": method, "params": params})

    def answer(self, result: Any, number: Any = None) -> None:
        self.say({"jsonrpc": "2.0", "id": self.id if number is None else number, "result": result})


class FakeDaemon:
    """Listens from the moment it is made; ``handlers`` by method; ``seen`` holds (method, params) in order of arrival."""

    def __init__(self, path: str | None = None, *, token: str | None = None, handlers: dict[str, Handler] | None = None) -> None:
        if path is None:
            self.listener = socket.create_server(("127.0.0.1", 0))
            self.address = f"tcp://127.0.0.1:{self.listener.getsockname()[1]}"
        else:
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(path)
            self.listener.listen()
            self.address = f"unix://{path}"
        self.path = path
        self.token = token
        self.handlers: dict[str, Handler] = dict(handlers or {})
        self.seen: queue.Queue[tuple[str, dict[str, Any]]] = queue.Queue()
        self.raw: list[bytes] = []
        self._callers: list[Caller] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def __enter__(self) -> FakeDaemon:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening, close all connections, remove the socket's file."""
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self._threads[0].join()
        for caller in self._callers:
            with contextlib.suppress(OSError):
                caller.sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join()
        if self.path is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)

    def requests(self) -> list[tuple[str, dict[str, Any]]]:
        """What has been asked since the last time."""
        found = []
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(self.seen.get_nowait())
        return found

    def next(self, method: str) -> dict[str, Any]:
        """Wait until ``method`` is called; its parameters."""
        while True:
            name, params = self.seen.get(timeout=30)
            if name == method:
                return params

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            caller = Caller(sock)
            self._callers.append(caller)
            thread = threading.Thread(target=self._serve, args=(caller,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, caller: Caller) -> None:
        allowed = self.token is None
        with caller.sock, caller.sock.makefile("rb") as lines, contextlib.suppress(OSError, Crash):
            for line in lines:
                self.raw.append(line)
                if line.startswith(b"auth "):
                    allowed = allowed or json.loads(line[5:]).get("token") == self.token
                    caller.say({"error_text": "OK" if allowed else "Not allowed"})
                elif line.startswith(b"{"):
                    self._answer(caller, json.loads(line), allowed=allowed)
                else:
                    caller.say({"error_text": f"UNKNOWN REQUEST {line!r}"})

    def _answer(self, caller: Caller, request: dict[str, Any], *, allowed: bool) -> None:
        method, params = request["method"], request["params"]
        caller.id = request["id"]
        self.seen.put((method, params))
        try:
            if not allowed:
                raise Refusal(-32003, "not allowed", "say auth first")
            if method not in self.handlers:
                raise Refusal(-32601, "method not found")
            caller.answer(self.handlers[method](caller, params))
        except Refusal as error:
            problem = {"code": error.code, "message": str(error), "data": error.data}
            caller.say({"jsonrpc": "2.0", "id": request["id"], "error": problem})
        except Silence:
            pass


def record(key: str = "nightly", **changes: Any) -> dict[str, Any]:
    """A run that has ended well, unless ``changes`` say otherwise."""
    return {
        "key": key, "app": "shop", "target": "shop.jobs:nightly", "params": None, "state": "ended", "outcome": "ok", "retcode": 0,
        "signal": None, "reason": None, "result": 42, "error": None, "progress": None, "attempt": 1, "generation": 3, "pid": None,
        "submitted_at": 1000.0, "started_at": 1001.0, "ended_at": 1002.2, "cpu": 0.5, "max_rss": 50 << 20, "log": None,
        **changes,
    }  # fmt: skip
