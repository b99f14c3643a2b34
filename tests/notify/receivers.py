"""Receivers that are really there: an HTTP server and an SMTP server on loopback, and a command that writes a file."""

from __future__ import annotations

import asyncio
import json
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session

TIMEOUT = 60.0


class Hook:
    """What a webhook has got. ``answers``: the statuses of its next answers; then 204."""

    def __init__(self) -> None:
        self.got: queue.Queue[tuple[dict[str, str], bytes]] = queue.Queue()
        self.answers: list[int] = []
        self.gate: threading.Event | None = None
        """Waited for before an answer."""
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?from=rocksyd"

    def next(self) -> dict[str, Any]:
        """The next alert; waits for it."""
        found: dict[str, Any] = json.loads(self.got.get(timeout=TIMEOUT)[1])
        return found

    def until(self, kind: str, *, over: bool = False, subject: str = "") -> dict[str, Any]:
        """The next one of this kind; others before it are passed over."""
        while True:
            found = self.next()
            if found["kind"] == kind and found["over"] == over and subject in ("", found["subject"]):
                return found


@contextmanager
def hook() -> Iterator[Hook]:
    """A server that takes webhooks."""
    made = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            status = made.answers.pop(0) if made.answers else 204
            if made.gate is not None:
                made.gate.wait(TIMEOUT)
            made.got.put(({"path": self.path, "status": str(status), **{k.lower(): v for k, v in self.headers.items()}}, body))
            self.send_response(status)
            if status == 302:
                self.send_header("location", made.url)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *words: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False
    made.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Letters:
    """What a mail server has got. ``refuse``: addresses that it does not know."""

    def __init__(self) -> None:
        self.got: queue.Queue[tuple[Envelope, EmailMessage]] = queue.Queue()
        self.refuse: set[str] = set()
        self.port = 0

    async def handle_RCPT(self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]) -> str:
        if address in self.refuse:
            return "550 no such user here"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        letter = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(letter, EmailMessage)
        self.got.put((envelope, letter))
        return "250 OK"

    def next(self) -> EmailMessage:
        """The next letter; waits for it."""
        return self.got.get(timeout=TIMEOUT)[1]


@contextmanager
def mail_server() -> Iterator[Letters]:
    """A server that takes letters. (aiosmtpd's own controller knows no port that the system chooses.)"""
    letters = Letters()
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(loop.create_server(lambda: SMTP(letters, hostname="127.0.0.1", loop=loop), "127.0.0.1", 0))
    letters.port = server.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def end() -> None:
        server.close()
        await server.wait_closed()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    try:
        yield letters
    finally:
        asyncio.run_coroutine_threadsafe(end(), loop).result(TIMEOUT)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
