"""docs/limits.md names every bound there is, with the number that the code has."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from rocksyd import bounds, model, options, retrying, shapes, surroundings, ticks, units
from rocksyd.companions import generation_methods, generation_store, history, outbox, pages
from rocksyd.config import Config, OutputConfig, PoolConfig, scripts
from rocksyd.config.check import MAX_FILE, MAX_TOKEN
from rocksyd.config.setting import declared
from rocksyd.config.settings import INSTANCES
from rocksyd.core import costs, deadlines, durations, outcome, state, supervision
from rocksyd.journal import care, file, repair
from rocksyd.master import turn
from rocksyd.master.desk import clients, forwarding, lists, news, rpc, waiters
from rocksyd.master.records import slowlog, writing
from rocksyd.master.staff import left_behind, stacks, workers
from rocksyd.posix import log
from rocksyd.schedule import consumer, generation
from rocksyd.wire import jsonrpc
from rocksyd.worker import results, tracing
from rocksyd.zygote import discovery, revision, signatures

PAGE = (Path(__file__).parents[2] / "docs" / "limits.md").read_text()
TABLE = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|", PAGE.partition("## Sizes")[2].partition("| --- |")[2], re.M))
"""What -> its bound."""
DAYS = 365 * 86400


def size(count: int) -> str:
    return f"{count >> 20} MiB" if count >= 1 << 20 else f"{count >> 10} KiB"


def number(count: int) -> str:
    return f"{count:,}" if count >= 10_000 else str(count)


BOUNDS = {
    "a request line": ["`max_line`", size(Config.max_line)],
    "requests of a client that wait to be served": [size(clients.MOST_AHEAD)],
    "connections": ["`max_connections`", number(Config.max_connections)],
    "a run's key": [f"{options.MAX_KEY} characters"],
    "a duration": ["a century"] if units.MAX_DURATION == 100 * DAYS else [],
    "the target that is named": [f"{bounds.TARGET} characters"],
    "`params`, results": [f"{shapes.MAX_PARAMS} levels", f"{results.MAX_DEPTH} levels", f"a request {shapes.MAX_DEPTH}"],
    "`labels` of a run": [size(bounds.LABELS)],
    "`env` of a run": [size(bounds.ENVIRONMENT)],
    "a result": [size(bounds.RESULT)],
    "an error's type, message, traceback": [f"{bounds.NAME} characters", size(bounds.MESSAGE), size(bounds.TRACEBACK)],
    "an error's `args`": [f"{bounds.MOST_ARGS} numbers", f"{number(bounds.ARGS)} characters"],
    "the note of a progress": ["1000 characters", str(bounds.SENTENCE)],
    "earlier attempts that a record keeps": [str(model.EARLIER_MOST), f"{model.ERROR_MOST} characters"],
    "a message from a worker": [size(bounds.FROM_WORKER)],
    "what is heard of one worker in a turn": [f"{workers.MESSAGES_A_TURN} messages", size(workers.BYTES_A_TURN)],
    "why an application cannot be loaded": ["message and traceback as above"],
    "a line of the log": [f"{log.PIPE_BUF} bytes"],
    "replies that a client does not take": [size(clients.MOST_OWED)],
    "replies that one connection waits for (`wait`, `call`)": [number(rpc.MOST_WAITS)],
    "the output of runs that a client follows": [size(news.MOST_OUTPUT)],
    "requests under way with one companion": [str(forwarding.MOST), size(forwarding.MOST_BYTES), size(forwarding.MOST_ANSWERED)],
    "the surroundings of a script (`rocksyd exec`)": [size(surroundings.MOST)],
    "`slow.log`": [size(slowlog.LIMIT)],
    "`rocksyd.toml`": [size(MAX_FILE)],
    "`params` of all runs that wait for a pool": ["`max_queue_bytes`", f"{PoolConfig().max_queue_bytes >> 20} MB"],
    "`params` of a run in memory": [size(bounds.LARGE)],
    "runs that wait for a pool": ["`max_queue`", number(PoolConfig().max_queue)],
    "ended runs in memory": [str(state.ENDED_CACHE), size(bounds.LARGE), size(bounds.LARGE_ENDED)],
    "keys in `after`": [f"{options.AFTER:,}"],
    "jobs of a [generation](generations.md)": [
        number(generation.JOBS_MOST),
        size(ticks.JOB_MOST),
        number(generation_methods.AT_ONCE),
    ],
    "results that are kept with a generation": [size(generation_store.RESULT_MOST)],
    "attempts that a job asks for (`raise Retry`), where `retries` is 0": [str(outcome.ASKED_MOST)],
    'how often a run with `on_stop = "requeue"` waits again as the same attempt': [str(state.INTERRUPTIONS)],
    "steps of `retry_after`, kinds in `retry_on`, beginnings in the period of a `rate`": [
        f"{retrying.STEPS}, {retrying.KINDS}, {number(retrying.STARTS)}",
    ],
    "spans of a worker that wait to be sent": [str(tracing.MOST)],
    "instances of a consumer": [str(INSTANCES)],
    "what a queue may say in its `depth`": [f"10^{math.log10(consumer.MOST_WAITING):.0f}", f"{consumer.DEPTH_TIMEOUT:.0f} s"],
    "parameters of a run with `each`": [number(bounds.EACH)],
    "a batch of JSON-RPC": [f"{jsonrpc.MAX_BATCH} requests", size(rpc.MOST_REPLIED)],
    "a `list`": ["1000 records", size(lists.MOST), f"{turn.SHARE * 1000:.0f} ms"],
    "news that are owed to a subscriber": [size(news.MOST_NEWS)],
    "what a subscriber hears that it has missed (`position`)": [number(news.MOST_MISSED), str(news.MISSED_AT_ONCE)],
    "what becomes due by time (`timeout`, `start_within`, `delay`) in a turn": [str(deadlines.AT_ONCE)],
    "callers that are told in a turn of a run's end, or that they have waited long enough": [str(waiters.TOLD_AT_ONCE)],
    "what is served of one client in a turn": [f"{turn.SHARE * 1000:.0f} ms"],
    "a lock of another program on the journal": [f"{file.LOCK_WAIT} ms"],
    "rows that [`rocksyd journal repair`](operations.md#backup) looks for one by one between what is damaged": [
        number(repair.MOST_BETWEEN)
    ],
    "problems of one sort that `rocksyd journal check` names": [str(care.MOST)],
    "the targets and scripts whose costs are learned": [str(costs.MOST)],
    "the targets of all pools that have times of their own in the [metrics](metrics.md)": [str(durations.MOST)],
    "gauges of an application, the name of one": [str(supervision.MOST_GAUGES), f"{supervision.MOST_GAUGE_NAME} characters"],
    "a job's documentation, the members of an `Enum` in its schema": [
        f"{discovery.MOST_DOC} characters",
        str(signatures.MOST_CHOICES),
    ],
    "the revision of an application": [f"{revision.MOST} characters"],
    "the stacks of a run": [size(stacks.MOST), f"{stacks.PATIENCE:g} s"],
    "jobs of a list that is described by numbers; a script's name": [number(scripts.LIST_MOST), f"{ticks.NAME_MOST} characters"],
    "alerts that wait for one receiver": [str(outbox.MOST)],
    "an answer of [history](history.md); the failures that are looked at for `errors`, unless `limit` says otherwise": [
        size(history.MOST),
        number(history.LOOKED_AT),
    ],
    "who asks the page of [metrics](metrics.md) at the same time; the head of a request": [str(pages.MOST), size(pages.MAX_HEAD)],
    "requests to the [gateway](gateway.md#bounds) and its streams": ["a table of their own"],
    "the file of a token": [f"{MAX_TOKEN} bytes"],
    "processes listed that runs have left behind": [str(left_behind.MOST)],
    "what a run prints": ["`output.limit`", f"{OutputConfig().limit >> 20} MB"],
}


@pytest.mark.parametrize("what", sorted({*BOUNDS, *TABLE}))
def test_each_row_has_the_numbers_of_the_code(what: str) -> None:
    assert what in BOUNDS, "a row that nothing is held against"
    assert BOUNDS[what]
    for words in BOUNDS[what]:
        assert words in TABLE[what]


def test_every_bound_is_held_against_the_page() -> None:
    source = Path(__file__).read_text()
    for name in vars(bounds):
        if name.isupper() and not name.startswith("_") and name != "TYPE_CHECKING":
            assert f"bounds.{name}" in source, f"bounds.{name} is on no row of docs/limits.md"
    assert f"after {writing.LOCKED_LONG:g} s new runs are refused" in PAGE


def test_every_setting_that_limits_is_on_the_page_or_in_the_settings_it_leads_to() -> None:
    there = {name for kind in (PoolConfig, Config) for name in declared(kind)}
    of_time_and_memory = {"timeout", "grace", "queue_timeout", "slow_after", "write_timeout", "leftover"}
    of_size = {name for name in there if name.startswith("max_")} - {
        "max_workers", "max_spare", "max_age", "max_age_jitter", "max_jobs_jitter"
    }  # fmt: skip
    for name in of_time_and_memory | of_size:
        assert f"`{name}`" in PAGE or f"{name} = " in PAGE, name
