"""Python's ``sys.stdin``, ``sys.stdout`` and ``sys.stderr`` for descriptors that were not there when the interpreter began.

What must live here: encodings, buffering and error handlers, as the interpreter chooses them at its start.
What this file must not know: whose descriptors they are.

Sources: ``create_stdio`` and ``init_sys_streams`` in CPython's ``Python/pylifecycle.c``; PEP 538 and PEP 540 for the C locale.
"""

from __future__ import annotations

import _locale
import codecs
import io
import os
import sys
from typing import Any

_Error: type[Exception] = getattr(_locale, "Error")  # noqa: B009  (typeshed does not know it)

_NAMES = ("stdin", "stdout", "stderr")


def coerce_c_locale() -> None:
    """Adopt the environment's LC_CTYPE; in the C locale prefer C.UTF-8, and tell child processes so (PEP 538)."""
    if _ctype() == "C" and not os.environ.get("LC_ALL") and os.environ.get("PYTHONCOERCECLOCALE") != "0":
        os.environ["LC_CTYPE"] = "C.UTF-8"
        if _ctype() == "C":
            del os.environ["LC_CTYPE"]
            _ctype()


def _ctype() -> str:
    try:
        return _locale.setlocale(_locale.LC_CTYPE, "")
    except _Error:
        return "C"


def _choice() -> tuple[str, str]:
    """Encoding and error handler of standard input and output."""
    locale = _locale.setlocale(_locale.LC_CTYPE, None)
    legacy = locale in ("C", "POSIX")
    mode = os.environ.get("PYTHONUTF8", "")
    utf8 = mode == "1" or (legacy and mode != "0")
    encoding = "utf-8" if utf8 else _locale.nl_langinfo(_locale.CODESET) or "utf-8"
    errors = "surrogateescape" if utf8 or legacy or locale in ("C.UTF-8", "C.utf8", "UTF-8") else "strict"
    given, _, handler = os.environ.get("PYTHONIOENCODING", "").partition(":")
    if given and not handler:
        handler = "strict"
    return codecs.lookup(given or encoding).name, handler or errors


def open_streams(opened: str, *, unbuffered: bool) -> None:
    """New streams for those of 0, 1 and 2 that are ``opened``; None for the others, as in a fresh interpreter."""
    encoding, errors = _choice()
    for number, name in enumerate(_NAMES):
        stream = None
        if str(number) in opened:
            stream = _stream(number, encoding, "backslashreplace" if number == 2 else errors, unbuffered=unbuffered)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _stream(number: int, encoding: str, errors: str, *, unbuffered: bool) -> Any:
    writes = number > 0
    buffer: Any
    try:
        buffer = open(number, "wb" if writes else "rb", buffering=0 if unbuffered and writes else -1, closefd=False)  # noqa: SIM115
    except OSError:
        return None
    raw = getattr(buffer, "raw", buffer)
    raw.name = f"<{_NAMES[number]}>"
    line_buffering = not unbuffered and (raw.isatty() or number == 2)
    stream: Any = io.TextIOWrapper(buffer, encoding, errors, "\n", line_buffering=line_buffering, write_through=unbuffered)
    stream.mode = "w" if writes else "r"
    return stream
