"""What `rocksyd top` knows and what its keys do, without a terminal and without a daemon.

What must live here: samples and rates, which row is chosen, which key means what in which mode.
What this file must not know: how it is drawn (``top_view``), where samples come from (``top_feed``).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rocksyd.cli.output import clean

HISTORY = 60
"""Rates that are kept, for the little graph."""
OUTPUT_LINES = 2000
RUNS, FOLLOW, WHY, HELP = "runs", "follow", "why", "help"
_OUTCOMES = ("ok", "failed", "killed", "timeout", "memory", "lost", "cancelled")
_PAGE = 10


class Sample(NamedTuple):
    """What the daemon said at one moment; ``mono`` and ``wall`` are ours."""

    mono: float
    wall: float
    stats: dict[str, Any]
    pools: list[dict[str, Any]]
    runs: list[dict[str, Any]]
    """Running, then waiting, then the last that ended."""


class Rates(NamedTuple):
    """Per second, between two samples."""

    ended: float
    requests: float
    pools: dict[str, float]
    """Jobs done, by pool."""


class KeyAction(NamedTuple):
    """What a key asks of whoever runs the loop: ``quit``, or something for the feed."""

    name: str
    key: str = ""
    signal: int | None = None


@dataclass
class Row:
    """One line of the table: a run, or a worker that has none."""

    id: str
    record: dict[str, Any]
    process: dict[str, Any] = field(default_factory=dict)

    @property
    def is_run(self) -> bool:
        """Whether it can be killed or followed."""
        return "key" in self.record

    def text(self) -> str:
        """What the filter looks at."""
        labels = self.record.get("labels") or {}
        words = [self.record.get(name) for name in ("key", "app", "target", "state", "outcome", "pid")]
        words += [self.process.get(name) for name in ("stage", "pid")]
        return " ".join([*(str(word) for word in words if word), *(f"{k}={v}" for k, v in labels.items())]).lower()


@dataclass
class State:
    """Everything a frame is drawn from."""

    address: str = ""
    sample: Sample | None = None
    rates: Rates | None = None
    history: deque[float] = field(default_factory=lambda: deque(maxlen=HISTORY))
    trouble: str = ""
    """Why there is no newer sample; "" when there is."""
    mode: str = RUNS
    chosen: str = ""
    filter: str = ""
    typing: bool = False
    """Keys are letters of the filter."""
    killing: str = ""
    """The key of the run that is killed if the next key is ``y``."""
    show_idle: bool = True
    show_ended: bool = False
    paused: bool = False
    message: str = ""
    subject: str = ""
    """The run whose output, or reasons, are shown."""
    record: dict[str, Any] = field(default_factory=dict)
    output: deque[str] = field(default_factory=lambda: deque([""], maxlen=OUTPUT_LINES))
    reasons: dict[str, Any] = field(default_factory=dict)
    ascii: bool = False
    """The terminal's encoding has no signs but ASCII."""

    # --- what comes in ------------------------------------------------------------------------------------------------
    def take(self, sample: Sample) -> None:
        """A newer sample."""
        self.trouble = ""
        if self.paused:
            return
        if self.sample is not None and sample.mono > self.sample.mono:
            rates = rates_between(self.sample, sample)
            if rates is not None:
                self.rates = rates
                self.history.append(rates.ended)
        self.sample = sample

    def take_output(self, key: str, text: str, record: dict[str, Any]) -> None:
        """More of the output that is followed."""
        if key != self.subject:
            return
        self.record = record
        first, *rest = text.split("\n")
        self.output[-1] = _line(self.output[-1] + first)
        self.output.extend(_line(line) for line in rest)

    # --- rows ---------------------------------------------------------------------------------------------------------
    def rows(self) -> list[Row]:
        """The rows that are shown, in order."""
        if self.sample is None:
            return []
        processes = {
            str(process.get("key")): {**process, "pool": pool.get("pool")}
            for pool in self.sample.pools
            for process in pool.get("processes") or ()
            if process.get("key")
        }
        runs = [Row(str(run.get("key")), run, processes.get(str(run.get("key"))[:160], {})) for run in self.sample.runs]
        running = [row for row in runs if row.record.get("state") == "running"]
        idle = [
            Row(f"\0worker {process.get('worker')}", {"app": pool.get("app") or pool.get("pool")}, process)
            for pool in self.sample.pools
            for process in pool.get("processes") or ()
            if not process.get("key") and self.show_idle
        ]
        others = [row for row in runs if row.record.get("state") != "running"]
        waiting = [row for row in others if row.record.get("state") == "waiting"]
        ended = [row for row in others if row.record.get("state") == "ended" and self.show_ended]
        wanted = self.filter.lower().split()
        return [row for row in (*running, *waiting, *idle, *ended) if all(word in row.text() for word in wanted)]

    def chosen_row(self) -> Row | None:
        """The row that keys act on: the chosen one, or the first when that one is gone."""
        rows = self.rows()
        return next((row for row in rows if row.id == self.chosen), rows[0] if rows else None)

    # --- keys ---------------------------------------------------------------------------------------------------------
    def press(self, key: str) -> KeyAction | None:
        """One key; what is to be done about it that is not done here."""
        self.message = ""
        if key == "ctrl-c":
            return KeyAction("quit")
        if self.typing:
            return self._type(key)
        if self.killing:
            return self._confirm(key)
        if self.mode != RUNS and key in ("q", "esc", "left", "backspace"):
            self._show(RUNS)
            return KeyAction("forget")
        return self._on_any(key)

    def _type(self, key: str) -> KeyAction | None:
        if key in ("enter", "down", "up"):
            self.typing = False
        elif key == "esc":
            self.typing, self.filter = False, ""
        elif key == "backspace":
            self.filter = self.filter[:-1]
        elif key == "space":
            self.filter += " "
        elif len(key) == 1:
            self.filter += key
        return None

    def _confirm(self, key: str) -> KeyAction | None:
        run, self.killing = self.killing, ""
        if key in ("y", "Y"):
            return KeyAction("kill", run)
        if key == "K":
            return KeyAction("kill", run, 9)
        self.message = "not killed"
        return None

    def _on_any(self, key: str) -> KeyAction | None:
        row = self.chosen_row()
        match key:
            case "q":
                return KeyAction("quit")
            case "up" | "down" | "page-up" | "page-down" | "home" | "end" if self.mode == RUNS:
                self._move(key)
            case "k" if self.mode == FOLLOW:
                self.killing = self.subject
            case "k" if row is not None:
                self._kill(row)
            case "f" | "enter" | "w" if row is not None and self.mode == RUNS:
                return self._about(row, WHY if key == "w" else FOLLOW)
            case "w" if self.mode == FOLLOW:
                self._show(WHY, self.subject)
                return KeyAction("why", self.subject)
            case "/":
                self._show(RUNS)
                self.typing = True
            case "esc":
                self.filter = ""
            case "i":
                self.show_idle = not self.show_idle
            case "e":
                self.show_ended = not self.show_ended
                return KeyAction("look")
            case "p" | "space":
                self.paused = not self.paused
            case "?" | "h":
                self._show(HELP)
        return None

    def _move(self, key: str) -> None:
        rows = self.rows()
        if not rows:
            return
        row = self.chosen_row()
        at = next((n for n, one in enumerate(rows) if row is not None and one.id == row.id), 0)
        steps = {"up": -1, "down": 1, "page-up": -_PAGE, "page-down": _PAGE, "home": -len(rows), "end": len(rows)}
        self.chosen = rows[min(max(at + steps[key], 0), len(rows) - 1)].id

    def _kill(self, row: Row) -> None:
        if row.is_run and row.record.get("state") != "ended":
            self.chosen = row.id
            self.killing = row.id
        else:
            self.message = "that run has ended" if row.is_run else "a worker without a run: nothing to kill"

    def _about(self, row: Row, mode: str) -> KeyAction | None:
        if not row.is_run:
            self.message = "a worker without a run: nothing to show"
            return None
        self.chosen = row.id
        self._show(mode, row.id, row.record)
        return KeyAction(mode, row.id)

    def _show(self, mode: str, subject: str = "", record: dict[str, Any] | None = None) -> None:
        self.mode, self.subject, self.reasons = mode, subject, {}
        if record is not None:
            self.record = record
        self.output.clear()
        self.output.append("")


