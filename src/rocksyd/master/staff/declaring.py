"""What the code of the applications declares for companions: told to them, and asked before the code may serve.

What must live here: which companion has heard what, and the answer that a deploy waits for.
What this file must not know: what is declared, and what a companion makes of it.

Code that is to serve is examined first: each companion that hears code is asked whether it may, and its error refuses the deploy.
One that is not in the configuration is started when code declares something for it. Code that serves is told to each as soon as
it is ready, and again whenever it changes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rocksyd import messages as m
from rocksyd.config import CompanionConfig
from rocksyd.core.companions import FAILED, READY
from rocksyd.master.staff.companions import Companions, Process
from rocksyd.master.turn import Turn
from rocksyd.units import format_duration

TIMEOUT = 30.0
"""Seconds in which a companion has to say whether code may serve."""
Apps = dict[str, dict[str, Any] | None]


def scripts_of(jobs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What an application's jobs declare, by the job's name."""
    return {name: {**job["script"], "target": job["target"]} for name, job in jobs.items() if isinstance(job.get("script"), dict)}


class Declaring:
    """The companions that hear what code declares."""

    def __init__(self, companions: Companions, on_demand: dict[str, CompanionConfig], turn: Turn) -> None:
        self._companions = companions
        self._on_demand = on_demand
        self._turn = turn
        self._last = 0
        """Of the numbers given, the lowest."""
        self._examined: Apps | None = None
        """The code that is asked about; None while none is."""
        self._done: Callable[[str], None] = lambda failure: None
        self._asked: dict[int, Process] = {}
        self._deadline: float | None = None
        self._serves = False
        """Whether this master serves: before that, code is only examined."""
        self.author: Callable[[], str] = lambda: ""
        """Says who has ordered what brought the code that serves."""
        companions.attends = self._attends
        companions.agrees = self._answered
        companions.fails = self._fails
        turn.due(self.next_deadline, self.on_time)

    # --- code that serves ---------------------------------------------------------------------------------------------
    def tell(self) -> None:
        """This master serves, or the code of an application serves now that did not before."""
        self._serves = True
        apps = self._known()
        self._start_those_needed(apps)
        for process in self._hearing():
            self._say(process, m.Declared(0, apps, True, self.author()))

    def _known(self) -> Apps:
        return {name: scripts_of(app.jobs) if app.generation else None for name, app in self._turn.engine.applications.items()}

    def _hearing(self) -> list[Process]:
        lives = self._companions.lives
        return [
            process for name, process in self._companions.serving.items() if process.hears_code and lives[name].state == READY
        ]

    def _start_those_needed(self, apps: Apps) -> None:
        if any(apps.values()) and not self._turn.engine.stopping:
            for companion in self._on_demand.values():
                self._companions.need(companion)

    def _say(self, process: Process, message: m.Declared) -> int:
        self._last -= 1
        process.say(message._replace(number=self._last), self._companions.loop)
        return self._last

    # --- code that is to serve ----------------------------------------------------------------------------------------
    def examine(self, apps: Apps, done: Callable[[str], None]) -> None:
        """Ask whether this code may serve; ``done`` is told why not, "" for yes, now or later."""
        self._examined, self._done, self._asked = apps, done, {}
        self._deadline = time.monotonic() + TIMEOUT
        self._start_those_needed(apps)
        self._ask()

    def _ask(self) -> None:
        """Ask all who hear code, as soon as all companions are ready."""
        apps, companions = self._examined, self._companions
        if apps is None or self._asked:
            return
        if companions.failure:
            self._conclude(companions.failure)
        elif companions.all_ready:
            self._asked = {self._say(process, m.Declared(0, apps, False)): process for process in self._hearing()}
            if not self._asked:
                self._conclude("")

    def _conclude(self, failure: str) -> None:
        self._examined, self._asked, self._deadline = None, {}, None
        self._done(failure)

    # --- what companions say ------------------------------------------------------------------------------------------
    def _attends(self, process: Process) -> None:
        if self._serves and process.hears_code:
            self._say(process, m.Declared(0, self._known(), True))
        self._ask()

    def _answered(self, process: Process, reply: m.Reply) -> str:
        if reply.number < self._last:
            return f"for {reply.number}, which it has not been told"
        if self._asked.get(reply.number) is process:
            del self._asked[reply.number]
            if reply.error is not None:
                self._conclude(f"companion {process.companion}: {reply.error.get('message')}")
            elif not self._asked:
                self._conclude("")
        return ""

    def _fails(self, process: Process, how: str) -> None:
        if process in self._asked.values():
            self._conclude(f"companion {process.companion} has ended before it said whether the code may serve: {how}")
        elif self._examined is not None and self._companions.lives[process.companion].state == FAILED:
            self._ask()

    # --- time ---------------------------------------------------------------------------------------------------------
    def next_deadline(self) -> float | None:
        """CLOCK_MONOTONIC seconds; None for never."""
        return self._deadline

    def on_time(self, now: float) -> None:
        """Refuse code of which nobody has said for so long whether it may serve."""
        if self._deadline is not None and now >= self._deadline:
            names = ", ".join(sorted({process.companion for process in self._asked.values()})) or "a companion"
            self._conclude(f"{names} has not said within {format_duration(TIMEOUT)} whether the code may serve")
