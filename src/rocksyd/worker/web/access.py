"""The access log: a line a request, in the combined form or as JSON.

What must live here: the lines and the file. What this file must not know: where a request's fields come from.

Lines are gathered and written when the loop has done what is there, all of them in one ``write``, so that lines of several
workers do not mix. The file is opened again when somebody has moved it (logrotate): it is looked at once a second, while there is
traffic.
"""

from __future__ import annotations

import asyncio
import json
import os
import time

from rocksyd.errors import JobError
from rocksyd.worker.web.request import Request

_LOOK = 1.0
_GONE = 499
"""nginx's status for a request whose client has not waited for the answer."""


class AccessLog:
    """The file; false where there is none."""

    def __init__(self, path: str, form: str, loop: asyncio.AbstractEventLoop) -> None:
        self._path = path
        self._json = form == "json"
        self._loop = loop
        self._fd = -1
        self._lines: list[str] = []
        self._looked_at = 0.0
        self._second, self._stamp = 0, ""

    def __bool__(self) -> bool:
        return bool(self._path)

    def open(self) -> None:
        """Open it. Raises JobError."""
        if not self._path:
            return
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise JobError(f"access_log: {self._path} cannot be opened: {error.strerror}; its folder has to be there") from error
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = fd

    def note(self, request: Request, status: int, sent: int, took: float) -> None:
        """A request is over; ``status`` 0: its client has gone before it was answered. ``took`` is in seconds."""
        if not self._lines:
            self._loop.call_soon(self.flush)
        form = self._as_json if self._json else self._combined
        self._lines.append(form(request, status or _GONE, sent, took))

    def _combined(self, request: Request, status: int, sent: int, took: float) -> str:
        now = int(time.time())
        if now != self._second:
            self._second, self._stamp = now, time.strftime("%d/%b/%Y:%H:%M:%S %z", time.localtime(now))
        line = request.url.decode("latin-1")
        if request.method:
            line = f"{request.method} {line} HTTP/{request.version}"
        return (
            f'{request.client} - - [{self._stamp}] "{_safe(line)}" {status} {sent} '
            f'"{_safe(request.referer)}" "{_safe(request.agent)}" {took:.6f} {request.request_id}\n'
        )

    def _as_json(self, request: Request, status: int, sent: int, took: float) -> str:
        said = {
            "at": round(time.time(), 3), "client": request.client, "method": request.method, "url": _text(request.url),
            "version": request.version, "status": status, "bytes": sent, "seconds": round(took, 6),
            "referer": _text(request.referer.encode("latin-1")), "agent": _text(request.agent.encode("latin-1")),
            "request_id": request.request_id, "pid": os.getpid(),
        }  # fmt: skip
        return json.dumps(said, separators=(",", ":")) + "\n"

    def flush(self) -> None:
        """Write what was gathered."""
        if not self._lines:
            return
        text, self._lines = "".join(self._lines), []
        now = time.monotonic()
        try:
            if now - self._looked_at >= _LOOK:
                self._looked_at = now
                self._look_whether_moved()
            os.write(self._fd, text.encode("ascii", "backslashreplace"))
        except OSError:
            return  # a disk that is full is no reason to refuse requests

    def _look_whether_moved(self) -> None:
        try:
            there = os.stat(self._path)
            if os.path.samestat(there, os.fstat(self._fd)):
                return
        except FileNotFoundError:
            pass
        try:
            self.open()
        except JobError:
            return


def _safe(text: str) -> str:
    """Without what would end the field or the line; every other byte than ASCII's as nginx and Apache write it."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return "".join(c if c.isascii() and c.isprintable() and c not in '"\\' else f"\\x{ord(c):02x}" for c in text)


def _text(said: bytes) -> str:
    """What a client has said, as text; bytes that are no UTF-8 as ``\\xff``."""
    return said.decode("utf-8", "backslashreplace")
