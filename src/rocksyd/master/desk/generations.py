"""Orders to restart and to reload as this master meets them, and what is written down of the service's life.

What must live here: beginning what was ordered, answering it, the audit record, what a master after a crash has to know.
What this file must not know: how a new master or a new generation comes about (``handover``, ``reloading``).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rocksyd import __version__, codes
from rocksyd import messages as m
from rocksyd.errors import JournalError, RequestError
from rocksyd.master.desk.clients import Clients
from rocksyd.master.desk.news import News
from rocksyd.master.desk.orders import RESTART, Order, Orders, Requester
from rocksyd.master.desk.replies import Replies
from rocksyd.master.desk.waiters import Caller
from rocksyd.master.staff.children import Children
from rocksyd.master.staff.reloading import Loading
from rocksyd.master.turn import Turn
from rocksyd.posix.log import ERROR, log
from rocksyd.units import rough_duration
from rocksyd.wire import encode


class Generations:
    """From one generation to the next."""

    def __init__(self, turn: Turn, clients: Clients, children: Children, loading: Loading, news: News) -> None:
        self._turn = turn
        self._clients = clients
        self._replies = Replies(clients)
        self._children = children
        self._loading = loading
        self._news = news
        self.orders = Orders(self._begin, self._answer)
        self.started_at = time.time()
        self.restarts = 0
        self.crashes = 0
        self.facts: dict[str, Any] = {}
        """Of the hand-over that this master came by, for the audit record."""
        self._recorded: float | None = None
        self.swapping: Callable[[], bool] = lambda: False
        """Whether of a service it is not known yet which code goes on: whoever has ordered that is answered when it is."""
        self.kept: Callable[[], dict[str, str]] = dict
        """Services that go on in the code before, and why."""
        self._held_back: dict[str, Any] | None = None
        loading.orderer = self
        clients.gone.append(lambda client: self.orders.forget_client(client.number))

    # --- orders -------------------------------------------------------------------------------------------------------
    def order(self, kind: str, reason: str, requester: Requester) -> None:
        """Somebody orders a restart or a reload."""
        if self._turn.engine.stopping:
            self._answer(Order(kind, reason, [requester]), "the daemon is stopping")
            return
        self.orders.add(kind, reason, requester, self._now)

    @property
    def under_way(self) -> bool:
        """Whether an order to restart or to reload is being carried out."""
        return self.orders.current is not None

    @property
    def _now(self) -> tuple[float, float]:
        return self._turn.now.mono, self._turn.now.wall

    @property
    def revision(self) -> str:
        """Of the code that serves: of several applications ``NAME=REVISION`` each; "" where nobody knows it."""
        known = {name: app.revision for name, app in self._turn.engine.applications.items() if app.revision}
        if len(self._turn.engine.applications) == 1:
            return "".join(known.values())
        return ",".join(f"{name}={revision}" for name, revision in known.items())

    def ordered_by(self) -> str:
        """Who has ordered the restart or reload that is under way; "" while none is."""
        return self.orders.current.reason if self.orders.current is not None else ""

    def _begin(self, order: Order) -> None:
        order.revision = self.revision
        writing = self._turn.writing
        try:
            writing.journal.mend()
        except JournalError as error:
            return self.failed(str(error))
        if writing.trouble:
            writing.retry_at = 0.0  # whoever orders it may have made room just now
            self._turn.commit()
        if writing.trouble:
            self.failed(f"the journal cannot be written: {writing.trouble}")
        elif order.kind == RESTART:
            self._children.keeper.tell(m.Restart(order.reason, self._turn.engine.config.restart.hello_timeout))
        else:
            self._loading.reload()
        return None

    def failed(self, reason: str) -> None:
        """What was ordered did not come about, and nothing has changed."""
        order = self.orders.done(reason, self._now)
        if order is not None:
            generation = self._turn.engine.generation
            log(
                "master", f"{order.kind} ordered by {order.reason} failed, nothing has changed: {reason}", level=ERROR,
                event=f"{order.kind}.refused", ordered_by=order.reason, generation=generation,
            )  # fmt: skip
            self.record(order, {"ok": False, "from": generation, "to": generation, "reason": reason})

    def succeeded(self, facts: dict[str, Any]) -> None:
        """What was ordered has come about."""
        if self.swapping():
            self._held_back = facts
            self.record_service()
            return
        order = self.orders.done("", self._now)
        if order is not None:
            row = self.record(order, {"ok": True, "reason": order.reason, **facts})
            way = f"generation {row.get('from', '?')} → {row.get('to', '?')}"
            way += f", revision {row['from_rev'] or '?'} → {row['to_rev'] or '?'}" if "to_rev" in row else ""
            took, waited = (rough_duration(row[name] / 1000) for name in ("took_ms", "waited_ms"))
            log(
                "master", f"{order.kind} ordered by {order.reason}: {way}, took {took}, clients waited {waited}; "
                f"carried over: {row['connections']} connections, {row['jobs']} workers",
                event=f"{order.kind}.done", ordered_by=order.reason, generation=row.get("to"),
                revision=row.get("to_rev"),
                took_ms=row["took_ms"], waited_ms=row["waited_ms"],
            )  # fmt: skip
        else:
            self.record_service()
        self._news.tell_restarted(facts)

    def swapped(self) -> None:
        """It may be known now which code of each service goes on."""
        if self._held_back is not None and not self.swapping():
            facts, self._held_back = self._held_back, None
            self._turn.look_at_the_clock()
            self.succeeded(facts)

    def finish_restart(self) -> None:
        """Answer those who ordered the restart that this master is the result of."""
        self._turn.look_at_the_clock()
        self.succeeded({"to": self._turn.engine.generation, **self.facts})

    def thawed(self, reason: str) -> None:
        """The hand-over was called off, and this master goes on."""
        self._turn.look_at_the_clock()
        self.failed(reason)

    def _answer(self, order: Order, failure: str) -> None:
        for requester in order.requesters:
            client = self._clients.by_number.get(requester.client)
            if client is None:
                continue
            if requester.classic:
                done = "Restarted successfully" if order.kind == RESTART else "Reloaded successfully"
                kept = "".join(f", but service {name} goes on in the code before: {why}" for name, why in self.kept().items())
                text = f"{order.kind.capitalize()} failed: {failure}" if failure else done + kept.replace("\n", " | ")
                client.fill(client.slots[-1], encode.classic_error(text))
                client.held = False
                continue
            caller = Caller(requester.client, requester.id, requester.batch, requester.notify)
            if failure:
                text = f"{order.kind.capitalize()} failed: {failure}"
                self._replies.fail(caller, RequestError(codes.NOT_NOW, text, data="nothing has changed"), waited=True)
            else:
                answer: dict[str, Any] = {"generation": self._turn.engine.generation}
                self._replies.answer(caller, answer | ({"kept": self.kept()} if self.kept() else {}))

    # --- what is written down -----------------------------------------------------------------------------------------
    def record(self, order: Order, facts: dict[str, Any]) -> dict[str, Any]:
        """Write the audit record of one restart, reload or crash, and return it."""
        took = round((self._turn.now.mono - order.began) * 1000, 1) if order.began else 0.0
        record = {"at": order.at, "kind": order.kind, "ordered_by": order.reason, "took_ms": took, "waited_ms": 0.0}
        if order.revision or self.revision:
            record |= {"from_rev": order.revision, "to_rev": self.revision if facts["ok"] else order.revision}
        record.update({"connections": len(self._clients.by_number), "jobs": len(self._children.workers), "bytes": 0, **facts})
        self.restarts += bool(facts["ok"]) and order.kind != "crash"
        try:
            self._turn.writing.journal.add_restart(record)
            self._recorded = float(order.at)
        except JournalError as error:
            log("master", f"a restart cannot be recorded: {error}", level=ERROR)
        self.record_service()
        return record

    @property
    def recorded(self) -> float:
        """When the latest audit record was written, in Unix seconds; 0 where there is none."""
        if self._recorded is None:
            self._recorded = float(next(iter(self.records(1)), {}).get("at", 0.0))
        return self._recorded

    def records(self, limit: int, skip: int = 0) -> list[dict[str, Any]]:
        """The latest audit records, newest first; without the first ``skip`` of them."""
        try:
            return self._turn.writing.journal.restarts(limit, skip)
        except JournalError:
            return []

    def record_service(self) -> None:
        """Write down what a master after a crash cannot know otherwise."""
        engine = self._turn.engine
        service = {"generation": engine.generation, "started_at": self.started_at, "version": __version__}
        service |= {"restarts": self.restarts, "crashes": self.crashes}
        service["applications"] = {name: app.dump() for name, app in engine.applications.items()}
        self._turn.writing.put_row("meta", "service", service)
        self._turn.commit()

    def recall_gauges(self) -> None:
        """At a start, and after a crash: what jobs have said of their applications."""
        for app, values in (self._turn.writing.journal.meta("gauges") or {}).items():
            if app in self._turn.engine.applications and isinstance(values, dict):
                numbers = {name: value for name, value in values.items() if type(value) in (int, float)}
                self._turn.engine.gauges[app] = numbers

    def recall(self) -> None:
        """After a crash: what the journal knows of the service that a snapshot would have said."""
        engine = self._turn.engine
        service = self._turn.writing.journal.meta("service") or {}
        self.started_at = service.get("started_at", self.started_at)
        self.restarts, self.crashes = service.get("restarts", 0), service.get("crashes", 0) + 1
        engine.generation = max(engine.generation, service.get("generation", 1))
        for name, offered in service.get("applications", {}).items():
            if name in engine.applications:
                engine.applications[name].load({**offered, "ready": False})
