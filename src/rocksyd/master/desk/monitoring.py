"""``stats`` as memcached has it: the daemon's numbers, flat, for whatever monitors a memcached.

What must live here: which words ``stats`` takes, and which pairs answer each.
What this file must not know: how pairs become bytes (``wire.encode``), where the numbers come from (``numbers``).

Source: memcached's ``doc/protocol.txt``, "General-purpose statistics".
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import fields
from typing import Any

from rocksyd.master.desk.generations import Generations
from rocksyd.master.desk.lists import LOOKED_AT
from rocksyd.master.desk.numbers import Numbers
from rocksyd.master.desk.pieces import Work
from rocksyd.master.turn import Turn
from rocksyd.model import RUNNING
from rocksyd.wire import encode

_RESET = "memcached_reset"
"""What the journal has the counters under that ``stats reset`` was told at."""
_COUNTED = (
    "total_", "dropped_", "requests", "journal_", "runs_submitted", "runs_refused", "runs_retried", "runs_slow", "runs_ended_",
    "forks_failed", "web_requests", "web_refused", "web_timeouts", "web_slow", "web_status_", "service_messages",
)  # fmt: skip
"""How names of numbers begin that only grow; ``requests_per_second`` is none."""
Pairs = list[tuple[str, Any]]
Made = Generator[None, None, Pairs]


class Monitoring:
    """Answers ``stats``."""

    def __init__(self, turn: Turn, numbers: Numbers, generations: Generations) -> None:
        self._turn = turn
        self._numbers = numbers
        self._generations = generations
        self._base: dict[str, Any] | None = None
        """The counters at the last ``stats reset``; None as long as the journal was not asked."""

    def answer(self, arguments: tuple[str, ...]) -> Work:
        """The reply to ``stats`` with these words behind it, made piece by piece."""
        if arguments == ("reset",):
            self._reset()
            return encode.memcached_reset()
        asked = {(): self._general, ("pools",): self._pools, ("jobs",): self._jobs, ("settings",): self._settings,
                 ("restarts",): self._restarts}.get(arguments)  # fmt: skip
        if asked is None:
            return encode.memcached_unknown()
        pairs = yield from asked()
        return encode.stats((name, value) for name, value in pairs if not isinstance(value, list | dict | None))

    # --- stats --------------------------------------------------------------------------------------------------------
    def _general(self) -> Made:
        base = self._known_base()
        last = next(iter(self._generations.records(1)), {})
        values = yield from self._numbers.values()
        pairs = [(name, max(value - base.get(name, 0), 0) if _counts(name) else value) for name, value in values.items()]
        pairs += [("last_restart_waited_ms", last.get("waited_ms")), ("last_restart_ok", last.get("ok"))] if last else []
        return [*pairs, *self._gauges({name for name, _ in pairs})]

    def _gauges(self, taken: set[str]) -> Iterator[tuple[str, float]]:
        """By their names; with the application before it one that several have, or that is a number's of the daemon."""
        gauges = self._turn.engine.gauges
        names = [name for values in gauges.values() for name in values]
        for app, values in sorted(gauges.items()):
            for name, value in sorted(values.items()):
                yield (name if names.count(name) == 1 and name not in taken else f"{app}:{name}"), value

    def _reset(self) -> None:
        self._base = {name: value for name, value in self._numbers.counted().items() if _counts(name)}
        self._turn.writing.put_row("meta", _RESET, self._base)

    def _known_base(self) -> dict[str, Any]:
        if self._base is None:
            found = self._turn.writing.journal.meta(_RESET) or {}
            self._base = {name: value for name, value in found.items() if isinstance(value, int)}
        return self._base

    # --- stats WORD ---------------------------------------------------------------------------------------------------
    def _pools(self) -> Made:
        pools = yield from self._numbers.pools()
        return [
            (f"{pool['pool']}:{name}", value)
            for pool in pools
            for name, value in _flat(pool)
            if name not in ("pool", "durations")
        ]

    def _jobs(self) -> Made:
        """How many of each target wait and run."""
        engine = self._turn.engine
        counts: dict[str, list[int]] = {}
        for name, app in sorted(engine.applications.items()):
            counts |= {f"{name}:{row['name']}": [0, 0] for row in app.rows() if row["kind"] != "pattern"}
        there = list(engine.runs.values())
        while there:
            for run in there[-LOOKED_AT:]:
                counts.setdefault(f"{run.order.app}:{run.order.name}", [0, 0])[run.state == RUNNING] += 1
            del there[-LOOKED_AT:]
            yield
        return [
            pair
            for job, (waiting, running) in counts.items()
            for pair in ((f"{job}:waiting", waiting), (f"{job}:running", running))
        ]

    def _settings(self) -> Made:
        """What is in force, as memcached says it: yes and no."""
        yield
        config, pairs = self._turn.engine.config, []
        pairs += [("maxconns", self._numbers.door.limit), ("state_dir", config.state_dir), ("max_line", config.max_line)]
        pairs += [(f"listen:{number}", address) for number, address in enumerate(self._numbers.health()["listen"])]
        for app in config.apps.values():
            for pool, policy in app.every_pool().items():
                pairs += [(f"{pool}:{one.name}", getattr(policy, one.name)) for one in fields(policy)]
        said = {True: "yes", False: "no"}
        return [(name, said[value] if isinstance(value, bool) else value) for name, value in pairs if value not in ("", None)]

    def _restarts(self) -> Made:
        yield
        rows = self._generations.records(20)
        return [(f"{number}:{name}", value) for number, row in enumerate(rows) for name, value in row.items()]


def _flat(row: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Numbers within numbers beside the others: ``status`` with ``2xx`` as ``status_2xx``."""
    for name, value in row.items():
        if isinstance(value, dict):
            yield from ((f"{name}_{key}", one) for key, one in value.items())
        else:
            yield name, value


def _counts(name: str) -> bool:
    return name.startswith(_COUNTED) and not name.startswith("requests_per_second") and name != "total_memory"
