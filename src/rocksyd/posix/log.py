"""The log: one entry each on standard error, which must never stop the service.

What must live here: the forms of an entry, and what happens when nobody reads.
What this file must not know: who logs what.

An entry is a text and fields (``key``, ``target``, ``generation`` ...). A terminal gets the text, systemd's journal
(``$JOURNAL_STREAM``, systemd.exec(5)) both as fields of its own, everything else a line of JSON; ``$ROCKSYD_LOG`` says otherwise.

A reader that is gone costs nothing (EPIPE), a reader that is stuck costs the entry, not the service: a pipe that says POLLOUT
has room for PIPE_BUF bytes (pipe(7)), so a line of at most that is written without waiting or not at all.
"""

from __future__ import annotations

import json
import os
import select
import stat
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PIPE_BUF = 4096
TEXT, JSON, JOURNAL = "text", "json", "journal"
FORM = "ROCKSYD_LOG"
"""The variable that names one of them."""
SOCKET = "/run/systemd/journal/socket"
"""Where systemd's journal takes entries (its "native protocol")."""
INFO, WARNING, ERROR = "info", "warning", "error"
_PRIORITIES = {INFO: 6, WARNING: 4, ERROR: 3}
_MOST = 3500
"""Characters of a text; that there were more is said in its line."""
_BEGINNING = 2500
"""Those of them that come before what is cut; the others are the end, because that of a traceback says what it is about."""
_STEERS = {code: f"\\x{code:02x}" for code in (*range(9), *range(11, 32), *range(0x7F, 0xA0))}
_STEERS |= {code: f"\\u{code:04x}" for code in (*range(0x2028, 0x202F), *range(0x2066, 0x206A))}
"""Control characters but tabs and line breaks, and what turns the direction of writing, and how they are shown: what a run says
must not steer whoever reads the log."""
_lost = 0


def line(who: str, text: str) -> str:
    """The line for ``text``: time (UTC), process, text without line breaks of its own."""
    body = text.translate(_STEERS).replace("\n", "\n    ")
    return f"{_stamp(time.time())} {who}[{os.getpid()}] {body}\n"


def json_line(who: str, text: str, fields: dict[str, Any]) -> str:
    """The same as JSON, with the fields beside ``at``, ``process``, ``pid``, ``level`` and ``text``; at most PIPE_BUF bytes."""
    entry = {"at": _stamp(time.time()), "process": who, "pid": os.getpid(), "level": INFO, "text": "", **fields}
    while True:
        data = json.dumps({**entry, "text": text}, separators=(",", ":"))
        if len(data) < PIPE_BUF or not text:
            return f"{data}\n"
        text = text[: max(len(text) - (len(data) - PIPE_BUF) // 6 - 8, 0)]


def _stamp(now: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"


def form_of(fd: int) -> str:
    """The form of what is logged to this descriptor."""
    wanted = os.environ.get(FORM)
    if wanted in (TEXT, JSON, JOURNAL):
        return wanted
    try:
        if os.isatty(fd):
            return TEXT
        if stream := os.environ.get("JOURNAL_STREAM"):
            there = os.fstat(fd)
            return JOURNAL if stream == f"{there.st_dev}:{there.st_ino}" else JSON
    except OSError:
        return TEXT
    return JSON


def log(who: str, text: str, fd: int = 2, **fields: Any) -> None:
    """Make one entry, or drop it when it cannot be written now. The next one that can says how many were dropped.

    ``fields``: ``event`` is its name for programs, ``level`` one of INFO (if left out), WARNING, ERROR; None is left out.
    """
    global _lost  # one process, one standard error
    if len(text) > _MOST:
        text = f"{text[:_BEGINNING]} [{len(text) - _MOST} characters cut] {text[_BEGINNING - _MOST :]}"
    form, fields = form_of(fd), {name: value for name, value in fields.items() if value is not None}
    if form == JOURNAL:
        if to_journal(who, text, fields):
            return
        form = TEXT
    data = _lines(form, who, text, fields)
    if _lost:
        data = _lines(form, who, f"({_lost} lines before this one could not be written)", {}) + data
        if len(data) > PIPE_BUF and form == JSON:
            data = _lines(form, who, text, fields)
    if len(data) > PIPE_BUF:
        data = data[: PIPE_BUF - 1] + b"\n"
    poller = select.poll()
    poller.register(fd, select.POLLOUT)
    try:
        if poller.poll(0) and os.write(fd, data):
            _lost = 0
            return
    except OSError:
        pass
    _lost += 1


def _lines(form: str, who: str, text: str, fields: dict[str, Any]) -> bytes:
    return (json_line(who, text, fields) if form == JSON else line(who, text)).encode(errors="backslashreplace")


def to_journal(who: str, text: str, fields: dict[str, Any]) -> bool:
    """Give an entry to systemd's journal; false when it does not take it now. Fields are ``ROCKSYD_KEY`` and so on."""
    import _socket  # noqa: PLC0415  (only under systemd)

    entry = {"MESSAGE": text, "PRIORITY": _PRIORITIES.get(str(fields.get("level")), 6), "SYSLOG_IDENTIFIER": "rocksyd"}
    entry |= {f"ROCKSYD_{name.upper()}": value for name, value in {"process": who, **fields}.items()}
    data = bytearray()
    for name, value in entry.items():
        raw = str(value).encode(errors="backslashreplace")
        data += b"%s\n%s%s\n" % (name.encode(), len(raw).to_bytes(8, "little"), raw)
    try:
        with_socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
        try:
            with_socket.sendto(data, _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL, SOCKET)
        finally:
            with_socket.close()
    except OSError:
        return False
    return True


def reopen(who: str, pid: int) -> None:
    """After a rotation: let descriptors 1 and 2 be the file that process ``pid`` logs to now. What is no file stays as it is."""
    try:
        path = f"/proc/{pid}/fd/2"
        if not stat.S_ISREG(os.stat(path).st_mode):
            return None
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    except OSError as error:
        return log(who, f"the log cannot be reopened, the old one is still written: {error.strerror}", level=WARNING)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.close(fd)
    return None
