"""Loading applications while the daemon serves: for an order to reload, and again when a zygote has died.

What must live here: which zygotes are being loaded and what for.
What this file must not know: how a zygote is started, what it offers.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, Protocol

from rocksyd import config as configuration
from rocksyd import messages as m
from rocksyd import shelf_names
from rocksyd.config import Config
from rocksyd.core import events as ev
from rocksyd.errors import ConfigError
from rocksyd.master.staff.children import Children
from rocksyd.master.staff.declaring import Apps, Declaring, scripts_of
from rocksyd.master.staff.zygotes import READY, RETIRING, Zygote
from rocksyd.master.turn import Turn
from rocksyd.posix.channel import memfd
from rocksyd.posix.log import log
from rocksyd.units import rough_duration

RETRY_FIRST, RETRY_MOST = 1.0, 60.0
_FIXED = (
    "listen", "state_dir", "token_file", "auth", "auth_timeout", "max_line", "max_connections", "write_timeout", "restart",
    "journal", "output", "cgroup", "companions",
)  # fmt: skip


def _served_by(config: Config, app: str) -> object:
    """What cannot be changed by a reload: where an application's web pool listens, and which services there are."""
    if app not in config.apps:
        return None
    web, services = config.apps[app].web, frozenset(config.apps[app].services)
    return ((web.listen, web.pool) if web is not None else None, services) if web is not None or services else None


class Orderer(Protocol):
    """Whoever passes orders to reload on, hears how they went, and keeps what a master after a crash has to know."""

    @property
    def under_way(self) -> bool:
        """Whether an order to restart or to reload is being carried out."""

    def failed(self, reason: str) -> None:
        """The reload that was ordered did not come about."""

    def succeeded(self, facts: dict[str, Any]) -> None:
        """The reload that was ordered has come about."""

    def record_service(self) -> None:
        """An application is served by another zygote."""


class WebStaff(Protocol):
    """Who has web workers forked, which have to be able to serve before new code may."""

    def begin(self, zygote: Zygote, *, hold: bool = False) -> None:
        """There is a zygote to fork from."""

    def can_serve(self, app: str, generation: int) -> bool:
        """Whether this generation has what it needs."""

    def failure(self, app: str, generation: int) -> str:
        """Why it never will; "" otherwise."""

    def serve_from(self, app: str, generation: int) -> None:
        """From now on it serves."""

    def forget(self, app: str, generation: int) -> None:
        """It is not to come after all."""

    def configure(self, config: Config) -> None:
        """Take other settings."""


