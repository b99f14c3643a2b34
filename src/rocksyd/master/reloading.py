"""Loading applications while the daemon serves: for an order to reload, and again when a zygote has died.

What must live here: which zygotes are being loaded and what for.
What this file must not know: how a zygote is started, what it offers.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from rocksyd import config as configuration
from rocksyd import messages as m
from rocksyd.config import Config
from rocksyd.core import events as ev
from rocksyd.errors import ConfigError
from rocksyd.master.children import READY, RETIRING, Zygote
from rocksyd.posix.channel import memfd
from rocksyd.posix.log import log

if TYPE_CHECKING:
    from rocksyd.master.server import Server

RETRY_FIRST, RETRY_MOST = 1.0, 60.0
_FIXED = (
    "listen", "state_dir", "token_file", "auth", "auth_timeout", "max_line", "max_connections", "write_timeout", "restart",
    "journal", "output", "cgroup",
)  # fmt: skip


class Loading:
    """Zygotes on their way."""

    def __init__(self, server: Server) -> None:
        self._server = server
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
        self._afresh: set[str] = set()
        """Zygotes that nobody has ordered: their failure is told here and nowhere else."""

    # --- reload -------------------------------------------------------------------------------------------------------
    def reload(self) -> None:
        """Load every application anew beside the one that serves."""
        server = self._server
        try:
            self._text = configuration.read(server.config.path)
            config = configuration.parse(self._text, server.config.path)
            problems = configuration.check(config)
            if problems:
                raise ConfigError("\n".join(problems))
        except ConfigError as error:
            return server.generations.failed(str(error))
        changed = [name for name in _FIXED if getattr(config, name) != getattr(server.config, name)]
        if changed:
            what = ", ".join(changed)
            return server.generations.failed(f"{config.path}: {what} changed, and reload is for applications only: use restart")
        self._config = config
        generation = self.next_generation()
        self._pending = {}
        for app in config.apps.values():
            zygote = server.children.load(app, generation, config.restart.prepare_timeout)
            self._pending[zygote.name] = zygote
        return None

    def next_generation(self) -> int:
        """A number that no zygote has had."""
        server = self._server
        known = (zygote.generation for zygote in server.children.zygotes.values())
        self._given = max([self._given, server.engine.generation, *known]) + 1
        return self._given

    def settled(self, zygote: Zygote) -> None:
        """A zygote has become READY, has failed, or is gone."""
        server = self._server
        if zygote.state == READY:
            self._afresh.discard(zygote.name)
        if zygote.name in self._pending:
            if zygote.failure:
                self._give_up(zygote)
            elif all(other.state == READY for other in self._pending.values()):
                self._complete()
        elif zygote.failure:
            self._lost(zygote)
        elif zygote.state == READY:
            app = server.engine.applications.get(zygote.app)
            if app is not None and (zygote.generation > app.generation or not app.ready):
                self.serve_from(zygote)
                server.generations.record_service()
            else:
                server.children.retire(zygote.app, zygote.generation)  # newer code came while it was being loaded

    def serve_from(self, zygote: Zygote) -> None:
        """New workers come from this zygote."""
        ready = zygote.ready
        assert ready is not None
        self._failures.pop(zygote.app, None)
        self._troubles.pop(zygote.app, None)
        self._again.pop(zygote.app, None)
        for warning in ready.warnings:
            log("master", f"application {zygote.app}: {warning}")
        self._server.step(ev.ZygoteReady(zygote.app, zygote.generation, ready.jobs, ready.allowed, ready.open_patterns))

    def _give_up(self, failed: Zygote) -> None:
        pending, self._pending = self._pending, {}
        for zygote in pending.values():
            if zygote.name in self._server.children.zygotes:
                self._server.children.end_zygote(zygote)
        self._server.generations.failed(failed.failure)

    def _complete(self) -> None:
        server, config = self._server, self._config
        pending, self._pending = self._pending, {}
        assert config is not None
        before = server.engine.generation
        server.config = config
        server.clients.configure(config)
        server.step(ev.Configure(config))
        for zygote in pending.values():
            self.serve_from(zygote)
        self.shelve_config(self._text)
        server.generations.succeeded({"from": before, "to": server.engine.generation})

    def shelve_config(self, text: str) -> None:
        """Keep the text that is in force, so that a crash cannot change the configuration."""
        self._text = text
        fd = memfd("config", text.encode("utf-8", "surrogateescape"))
        self._server.children.tell_keeper(m.Shelve(("config",), (fd,)))
        os.close(fd)

    # --- after the death of a zygote ----------------------------------------------------------------------------------
    def _lost(self, zygote: Zygote) -> None:
        server = self._server
        app = server.engine.applications.get(zygote.app)
        zygotes = server.children.zygotes.values()
        others = [z for z in zygotes if z.app == zygote.app and z.state != RETIRING and not z.template]
        if zygote.state == RETIRING or app is None or server.engine.stopping:
            return
        if others:
            # Told once, at its end; that of a reload has been told to whoever ordered it.
            if zygote.name in self._afresh and zygote.name not in server.children.zygotes:
                what = f"application {zygote.app} could not be loaded afresh, and the zygote that serves goes on"
                log("master", f"{what}: {zygote.failure}")
            return
        failures = self._failures[zygote.app] = self._failures.get(zygote.app, 0) + 1
        self._troubles[zygote.app] = zygote.failure.partition("\n")[0]
        delay = 0.0 if zygote.ready is not None and failures == 1 else min(RETRY_MOST, RETRY_FIRST * 2 ** (failures - 1))
        log("master", f"application {zygote.app} has no zygote ({zygote.failure}); it is loaded again in {delay:g} s")
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
        return None if self._server.generations.orders.current is not None else min(self._again.values(), default=None)

    def on_time(self, now: float) -> None:
        """Load again what has none."""
        if self._server.generations.orders.current is not None:
            return
        for name, when in list(self._again.items()):
            if when <= now:
                del self._again[name]
                app = self._server.config.apps.get(name)
                if app is not None:
                    timeout = self._server.config.restart.prepare_timeout
                    self._afresh.add(self._server.children.load(app, self.next_generation(), timeout).name)
