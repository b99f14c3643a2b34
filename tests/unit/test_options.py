"""Every option that is declared is taken, converted alike and effective, whichever way it is said."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from rocksyd import AsyncClient, Client, job
from rocksyd.cli.commands import run_command
from rocksyd.core import events as ev
from rocksyd.errors import ConfigError, JobError, RequestError
from rocksyd.master.desk.methods import METHODS, arguments
from rocksyd.master.desk.runs import submission
from rocksyd.model import Run
from rocksyd.options import BY_NAME, JOB, OPTIONS, ORDER, TARGET, said_in
from rocksyd.testing import Eager, FakeClock
from rocksyd.wire.requests import Call
from tests.unit.wire_drive import only

MODULE = "rocksyd_jobs_of_test_options"


class Sample(NamedTuple):
    """One option as it may be said, and what a run shows of it."""

    said: Any
    word: str
    """As the command line says it."""
    held: Callable[[Run], Any]
    expected: Any


TIME = "2026-01-31T03:00:00Z"
SPAN = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
ETA, WALL = "2096-10-02T07:06:40+00:00", 1_767_225_600.0
"""4,000,000,000 Unix seconds, and when the clock of an eager client here begins."""
SAMPLES: dict[str, Sample] = {
    "priority": Sample(-7, "-7", lambda run: run.order.priority, -7),
    "timeout": Sample("2m", "2m", lambda run: run.order.timeout, 120.0),
    "start_within": Sample("1h", "1h", lambda run: run.start_by, 4600.0),
    "delay": Sample("250ms", "250ms", lambda run: run.not_before, 1000.25),
    "retries": Sample(2, "2", lambda run: run.order.retries, 2),
    "env": Sample({"A": "b"}, "A=b", lambda run: run.order.env, {"A": "b"}),
    "labels": Sample({"who": "me"}, "who=me", lambda run: run.order.labels, {"who": "me"}),
    "concurrency_key": Sample("c", "c", lambda run: (run.order.concurrency_key, run.order.max_running_per_key), ("c", 1)),
    "each": Sample(True, "", lambda run: (run.order.each, run.attempt.result), (True, [[1], [2]])),
    "tick": Sample(
        {"script": "s", "time": TIME, "n": 3}, f"s@{TIME}.3", lambda run: run.order.tick, {"script": "s", "time": TIME, "n": 3}
    ),
    "retry_after": Sample(["10s", 60], "10s,60s", lambda run: run.order.retry, {"after": [10.0, 60.0]}),
    "retry_factor": Sample(1.5, "1.5", lambda run: run.order.retry, {"factor": 1.5}),
    "retry_most": Sample("1h", "1h", lambda run: run.order.retry, {"most": 3600.0}),
    "retry_jitter": Sample(0.5, "0.5", lambda run: run.order.retry, {"jitter": 0.5}),
    "retry_on": Sample(
        ["OSError", "not FileNotFoundError", 75],
        "OSError, not FileNotFoundError,75",
        lambda run: run.order.retry,
        {"on": ["OSError", "not FileNotFoundError", 75]},
    ),
    "eta": Sample(ETA, ETA, lambda run: (run.order.eta, run.not_before), (4e9, 1000 + 4e9 - WALL)),
    "on_stop": Sample("requeue", "requeue", lambda run: run.order.on_stop, "requeue"),
    "after": Sample(["before"], "before", lambda run: run.order.after, ("before",)),
    "after_outcome": Sample("any", "any", lambda run: run.order.after_outcome, "any"),
    "after_results": Sample(True, "", lambda run: run.order.after_results, True),
    "traceparent": Sample(SPAN, SPAN, lambda run: run.order.traceparent, SPAN),
    "needs_memory": Sample("2G", "2G", lambda run: run.order.needs_memory, 2 << 30),
    "grace": Sample("3s", "", lambda run: run.order.grace, 3.0),
    "slow_after": Sample("30s", "", lambda run: run.order.slow_after, 30.0),
    "leftover": Sample("keep", "", lambda run: run.order.leftover, "keep"),
    "results": Sample("lenient", "", lambda run: run.order.results, "lenient"),
    "max_running": Sample(4, "", lambda run: run.order.max_running, 4),
    "max_running_per_key": Sample(5, "", lambda run: run.order.max_running_per_key, 5),
    "rate": Sample("20/m", "", lambda run: run.order.rate, (20, 60.0)),
    "rate_per_key": Sample("100/5m", "", lambda run: run.order.rate_per_key, (100, 300.0)),
    "pool": Sample("slow", "", lambda run: run.pool, "app/slow"),
    "name": Sample("other", "", lambda run: run.order.name, "other"),
}
WRONG: dict[str, tuple[Any, str]] = {
    "priority": (1.5, "expected a whole number from"),
    "timeout": ("soon", 'expected a duration such as "10s"'),
    "start_within": (-1, "expected a duration of zero or more"),
    "delay": ([], "expected a duration"),
    "retries": (-1, "expected a whole number from 0"),
    "env": ({"A": 1}, "expected an object whose values are strings"),
    "labels": ("x", "expected an object whose values are strings"),
    "concurrency_key": ("x" * 129, "expected a string of 1 to 128 characters"),
    "each": ("yes", "expected true or false"),
    "tick": ({"script": "s", "time": "soon"}, "expected the time of a tick in UTC"),
    "retry_after": ([], "expected 1 to 100 durations such as"),
    "retry_factor": (0.5, "expected a number from 1 to 1000"),
    "retry_most": ("soon", "expected a duration"),
    "retry_jitter": (-1, "expected a number from 0 to 10"),
    "retry_on": (["an error"], 'expected the name of an exception such as "OSError"'),
    "eta": ("2026-01-31T03:00:00", "expected a time with its offset such as"),
    "traceparent": ("00-1-2-3", "expected a traceparent such as 00-"),
    "on_stop": ("kill", 'expected "cancel" or "requeue", got "kill"'),
    "after": ("before", "expected an array of at most 1000 keys"),
    "after_outcome": ("good", 'expected "ok" or "any", got "good"'),
    "after_results": (1, "expected true or false"),
    "needs_memory": ("much", "expected a size such as"),
    "grace": (True, "expected a duration"),
    "slow_after": ("1 parsec", "expected a duration"),
    "leftover": ("leave", 'expected "kill" or "keep", got "leave"'),
    "results": ("kind", 'expected "strict" or "lenient", got "kind"'),
    "max_running": (-1, "expected a whole number from 0"),
    "max_running_per_key": (0, "expected a whole number from 1"),
    "rate": ("20", 'expected 1 to 10000 in a time such as "20/m"'),
    "rate_per_key": ("0/m", 'expected 1 to 10000 in a time such as "20/m"'),
    "pool": ("a b", "expected a name without spaces and colons"),
    "name": ("a:b", "expected a name without spaces and colons"),
}


def module(**settings: Any) -> None:
    """Make a module with one job, ``echo``, declared with these settings."""
    made = types.ModuleType(MODULE)

    def echo(*given: Any) -> list[Any]:
        return list(given)

    echo.__qualname__, echo.__module__ = "echo", MODULE
    vars(made)["echo"] = job(**settings)(echo)
    sys.modules[MODULE] = made


@pytest.fixture(autouse=True)
def application() -> Iterator[None]:
    module()
    yield
    del sys.modules[MODULE]


@pytest.fixture
def eager(tmp_path: Path) -> Iterator[Callable[[str], Eager]]:
    """Makes an eager client with a pool ``slow`` and a clock that stands at 1000 s; the text goes into the job's settings."""
    made = []

    def make(settings: str = "") -> Eager:
        file = tmp_path / "rocksyd.toml"
        file.write_text(
            f'[apps.app]\npath = "."\njobs = ["{MODULE}"]\n[apps.app.pools.slow]\n[apps.app.jobs_settings.echo]\n{settings}\n'
        )
        made.append(Eager(config=str(file), clock=FakeClock()))
        return made[-1]

    yield make
    for client in made:
        client.close()


