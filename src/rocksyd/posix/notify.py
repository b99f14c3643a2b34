"""The service manager's side channel: sd_notify(3) datagrams and the watchdog it asks for.

What must live here: the socket's address, the datagrams. What this file must not know: when the service is ready.

Sources: sd_notify(3), systemd.service(5) ``Type=notify-reload`` (``RELOADING=1`` wants ``MONOTONIC_USEC`` beside it),
sd_watchdog_enabled(3).
"""

from __future__ import annotations

import _socket
from collections.abc import MutableMapping


class Notifier:
    """Sends to ``address`` (a path, or ``@name`` for the abstract name space); to nobody when it is empty.

    Never blocks and never fails: a service manager that does not listen is no reason to stop the service.
    """

    __slots__ = ("address", "watchdog")

    def __init__(self, address: str = "", watchdog: float = 0.0) -> None:
        self.address = address
        self.watchdog = watchdog
        """Seconds between two WATCHDOG=1 at the most; 0 when none are wanted."""

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str], pid: int) -> Notifier:
        """Read what the service manager said to ``pid``, and take it out of ``environment``: it is not meant for children."""
        address = environment.pop("NOTIFY_SOCKET", "")
        period = environment.pop("WATCHDOG_USEC", "")
        meant_for = environment.pop("WATCHDOG_PID", "")
        watchdog = 0.0
        if period.isdigit() and meant_for in ("", str(pid)):
            watchdog = int(period) / 1e6
        return cls(address, watchdog)

    def send(self, *assignments: str) -> None:
        """Send ``NAME=value`` assignments in one datagram."""
        if not self.address:
            return
        target = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        try:
            socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC, 0)
        except OSError:
            return
        try:
            socket.sendto("\n".join(assignments).encode(), _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL, target)
        except OSError:
            return
        finally:
            socket.close()

    def status(self, text: str) -> None:
        """Show ``text`` as the service's state; line breaks would begin another assignment, so they become spaces."""
        self.send("STATUS=" + " ".join(text.split()))

    def ready(self, pid: int, text: str) -> None:
        """The service serves (again). ``pid`` is the service's main process."""
        self.send("READY=1", f"MAINPID={pid}", "STATUS=" + " ".join(text.split()))

    def reloading(self, now: float, text: str) -> None:
        """A restart begins. ``now`` is CLOCK_MONOTONIC seconds."""
        self.send("RELOADING=1", f"MONOTONIC_USEC={int(now * 1e6)}", "STATUS=" + " ".join(text.split()))

    def stopping(self, text: str) -> None:
        """The service is on its way out."""
        self.send("STOPPING=1", "STATUS=" + " ".join(text.split()))

    def alive(self) -> None:
        """Feed the watchdog."""
        self.send("WATCHDOG=1")
