"""The names under which descriptors lie on the keeper's shelf, and of the keeper's children.

What must live here: every kind of name, how one is made and how it is read.
What this file must not know: what is done with a descriptor.

Two versions read each other's names, as one hands over to the other: a kind never changes its form, others may be added.
"""

from __future__ import annotations

from collections.abc import Iterable

CONFIG = "config"
"""The memfd with the configuration that is in force."""
LOCK = "lock"
"""The file whose lock says that the state folder is in use."""
SCOREBOARD = "scoreboard"
"""The memfd in which each worker says what it does."""
BUSY_PAGE = "busy"
"""The memfd in which the master that serves has a byte for each slot of a connection."""
BUSY = 1
"""The bit of that byte which says that the connection is in the middle of something."""

CONNECTION, WORKER, ZYGOTE, LISTENER = "conn:", "worker:", "zygote:", "listen:"
CALLER, PASSED, COMPANION, QUEUE = "exec:", "sd:", "companion:", "queue:"
SERVED, STATE, PAGE = "svc:", "state:", "page:"


def of(kind: str, names: Iterable[str]) -> list[str]:
    """Those of ``names`` that are of this kind."""
    return [name for name in names if name.startswith(kind)]


def connection(number: int, slot: int) -> str:
    """A client's connection, which has this slot in the busy page."""
    return f"conn:{number}:{slot}"


def connection_of(name: str) -> tuple[int, int]:
    """(number, slot) of a connection."""
    _, number, slot = name.split(":")
    return int(number), int(slot)


def worker(number: int) -> str:
    """The channel to a worker."""
    return f"worker:{number}"


def worker_of(name: str) -> int:
    """The worker's number; 0, which no worker has, when the name is not that of one."""
    number = name.removeprefix(WORKER)
    return int(number) if name.startswith(WORKER) and number.isdigit() else 0


def zygote(app: str, generation: int, template: int = 0) -> str:
    """The channel to a zygote or a template. To a version that knows no templates, one is the zygote of another application."""
    return f"zygote:{app}#{template}@{generation}" if template else f"zygote:{app}@{generation}"


def zygote_of(name: str) -> tuple[str, int, int]:
    """(application, generation, template) of a zygote; the template is 0 when it is the application's zygote itself."""
    app, _, generation = name.removeprefix(ZYGOTE).rpartition("@")
    app, _, template = app.partition("#")
    return app, int(generation), int(template or 0)


def listener(address: object, companion: str = "") -> str:
    """The socket that listens at an address of the configuration, for a companion or for the daemon."""
    return f"listen:{companion}={address}" if companion else f"listen:{address}"


def companion_listener_of(name: str) -> tuple[str, str]:
    """(companion, address) of a companion's listening socket."""
    companion, _, address = name.removeprefix(LISTENER).partition("=")
    return companion, address


def queue(pool: str) -> tuple[str, str]:
    """The two ends of a web pool's queue of kept connections: to put one in, to take one out."""
    return f"queue:{pool}", f"queue:{pool}:out"


def served(service: str, number: int) -> str:
    """A connection of a service, which is called by its pool's id."""
    return f"svc:{service}:{number}"


def served_of(name: str) -> tuple[str, int]:
    """(service, number) of a connection of a service."""
    service, _, number = name.removeprefix(SERVED).rpartition(":")
    return service, int(number)


def state(service: str) -> str:
    """The memfd with the last checkpoint of a service."""
    return f"state:{service}"


def page(service: str) -> str:
    """The memfd in which each connection of a service says whether it is busy."""
    return f"page:{service}"


def companion(name: str, generation: int) -> str:
    """A process of a companion, among the keeper's children."""
    return f"companion:{name}@{generation}"


def companion_of(name: str) -> str:
    """The companion whose process has this name."""
    return name.removeprefix(COMPANION).rpartition("@")[0]


def generation_of(name: str) -> int:
    """The generation of a zygote or of a companion's process."""
    return int(name.rpartition("@")[2])


def caller(key: str, count: int) -> tuple[str, ...]:
    """The descriptors, so many, of a caller of ``rocksyd exec`` whose run waits."""
    return tuple(f"exec:{key}:{index}" for index in range(count))


def caller_of(name: str) -> tuple[str, int]:
    """(key of the run, index) of such a descriptor."""
    key, _, index = name.removeprefix(CALLER).rpartition(":")
    return key, int(index)


def passed(which: object) -> str:
    """A socket that the service manager has passed, by its place or by its name there."""
    return f"sd:{which}"


def passed_by_place(names: Iterable[str]) -> list[str]:
    """The passed sockets, each once: some lie there by their name, too."""
    return [name for name in of(PASSED, names) if name.removeprefix(PASSED).isdigit()]
