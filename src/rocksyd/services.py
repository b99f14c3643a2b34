"""What an application declares a resident service with: ``service`` marks a class, ``Service`` is what every such class has.

What must live here: the declaration, and what a service's code may call.
What this file must not know: sockets, processes, the master; how a connection is served (``worker.service``).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from rocksyd.errors import JobError
from rocksyd.protocols import protocol_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Declared = TypeVar("Declared", bound=type)

MARK = "__rocksyd_service__"
"""Attribute of a declared class: name, listen, protocol, state_version."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
SCHEMES = ("tcp://", "unix://")


def service(
    *, listen: str | tuple[str, ...], protocol: Any, state_version: Any = 1, name: str = ""
) -> Callable[[Declared], Declared]:
    """Declare a class as a resident service; ``[apps.NAME.services.SERVICE]`` in ``rocksyd.toml`` has it served.

    ``listen``: ``tcp://HOST:PORT`` or ``unix:///path``, relative paths from the folder of ``rocksyd.toml``; a tuple of them for
    several. ``protocol``: ``Lines()``, another of these, or an object or class of your own with ``feed(bytes)``, which returns
    the messages that are complete, and ``pending``. ``state_version``: what ``load`` is told of the state that this code's
    ``dump`` gives. ``name``: of the service; the class's own in lower case where it is left out.

    Raises:
        JobError: something of that is wrong; the message names the class and what to write.
    """
    where: tuple[Any, ...] = (listen,) if isinstance(listen, str) else tuple(listen)

    def declare(cls: Declared) -> Declared:
        called = name or cls.__name__.lower()
        if not isinstance(cls, type):
            raise JobError(f"@service on {cls!r}: only a class can be a service")
        if not _NAME.fullmatch(called):
            raise JobError(f"@service on {cls.__name__}: name={called!r} is wrong: expected at most 64 letters, digits, - and _")
        for one in where or ("",):
            if not isinstance(one, str) or not one.startswith(SCHEMES):
                raise JobError(
                    f'@service on {cls.__name__}: listen={one!r} is wrong: expected an address such as "tcp://127.0.0.1:7000" or '
                    '"unix://chat.sock"'
                )
        if isinstance(state_version, bool) or not isinstance(state_version, int) or state_version < 0:
            raise JobError(
                f"@service on {cls.__name__}: state_version={state_version!r} is wrong: expected a whole number from 0"
            )
        try:
            protocol_of(protocol)
        except TypeError as error:
            raise JobError(f"@service on {cls.__name__}: {error}") from error
        if not callable(getattr(cls, "message", None)):
            raise JobError(f"@service on {cls.__name__}: it has no message method; write `async def message(self, c, message)`")
        setattr(cls, MARK, {"name": called, "listen": where, "protocol": protocol, "state_version": state_version})
        return cls

    return declare


def service_of(found: Any) -> dict[str, Any] | None:
    """What ``service`` was given for a class; None where it is no service. A class that inherits from one is none itself."""
    said = found.__dict__.get(MARK) if isinstance(found, type) else None
    return said if isinstance(said, dict) else None


class Connection(Protocol):
    """A client's connection, as the methods of a service get it."""

    id: int
    """Of this connection, and of no other one; the same after a deploy."""
    peer: str
    """Where it comes from: ``HOST:PORT``; "" over a unix socket."""
    state: Any
    """Yours: plain data (what JSON has), carried over deploys. None at first."""
    room: str | None
    """What ``announce`` reaches it by."""

    def send(self, message: Any) -> None:
        """Send a message; it waits for nobody. Nothing is sent over a connection that is closed."""

    def close(self) -> None:
        """Close it when all that was sent is written."""


class Connections(Protocol):
    """The connections of a service. It may change while somebody goes through it."""

    def __iter__(self) -> Iterator[Connection]: ...
    def __len__(self) -> int: ...
    def __contains__(self, connection: object) -> bool: ...
    def get(self, number: int) -> Connection | None:
        """The one with this ``id``; None where it is gone."""


class Timer(Protocol):
    """What ``after`` has set."""

    def cancel(self) -> None:
        """Do not call it after all."""


class Host(Protocol):
    """Who serves a service."""

    connections: Connections

    def announce(self, room: str | None, message: Any) -> None:
        """As ``Service.announce``."""

    def after(self, seconds: float, method: str, args: tuple[Any, ...]) -> Timer:
        """As ``Service.after``."""


class Service:
    """What each declared class has besides its own: inherit from it where an editor or a type checker should know."""

    host: Host

    @property
    def connections(self) -> Connections:
        """All connections that there are."""
        return self.host.connections

    def announce(self, room: str | None, message: Any) -> None:
        """Send a message over every connection whose ``room`` this is; None: over all."""
        self.host.announce(room, message)

    def after(self, seconds: float, method: str, *args: Any) -> Timer:
        """Call a method of this object, by its name, in so many seconds. It is called after a deploy or a crash as well.

        ``args`` are plain data (what JSON has).

        Raises:
            JobError: there is no such method.
        """
        return self.host.after(seconds, method, args)

    # --- what a class may have of its own -----------------------------------------------------------------------------
    def connected(self, c: Any) -> Any:
        """Somebody has come. ``async def`` if you like."""

    def disconnected(self, c: Any) -> Any:
        """A connection is closed, by whomever. ``async def`` if you like."""

    def dump(self) -> Any:
        """What of this object new code is to go on with: plain data (what JSON has)."""
        return {}

    def load(self, state: Any, version: int) -> None:
        """Go on with what ``dump`` of the code before gave; ``version`` is its ``state_version``. Raising refuses the deploy."""

    def load_connection(self, c: Any, state: Any, version: int) -> None:
        """Go on with a connection. It is one of ``connections`` from here on."""
        c.state = state

    def restored(self, c: Any) -> None:
        """The process that served it has crashed, and the connection was quiet: what has been lost of it may be repaired."""
