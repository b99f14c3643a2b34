"""Writing to the terminal, to a pipe that may be closed, and in whatever encoding it has.

What must live here: how text leaves this process.
What this file must not know: what the text says. It is imported by every command, so it imports nothing.
"""

import os
import sys

UNWRITABLE = 74
"""EX_IOERR: what was to be said could not be written."""
SIGPIPE_STATUS = 141
"""128 + SIGPIPE: what a shell shows for a command whose reader (``head``) has left."""


class Unwritable(Exception):
    """Standard output takes nothing: the disk is full, or it is closed. The message says why."""


def fill_streams() -> None:
    """Give this process the standard streams that its caller has closed (``>&-``).

    Python has None for them, and their numbers would go to the next thing that is opened. Writing to this output fails as it
    would there; what is said on this standard error is lost, as the caller wanted it.
    """
    for name, flags, mode in (("stdin", os.O_RDONLY, "r"), ("stdout", os.O_RDONLY, "w"), ("stderr", os.O_WRONLY, "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.open(os.devnull, flags), mode, closefd=False))  # noqa: SIM115  (open for the process's life)


def write(text: str) -> None:
    """Write ``text`` to standard output at once: on a terminal nothing in it steers that but colours.

    Raises Unwritable; BrokenPipeError when nobody reads it any longer.
    """
    write_raw(harmless(text) if sys.stdout.isatty() else text)


def write_raw(text: str) -> None:
    """The same, with whatever is in it."""
    try:
        try:
            sys.stdout.write(text)
        except UnicodeEncodeError:
            encoding = sys.stdout.encoding
            sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise Unwritable(f"standard output cannot be written ({error.strerror})") from error


def json_line(value: object) -> str:
    """``value`` as a line of JSON, for programs."""
    import json

    return json.dumps(value, ensure_ascii=False).translate(_UNSEEN) + "\n"


def say(text: str) -> None:
    """Tell the person something beside the data: a line on standard error. Nobody there is no error."""
    try:
        lines = "\n".join(clean(line) for line in str(text).split("\n"))
        sys.stderr.write(f"rocksyd: {lines}\n")
        sys.stderr.flush()
    except OSError:
        pass


def cannot_write(error: Exception) -> int:
    """After Unwritable: say so, and keep the interpreter from trying again at its exit; returns the exit status."""
    reader_left()
    say(str(error))
    return UNWRITABLE


def reader_left() -> int:
    """After BrokenPipeError: keep the interpreter from complaining at its exit; returns the exit status."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    os.close(devnull)
    return SIGPIPE_STATUS


def harmless(text: str) -> str:
    """``text`` as a terminal may have it: line breaks, tabs and colours are kept, what else would steer it is shown as text.

    What changes the direction of writing counts as that, too. A carriage return stays: a progress bar draws over its own line.
    """
    import re

    kept = r"\x1b\[[0-9;:]*m"
    steers = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]"
    return re.sub(f"{kept}|{steers}", lambda found: found[0] if len(found[0]) > 1 else repr(found[0])[1:-1], text)


_UNSEEN = {code: f"\\u{code:04x}" for code in (*range(0x7F, 0xA0), *range(0x2028, 0x202F), *range(0x2066, 0x206A))}
"""Characters that JSON may hold as they are and that would steer a terminal."""


def clean(text: object) -> str:
    """``text`` on one line and without control characters: a job's name must not be able to steer the terminal."""
    text = str(text)
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
