"""Web pools and services: what ``core.web`` and ``core.services`` decide about workers, carried out; what those say, passed on.

What must live here: the words between master, zygote and a worker that stays, and what each means to a pool.
What this file must not know: clients, runs, the engine; how a request is served.

It is made only where an application serves requests or has services, or a master before had such workers. A worker serves on
whatever becomes of master and zygote; what is needed to go on with it is what it says again when it is asked.
"""

from __future__ import annotations

import os
import time
from typing import Any

from rocksyd import bounds
from rocksyd import messages as m
from rocksyd.config import Config
from rocksyd.core import web_crew as decisions
from rocksyd.core.services import ServicePool
from rocksyd.core.web import WebPool
from rocksyd.core.worker import LEAVING
from rocksyd.errors import MessageError, RocksydError
from rocksyd.exit_status import describe
from rocksyd.master.staff.keeper import Keeper
from rocksyd.master.staff.web_links import WebLink
from rocksyd.master.staff.web_orders import KILL_AFTER, WebOrders
from rocksyd.master.staff.zygotes import Zygote, Zygotes
from rocksyd.posix.channel import close_all
from rocksyd.posix.log import WARNING, log
from rocksyd.posix.loop import Loop
from rocksyd.units import format_duration


class Web(WebOrders):
    """All web pools of one master, and what becomes of what is said of them."""

    def __init__(self, config: Config, zygotes: Zygotes, keeper: Keeper, loop: Loop) -> None:
        super().__init__(config, zygotes, keeper, loop)
        self.links.heard = self._heard

    # --- generations --------------------------------------------------------------------------------------------------
    def begin(self, zygote: Zygote, *, hold: bool = False) -> None:
        """There is a zygote to fork from."""
        declared = zygote.ready.services if zygote.ready is not None else {}
        for pool in self.pools_of(zygote.app):
            if isinstance(pool, ServicePool):
                try:
                    self.services.listen(pool.name, declared.get(pool.name.partition("/")[2], {}), self.shelf)
                except RocksydError as error:
                    pool.failure[zygote.generation] = str(error)
                    self.settled(zygote.app, zygote.generation)
                    continue
            pool.begin(zygote.generation, time.monotonic(), hold=hold)
            self.act(pool)

    def serve_from(self, app: str, generation: int) -> None:
        """From now on this generation accepts."""
        for pool in self.pools_of(app):
            pool.serve_from(generation, time.monotonic())
            self.act(pool)

    def forget(self, app: str, generation: int) -> None:
        """This generation is not to come after all."""
        for pool in self.pools_of(app):
            pool.forget(generation, time.monotonic())
            self.act(pool)

    def zygote_gone(self, zygote: Zygote) -> None:
        """Its workers serve on; their channels have to outlive this master without it."""
        self.links.shelve(zygote.name)
        for pool in self.pools_of(zygote.app) if not zygote.template else ():
            pool.zygote_gone(zygote.generation, zygote.failure)
            self.act(pool)

    # --- what zygotes say ---------------------------------------------------------------------------------------------
    def forked(self, zygote: Zygote, message: m.Forked) -> None:
        """A worker lives: tell it what to serve."""
        if not message.fds:
            raise MessageError("Forked, without the channel to the worker")
        link = self.links.link((message.worker, message.pid), zygote.app, zygote.name, message.fds[0])
        pool = self.pool_with(message.worker)
        if pool is None:
            link.say(m.Leave(alone=True))
            return
        pool.forked(message.worker, message.pid, time.monotonic())
        if pool.workers[message.worker].state != LEAVING:
            self._serve(link)
        self.act(pool)

    def fork_failed(self, zygote: Zygote, message: m.ForkFailed) -> None:
        """It does not come."""
        pool = self.pool_with(message.worker)
        if pool is not None:
            reason = bounds.cut(message.reason, bounds.SENTENCE)
            pool.failed(message.worker, f"cannot fork a worker ({reason})", time.monotonic())
            self.act(pool)

    def found(self, zygote: Zygote, worker: tuple[int, int], fd: int) -> None:
        """After a crash: a worker, (number, PID), that is there. It says itself what it is at."""
        pool = self.pool_with(worker[0])
        link = self.links.get(worker[0])
        if link is None:
            link = self.links.link(worker, zygote.app, zygote.name, fd)
        else:  # its channel was on the shelf as well: the master that died had not got to taking it from there
            os.close(fd)
            self.links.belongs(link, worker[1], zygote)
        if pool is None:
            link.say(m.Leave(alone=True))
            return
        pool.found(*worker, time.monotonic())
        self.ask(link)

    def exited(self, zygote: Zygote | None, message: m.Exited, number: int = 0) -> None:
        """A worker is no more, says its parent."""
        link = self.links.part(number or message.worker)
        pool = self.pool_with(link.number) if link is not None else None
        if link is not None and pool is not None:
            how, worker = describe(message.status), pool.workers.get(link.number)
            if worker is not None and worker.state != LEAVING:
                log("master", f"{link} (pid {link.pid}) {how}", level=WARNING, event="web.died", pool=pool.name)
            self.sizes.count_out(pool.name, link.page)
            self.died(pool.app, decisions.generation_of(link.number), message.status)
            pool.exited(link.number, how, time.monotonic())
            self.sizes.stirred()
            self.act(pool)
            self._tell_settled(pool, link.number)
            if pool.name not in self.services.apps and not pool.workers:
                self.services.forget(pool.name)
        self.reaped(zygote, message.pid)

    # --- what workers say ---------------------------------------------------------------------------------------------
    def _heard(self, link: WebLink, message: Any) -> None:
        now = time.monotonic()
        if not link.app and isinstance(message, m.Serving):
            link.app, link.pid = message.app, message.pid
            if (found := self.pool_with(link.number)) is not None:
                found.found(link.number, link.pid, now)
        pool = self.pool_with(link.number)
        if pool is None:
            close_all(getattr(message, "fds", ()))
            return
        match message:
            case m.Serving() if message.fds:
                link.take_page(message)
                link.deadline = link.deadline if message.leaving else 0.0
                pool.serving(link.number, now, accepting=message.accepting, leaving=message.leaving)
                self.act(pool)
                self._listen_only(pool, message)
                self._tell_settled(pool, link.number)
            case m.Serving():
                self.sizes.stirred()
            case m.Failed():
                reason, trace = bounds.cut(message.reason, bounds.MESSAGE), bounds.cut(message.traceback, bounds.TRACEBACK)
                self._fail(pool, link, f"{reason}\n{trace.rstrip()}" if trace else reason)
            case m.Idle():
                self._serve(link)
            case m.Ask():
                link.say(m.Reply(message.number, self.row(pool.name) if message.method == "pool" else None))
            case m.SlowRequest():
                what, where = bounds.cut(message.what, bounds.TARGET), bounds.cut(message.where, bounds.TRACEBACK)
                self.slow_log(f"pool {pool.name}, worker {decisions.title(link.number)}, process {link.pid}: {what}", where)
            case m.Left():
                link.wait(KILL_AFTER)
                pool.left(link.number, now)
            case _ if isinstance(pool, ServicePool):
                self.services.heard(pool, message)
            case _:
                close_all(getattr(message, "fds", ()))
                raise MessageError(f"{type(message).__name__}, which is not for a master")

    def _listen_only(self, pool: WebPool, message: m.Serving) -> None:
        """Where the worker that serves is told to; unless newer code is coming, which may want other addresses."""
        newest = max((worker.generation for worker in pool.workers.values()), default=0)
        said = self._declared(pool, message.worker) if message.accepting else None
        if said is not None and decisions.generation_of(message.worker) >= newest:
            self.services.listen_only(pool.name, said, self.shelf)

    def _fail(self, pool: WebPool, link: WebLink, why: str) -> None:
        log("master", f"{link} cannot serve: {why}", level=WARNING, event="web.failed", pool=pool.name)
        link.wait(KILL_AFTER)
        pool.failed(link.number, f"application {link.app}: {why}", time.monotonic())
        self.act(pool)
        self._tell_settled(pool, link.number)

    def _tell_settled(self, pool: WebPool, number: int) -> None:
        generation = decisions.generation_of(number)
        if pool.can_serve(generation) or pool.failure.get(generation):
            self.settled(pool.app, generation)

    # --- time ---------------------------------------------------------------------------------------------------------
    def next_deadline(self) -> float | None:
        """CLOCK_MONOTONIC seconds at which ``on_time`` has something to do; None for never."""
        moments = [link.deadline for link in self.links.values() if link.deadline]
        look = self.sizes.next_look()
        return min([*moments, look] if look is not None else moments, default=None)

    def on_time(self, now: float) -> None:
        """Look at the pages, and end those that have had their time."""
        for link in [link for link in self.links.values() if 0 < link.deadline <= now]:
            link.wait(KILL_AFTER)
            pool = self.pool_with(link.number)
            worker = pool.workers.get(link.number) if pool is not None else None
            late = pool is not None and worker is not None and worker.state != LEAVING
            if late:
                assert pool is not None
                patience = format_duration(self.patience)
                why = f"it could not serve within {patience} (prepare_timeout): look what its startup waits for"
                self._fail(pool, link, why)
            self.links.kill(link, "it was not ready in time" if late else "it does not leave")
        self.sizes.look(self.pools, now)

    # --- the end ------------------------------------------------------------------------------------------------------
    def stop(self) -> None:
        """The daemon stops: listen nowhere, let all leave."""
        self.sizes.close()
        self._keeper.tell(m.Unshelve(self.sockets.close()))
        for pool in self.pools.values():
            pool.stop(time.monotonic())
            self.act(pool)

    def kill_all(self) -> None:
        """The daemon stops now."""
        for link in self.links.values():
            self.links.kill(link, "the daemon stops now")
