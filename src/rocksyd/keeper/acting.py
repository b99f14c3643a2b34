"""The choreography's effects, as acts on the system.

What must live here: what each effect does, and what is fed back when it cannot be done.
What this file must not know: why anything is to be done (``choreography``), and the effects that concern the keeper itself
(``service``).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from rocksyd.keeper import effects as fx
from rocksyd.keeper.events import Died, Hindered
from rocksyd.keeper.world import World

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Feed = Callable[[Any], None]


def _start_master(world: World, feed: Feed, effect: fx.StartMaster) -> None:
    try:
        world.start_master(effect.master)
    except OSError as error:
        feed(Died(effect.master, f"could not be started ({error.strerror})"))


def _send_adopt(world: World, feed: Feed, effect: fx.SendAdopt) -> None:
    try:
        world.adopt(effect.master, with_snapshot=effect.snapshot)
    except OSError as error:
        feed(Hindered(f"the keeper cannot pass the snapshot on: {error.strerror}"))


def _lose_serving(world: World, feed: Feed, effect: fx.LoseServing) -> None:
    world.log.line(f"the serving master {effect.how}")
    world.notifier.status(f"the master {effect.how}; starting another")


def _drop_busy_connections(world: World, feed: Feed, effect: fx.DropBusyConnections) -> None:
    count = world.shelf.drop_busy_connections()
    world.log.line(f"masters keep dying young: the next one starts without the {count} busy connections")


def _reloading(world: World, feed: Feed, effect: fx.Reloading) -> None:
    world.notifier.reloading(time.monotonic(), effect.text)


def _serves(world: World, feed: Feed, effect: fx.Serves) -> None:
    world.notifier.ready(os.getpid(), effect.text or f"serving generation {effect.generation}")
    world.starter.report_ready()


EFFECTS: dict[type[Any], Callable[[World, Feed, Any], None]] = {
    fx.StartMaster: _start_master,
    fx.SendPrepare: lambda world, feed, effect: world.prepare(effect),
    fx.Send: lambda world, feed, effect: world.say(effect.master, effect.message),
    fx.SendAdopt: _send_adopt,
    fx.Promote: lambda world, feed, effect: world.promote(effect.master),
    fx.Discard: lambda world, feed, effect: world.discard(effect.master),
    fx.LoseServing: _lose_serving,
    fx.Kill: lambda world, feed, effect: world.kill_master(effect.master),
    fx.DropBusyConnections: _drop_busy_connections,
    fx.Reloading: _reloading,
    fx.Serves: _serves,
    fx.Log: lambda world, feed, effect: world.log.line(effect.text),
}
