"""Several pools of one application, in the engine: who runs where, and what becomes of a pool that the configuration drops."""

from __future__ import annotations

import dataclasses
import json

import pytest

from rocksyd.config import PoolConfig
from rocksyd.core import events as ev
from rocksyd.core.engine import Engine
from rocksyd.errors import RequestError
from rocksyd.model import Now
from tests.unit.engine_actors import config
from tests.unit.engine_check import check
from tests.unit.engine_desk import Desk, kinds

MAIN = PoolConfig("ondemand", max_workers=1, max_jobs=0)
SIDE = PoolConfig("ondemand", max_workers=1, max_jobs=0, timeout=7.0, grace=2.0, max_queue=1)
BOTH = config(**{"app": MAIN, "app/side": SIDE})
JOBS = {"job": {"target": "jobs:job"}, "two": {"target": "jobs:two"}, "own": {"target": "jobs:own", "settings": {"pool": "side"}}}


def desk() -> Desk:
    made = Desk(MAIN, JOBS)
    made.say(ev.Configure(BOTH))
    return made


@pytest.mark.parametrize("target", ["two", "own"])
def test_a_target_runs_in_the_pool_that_its_settings_or_its_code_name_with_the_limits_of_that_pool(target: str) -> None:
    made = desk()
    run = made.started(target=target)
    assert run.pool == "app/side"
    assert (run.order.timeout, run.order.grace) == (7.0, 3.0 if target == "two" else 2.0)
    assert made.engine.workers[run.attempt.worker].pool == "app/side"
    (order,) = kinds(made.told, ev.ForkWorker)
    assert (order.app, order.pool) == ("app", "app/side")


def test_a_full_pool_holds_up_nobody_in_another() -> None:
    made = desk()
    made.started("a", "two")
    made.submit("b", "two")
    with pytest.raises(RequestError, match="pool 'app/side'"):
        made.submit("c", "two")
    assert made.started("d", "job").state == "running"


def test_what_the_configuration_says_of_a_target_wins_over_its_code() -> None:
    made = Desk(MAIN, JOBS)
    apps = {"app": dataclasses.replace(BOTH.apps["app"], pools={"side": SIDE, "other": MAIN})}
    apps["app"] = dataclasses.replace(apps["app"], jobs_settings={"own": {"pool": "other"}})
    made.say(ev.Configure(dataclasses.replace(BOTH, apps=apps)))
    assert made.started(target="own").pool == "app/other"


def test_p12_a_job_whose_code_names_a_pool_that_is_not_there_is_refused_with_the_cure() -> None:
    made = Desk(MAIN, JOBS)
    with pytest.raises(RequestError, match="jobs:own is for pool 'side', and application 'app' has none of that name") as caught:
        made.submit(target="own")
    assert "[apps.app.pools.side]" in str(caught.value.data)


def test_a_pool_that_goes_gives_what_waits_to_the_applications_own_and_keeps_what_runs() -> None:
    made = desk()
    running = made.started("a", "two")
    waiting = made.submit("b", "two")
    made.say(ev.Configure(config(app=MAIN)))
    assert waiting.pool == "app"
    made.fork()
    assert (waiting.state, running.state) == ("running", "running")
    made.result(running)
    (away,) = kinds(made.told, ev.DrainWorker)
    assert away.worker != waiting.attempt.worker
    made.say(ev.WorkerExited(away.worker, 0))
    assert list(made.engine.pools) == ["app"]
    check(made.engine, made.now)


def test_a_run_handed_over_to_a_configuration_without_its_pool_waits_in_the_applications_own() -> None:
    made = desk()
    runs = [made.started("a", "two"), made.submit("b", "two")]
    snapshot = json.loads(json.dumps(made.engine.snapshot()))
    engine = Engine(config(app=MAIN))
    effects = engine.restore(runs, snapshot, Now(made.now.mono, made.now.wall))
    assert [(run.pool, run.state) for run in runs] == [("app/side", "running"), ("app", "waiting")]
    assert [effect.run.key for effect in kinds(effects, ev.Persist)] == ["b"], "the next master is to find it in the same queue"
    check(engine, made.now)
