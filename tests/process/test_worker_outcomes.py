"""How a run ends, as RESULT tells it: values, exceptions, exits, deaths."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rocksyd import messages
from tests.process.zygotes import Zygote, wait_for_end

SOURCE = """
    import asyncio, atexit, concurrent.futures, dataclasses, datetime, decimal, enum, logging, os, pathlib, sys, threading, time
    import uuid
    from typing import Optional
    from rocksyd import job, current

    class Colour(enum.Enum):
        RED = "red"

    @dataclasses.dataclass
    class Point:
        x: int
        y: int

    @job(timeout="10m", retries=2)
    def add(a, b=0, *, c=0): return a + b + c
    @job
    def echo(*args, **kwargs): return [list(args), kwargs]
    @job
    async def later(x):
        await asyncio.sleep(0)
        return x * 2
    @job
    def kinds(day: datetime.date, at: "datetime.datetime", price: decimal.Decimal, where: pathlib.Path, ident: uuid.UUID,
              colour: Colour, maybe: Optional[datetime.date] = None, plain: str = ""):
        return [type(v).__name__ for v in (day, at, price, where, ident, colour, maybe, plain)]
    @job
    def values():
        return {"when": datetime.date(2026, 1, 31), "at": datetime.datetime(2026, 1, 31, 12), "price": decimal.Decimal("1.50"),
                "id": uuid.UUID(int=1), "path": pathlib.Path("/a"), "set": {2, 1}, "point": Point(1, 2), "text": b"abc",
                "bytes": b"\\xff", "colour": Colour.RED, "nan": float("nan"), 1: "one", "odd": object}
    @job
    def fail(): raise ValueError("no such thing")
    @job
    def leave(code): sys.exit(code)
    @job
    def vanish(code): os._exit(code)
    @job
    def die(number): os.kill(os.getpid(), number)
    @job
    def interrupted():
        import signal
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
    @job
    def large(size): return "x" * size
    @job
    def length(text): return len(text)
    @job
    def forks():
        pid = os.fork()
        if pid:
            return [os.getpid(), os.waitpid(pid, 0)[1]]
        return "from the child"
    @job
    def closes_all(code):
        os.closerange(3, 4096)
        opened = [os.pipe() for _ in range(20)]
        sys.exit(code)
    @job
    def ends_properly():
        atexit.register(lambda: print("atexit ran"))
        threading.Thread(target=lambda: (time.sleep(0.05), print("thread ended"))).start()
        pool = concurrent.futures.ThreadPoolExecutor(1)
        pool.submit(lambda: (time.sleep(0.05), print("pool ended")))
        print("function returns")
    @job
    def never_ending_thread():
        threading.Thread(target=time.sleep, args=(3600,), name="endless").start()
    @job
    def bad_atexit():
        atexit.register(lambda: 1 / 0)
    @job
    def tells():
        run = current()
        for step in range(1000):
            run.progress(step + 1, 1000, "counting")
        return [run.key, run.attempt, run.deadline, run.stopping]
    @job
    def burns():
        end = time.process_time() + 0.05
        while time.process_time() < end: pass
    @job
    def hooked():
        sys.excepthook = lambda kind, value, tb: print("hook saw", kind.__name__)
        raise RuntimeError("x")
    class TestClass1:
        def run(self, params): return {"params": params}
    class Asynchronous:
        async def run(self, params): return params
    class NoRun:
        pass
