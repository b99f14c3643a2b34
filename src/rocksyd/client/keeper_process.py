"""The daemon's process, for whoever has to know that it is gone and not only that it has stopped serving.

What must live here: from the PID that ``stats`` tells to something that can be waited for.
What this file must not know: connections.
"""

from __future__ import annotations

import os
import select

TITLE = b"rocksyd: keeper"


def watch(pid: object) -> int | None:
    """A descriptor that becomes readable when the service with this PID has exited; None when it is none of this machine's.

    In another PID namespace (a container) the number means another process here, or none; so the process's title must fit.
    """
    if not isinstance(pid, int) or pid <= 0:
        return None
    try:
        fd = os.pidfd_open(pid)
    except (OSError, AttributeError):  # an operating system other than Linux: the daemon is another machine's, or a container's
        return None
    # Looked at after the descriptor was opened: from then on the number cannot come to mean another process.
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            fits = TITLE in file.read()
    except OSError:
        fits = False
    if not fits:
        os.close(fd)
        return None
    return fd


def wait_gone(fd: int) -> None:
    """Wait until the process behind this descriptor of ``watch`` has exited, and close the descriptor."""
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        while not poll.poll(1000):
            pass  # a Ctrl-C that came just before the call began is heard now: see ``daemon_socket.LOOK_UP``
    finally:
        os.close(fd)