class Loading:
    """Zygotes on their way."""

    orderer: Orderer
    declaring: Declaring
    web: WebStaff | None = None

    def __init__(self, turn: Turn, children: Children) -> None:
        self._turn = turn
        self._children = children
        self._config: Config | None = None
        self._text = ""
        self._pending: dict[str, Zygote] = {}
        """The zygotes of the reload that is under way."""
        self._given = 0
        """The last generation that was tried: a zygote that failed may not be reaped yet, and so its name not be free."""
        self._failures: dict[str, int] = {}
        self._troubles: dict[str, str] = {}
        """Application -> why it has no zygote."""
        self._again: dict[str, float] = {}
        """Applications without a zygote, and when the next try is due."""
        self.configured: Callable[[Config], None] = lambda config: None
        """Told of the settings that a reload has brought into force."""
        self._afresh: set[str] = set()
        """Zygotes that nobody has ordered: their failure is told here and nowhere else."""
        turn.due(self.next_deadline, self.on_time)
        turn.performs(ev.LoadAfresh, lambda effect: self.load_afresh(effect.app, effect.reason))

    # --- reload -------------------------------------------------------------------------------------------------------
    def reload(self) -> None:
        """Load every application anew beside the one that serves."""
        serving = self._turn.engine.config
        try:
            self._text, config = configuration.read_checked(serving.path)
        except ConfigError as error:
            return self.orderer.failed(str(error))
        changed = [name for name in _FIXED if getattr(config, name) != getattr(serving, name)]
        changed += [name for name in {**serving.apps, **config.apps} if _served_by(serving, name) != _served_by(config, name)]
        if changed:
            what = ", ".join(changed)
            return self.orderer.failed(f"{config.path}: {what} changed, and reload is for applications only: use restart")
        self._config = config
        generation = self.next_generation()
        self._pending = {}
        for app in config.apps.values():
            zygote = self._children.zygotes.load(app, generation, config.restart.prepare_timeout)
            self._pending[zygote.name] = zygote
        return None

    def next_generation(self) -> int:
        """A number that no zygote has had."""
        known = (zygote.generation for zygote in self._children.zygotes.values())
        self._given = max([self._given, self._turn.engine.generation, *known]) + 1
        return self._given

    def settled(self, zygote: Zygote) -> None:
        """A zygote has become READY, has failed, or is gone."""
        if zygote.state == READY:
            self._afresh.discard(zygote.name)
        if zygote.name in self._pending:
            if zygote.failure:
                self._give_up(zygote.failure)
            else:
                if self.web is not None and zygote.state == READY:
                    self.web.begin(zygote, hold=True)
                self._look_whether_loaded()
        elif zygote.failure:
            self._lost(zygote)
        elif zygote.state == READY:
            app = self._turn.engine.applications.get(zygote.app)
            if app is not None and (zygote.generation > app.generation or not app.ready):
                self.serve_from(zygote)
                self.declaring.tell()
                self.orderer.record_service()
            else:
                self._children.zygotes.retire(zygote.app, zygote.generation)  # newer code came while it was being loaded

    def web_settled(self, app: str, generation: int) -> None:
        """The web workers of a generation can serve, or one of them has failed."""
        pending = [(zygote.app, zygote.generation) for zygote in self._pending.values()]
        if self.web is None or (app, generation) not in pending:
            return
        if failure := self.web.failure(app, generation):
            self._give_up(failure)
        else:
            self._look_whether_loaded()

    def _look_whether_loaded(self) -> None:
        pending, web = self._pending.values(), self.web
        loaded = all(zygote.state == READY for zygote in pending)
        if loaded and (web is None or all(web.can_serve(zygote.app, zygote.generation) for zygote in pending)):
            self.declaring.examine(self._declared(), self._examined)

    def serve_from(self, zygote: Zygote) -> None:
        """New workers come from this zygote."""
        ready = zygote.ready
        assert ready is not None
        self._failures.pop(zygote.app, None)
        self._troubles.pop(zygote.app, None)
        self._again.pop(zygote.app, None)
        for warning in ready.warnings:
            log("master", f"application {zygote.app}: {warning}")
        self._turn.step(ev.HeardZygote(zygote.app, zygote.generation, 0, ready))
        if self.web is not None:
            self.web.begin(zygote)
            self.web.serve_from(zygote.app, zygote.generation)

    def _declared(self) -> Apps:
        return {zygote.app: scripts_of(zygote.ready.jobs) for zygote in self._pending.values() if zygote.ready is not None}

    def _examined(self, failure: str) -> None:
        if failure:
            self._give_up(failure)
        elif self._pending:
            self._complete()

    def _give_up(self, failure: str) -> None:
        pending, self._pending = self._pending, {}
        for zygote in pending.values():
            if self.web is not None:
                self.web.forget(zygote.app, zygote.generation)
            if zygote.name in self._children.zygotes:
                self._children.zygotes.end(zygote)
        self.orderer.failed(failure)

    def _complete(self) -> None:
        turn, config = self._turn, self._config
        pending, self._pending = self._pending, {}
        assert config is not None
        before = turn.engine.generation
        turn.step(ev.Configure(config))
        if self.web is not None:
            self.web.configure(config)
        self.configured(config)
        for zygote in pending.values():
            self.serve_from(zygote)
        self.declaring.tell()
        self.shelve_config(self._text)
        self.orderer.succeeded({"from": before, "to": turn.engine.generation})

    def shelve_config(self, text: str) -> None:
        """Keep the text that is in force, so that a crash cannot change the configuration."""
        self._text = text
        fd = memfd("config", text.encode("utf-8", "surrogateescape"))
        self._children.keeper.tell(m.Shelve((shelf_names.CONFIG,), (fd,)))
        os.close(fd)

    # --- after the death of a zygote ----------------------------------------------------------------------------------
    def _lost(self, zygote: Zygote) -> None:
        engine = self._turn.engine
        app = engine.applications.get(zygote.app)
        zygotes = self._children.zygotes.values()
        others = [z for z in zygotes if z.app == zygote.app and z.state != RETIRING and not z.template]
        if zygote.state == RETIRING or app is None or engine.stopping:
            return
        if others:
            # Told once, at its end; that of a reload has been told to whoever ordered it.
            if zygote.name in self._afresh and zygote.name not in self._children.zygotes:
                what = f"application {zygote.app} could not be loaded afresh, and the zygote that serves goes on"
                log("master", f"{what}: {zygote.failure}")
            return
        failures = self._failures[zygote.app] = self._failures.get(zygote.app, 0) + 1
        self._troubles[zygote.app] = zygote.failure.partition("\n")[0]
        delay = 0.0 if zygote.ready is not None and failures == 1 else min(RETRY_MOST, RETRY_FIRST * 2 ** (failures - 1))
        log("master", f"application {zygote.app} has no zygote ({zygote.failure}); it is loaded again in {rough_duration(delay)}")
        self._again[zygote.app] = time.monotonic() + delay

    def trouble(self, app: str) -> str:
        """Why this application has no zygote, in a line, as far as that is known; "" when it has one."""
        return self._troubles.get(app, "")

    def load_afresh(self, app: str, reason: str) -> None:
        """Load an application again beside the zygote that serves, which goes on if that fails."""
        log("master", f"application {app}: {reason}; it is loaded afresh")
        self.need(app)

    def need(self, app: str) -> None:
        """This application wants another zygote, now: it has none, or one whose memory may be spoilt."""
        self._again[app] = time.monotonic()

    def next_deadline(self) -> float | None:
        """CLOCK_MONOTONIC seconds of the next try; none while an order is under way, which loads every application itself."""
        return None if self.orderer.under_way else min(self._again.values(), default=None)

    def on_time(self, now: float) -> None:
        """Load again what has none."""
        if self.orderer.under_way:
            return
        config = self._turn.engine.config
        for name, when in list(self._again.items()):
            if when <= now:
                del self._again[name]
                app = config.apps.get(name)
                if app is None:
                    continue
                try:
                    zygote = self._children.zygotes.load(app, self.next_generation(), config.restart.prepare_timeout)
                except Exception as error:  # noqa: BLE001  (the barrier: no descriptor may be left, and the next try may find one)
                    self._troubles[name] = self._turn.barrier.note("zygote", f"the loading of application {name}", error)
                    self._again[name] = now + RETRY_MOST
                else:
                    self._afresh.add(zygote.name)