def held_after(inside: Eager, name: str, given: dict[str, Any]) -> Any:
    """What the run shows of an option, given with an order that has come as far as the engine."""
    params = [[1], [2]] if name == "each" else [1]
    event = ev.Submit("k", "echo", params, None, given, typed=True)
    answer = inside.inside.order(event)
    assert answer.run is not None, answer.error
    return SAMPLES[name].held(answer.run)


# --- with an order ------------------------------------------------------------------------------------------------------
def test_every_option_has_a_sample_here() -> None:
    assert set(SAMPLES) == set(WRONG) == set(BY_NAME)


def by_jsonrpc(inside: Eager, name: str) -> Any:
    params = {"target": "echo", name: SAMPLES[name].said}
    call = only(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "run", "params": params}).encode())
    assert isinstance(call, Call)
    return held_after(inside, name, submission("k", arguments("run", METHODS["run"], call.params)).options)


def by_classic(inside: Eager, name: str) -> Any:
    request = only(b"run " + json.dumps({"hash": 1, "class": "echo", name: SAMPLES[name].said}).encode())
    assert isinstance(request, ev.Submit)
    return held_after(inside, name, request.options)


def by_client(inside: Eager, name: str) -> Any:
    params = [[1], [2]] if name == "each" else [1]
    given: dict[str, Any] = {name: SAMPLES[name].said}
    with inside.everywhere():
        run = Client().run("echo", params=params, **given)
    return SAMPLES[name].held(inside.inside.runs[run.key])


