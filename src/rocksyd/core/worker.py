"""One worker process, as the master knows it, and the states it goes through.

What must live here: what is known of a worker. What this file must not know: pools, runs; how a process is made or ended.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from rocksyd.core import lifecycle

STARTING, IDLE, BUSY, LEAVING, GONE = "starting", "idle", "busy", "leaving", "gone"


@dataclass(slots=True)
class Worker:
    """What the master knows of one worker process."""

    number: int
    app: str
    pool: str
    generation: int
    slot: int
    state: str = STARTING
    pid: int = 0
    runs: dict[str, None] = field(default_factory=dict)
    """Keys of the runs it is at, the oldest first; more than one only where ``capacity`` is."""
    jobs: int = 0
    since: float = 0.0
    """CLOCK_MONOTONIC seconds of the last change of state."""
    sure: bool = True
    """False after a crash of the master, until the worker itself has said that it has nothing to do."""
    last: bool = False
    """It has been told to leave after the run it has."""
    born: float = 0.0
    """CLOCK_MONOTONIC seconds at which it was ordered; 0 where nobody knows any more."""
    successor: int = 0
    """The number of the worker that was ordered to take its place."""
    over: bool = False
    """Its successor is there, or it has grown too large: it gets no more runs, and leaves when it has none any more."""
    template: int = 0
    """Who forked it: a template, by its number; 0 for the zygote, negative when that is gone."""
    capacity: int = 1
    """Runs that it can be at at the same time, as it was forked for (``concurrency``)."""

    @property
    def run(self) -> str:
        """The key of the run it is at, of several the oldest; "" for none."""
        return next(iter(self.runs), "")

    @property
    def shared(self) -> bool:
        """Whether runs share it: then nothing may be done to its process because of one of them."""
        return self.capacity > 1

    def step(self, action: str, now: float) -> None:
        """Take one step of the worker's lifecycle."""
        self.state = lifecycle.step(lifecycle.WORKER, self.state, action)
        self.since = now

    def dump(self) -> dict[str, Any]:
        """Plain data for a snapshot; ``run`` is for a version that knows of one at a time."""
        return asdict(self) | {"runs": list(self.runs), "run": self.run}

    @classmethod
    def load(cls, data: dict[str, Any]) -> Worker:
        """The worker that ``dump`` wrote, by this version or another: unknown keys are ignored."""
        runs = data.get("runs") or [key for key in (data.get("run"),) if key]
        return cls(**{name: data[name] for name in cls.__dataclass_fields__ if name in data} | {"runs": dict.fromkeys(runs)})
