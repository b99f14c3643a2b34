"""An engine on a desk: one application, zygote and workers that do what the test says, and a clock that it sets."""

from __future__ import annotations

from typing import Any

from rocksyd import messages as m
from rocksyd.config import PoolConfig
from rocksyd.core import events as ev
from rocksyd.core.engine import Engine
from rocksyd.errors import RequestError
from rocksyd.model import Now, Run
from tests.unit.engine_actors import config, forked, zygote_ready

JOBS = {"job": {"target": "jobs:job"}, "one": {"target": "jobs:one", "settings": {"max_running": 1}}}
ONDEMAND = PoolConfig("ondemand", max_workers=2, max_jobs=0)


class Desk:
    """Says events, keeps effects."""

    def __init__(self, pool: PoolConfig = ONDEMAND, jobs: dict[str, Any] = JOBS) -> None:
        self.engine = Engine(config(app=pool))
        self.now = Now(1000.0, 1.7e9)
        self.told: list[Any] = []
        self.pids = 0
        self.say(zygote_ready("app", 1, jobs))

    def say(self, event: Any) -> list[Any]:
        """One event; returns its effects."""
        effects = self.engine.step(event, self.now)
        self.told += effects
        return effects

    def at(self, mono: float) -> list[Any]:
        """Let time pass."""
        self.now = Now(mono, self.now.wall + mono - self.now.mono)
        return self.say(ev.Tick())

    def submit(self, key: str = "k", target: str = "job", params: Any = None, **options: Any) -> Run:
        """A caller's order; the run, or RequestError."""
        return self.answer(ev.Submit(key, target, params, None, options))

    def answer(self, event: Any) -> Run:
        """What a caller is answered."""
        (answer,) = [effect for effect in self.say(event) if isinstance(effect, ev.Answer)]
        if answer.error is not None:
            raise answer.error
        assert answer.run is not None
        return answer.run

    def refusal(self, event: Any) -> RequestError:
        """Why a caller is refused."""
        (answer,) = [effect for effect in self.say(event) if isinstance(effect, ev.Answer)]
        assert answer.error is not None
        return answer.error

    def fork(self) -> None:
        """All workers that were asked for come."""
        for worker in [worker for worker in self.engine.workers.values() if worker.state == "starting"]:
            self.pids += 1
            self.say(forked(worker.number, self.pids))

    def started(self, key: str = "k", target: str = "job", **options: Any) -> Run:
        """A run that runs."""
        run = self.submit(key, target, **options)
        self.fork()
        assert run.state == "running"
        return run

    def result(self, run: Run, retcode: int = 0, **fields: Any) -> list[Any]:
        return self.say(ev.Heard(run.attempt.worker, m.Result(run.key, retcode == 0, retcode, **fields)))

    def exit(self, run: Run, status: int | None) -> list[Any]:
        return self.say(ev.WorkerExited(run.attempt.worker, status))


def kinds(effects: list[Any], *wanted: type[Any]) -> list[Any]:
    """Effects of these kinds."""
    return [effect for effect in effects if isinstance(effect, wanted)]