def by_async_client(inside: Eager, name: str) -> Any:
    params = [[1], [2]] if name == "each" else [1]
    given: dict[str, Any] = {name: SAMPLES[name].said}

    async def order() -> str:
        async with AsyncClient() as client:
            return (await client.run("echo", params=params, **given)).key

    with inside.everywhere():
        key = asyncio.run(order())
    return SAMPLES[name].held(inside.inside.runs[key])


def by_eager_client(inside: Eager, name: str) -> Any:
    params = [[1], [2]] if name == "each" else [1]
    given: dict[str, Any] = {name: SAMPLES[name].said}
    return SAMPLES[name].held(inside.inside.runs[inside.run("echo", params=params, **given).key])


KEYS = {"tick": f"s@{TIME}.3"}


def by_command_line(inside: Eager, name: str) -> Any:
    option, sample = BY_NAME[name], SAMPLES[name]
    words = [f"--{(option.word or option.name).replace('_', '-')}", *([sample.word] if sample.word else [])]
    with inside.everywhere():
        assert (
            run_command(
                ["run", "echo", "--key", KEYS.get(name, "k"), "--params", "[[1], [2]]" if name == "each" else "[1]", *words]
            )
            == 0
        )
    return sample.held(inside.inside.runs[KEYS.get(name, "k")])


WAYS = [by_jsonrpc, by_classic, by_client, by_async_client, by_eager_client, by_command_line]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("name", [option.name for option in said_in(ORDER)])
def test_an_option_of_an_order_holds_whichever_way_it_is_said(
    name: str, way: Callable[[Eager, str], Any], eager: Callable[..., Eager]
) -> None:
    inside = eager()
    if name == "after":
        inside.run("echo", key="before", delay="1h")
    assert way(inside, name) == SAMPLES[name].expected


@pytest.mark.parametrize("name", [option.name for option in said_in(ORDER)])
def test_a_wrong_option_of_an_order_is_refused_by_its_name(name: str, eager: Callable[..., Eager]) -> None:
    value, sentence = WRONG[name]
    answer = eager().inside.order(ev.Submit("k", "echo", [], None, {name: value}))
    assert answer.error is not None
    assert answer.error.code == -32602
    assert answer.error.classic.startswith(f"{name}: {sentence}")


