"""What is decided about web and service workers, carried out.

What must live here: which words each decision is, to zygote and worker. What this file must not know: why it was decided; what
zygotes and workers say (``web``).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rocksyd import messages as m
from rocksyd.config import Config
from rocksyd.core import web_crew as decisions
from rocksyd.core.services import GO_ON, TAKE_OVER, ServicePool
from rocksyd.core.web import WebPool
from rocksyd.kinds import SERVICE, WEB
from rocksyd.master.staff.keeper import Keeper
from rocksyd.master.staff.services import Services
from rocksyd.master.staff.web_links import WebLink, WebLinks
from rocksyd.master.staff.web_sizes import WebSizes
from rocksyd.master.staff.web_sockets import WebSockets
from rocksyd.master.staff.zygotes import Zygote, Zygotes
from rocksyd.posix.log import WARNING, log
from rocksyd.posix.loop import Loop

KILL_AFTER = 5.0
"""Seconds that a worker has beyond its ``linger`` to leave."""


class WebOrders:
    """All web pools of one master."""

    def __init__(self, config: Config, zygotes: Zygotes, keeper: Keeper, loop: Loop) -> None:
        self._zygotes, self._keeper = zygotes, keeper
        self.pools: dict[str, WebPool] = {}
        self.links = WebLinks(loop, keeper, zygotes)
        self.sockets = WebSockets(config)
        self.services = Services(config, keeper, self.sockets)
        self.sizes = WebSizes(self.links, self.sockets, self.act)
        self.settled: Callable[[str, int], None] = lambda app, generation: None
        """Told when a generation that is coming can serve, or has failed."""
        self.swapped: Callable[[], None] = lambda: None
        """Told when it may have become known which code of a service goes on."""
        self.reaped: Callable[[Zygote | None, int], None] = lambda zygote, pid: None
        """Told of the PID of each that is no more, so that its parent hears that this is known."""
        self.row: Callable[[str], Any] = lambda pool: None
        """What ``rocksyd pools`` shows of a pool."""
        self.died: Callable[[str, int, int | None], None] = lambda app, generation, status: None
        """Told of each worker's end: application, generation, and status as waitpid gives it."""
        self.slow_log: Callable[[str, str], None] = lambda what, where: None
        """Writes an entry of the slow log: a sentence, and stacks."""
        self.shelf: dict[str, int] = {}
        """The descriptors that a master which prepares has been given: a socket that it makes is among them."""
        self.daemon = ""
        """Where the daemon can be called: jobs are ordered while requests are answered."""
        self.patience = config.restart.prepare_timeout
        self.links.called = self._called
        self.configure(config)

    def configure(self, config: Config) -> None:
        """Take other settings."""
        self.sockets.apps = {app.web_pool: app for app in config.apps.values() if app.web is not None}
        for name, app in self.sockets.apps.items():
            assert app.web is not None
            policy = app.every_pool()[name]
            if name in self.pools:
                self.pools[name].use(policy, app.web.capacity)
            else:
                self.pools[name] = WebPool(name, policy, app.web.capacity, self._place(app.name))
        self.services.configure(config)
        for name, app in self.services.apps.items():
            policy = app.every_pool()[name]
            if name in self.pools:
                self.pools[name].use(policy, 1)
            else:
                self.pools[name] = ServicePool(name, policy, self._place(name))

    def _place(self, name: str) -> int:
        return decisions.place_of(name, [pool.place for pool in self.pools.values()])

    def pools_of(self, app: str) -> list[WebPool]:
        """Those of an application that are to be served: of its requests, and of its services."""
        there = [*self.sockets.apps, *self.services.apps]
        return [pool for name, pool in self.pools.items() if pool.app == app and name in there]

    def pool_with(self, number: int) -> WebPool | None:
        """The pool of the worker with this number."""
        pools, place = self.pools.values(), decisions.place_in(number)
        return next((pool for pool in pools if number in pool.workers or pool.place == place), None)

    def _called(self, number: int) -> tuple[str, str]:
        pool = self.pool_with(number)
        return (
            ("service worker", pool.name)
            if isinstance(pool, ServicePool)
            else ("web worker", pool.app if pool is not None else "")
        )

    def can_serve(self, app: str, generation: int) -> bool:
        """Whether this generation of the application has what it needs; true where nothing of it has workers that stay."""
        return all(pool.can_serve(generation) for pool in self.pools_of(app))

    def failure(self, app: str, generation: int) -> str:
        """Why it has not; "" while nothing has gone wrong."""
        return next(filter(None, (pool.failure.get(generation, "") for pool in self.pools_of(app))), "")

    @property
    def swapping(self) -> bool:
        """Whether of a service it is not known yet which code goes on."""
        return any(isinstance(pool, ServicePool) and pool.swapping for pool in self.pools.values())

    def _serve(self, link: WebLink) -> None:
        pool = self.pool_with(link.number)
        if pool is None or link.served:
            return
        if isinstance(pool, ServicePool):
            self._serve_service(link, pool)
            return
        app = self.sockets.apps.get(pool.name)
        if app is None or app.web is None:
            return
        link.served = True
        link.wait(self.patience)
        policy = app.every_pool()[pool.name]
        settings = {
            **app.web.told(), "grace": policy.grace, "slow_after": policy.slow_after,
            "max_queue": policy.max_queue, "daemon": self.daemon,
        }  # fmt: skip
        smoke = app.web.smoke_request if link.number in pool.first else ""
        listening = tuple(text for text, _ in app.web.listen)
        link.say(m.Serve(link.number, settings, listening, smoke, self.sockets.of(pool.name)))

    def _serve_service(self, link: WebLink, pool: ServicePool) -> None:
        said = self._declared(pool, link.number)
        if said is not None:
            link.served = True
            link.wait(self.patience)
            link.say(self.services.told(pool, link.number, said, self.daemon))

    def _declared(self, pool: WebPool, number: int) -> dict[str, Any] | None:
        """What the code of this worker says of its service; None of any other worker, and where its zygote is gone."""
        zygote = self._zygotes.named(pool.app, decisions.generation_of(number))
        declared = zygote.ready.services if zygote is not None and zygote.ready is not None else {}
        return declared.get(pool.name.partition("/")[2]) if pool.name in self.services.apps else None

    def act(self, pool: WebPool) -> None:
        """Carry out what has been decided."""
        for effect in pool.effects():
            self.sizes.stirred()
            match effect:
                case decisions.Fork():
                    self._fork(pool, effect)
                case decisions.Tell() if effect.number in self.links:
                    self._tell(self.links[effect.number], effect, pool)
                case decisions.Kill() if effect.number in self.links:
                    self.links.kill(self.links[effect.number], effect.reason)
                case decisions.Note():
                    log("master", effect.text, level=WARNING, event="pool")
        self.sizes.attend(pool)
        if isinstance(pool, ServicePool) and not pool.swapping:
            self.swapped()

    def _fork(self, pool: WebPool, order: decisions.Fork) -> None:
        zygote = self._zygotes.named(pool.app, order.generation)
        kind = SERVICE if isinstance(pool, ServicePool) else WEB
        if zygote is not None:
            zygote.tell(m.Fork(order.number, pool.name, -1, kind=kind.name))
        else:
            pool.failed(order.number, f"cannot fork {kind.called} (its zygote is gone)", time.monotonic())

    def _tell(self, link: WebLink, order: decisions.Tell, pool: WebPool) -> None:
        app = self.sockets.apps.get(pool.name)
        if isinstance(pool, ServicePool):
            if order.what in (TAKE_OVER, GO_ON):
                self.services.tell(link, pool, order.what)
            else:
                link.wait(pool.policy.grace + KILL_AFTER)
                link.say(m.Leave(pool.policy.grace, order.alone))
            return
        if order.what == "accept":
            link.say(m.Accept())
            return
        web = app.web if app is not None else None
        linger = web.linger if web is not None else 0.0
        if order.alone:
            linger = app.every_pool()[app.web_pool].grace if app is not None else 0.0
        link.wait(linger + KILL_AFTER)
        link.say(m.Leave(linger, order.alone))

    def ask(self, link: WebLink) -> None:
        """Ask a worker what it is at."""
        link.wait(self.patience)
        link.say(m.Inventory())
