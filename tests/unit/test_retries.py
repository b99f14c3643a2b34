"""Retries, moments and rates, decided by the daemon's own engine with a clock that the test moves."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest

from rocksyd import Cancel, Client, Retry, job
from rocksyd.core import events as ev
from rocksyd.errors import JobError, JobFailed, RequestError
from rocksyd.testing import Eager, FakeClock

MODULE = "rocksyd_jobs_of_test_retries"
RAISES: list[Any] = []
BEGAN: list[float] = []


def work() -> str:
    BEGAN.append(CLOCK[0].now().mono)
    error = RAISES.pop(0) if RAISES else None
    if error is None:
        return "done"
    if isinstance(error, int):
        sys.exit(error)
    raise error


CLOCK: list[FakeClock] = []


@pytest.fixture
def eager() -> Iterator[Any]:
    clients = []

    def make(*raises: Any, **settings: Any) -> Eager:
        made = types.ModuleType(MODULE)
        work.__module__ = MODULE
        vars(made)["work"] = job(**settings)(work)
        sys.modules[MODULE] = made
        RAISES[:] = raises
        BEGAN.clear()
        CLOCK[:] = [FakeClock()]
        clients.append(Eager(jobs=[MODULE], clock=CLOCK[0], echo=False))
        return clients[-1]

    yield make
    for client in clients:
        client.close()
    sys.modules.pop(MODULE, None)


def ended(client: Eager, **options: Any) -> dict[str, Any]:
    record: dict[str, Any] = client.run("work", **options).wait()
    return record


def waits() -> list[float]:
    return [round(later - earlier, 6) for earlier, later in pairwise(BEGAN)]


class Busy(ConnectionError):
    """One that is derived from what a policy names."""


def test_the_ladder_of_a_job_and_that_of_an_order_which_wins(eager: Any) -> None:
    client = eager(*[OSError()] * 4, retries=4, retry_after=["1s", "10s", "1m"], retry_factor=3, retry_most="2m")
    assert ended(client)["outcome"] == "ok"
    assert waits() == [1, 10, 60, 120]
    client = eager(*[OSError()] * 3, retries=3, retry_after="1h")
    assert ended(client, retry_after=[5], retry_factor=1)["attempt"] == 4
    assert waits() == [5, 5, 5]


@pytest.mark.parametrize(
    ("error", "attempts"), [(Busy(), 3), (OSError(), 1), (ValueError(), 1), (75, 3), (3, 1), (PermissionError(), 1)]
)
def test_only_what_is_worth_it_is_tried_again(eager: Any, error: Any, attempts: int) -> None:
    client = eager(error, error, retries=5, retry_on=[ConnectionError, 75])
    assert ended(client)["attempt"] == attempts
    assert ended(eager(error, error), retries=5, retry_on=["not ValueError", "not 3"])["attempt"] == (
        1 if isinstance(error, ValueError) or error == 3 else 3
    )


def test_a_job_asks_to_be_tried_again_and_says_when(eager: Any) -> None:
    client = eager(Retry("no ticket yet", after="90s"), Retry(after=5), Retry(), retry_after="7s", retry_on=["KeyError"])
    assert ended(client)["result"] == "done"
    assert waits() == [90, 5, 28], "without a time of its own it waits as usual"
    record = ended(eager(*[Retry("not yet")] * 3, retries=1))
    assert (record["outcome"], record["attempt"], record["retcode"]) == ("failed", 2, 75)
    assert record["error"] == {"type": "Retry", "message": "not yet", "traceback": ""}
    assert "asks to be tried again: not yet" in client_output(eager(Retry("not yet")), "work")


def client_output(client: Client, target: str) -> str:
    run = client.run(target)
    run.wait()
    return "".join(run.logs())


def test_a_job_that_always_asks_is_tried_a_hundred_times(eager: Any) -> None:
    record = ended(eager(*[Retry(after=1)] * 200))
    assert (record["outcome"], record["attempt"]) == ("failed", 101)


def test_a_wrong_time_of_a_retry_is_the_runs_failure(eager: Any) -> None:
    record = ended(eager(Retry(after="soon")))
    assert record["error"]["type"] == "JobError"
    assert "Retry(after='soon') is wrong: expected a duration" in record["error"]["message"]


def test_a_job_that_cancels_itself_is_not_tried_again(eager: Any) -> None:
    client = eager(Cancel("the order is gone"), retries=5)
    record = ended(client)
    assert (record["outcome"], record["reason"], record["attempt"]) == ("cancelled", "cancelled", 1)
    assert record["error"] == {"type": "Cancel", "message": "the order is gone", "traceback": ""}
    with pytest.raises(JobFailed) as caught:
        eager(Cancel("gone")).call("work")
    assert (caught.value.type, caught.value.reason) == ("Cancel", "gone")


def test_an_absolute_time(eager: Any) -> None:
    client = eager()
    at = datetime.fromtimestamp(client.clock.now().wall + 600, UTC)
    run = client.run("work", eta=at)
    assert run.record["state"] == "waiting"
    assert run.record["eta"] == at.timestamp()
    assert "for a time of its own (eta) and begins in 10m" in str(client.why(run.key))
    began = client.clock.now().mono
    assert run.wait()["outcome"] == "ok"
    assert [began + 600] == BEGAN
    assert ended(client, eta="2001-01-01T00:00:00Z")["outcome"] == "ok", "what has passed is now"
    with pytest.raises(RequestError, match="eta and delay contradict each other"):
        client.run("work", eta=at, delay=5)


def test_a_clock_that_is_set_back_while_it_waits_does_not_begin_it_early(eager: Any) -> None:
    client = eager()
    run = client.run("work", eta=client.clock.now().wall + 600)
    client.clock._wall -= 3600
    client.clock.advance("10m")
    assert client.status(run.key)["state"] == "waiting"
    client.clock.advance("60m")
    assert client.status(run.key)["outcome"] == "ok"


def test_a_clock_that_is_set_forward_while_it_waits_or_a_sleep_begins_it_at_its_time(eager: Any) -> None:
    client = eager()
    run = client.run("work", eta=client.clock.now().wall + 600, start_within="1m")
    plain = client.run("work", delay=600, start_within="1m")
    client.clock._wall += 300
    client.inside.step(ev.ClockSet())
    assert "begins in 5m" in str(client.why(run.key))
    assert "begins in 10m" in str(client.why(plain.key)), "a delay is no time of the clock"
    client.clock._wall -= 600
    client.inside.step(ev.ClockSet())
    assert "begins in 15m" in str(client.why(run.key))
    client.clock._wall += 3600
    client.inside.step(ev.ClockSet())
    client.clock.advance(0)
    assert client.status(run.key)["outcome"] == "ok", "it was not given up either: start_within counts from its time"
    assert client.status(plain.key)["state"] == "waiting"
    assert client.inside.engine.awaits_clock
    client.inside.step(ev.ClockSet())
    assert not client.inside.engine.awaits_clock


def test_a_rate_is_kept_in_any_period_and_others_do_not_wait(eager: Any) -> None:
    client = eager(rate="3/m")
    runs = [client.run("work") for _ in range(7)]
    assert [client.status(run.key)["state"] for run in runs].count("ended") == 3
    assert client.why(runs[3].key)["reasons"][0]["code"] == "rate"
    for run in runs:
        run.wait()
    at = [moment - BEGAN[0] for moment in BEGAN]
    assert at == [0, 0, 0, 60, 60, 60, 120]
    client = eager(rate_per_key="1/h")
    for key in ("a", "b", "a"):
        client.run("work", concurrency_key=key)
    client.run("work")
    assert len(BEGAN) == 3, "another key, and none, are not concerned"


def test_a_window_slides(eager: Any) -> None:
    client = eager(rate="2/10s")
    runs = []
    for pause in (0, 6, 6, 0):
        client.clock.advance(pause)
        runs.append(client.run("work"))
    for run in runs:
        run.wait()
    assert [moment - BEGAN[0] for moment in BEGAN] == [0, 6, 12, 16]


def test_a_wrong_policy_names_its_job() -> None:
    with pytest.raises(JobError, match=r"retry_on=.* is wrong: expected the name of an exception"):
        job(retry_on=["no name"])(work)
