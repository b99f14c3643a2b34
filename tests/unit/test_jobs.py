"""The job API: declarations stay callable, wrong ones are named; a run's view of itself."""

from __future__ import annotations

import functools
import signal
import subprocess
import sys
import threading
import types
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocksyd import jobs
from rocksyd.errors import JobError
from rocksyd.jobs import Current, current, job, set_current, settings_of


@pytest.fixture(autouse=True)
def no_run() -> Iterator[None]:
    handler = signal.getsignal(signal.SIGTERM)
    yield
    set_current(None)
    signal.signal(signal.SIGTERM, handler)


def test_a_job_stays_the_function_it_was() -> None:
    def add(a: int, b: int) -> int:
        return a + b

    assert job(add) is add
    assert add(1, 2) == 3
    assert settings_of(add) == {}


def test_settings_are_checked_and_in_seconds() -> None:
    @job(name="n", timeout="10m", grace=5, start_within="1h", max_running=1, retries=3, priority=-2)
    def declared() -> None: ...

    assert settings_of(declared) == {
        "name": "n",
        "timeout": 600.0,
        "grace": 5.0,
        "start_within": 3600.0,
        "max_running": 1,
        "retries": 3,
        "priority": -2,
    }


def test_a_class_is_declared_for_itself_only() -> None:
    @job(retries=1)
    class Report:
        def run(self, params: object) -> object:
            return params

    class Derived(Report): ...

    assert settings_of(Report) == {"retries": 1}
    assert settings_of(Derived) is None
    assert settings_of(object()) is None


def test_a_proxy_of_what_is_not_there_yet_is_no_job() -> None:
    class Proxy:
        def __getattr__(self, name: str) -> object:
            raise RuntimeError("Working outside of application context")

    assert settings_of(Proxy()) is None


def test_a_decorator_that_keeps_the_function_keeps_the_declaration() -> None:
    def decorate(function: Any) -> Any:
        @functools.wraps(function)
        def inner(*args: Any) -> Any:
            return function(*args)

        return inner

    @decorate
    @job(retries=2)
    def declared() -> None: ...

    assert settings_of(declared) == {"retries": 2}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"timout": 1},
            "there is no setting 'timout' (there are: grace, leftover, max_running, max_running_per_key, name, "
            "needs_memory, on_stop, pool, priority, rate, "
            "rate_per_key, results, retries, retry_after, retry_factor, retry_jitter, retry_most, "
            "retry_on, slow_after, start_within, timeout)",
        ),
        ({"timeout": "soon"}, "timeout='soon' is wrong: expected a duration"),
        ({"timeout": -1}, "timeout=-1 is wrong: expected a duration"),
        ({"max_running": 1.5}, "max_running=1.5 is wrong: expected a whole number from 0 to 2147483648, got 1.5"),
        ({"retries": True}, "retries=True is wrong: expected a whole number from 0 to 2147483648, got true"),
        ({"retries": -1}, "retries=-1 is wrong: expected a whole number from 0 to 2147483648, got -1"),
        ({"priority": "high"}, "priority='high' is wrong: expected a whole number"),
        ({"name": "a:b"}, "name='a:b' is wrong: expected a name without spaces and colons"),
    ],
)
def test_a_wrong_setting_names_the_job_and_itself(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(JobError) as raised:

        @job(**settings)
        def declared() -> None: ...

    assert str(raised.value).startswith("@job on test_a_wrong_setting_names_the_job_and_itself.<locals>.declared: ")
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (lambda: job("nightly"), "write @job or @job(name='nightly')"),
        (lambda: job(7), "only a function or a class with a run method can be a job"),
        (lambda: job(type("Empty", (), {})), "@job on class Empty: it has no run method"),
        (lambda: job(len), "cannot be marked; wrap it in a function"),
    ],
)
def test_what_cannot_be_a_job_is_refused(declare: Any, message: str) -> None:
    with pytest.raises(JobError) as raised:
        declare()
    assert message in str(raised.value)


@given(st.dictionaries(st.sampled_from(["timeout", "retries", "name", "priority", "x"]), st.none() | st.integers() | st.text()))
def test_any_settings_are_taken_or_refused_by_joberror(settings: dict[str, Any]) -> None:
    def declared() -> None: ...

    try:
        assert job(**settings)(declared) is declared
    except JobError:
        return
    assert set(settings_of(declared) or {}) == set(settings)


def test_current_outside_of_a_run_is_an_error_that_helps() -> None:
    with pytest.raises(JobError, match=r"current\(\) works only inside a run of rocksyd"):
        current()


def test_current_is_the_run() -> None:
    run = Current("k", attempt=2, deadline=5.0)
    set_current(run)
    assert current() is run
    assert (run.key, run.attempt, run.deadline) == ("k", 2, 5.0)
    run.progress(1, 2, "without anybody listening")
    assert repr(run) == "<run k attempt 2>"


def test_progress_is_thinned_and_the_last_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(jobs, "time", types.SimpleNamespace(monotonic=lambda: now))
    said: list[tuple[Any, ...]] = []
    run = Current("k", say=lambda *values: said.append(values))
    for done in range(10):
        run.progress(done, 10)
    assert said == [(0, 10, "")]
    now += 2 * jobs.PROGRESS_INTERVAL
    run.progress(10, 10)
    run.progress(11, 10, "the last")
    assert said == [(0, 10, ""), (10, 10, "")]
    run.close()
    assert said[-1] == (11, 10, "the last")
    run.progress(12)
    run.close()
    assert len(said) == 3


def test_stopping_is_set_by_term_once_it_was_read() -> None:
    run = Current("k")
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert not run.stopping
    signal.raise_signal(signal.SIGTERM)
    assert run.stopping


def test_a_handler_of_the_jobs_own_is_left_alone() -> None:
    caught: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: caught.append(number))
    run = Current("k")
    assert not run.stopping
    signal.raise_signal(signal.SIGTERM)
    assert caught == [signal.SIGTERM]
    assert not run.stopping


def test_a_thread_that_reads_stopping_first_installs_nothing() -> None:
    run = Current("k")
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    seen: list[bool] = []
    thread = threading.Thread(target=lambda: seen.append(run.stopping))
    thread.start()
    thread.join()
    assert seen == [False]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_importing_the_job_api_loads_next_to_nothing() -> None:
    code = "import sys; from rocksyd import job, current; print(sorted(set(sys.modules) & set(sys.argv[1:])))"
    heavy = ["dataclasses", "inspect", "asyncio", "threading", "socket", "json", "rocksyd.messages", "rocksyd.client"]
    ran = subprocess.run(
        [sys.executable, "-S", "-c", code, *heavy], capture_output=True, text=True, check=True, env=_importable()
    )
    assert ran.stdout.strip() == "[]"


def _importable() -> dict[str, str]:
    import os
    from pathlib import Path

    import rocksyd

    return {**os.environ, "PYTHONPATH": str(Path(rocksyd.__file__).parent.parent)}
