"""Orders to restart and to reload as this master meets them, and what is written down of the service's life.

What must live here: beginning what was ordered, answering it, the audit record, what a master after a crash has to know.
What this file must not know: how a new master or a new generation comes about (``handover``, ``reloading``).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rocksyd import __version__
from rocksyd import messages as m
from rocksyd.core import events as ev
from rocksyd.errors import JournalError, RequestError
from rocksyd.master.orders import RESTART, Order, Orders, Requester
from rocksyd.master.waiters import Caller
from rocksyd.posix.log import log
from rocksyd.wire import encode

if TYPE_CHECKING:
    from rocksyd.master.server import Server


class Generations:
    """From one generation to the next, for one server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.orders = Orders(self._begin, self._answer)
        self.started_at = time.time()
        self.restarts = 0
        self.crashes = 0
        self.facts: dict[str, Any] = {}
        """Of the hand-over that this master came by, for the audit record."""

    # --- orders -------------------------------------------------------------------------------------------------------
    def order(self, kind: str, reason: str, requester: Requester) -> None:
        """Somebody orders a restart or a reload."""
        server = self._server
        if server.engine.stopping:
            self._answer(Order(kind, reason, [requester]), "the daemon is stopping")
            return
        self.orders.add(kind, reason, requester, (server.now.mono, server.now.wall))

    def _begin(self, order: Order) -> None:
        server = self._server
        if server.writing.trouble:
            server.writing.retry_at = 0.0  # whoever orders it may have made room just now
            server.commit()
        if server.writing.trouble:
            self.failed(f"the journal cannot be written: {server.writing.trouble}")
        elif order.kind == RESTART:
            server.children.tell_keeper(m.Restart(order.reason, server.config.restart.hello_timeout))
        else:
            server.loading.reload()

    def failed(self, reason: str) -> None:
        """What was ordered did not come about, and nothing has changed."""
        server = self._server
        order = self.orders.done(reason, (server.now.mono, server.now.wall))
        if order is not None:
            log("master", f"{order.kind} ordered by {order.reason} failed, nothing has changed: {reason}")
            generation = server.engine.generation
            self.record(order, {"ok": False, "from": generation, "to": generation, "reason": reason})

    def succeeded(self, facts: dict[str, Any]) -> None:
        """What was ordered has come about."""
        server = self._server
        order = self.orders.done("", (server.now.mono, server.now.wall))
        if order is not None:
            self.record(order, {"ok": True, "reason": order.reason, **facts})
        server.news.tell_restarted(facts)

    def finish_restart(self) -> None:
        """Answer those who ordered the restart that this master is the result of."""
        server = self._server
        server.look_at_the_clock()
        self.record_service()
        self.succeeded({"to": server.engine.generation, **self.facts})
        if server.engine.draining and not server.waiters.drains and not server.stopping.when_drained:
            server.step(ev.Undrain())

    def thawed(self, reason: str) -> None:
        """The hand-over was called off, and this master goes on."""
        self._server.look_at_the_clock()
        self.failed(reason)

    def _answer(self, order: Order, failure: str) -> None:
        server = self._server
        for requester in order.requesters:
            client = server.clients.by_number.get(requester.client)
            if client is None:
                continue
            if requester.classic:
                done = "Restarted successfully" if order.kind == RESTART else "Reloaded successfully"
                text = f"{order.kind.capitalize()} failed: {failure}" if failure else done
                client.fill(client.slots[-1], encode.classic_error(text))
                server.clients.release(client)
                continue
            caller = Caller(requester.client, requester.id, requester.batch, requester.notify)
            if failure:
                text = f"{order.kind.capitalize()} failed: {failure}"
                server.rpc.fail(caller, RequestError(encode.NOT_NOW, text, data="nothing has changed"), waited=True)
            else:
                server.rpc.answer(caller, {"generation": server.engine.generation})

    # --- what is written down -----------------------------------------------------------------------------------------
    def record(self, order: Order, facts: dict[str, Any]) -> None:
        """Write the audit record of one restart, reload or crash."""
        server = self._server
        took = round((server.now.mono - order.began) * 1000, 1) if order.began else 0.0
        record = {"at": order.at, "kind": order.kind, "ordered_by": order.reason, "took_ms": took, "waited_ms": 0.0}
        record.update({"connections": len(server.clients.by_number), "jobs": len(server.children.workers), "bytes": 0, **facts})
        self.restarts += bool(facts["ok"]) and order.kind != "crash"
        try:
            server.journal.add_restart(record)
        except JournalError as error:
            log("master", f"a restart cannot be recorded: {error}")
        self.record_service()

    def records(self, limit: int) -> list[dict[str, Any]]:
        """The latest audit records, newest first."""
        try:
            return self._server.journal.restarts(limit)
        except JournalError:
            return []

    def record_service(self) -> None:
        """Write down what a master after a crash cannot know otherwise."""
        engine = self._server.engine
        service = {"generation": engine.generation, "started_at": self.started_at, "version": __version__}
        service |= {"restarts": self.restarts, "crashes": self.crashes}
        service["applications"] = {name: app.dump() for name, app in engine.applications.items()}
        try:
            self._server.journal.commit((), (), {"service": service})
        except JournalError as error:
            log("master", str(error))

    def recall(self) -> None:
        """After a crash: what the journal knows of the service that a snapshot would have said."""
        engine = self._server.engine
        service = self._server.journal.meta("service") or {}
        self.started_at = service.get("started_at", self.started_at)
        self.restarts, self.crashes = service.get("restarts", 0), service.get("crashes", 0) + 1
        engine.generation = max(engine.generation, service.get("generation", 1))
        for name, offered in service.get("applications", {}).items():
            if name in engine.applications:
                engine.applications[name].load({**offered, "ready": False})
