"""The end of a run's time within its process: raised in the job, once, and nowhere else."""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections.abc import Iterator

import pytest

from rocksyd import JobTimeout
from rocksyd.core.events import KillWorker
from rocksyd.core.state import term
from rocksyd.model import CANCELLED, MEMORY, TIMEOUT
from rocksyd.posix import signals
from rocksyd.worker import deadline
from rocksyd.worker.deadline import Deadline, without_handler
from rocksyd.worker.outcome import observed
from tests.unit.runs import run_of


@pytest.fixture
def terms(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, int]]]:
    """What is sent instead of the exception; with a TERM that is nobody's own, as in a worker."""
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    monkeypatch.setattr(os, "getpgrp", os.getpid)  # a worker leads its group
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    handler = signal.getsignal(signals.TIME_UP)
    deadline.prepare()
    yield sent
    signal.signal(signals.TIME_UP, handler)
    signal.signal(signal.SIGTERM, before)


def ring() -> None:
    signal.raise_signal(signals.TIME_UP)


def test_it_is_raised_in_the_job_and_only_once(terms: list[tuple[int, int]]) -> None:
    one = Deadline(time.monotonic() + 60, 90.0)
    with pytest.raises(JobTimeout, match=r"^the run has reached its timeout of 1m30s$"), one:
        ring()
    assert one.told
    ring()
    assert terms == []


def test_a_run_that_has_been_told_and_goes_on_is_left_alone(terms: list[tuple[int, int]]) -> None:
    with Deadline(time.monotonic() + 60):
        with pytest.raises(JobTimeout):
            ring()
        ring()
    assert terms == []


@pytest.mark.parametrize("disposition", [signal.SIG_IGN, lambda *_: None])
def test_a_job_with_an_opinion_on_term_gets_term_and_its_children_too(terms: list[tuple[int, int]], disposition: object) -> None:
    signal.signal(signal.SIGTERM, disposition)  # type: ignore[arg-type]
    with Deadline(time.monotonic() + 60) as _:
        ring()
        ring()
    assert terms == [(0, signal.SIGTERM)]


def test_a_group_that_is_not_the_jobs_own_is_left_alone(terms: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpgrp", os.getppid)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with Deadline(time.monotonic() + 60):
        ring()
    assert terms == [(os.getpid(), signal.SIGTERM)]


def test_outside_of_a_job_it_is_what_term_is(terms: list[tuple[int, int]]) -> None:
    with Deadline(time.monotonic() + 60):
        pass
    ring()
    assert terms == [(0, signal.SIGTERM)]


def test_a_run_that_is_late_already_is_told_before_its_first_line(terms: list[tuple[int, int]]) -> None:
    late = Deadline(time.monotonic() - 1)
    with pytest.raises(JobTimeout), late:
        raise AssertionError("its first line")
    ring()
    assert terms == []


def test_the_traceback_ends_where_the_job_was() -> None:
    with pytest.raises(JobTimeout) as caught, Deadline(0.1):
        pass
    assert "worker/deadline.py" in "".join(traceback.format_tb(caught.value.__traceback__))
    assert "worker/deadline.py" not in "".join(traceback.format_tb(without_handler(caught.value).__traceback__))


def test_what_a_job_lets_through_counts_as_ended_by_term(capfd: pytest.CaptureFixture[str]) -> None:
    def job() -> None:
        raise JobTimeout("the run has reached its timeout of 1s")

    outcome = observed(job, 1000)
    assert (outcome.retcode, outcome.signal, outcome.reason) == (143, 15, "timeout")
    assert capfd.readouterr().err.rstrip().endswith("JobTimeout: the run has reached its timeout of 1s")


def test_the_grace_that_is_left_leaves_time_for_the_last_word() -> None:
    one = Deadline(time.monotonic() - 4)
    assert one.left(10.0) == 10.0
    with pytest.raises(JobTimeout), one:
        pass
    assert 0 < one.left(10.0) < 6
    assert one.left(1.0) == 0.0


def test_only_a_timeout_of_a_job_is_told_by_the_exception() -> None:
    for reason, kind, expected in [(TIMEOUT, "", True), (TIMEOUT, "script", False), (CANCELLED, "", False), (MEMORY, "", False)]:
        assert term(run_of("k", kind=kind, kill_reason=reason, worker=3)) == KillWorker(3, 15, 10.0, expected)


def test_whether_a_process_catches_a_signal_is_seen_from_outside(terms: list[tuple[int, int]]) -> None:
    assert signals.caught(os.getpid(), signals.TIME_UP)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signals.TIME_UP])
    assert not signals.caught(os.getpid(), signals.TIME_UP)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    assert signals.caught(os.getpid(), signals.TIME_UP), "as a worker that is being born"
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    deadline.forget()
    assert not signals.caught(os.getpid(), signals.TIME_UP)
    assert not signals.caught(1 << 30, signals.TIME_UP)
