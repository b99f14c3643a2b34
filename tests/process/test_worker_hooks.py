"""An application's hooks around its jobs, in the worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rocksyd import messages
from tests.process.zygotes import Zygote

SOURCE = """
    import os, sys
    from rocksyd import current, job
    from rocksyd.jobs import after_job, before_job

    said = []
    broken = None

    @before_job
    def opens():
        said.append("opens " + current().key)
        print("opens", os.path.basename(os.getcwd()), os.environ.get("ONLY_HERE"))
        if broken == "opens":
            raise OSError("nothing to open")
    @before_job
    def opens_more():
        said.append("opens more")
    @after_job
    def closes_more():
        said.append("closes more")
        current().progress(1, 1, "closed")
    @after_job
    def closes():
        said.append("closes " + current().key)
        print("closes")
        if broken == "closes": raise ValueError("cannot close")
        if broken == "exits": sys.exit(3)

    @job
    def look():
        print("looks")
        return list(said)
    @job
    def fails(): raise KeyError("the job's own")
    @job
    def breaks(which):
        global broken
        broken = which
    @job
    def forks():
        if os.fork() == 0:
            return None
        os.wait()
"""


@pytest.fixture
def zygote(tmp_path: Path) -> Iterator[Zygote]:
    with Zygote(tmp_path, {"shop": SOURCE}, jobs=("shop",)) as zygote:
        zygote.ready()
        yield zygote


def test_hooks_surround_every_job_in_the_runs_own_surroundings(zygote: Zygote) -> None:
    worker = zygote.fork()
    assert worker.run("shop:look", last=False, key="one", env={"ONLY_HERE": "1"}).value == ["opens one", "opens more"]
    assert worker.next(messages.Progress).note == "closed"
    assert worker.output == "opens app 1\nlooks\ncloses\n"
    before = worker.run("shop:look", key="two").value
    assert before == ["opens one", "opens more", "closes one", "closes more", "opens two", "opens more"]
    assert worker.output.endswith("opens app None\nlooks\ncloses\n")
    zygote.exited(worker)


def test_an_exception_before_the_job_fails_the_run_and_the_job_is_not_called(zygote: Zygote) -> None:
    worker = zygote.fork()
    worker.run("shop:breaks", ["opens"], last=False)
    result = worker.run("shop:look", last=False)
    assert (result.ok, result.retcode, result.value) == (False, 1, None)
    assert result.error is not None
    assert (result.error["type"], result.error["message"]) == ("OSError", "nothing to open")
    assert "OSError: nothing to open\ncloses\n" in worker.output
    assert "looks" not in worker.output


@pytest.mark.parametrize(("how", "told"), [("closes", "ValueError: cannot close"), ("exits", "SystemExit: 3")])
def test_an_exception_after_the_job_is_in_its_output_and_changes_nothing(zygote: Zygote, how: str, told: str) -> None:
    worker = zygote.fork()
    assert worker.run("shop:breaks", [how], last=False).ok
    result = worker.run("shop:look")
    assert result.ok
    assert "the after_job hook shop:closes failed:\nTraceback (most recent call last):\n" in worker.output
    assert told in worker.output
    assert result.value.count("closes more") == 1
    assert zygote.exited(worker).status == 0


def test_hooks_come_after_a_job_that_failed_too(zygote: Zygote) -> None:
    worker = zygote.fork()
    result = worker.run("shop:fails", last=False)
    assert result.error is not None
    assert result.error["type"] == "KeyError"
    assert worker.output.index("KeyError") < worker.output.index("closes")
    assert "closes more" in worker.run("shop:look").value


def test_a_child_that_a_job_forked_and_let_come_back_calls_no_hooks(zygote: Zygote) -> None:
    worker = zygote.fork()
    assert worker.run("shop:forks").ok
    assert worker.output.count("closes") == 1