"""


@pytest.fixture
def zygote(tmp_path: Path) -> Iterator[Zygote]:
    with Zygote(tmp_path, {"shop": SOURCE}, jobs=("shop",), allow=("shopx.*:*",)) as zygote:
        zygote.ready()
        yield zygote


@pytest.mark.parametrize(
    ("target", "params", "value"),
    [
        ("add", [1, 2], 3),
        ("add", {"a": 1, "c": 4}, 5),
        ("add", 7, 7),
        ("echo", None, [[], {}]),
        ("echo", [], [[], {}]),
        ("later", [21], 42),
        ("TestClass1", [1, 2, 3], {"params": [1, 2, 3]}),
        ("TestClass1", None, {"params": None}),
        ("Asynchronous", {"a": 1}, {"a": 1}),
    ],
)
def test_a_returned_value_is_the_result(zygote: Zygote, target: str, params: Any, value: Any) -> None:
    result, output = zygote.run(f"shop:{target}", params)
    assert (result.ok, result.retcode, result.value, result.error, output) == (True, 0, value, None, "")


def test_strings_become_what_annotations_say(zygote: Zygote) -> None:
    params = [
        "2026-01-31",
        "2026-01-31T12:00:00Z",
        "1.50",
        "/tmp",
        "00000000-0000-0000-0000-000000000001",
        "RED",
        "2026-01-31",
        "x",
    ]
    result, _ = zygote.run("shop:kinds", params)
    assert result.error is None
    assert result.value[:3] == ["date", "datetime", "Decimal"]
    assert result.value[3:] == ["PosixPath", "UUID", "Colour", "date", "str"]


def test_a_string_that_is_no_date_is_named(zygote: Zygote) -> None:
    result, output = zygote.run("shop:kinds", ["tomorrow"])
    assert result.retcode == 1
    assert result.error is not None
    assert result.error["message"] == "parameter 'day' of shop:kinds: 'tomorrow' is not a date such as 2026-01-31"
    assert "JobError" in output


def test_values_without_a_form_in_json_are_said_otherwise(zygote: Zygote) -> None:
    result, output = zygote.run("shop:values", results="lenient")
    assert result.value == {
        "when": "2026-01-31",
        "at": "2026-01-31T12:00:00",
        "price": "1.50",
        "id": "00000000-0000-0000-0000-000000000001",
        "path": "/a",
        "set": [1, 2],
        "point": {"x": 1, "y": 2},
        "text": "abc",
        "bytes": "/w==",
        "colour": "red",
        "nan": None,
        "1": "one",
        "odd": "<class 'object'>",
    }
    assert "nan has no form in JSON" in output
    assert "its repr was returned" in output


def test_an_exception_is_told_and_printed(zygote: Zygote) -> None:
    result, output = zygote.run("shop:fail")
    assert (result.ok, result.retcode, result.value) == (False, 1, None)
    assert result.error is not None
    assert (result.error["type"], result.error["message"]) == ("ValueError", "no such thing")
    assert result.error["traceback"] == output
    assert output.startswith("Traceback (most recent call last):\n")
    assert "rocksyd" not in output
    assert output.endswith("ValueError: no such thing\n")


def test_the_applications_own_excepthook_sees_the_exception(zygote: Zygote) -> None:
    result, output = zygote.run("shop:hooked")
    assert (result.retcode, output) == (1, "hook saw RuntimeError\n")


@pytest.mark.parametrize(
    ("code", "retcode", "output"), [(None, 0, ""), (0, 0, ""), (3, 3, ""), (-1, 255, ""), ("why", 1, "why\n")]
)
def test_sys_exit_means_what_it_means_in_a_program(zygote: Zygote, code: Any, retcode: int, output: str) -> None:
    result, printed = zygote.run("shop:leave", [code])
    assert (result.ok, result.retcode, printed) == (retcode == 0, retcode, output)


def test_an_interrupt_is_an_exception(zygote: Zygote) -> None:
    result, _ = zygote.run("shop:interrupted")
    assert result.retcode == 1
    assert result.error is not None
    assert result.error["type"] == "KeyboardInterrupt"


@pytest.mark.parametrize(("job", "params", "status"), [("vanish", [9], 9 << 8), ("die", [9], 9), ("die", [15], 15)])
def test_a_death_without_a_result_is_told_by_the_zygote(zygote: Zygote, job: str, params: list[int], status: int) -> None:
    worker = zygote.fork()
    worker.start(f"shop:{job}", params)
    assert zygote.exited(worker).status == status
    assert worker.at_end()


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("shop:nothing", "target 'shop:nothing': there is no 'nothing' in shop"),
        ("nowhere:x", "there is no module 'nowhere'"),
        ("shop", "target 'shop' is not understood"),
        ("shop:os.system", "target 'shop:os.system' is not a function or a class"),
        ("shop:NoRun", "target 'shop:NoRun' is not a function or a class"),
        ("shop:add.__globals__", "is not a function or a class"),
    ],
)
def test_a_target_that_cannot_be_run_is_the_runs_failure(zygote: Zygote, target: str, message: str) -> None:
    result, output = zygote.run(target, [])
    assert result.retcode == 1
    assert result.error is not None
    assert message in result.error["message"]
    assert message in output


def test_wrong_parameters_are_named_by_python(zygote: Zygote) -> None:
    result, _ = zygote.run("shop:add", [])
    assert result.error is not None
    assert "missing 1 required positional argument: 'a'" in result.error["message"]


def test_a_large_parameter_and_a_large_result_arrive(zygote: Zygote) -> None:
    text = "y" * 700_000
    assert zygote.run("shop:length", [text])[0].value == 700_000
    assert zygote.run("shop:large", [700_000])[0].value == "x" * 700_000


def test_a_result_above_the_limit_is_dropped_with_a_note(zygote: Zygote) -> None:
    result, output = zygote.run("shop:large", [5000], result_limit=1000)
    assert (result.ok, result.value) == (True, None)
    assert result.dropped == "the result was dropped: it is 5002 bytes of JSON, and result_limit is 1000"
    assert result.dropped in output


def test_only_the_worker_itself_speaks_for_a_job_that_forks(zygote: Zygote) -> None:
    worker = zygote.fork()
    result = worker.run("shop:forks")
    assert result.value == [worker.pid, 0]
    assert worker.at_end()
    zygote.exited(worker)


def test_a_job_that_closed_every_descriptor_is_told_by_its_exit_status(zygote: Zygote) -> None:
    worker = zygote.fork()
    worker.start("shop:closes_all", [5])
    assert os.waitstatus_to_exitcode(zygote.exited(worker).status) == 5


def test_the_result_comes_after_threads_and_atexit_handlers(zygote: Zygote) -> None:
    result, output = zygote.run("shop:ends_properly")
    assert result.ok
    assert output.startswith("function returns\n")
    assert output.endswith("atexit ran\n")
    assert sorted(output.splitlines()) == ["atexit ran", "function returns", "pool ended", "thread ended"]


def test_a_thread_that_does_not_end_within_the_grace_is_named(zygote: Zygote) -> None:
    result, output = zygote.run("shop:never_ending_thread", grace=0.05)
    assert result.ok
    assert "threads that had not ended within the grace were ended with the process: 'endless'" in output


def test_a_failing_atexit_handler_does_not_change_the_result(zygote: Zygote) -> None:
    result, output = zygote.run("shop:bad_atexit")
    assert result.ok
    assert "ZeroDivisionError" in output


def test_progress_is_told_at_first_and_at_last(zygote: Zygote) -> None:
    worker = zygote.fork()
    worker.start("shop:tells", key="my-key", attempt=2, deadline=1e9)
    first, last = worker.next(messages.Progress), worker.next(messages.Progress)
    assert (first.key, first.done, first.total, first.note) == ("my-key", 1, 1000, "counting")
    assert last.done == 1000 or last.done > first.done
    result = worker.next(messages.Result)
    assert result.value == ["my-key", 2, 1e9, False]


def test_cpu_and_memory_and_times_are_told(zygote: Zygote) -> None:
    worker = zygote.fork()
    result = worker.run("shop:burns")
    assert result.cpu >= 0.04
    assert result.max_rss > 1 << 20
    assert 0 < result.started <= result.ended
    exited = zygote.exited(worker)
    assert exited.cpu >= 0.04
    assert exited.max_rss > 1 << 20


def test_a_result_is_said_again_until_it_was_heard(zygote: Zygote) -> None:
    worker = zygote.fork()
    worker.start("shop:add", [1, 2])
    first = worker.next(messages.Result)
    worker.send(messages.JobAck("somebody else's"))
    worker.send(messages.Inventory())
    assert worker.next(messages.Result) == first
    worker.send(messages.JobAck(first.key))
    assert worker.at_end()
    assert zygote.exited(worker).status == 0


def test_a_worker_nobody_listens_to_leaves(zygote: Zygote) -> None:
    worker = zygote.fork()
    worker.start("shop:leave", [4])
    worker.next(messages.Result)
    os.kill(zygote.pid, signal.SIGKILL)
    assert zygote.wait() == -signal.SIGKILL
    worker.close()  # the master, too, is gone
    wait_for_end(worker.pid)
