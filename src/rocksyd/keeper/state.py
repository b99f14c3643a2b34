"""A keeper's whole state as plain data, for the keeper that takes its place by ``execve``.

Carried: the options, the serving master with its channel, the shelf, the children and the ends nobody has acknowledged, the
ladder, signals not yet told, the PID file's lock, the service manager's address. Not carried: a restart under way, a
half-started child, what waits in an outbox - the keeper replaces itself only when there is none of these.

Two versions meet here: unknown keys are ignored, missing ones take their default.
"""

from __future__ import annotations

import json

from rocksyd.errors import SnapshotError
from rocksyd.keeper.children import Children
from rocksyd.keeper.choreography import Choreography
from rocksyd.keeper.links import Link
from rocksyd.keeper.log import Log
from rocksyd.keeper.options import Options
from rocksyd.keeper.shelf import Shelf
from rocksyd.keeper.world import World
from rocksyd.posix.channel import Channel
from rocksyd.posix.notify import Notifier

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FORMAT = 1


def dump(world: World, choreography: Choreography, signals: list[int]) -> bytes:
    """The state; descriptors are in it as numbers."""
    options = world.options
    return json.dumps(
        {
            "format": FORMAT,
            "config": options.config,
            "pid_file": options.pid_file,
            "log_file": options.log_file,
            "python": options.python,
            "boot": options.boot,
            "nofile": world.nofile,
            "notify": world.notifier.address,
            "watchdog": world.notifier.watchdog,
            "pid_fd": world.pid_fd,
            "shelf": world.shelf.items(),
            "masters": [[link.number, link.pid, link.fileno()] for link in world.links.values()],
            "children": world.children.dump(),
            "choreography": choreography.dump(),
            "signals": signals,
        }
    ).encode()


def descriptors(world: World) -> list[int]:
    """The descriptors that ``dump`` speaks of."""
    fds = [*world.shelf.items().values(), *(link.fileno() for link in world.links.values())]
    return [*fds, world.pid_fd] if world.pid_fd >= 0 else fds


def load(data: bytes) -> tuple[World, Choreography, list[int]]:
    """The keeper that ``dump`` described: its world, its choreography and signals that came meanwhile.

    Raises:
        SnapshotError: the data is not a keeper's state, or a descriptor it names is not open.
    """
    try:
        state = json.loads(data)
        world = _world(state)
        choreography = Choreography.load(state["choreography"])
        return world, choreography, [int(number) for number in state.get("signals", ())]
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise SnapshotError(f"the state a keeper left cannot be used: {error!r}") from error


def _world(state: dict[str, Any]) -> World:
    config, pid_file, log_file, python, boot = (
        str(state.get(name, "")) for name in ("config", "pid_file", "log_file", "python", "boot")
    )
    options = Options(config, pid_file, log_file, python, boot, subreaper=True)
    notifier = Notifier(str(state.get("notify", "")), float(state.get("watchdog", 0.0)))
    world = World(options, int(state.get("nofile", 0)), Log(options.log_file), notifier)
    world.pid_fd = int(state.get("pid_fd", -1))
    world.shelf = Shelf({str(name): int(fd) for name, fd in state.get("shelf", {}).items()})
    world.children = Children.load(state.get("children", {}))
    for number, pid, fd in state["masters"]:
        world.links[int(number)] = Link(int(number), int(pid), Channel.from_fd(int(fd)))
    return world
