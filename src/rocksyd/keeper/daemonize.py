"""Into the background, the classic way: two forks and a session between them; the caller learns how the start went.

Sources: daemon(7), "SysV Daemons". The first fork lets ``setsid`` succeed, the second one makes sure that no terminal can
become the daemon's. The PID file is the keeper's own business: it locks the file itself, in the foreground as well.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

UMASK = 0o022


def daemonize(command: list[str], *, log_file: str | None = None, umask: int = UMASK) -> int:
    """Execute ``command`` in the background, with ``--ready-fd N`` added; wait until it is ready or has failed.

    Args:
        command: program and arguments; every path in it absolute, as the daemon's folder is ``/``.
        log_file: what becomes the daemon's stdout and stderr (appended); ``/dev/null`` if None.
        umask: the daemon's.

    Returns:
        0 when it is ready; 1 when it is not to be, with the reason on stderr.
    """
    news, report = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _go_into_background(command, report, log_file, umask)
    os.close(report)
    os.waitpid(child, 0)
    with os.fdopen(news, "rb") as file:
        text = file.readline().decode(errors="replace")
    if text == "ready\n":
        return 0
    reason = text.removeprefix("failed ").strip() or f"the daemon ended and gave no reason; look into {log_file or 'its log'}"
    sys.stderr.write(f"rocksyd: cannot start: {reason}\n")
    return 1


def _go_into_background(command: list[str], report: int, log_file: str | None, umask: int) -> NoReturn:
    try:
        os.setsid()
        if os.fork() > 0:
            os._exit(0)
        os.umask(umask)
        os.chdir("/")
        _redirect(log_file)
        os.closerange(3, report)
        os.closerange(report + 1, os.sysconf("SC_OPEN_MAX"))
        os.set_inheritable(report, True)
        os.execv(command[0], [*command, "--ready-fd", str(report)])
    except OSError as error:
        os.write(report, f"failed {error.filename or command[0]}: {error.strerror}".encode())
    finally:
        os._exit(1)


def _redirect(log_file: str | None) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    output = nothing if log_file is None else os.open(log_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
    os.dup2(nothing, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