def _line(text: str) -> str:
    """What a terminal would show of a line: what stands behind its last carriage return, tabs as spaces."""
    return clean(text.rstrip("\r").rpartition("\r")[2].expandtabs())


SHORTEST = 1e-6
"""Seconds between two samples from which a rate can be told."""


def rates_between(before: Sample, now: Sample) -> Rates | None:
    """Per second; None when it is not the same row of numbers (the daemon was started anew), or in no time at all."""
    seconds = now.mono - before.mono
    if seconds < SHORTEST or ended_in(now.stats) < ended_in(before.stats):
        return None
    served = {str(pool.get("pool")): _number(pool.get("served")) for pool in before.pools}
    pools = {
        str(pool.get("pool")): max(0.0, _number(pool.get("served")) - served[str(pool.get("pool"))]) / seconds
        for pool in now.pools
        if str(pool.get("pool")) in served
    }
    requests = _number(now.stats.get("requests")) - _number(before.stats.get("requests"))
    return Rates((ended_in(now.stats) - ended_in(before.stats)) / seconds, max(0.0, requests) / seconds, pools)


def ended_in(stats: dict[str, Any]) -> float:
    """How many runs have ended."""
    return sum(_number(stats.get(f"runs_ended_{outcome}")) for outcome in _OUTCOMES)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