@pytest.mark.parametrize("name", [option.name for option in said_in(ORDER)])
def test_the_schema_refuses_no_more_than_the_conversion(name: str, eager: Callable[..., Eager]) -> None:
    with pytest.raises(RequestError) as caught:
        eager().request("run", {"target": "echo", name: WRONG[name][0]})
    assert str(caught.value).startswith(name)


# --- in the code and in the file ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", [option.name for option in said_in(JOB)])
def test_a_setting_of_a_job_holds_or_is_refused(name: str, eager: Callable[..., Eager]) -> None:
    sample = SAMPLES[name]
    module(**{name: sample.said})
    client = eager()
    run = client.run("other" if name == "name" else "echo", 1, concurrency_key="c")
    assert sample.held(client.inside.runs[run.key]) == sample.expected
    value, sentence = WRONG[name]
    with pytest.raises(JobError, match=f"{name}=.* is wrong: {re.escape(sentence)}"):
        module(**{name: value})


@pytest.mark.parametrize("name", [option.name for option in said_in(TARGET)])
def test_a_setting_in_the_file_holds_or_is_refused(name: str, eager: Callable[..., Eager]) -> None:
    sample = SAMPLES[name]
    client = eager(f"{name} = {json.dumps(sample.said)}")
    run = client.run("echo", 1, concurrency_key="c")
    assert sample.held(client.inside.runs[run.key]) == sample.expected
    value, sentence = WRONG[name]
    with pytest.raises(ConfigError, match=rf"rocksyd.toml:6: apps.app.jobs_settings.echo.{name}: {re.escape(sentence)}"):
        eager(f"{name} = {json.dumps(value)}")


@pytest.mark.parametrize("scope", [ORDER, JOB, TARGET])
def test_what_may_not_be_said_there_is_refused_with_a_sentence(scope: int, eager: Callable[..., Eager]) -> None:
    for option in OPTIONS:
        if option.scope & scope:
            continue
        said = SAMPLES[option.name].said
        if scope == ORDER:
            with pytest.raises(RequestError, match=f"run has no parameter '{option.name}'"):
                eager().request("run", {"target": "echo", option.name: said})
        elif scope == JOB:
            with pytest.raises(JobError, match=f"there is no setting '{option.name}'"):
                module(**{option.name: said})
        else:
            with pytest.raises(ConfigError, match=rf"echo\.{option.name}: unknown key"):
                eager(f"{option.name} = {json.dumps(said)}" if not isinstance(said, dict) else f'{option.name} = {{A = "b"}}')


def test_the_nearest_that_is_said_holds(eager: Callable[..., Eager]) -> None:
    module(timeout="1s", priority=1, retries=1)
    client = eager('timeout = "2s"\npriority = 2')
    run = client.inside.runs[client.run("echo", timeout="3s").key]
    assert (run.order.timeout, run.order.priority, run.order.retries, run.order.grace) == (3.0, 2, 1, 10.0)


def test_a_parameter_of_a_job_may_be_called_as_an_option(eager: Callable[..., Eager]) -> None:
    """On the command line NAME=VALUE is always the job's, and --name always the daemon's."""
    made = types.ModuleType(MODULE)

    def echo(timeout: int) -> int:
        return timeout

    echo.__qualname__, echo.__module__ = "echo", MODULE
    vars(made)["echo"] = job(echo)
    sys.modules[MODULE] = made
    client = eager()
    with client.everywhere():
        assert run_command(["run", "echo", "timeout=5", "--timeout", "7s", "--key", "k"]) == 0
    run = client.inside.runs["k"]
    assert (run.attempt.result, run.order.timeout) == (5, 7.0)


def test_the_page_on_the_declaration_of_jobs_explains_every_setting() -> None:
    page = (Path(__file__).parents[2] / "docs" / "python.md").read_text(encoding="utf-8")
    table = page.partition("<!-- table: job -->")[2].partition("<!-- end -->")[0]
    explained = dict(re.findall(r"^\| `([a-z_]+)` \|[^|]*\| (.*) \|$", table, re.MULTILINE))
    assert set(explained) == {option.name for option in said_in(JOB)}
    assert all(explained.values())
