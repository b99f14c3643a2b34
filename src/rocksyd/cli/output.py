"""Writing to the terminal, to a pipe that may be closed, and in whatever encoding it has.

What must live here: how text leaves this process.
What this file must not know: what the text says. It is imported by every command, so it imports nothing.
"""

import os
import sys

SIGPIPE_STATUS = 141
"""128 + SIGPIPE: what a shell shows for a command whose reader (``head``) has left."""


def write(text: str) -> None:
    """Write ``text`` to standard output at once. Raises BrokenPipeError when nobody reads it any more."""
    try:
        sys.stdout.write(text)
    except UnicodeEncodeError:
        encoding = sys.stdout.encoding
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
    sys.stdout.flush()


def say(text: str) -> None:
    """Tell the person something beside the data: a line on standard error. Nobody there is no error."""
    try:
        sys.stderr.write(f"rocksyd: {text}\n")
        sys.stderr.flush()
    except OSError:
        pass


def reader_left() -> int:
    """After BrokenPipeError: keep the interpreter from complaining at its exit; returns the exit status."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    os.close(devnull)
    return SIGPIPE_STATUS


def clean(text: object) -> str:
    """``text`` on one line and without control characters: a job's name must not be able to steer the terminal."""
    text = str(text)
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
