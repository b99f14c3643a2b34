"""P6: what every version so far has written is read by this one, also with keys that are new to it, or that are not there."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from rocksyd import __version__, config, messages
from rocksyd.core.engine import Engine
from rocksyd.errors import SnapshotError
from rocksyd.journal.search import Filter
from rocksyd.journal.store import Journal
from rocksyd.master.snapshot import parse
from rocksyd.model import ENDED, Now
from rocksyd.posix.channel import memfd, pair
from tests.golden import make
from tests.golden.stage import server

GOLDEN = Path(make.__file__).parent
VERSIONS = sorted(path for path in GOLDEN.iterdir() if (path / "expected.json").exists())
NOW = Now(1000.0, 1.7e9)


@pytest.fixture(params=VERSIONS, ids=lambda path: path.name)
def golden(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


@pytest.fixture
def expected(golden: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((golden / "expected.json").read_text())
    return facts


@pytest.fixture
def settings(golden: Path) -> config.Config:
    return config.parse((golden / "rocksyd.toml").read_text(), "/srv/rocksyd.toml")


def header_of(golden: Path) -> tuple[dict[str, Any], bytes]:
    members, body = parse(memfd("snapshot", (golden / "handover.snapshot").read_bytes()))
    return members, bytes(body)


@contextmanager
def opened(golden: Path, folder: Path) -> Iterator[Journal]:
    path = str(folder / "journal.sqlite")
    with closing(sqlite3.connect(path)) as db:
        db.executescript((golden / "journal.sql").read_text())
    with closing(Journal(path, sync="normal")) as journal:
        yield journal


def with_unknown(value: Any) -> Any:
    """The same with a key that no version knows in every object that has fields (not in those that callers fill)."""
    if isinstance(value, list):
        return [with_unknown(item) for item in value]
    if not isinstance(value, dict):
        return value
    free = ("settings", "counters", "progress", "labels", "env", "jobs", "error", "connections", "listeners")
    more = {name: item if name in free else with_unknown(item) for name, item in value.items()}
    keyed_by_name = value and all(isinstance(item, dict) for item in value.values())
    return more if keyed_by_name else {**more, "added_later": {"x": [1]}}


def test_this_version_is_among_the_golden_ones() -> None:
    assert GOLDEN / __version__ in VERSIONS, "run python -m tests.golden.make before a release"


def test_p6_the_configuration_of_an_older_version_means_the_same(settings: config.Config) -> None:
    app = settings.apps["app"]
    assert (settings.state_dir, settings.max_line, settings.restart.adopt_timeout) == ("/srv/var", 2 * 1024**2, 5.0)
    assert (settings.journal.sync, settings.journal.keep, settings.output.limit) == ("normal", 3 * 86400.0, 16 * 1024**2)
    assert (app.pool.pm, app.pool.max_workers, app.pool.max_jobs_jitter, app.pool.queue_timeout) == ("dynamic", 4, 50, 3600.0)
    assert (app.umask, app.env, app.allow) == (0o027, {"LANG": "C.UTF-8"}, ("shop.reports:*",))
    assert app.jobs_settings["shop.jobs:nightly"]["max_running"] == 1
    assert settings.apps["reports"].pool.idle_timeout == 30.0


def test_p6_the_journal_of_an_older_version_is_read_and_written(golden: Path, expected: dict[str, Any], tmp_path: Path) -> None:
    with opened(golden, tmp_path) as journal:
        live = journal.live()
        assert sorted(run.key for run in live) == expected["live"]
        runs = [*live, *filter(None, map(journal.get, chain(*journal.search(Filter()))))]
        assert {run.key for run in runs} == expected["runs"].keys()
        for run in runs:
            assert expected["runs"][run.key].items() <= run.record().items()
        assert journal.meta("service") == {"generation": 3, "restarts": 2}
        assert journal.restarts() == [{"kind": "restart", "ok": True, "from": 2, "to": 3}]
        journal.commit(runs, [])
        assert [journal.get(run.key) for run in runs] == runs


@pytest.mark.parametrize("change", [lambda data: data, with_unknown], ids=["as_it_is", "with_unknown_keys"])
def test_p6_the_engine_goes_on_from_the_snapshot_of_an_older_version(
    golden: Path, expected: dict[str, Any], settings: config.Config, tmp_path: Path, change: Any
) -> None:
    header = change(header_of(golden)[0])
    with opened(golden, tmp_path) as journal:
        engine = Engine(settings)
        assert engine.restore(journal.live(), header["engine"], NOW) == []
    assert {str(number): worker.state for number, worker in engine.workers.items()} == expected["workers"]
    assert engine.next_deadline() == expected["deadline"]
    assert dict(engine.counters) == expected["counters"]
    assert engine.runs["r1"].attempt.progress == {"done": 1, "total": 2, "note": "half"}
    assert engine.applications["app"].find("job") is not None
    again = Engine(settings)
    again.restore([run for run in engine.runs.values() if run.state != ENDED], json.loads(json.dumps(engine.snapshot())), NOW)
    assert again.snapshot() == engine.snapshot()


def test_p6_every_key_of_the_engines_snapshot_may_be_missing(golden: Path, settings: config.Config, tmp_path: Path) -> None:
    snapshot = header_of(golden)[0]["engine"]
    with opened(golden, tmp_path) as journal:
        for name in snapshot:
            without = {key: value for key, value in snapshot.items() if key != name}
            engine = Engine(settings)
            engine.restore(journal.live(), without, NOW)
            assert len(engine.runs) == len(journal.live())
        for part in ("pools", "applications"):
            for name in snapshot[part]["app"]:
                shortened = json.loads(json.dumps(snapshot))
                del shortened[part]["app"][name]
                Engine(settings).restore(journal.live(), shortened, NOW)


@pytest.mark.parametrize("change", [lambda data: data, with_unknown], ids=["as_it_is", "with_unknown_keys"])
def test_p6_a_master_goes_on_with_what_an_older_version_has_written(
    golden: Path, expected: dict[str, Any], settings: config.Config, tmp_path: Path, change: Any
) -> None:
    """All of it, part after part: connections, who waits, orders, zygotes, the engine."""
    header, body = header_of(golden)
    with opened(golden, tmp_path) as journal, server(settings, list(header["connections"])) as state:
        clients = header["clients"]
        header = change(header)
        header |= {"clients": clients, "connections": {c.name: c.inode for c in state.clients.by_number.values()}}
        state.writing.journal, state.snapshot.shelf = journal, {}
        ours, theirs = pair()
        state.snapshot.shelf["zygote:app@1"] = ours.detach()
        state.snapshot.read(memfd("snapshot", json.dumps(header).encode() + b"\n" + body))
        assert state.snapshot.facts(1000.5) == {"waited_ms": 500.0, "bytes": 47, "from": 1}
        state.snapshot.load()
        assert state.snapshot.shelf == {}
        half, owed, batched = state.clients.by_number.values()
        assert half.connection.buffered == b'check {"hash":1}\ncheck {"ha'
        assert half in state.clients.waiting
        assert (bytes(owed.out), owed.waits) == (b'{"error_text":"OK"}\n', 1)
        assert batched.batches == {4: [1, [b'{"jsonrpc":"2.0","id":1,"result":true}']]}
        assert [waiter.caller.id for waiter in state.waiters.ends["r1"]] == ["id"]
        assert state.waiters.next_deadline() == 1100.0
        assert [follower.offset for follower in state.waiters.followers["r1"]] == [10]
        assert [subscriber.keys for subscriber in state.waiters.subscribers] == [["r1"]]
        current = state.generations.orders.current
        assert current is not None
        assert [requester.client for requester in current.requesters] == [3]
        generations = state.generations
        assert (generations.started_at, generations.restarts, generations.crashes) == (1.7e9, 2, 1)
        assert (state.classic.served, state.stopping.signals, state.stopping.drain_then_stop) == (77, 0, False)
        (zygote,) = state.children.zygotes.values()
        assert (zygote.name, zygote.state, zygote.pid) == ("zygote:app@1", "ready", 4000)
        assert zygote.ready is not None
        assert (zygote.ready.jobs, zygote.ready.allowed) == ({"a": "b"}, ("a", "b"))
        assert {str(worker.number): worker.state for worker in state.engine.workers.values()} == expected["workers"]
        zygote.channel.close()
        theirs.close()


def test_p6_all_that_an_older_version_has_written_is_written_still(golden: Path, settings: config.Config) -> None:
    with server(settings, []) as state:
        written, _ = parse(memfd("snapshot", state.snapshot.dump(1000.0)))
        assert header_of(golden)[0].keys() <= written.keys()


def test_p6_what_a_zygote_has_said_may_lack_what_came_later() -> None:
    assert messages.known(messages.Ready, {"added_later": 1}) == messages.Ready()


def test_p6_messages_of_an_older_version_mean_the_same(golden: Path) -> None:
    for name, fields in json.loads((golden / "messages.json").read_text()):
        heard = messages.decode(json.dumps([name, fields]).encode())
        assert type(heard).__name__ == name
        assert {field: json.loads(json.dumps(value)) for field, value in heard._asdict().items() if field in fields} == fields


@pytest.mark.parametrize(
    "data",
    [b"", b"\n", b"{}\n", b"[]\n", b"null\n", b'{"format":"x"}\n', b"not JSON\n", b"\xff\n", b'{"format":1'],
)
def test_p3_a_snapshot_that_cannot_be_read_is_refused(data: bytes) -> None:
    with pytest.raises(SnapshotError, match="the snapshot cannot be read"):
        parse(memfd("snapshot", data))


def test_p3_a_snapshot_of_a_format_that_is_too_new_is_refused() -> None:
    with pytest.raises(SnapshotError, match=f"has format 2, this version .{__version__}. knows 1"):
        parse(memfd("snapshot", b'{"format":2}\n'))


def test_the_script_that_writes_golden_files_works(tmp_path: Path) -> None:
    make.write(tmp_path / "new")
    assert {path.name for path in (tmp_path / "new").iterdir()} == {path.name for path in (GOLDEN / __version__).iterdir()}
