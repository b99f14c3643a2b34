"""P1, P2, P3, P4, P6, P11 between two real versions: the one before runs got their present shape, and this one, back and forth.

A deploy switches the link to the package's folder and orders a restart; the keeper follows. Whatever one version leaves behind in
the journal, in a snapshot, on the shelf or in a worker's hands is what the other has to go on with.
"""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from rocksyd.testing import Conversation, Daemon, until
from rocksyd.testing.daemon import copy_package
from tests.exec.caller import GATED, Call, kill_master
from tests.exec.stage import CLIENT
from tests.faults.crowd import crowd, traced
from tests.restart import test_clients
from tests.restart.stage import Gate, Unharmed, gate, order, patched, restart
from tests.restart.storm import Storm
from tests.versions import NoHistory, Place, label, unpacked, version

ROUND_TRIPS = 3
JOBS = """
import asyncio, pathlib, sys
from rocksyd import current, job

VERSION = 1

def trace(text, file="ran"):
    with open(file, "a") as opened:
        opened.write(f"{text}\\n")

@job
def version():
    return VERSION

@job
def ends(key, status):
    trace(key)
    sys.exit(status)

@job
def add(a, b):
    trace(a)
    return a + b

@job
def gate(path):
    trace(current().key)
    with open(path) as file:
        print("entered", flush=True)
        return [VERSION, file.read()]

@job
def persists(attempts):
    "Fails until it has been tried so often."
    trace(f"{current().key} {current().attempt}", "attempts")
    if current().attempt < attempts:
        raise ValueError(f"attempt {current().attempt}")
    return current().attempt

@job(pool="shared")
async def meets(path):
    trace(current().key)
    while not pathlib.Path(path).exists():
        await asyncio.sleep(0.01)
    return path

@job(pool="shared")
async def chats(path, number):
    trace(number, "chats")
    while not pathlib.Path(path).exists():
        await asyncio.sleep(0.01)
    return number
"""
POOL = """\
pm = "dynamic"
max_workers = 6
min_spare = 1
max_spare = 2
max_jobs = 20
grace = "30s"

[apps.app.pools.shared]
pm = "ondemand"
max_workers = 10
concurrency = 100
max_jobs = 0
"""


class Versions:
    """A daemon's package that is switched: ``old`` is the version before, ``new`` a copy of this one."""

    def __init__(self, folder: Path) -> None:
        self.old = unpacked(folder / "before")
        self.new = copy_package(folder)
        label(self.new, "now")
        self.place = Place(folder / "installed", self.old)
        self.keepers = 0
        """How often the keeper has replaced itself by the other version."""

    def switch(self) -> None:
        """Let the other one be installed."""
        self.place.switch(self.new if self.place.now == self.old else self.old)

    def begin_with(self, name: str) -> None:
        """Let ``old`` or ``new`` be installed."""
        self.place.switch(getattr(self, name))

    def serving(self, talk: Conversation) -> None:
        """See that what is installed is what serves."""
        assert talk.rpc("stats")["version"] == version(self.place.now)

    def deploy(self, daemon: Daemon) -> None:
        """Switch, restart, and see that the other version serves."""
        self.switch()
        restart(daemon)
        self.serving(daemon.talk())
        self.followed(daemon)

    def followed(self, daemon: Daemon) -> None:
        """Wait until the keeper, too, is of the version that has come to serve.

        A link that is switched while it imports what is behind that would give it half of each version.
        """
        self.keepers += 1
        ready = "the keeper's new code has taken over"
        until(lambda: daemon.log().count(ready) == self.keepers, "the keeper to have followed")


@pytest.fixture
def versions(tmp_path: Path) -> Versions:
    folder = tmp_path / "versions"
    folder.mkdir()
    return Versions(folder)


class Chats:
    """Calls without a key, all under way at the same time on one connection: nobody but who waits there can ask for them."""

    def __init__(self, daemon: Daemon, folder: Path) -> None:
        self.daemon = daemon
        self.talk = daemon.talk()
        self.over = folder / "over"
        self.asked = 0

    def more(self, count: int) -> None:
        """So many more, and wait until they have begun."""
        numbers = range(self.asked, self.asked + count)
        self.talk.send(*(order("call", n, target="chats", params=[str(self.over), n]) for n in numbers))
        self.asked += count
        until(lambda: len(traced(self.daemon, "chats")) == self.asked, "the calls to have begun")

    def end(self) -> None:
        """Each is answered once, and each has run once."""
        self.over.touch()
        replies = [json.loads(self.talk.line()) for _ in range(self.asked)]
        assert sorted(reply["id"] for reply in replies) == list(range(self.asked))
        assert all(reply["result"]["result"] == reply["id"] for reply in replies), replies
        assert set(traced(self.daemon, "chats").values()) == {1}


class Under:
    """What is under way all the time, besides a storm of clients: one of each kind of run that outlives restarts."""

    def __init__(self, daemon: Daemon, folder: Path, stack: ExitStack) -> None:
        self.daemon = daemon
        self.keys: Counter[str] = Counter()
        self.talk = daemon.talk()
        self.waiter = daemon.talk()
        self.long: Gate = stack.enter_context(gate(folder, "long"))
        self.meeting = folder / "meeting"
        (folder / "script.py").write_text(GATED)
        self._run("gate", "long", [str(self.long.path)])
        self._run("meets", "shared-1", [str(self.meeting)])
        self._run("meets", "shared-2", [str(self.meeting)])
        self.talk.rpc("run", target="version", key="tomorrow", delay="1d", labels={"why": "waits"}, priority=7)
        self.talk.rpc("run", target="persists", key="retried", params=[3], retries=5)
        self.long.wait_entered()
        until(lambda: {"shared-1", "shared-2"} <= traced(daemon).keys(), "those that meet to have begun")
        self.waiter.send(order("wait", 1, key="long"))
        self.script = stack.enter_context(Call(f"{CLIENT} {folder}/script.py", daemon, folder))
        assert self.script.line() == "begun"

    def _run(self, target: str, key: str, params: list[Any]) -> None:
        self.talk.rpc("run", target=target, key=key, params=params)
        self.keys[key] += 1

    def later(self, number: int) -> None:
        """One version is given a run that waits, and the next one, or the one after it, has to begin it."""
        key = str(90_000_000 + number)
        self._run("add", key, [int(key), 1])  # ends in the version that was told, or the next
        key = str(91_000_000 + number)
        self.talk.rpc("run", target="add", key=key, params=[int(key), 1], delay="400ms")
        self.keys[key] += 1

    def look(self) -> None:
        """What does not change does not change."""
        tomorrow = self.talk.rpc("status", key="tomorrow")
        assert (tomorrow["state"], tomorrow["labels"], tomorrow["priority"]) == ("waiting", {"why": "waits"}, 7)
        for key in ("long", "shared-1", "shared-2"):
            record = self.talk.rpc("status", key=key)
            assert (record["state"], record["attempt"], record["generation"]) == ("running", 1, 1), record

    def end(self) -> None:
        """Let all of it end, and see that it ended as it should."""
        for key in self.keys:
            if key.isdigit():
                assert self.talk.rpc("wait", key=key)["result"] == int(key) + 1
        retried = self.talk.rpc("wait", key="retried")
        assert (retried["result"], retried["attempt"]) == (3, 3)
        assert self.daemon.app.joinpath("attempts").read_text().split("\n") == [*(f"retried {n}" for n in range(1, 4)), ""]
        self.meeting.touch()
        assert self.talk.rpc("wait", key="shared-1")["result"] == self.talk.rpc("wait", key="shared-2")["result"]
        self.long.open("at last")
        assert json.loads(self.waiter.line())["result"]["result"] == [1, "at last"]
        assert self.script.end("yes\n") == (3, "through yes\n", "")
        assert self.talk.rpc("terminate", key="tomorrow")
        assert self.talk.rpc("status", key="tomorrow")["outcome"] == "cancelled"


@pytest.mark.timeout(300)
@pytest.mark.long
def test_p1_p2_p6_three_times_to_this_version_and_back_nothing_is_lost_under_load(tmp_path: Path, versions: Versions) -> None:
    with ExitStack() as stack:
        daemon = stack.enter_context(Daemon(tmp_path, JOBS, parts={"pool": POOL}, package=versions.place.path))
        client = stack.enter_context(daemon.client())
        listener = test_clients.Listener(client)
        stack.enter_context(crowd(1, listener.listen))
        stack.callback(lambda: client.run("version", key="last"))
        under = Under(daemon, tmp_path, stack)
        chats = Chats(daemon, tmp_path)
        storm = Storm(daemon.connect, clients=30, seed=8)
        stack.callback(storm.close)
        for number in range(2 * ROUND_TRIPS):
            under.later(number)
            chats.more(10)
            versions.switch()
            storm.blow(1)
            versions.serving(under.talk)
            under.look()
            versions.followed(daemon)
        assert versions.place.now == versions.old
        storm.calm()
        for key, status in storm.expected.items():
            assert under.talk.rpc("wait", key=key)["retcode"] == status, key
        under.end()
        chats.end()
        stats = under.talk.rpc("stats")
        assert (stats["restart_count"], stats["crashes"], stats["dropped_connections"]) == (2 * ROUND_TRIPS, 0, 0)
        expected = Counter(dict.fromkeys(storm.expected, 1)) + under.keys
        assert traced(daemon) == expected
        client.run("version", key="last")
        until(lambda: listener.count("run.ended")["last"], "the subscriber to have heard of the last one")
        heard = listener.count("run.ended")
        assert {key: heard[key] for key in expected} == expected
        assert len(storm.expected) > 10 * ROUND_TRIPS


@pytest.mark.timeout(300)
@pytest.mark.long
def test_p1_p6_every_kind_of_client_goes_on_over_both_versions_and_hears_of_everything_once(
    tmp_path: Path, versions: Versions
) -> None:
    jobs, parts = test_clients.JOBS, {"pool": test_clients.POOL}
    with (
        Daemon(tmp_path, jobs, parts=parts, package=versions.place.path) as daemon,
        test_clients.at_work(daemon) as (callers, _),
    ):
        for _ in range(2 * ROUND_TRIPS):
            before = Counter(callers.called)
            versions.deploy(daemon)
            until(lambda: all(callers.called[kind] > before[kind] for kind in before), "all to go on")  # noqa: B023


@contextmanager
def begun(folder: Path, versions: Versions, first: str) -> Iterator[tuple[Daemon, Under]]:
    """A daemon of version ``first`` with runs under way."""
    versions.begin_with(first)
    with ExitStack() as stack:
        daemon = stack.enter_context(Daemon(folder, JOBS, parts={"pool": POOL}, package=versions.place.path))
        yield daemon, Under(daemon, folder, stack)


@pytest.mark.parametrize("first", ["old", "new"])
def test_p2_p11_the_other_version_is_killed_right_after_it_has_taken_over(tmp_path: Path, versions: Versions, first: str) -> None:
    with begun(tmp_path, versions, first) as (daemon, under):
        quiet = daemon.talk()
        quiet.rpc("stats")
        daemon.wait_shelved(2)
        versions.switch()
        under.later(0)
        under.talk.send("restart")
        assert json.loads(under.talk.line()) == {"error_text": "Restarted successfully"}
        kill_master(daemon)
        versions.followed(daemon)
        under.talk, under.waiter = daemon.talk(), daemon.talk()
        under.waiter.send(order("wait", 1, key="long"))
        versions.serving(quiet)
        under.look()
        under.later(1)
        versions.switch()  # and back, from what the journal and the workers have said
        restart(daemon)
        kill_master(daemon)
        versions.followed(daemon)
        under.talk, under.waiter = daemon.talk(), daemon.talk()
        under.waiter.send(order("wait", 1, key="long"))
        under.look()
        under.end()
        stats = under.talk.rpc("stats")
        assert (stats["restart_count"], stats["crashes"]) == (2, 2)
        assert traced(daemon) == under.keys


BROKEN = {
    "while it prepares": ("_listen", "_listen", "status 5 before it said PREPARED"),
    "when it begins to take over": ("_take_over", "_take_over", "status 5 before it said ADOPTED"),
    "when it has read journal and snapshot": ("_load_header", "_load_snapshot", "status 5 before it said ADOPTED"),
}
"""What the step is called in the version before and in this one, and the reason that is given."""


@pytest.mark.parametrize("what", BROKEN)
@pytest.mark.parametrize("first", ["old", "new"])
def test_p3_p4_the_other_version_fails_and_the_one_that_serves_goes_on(
    tmp_path: Path, versions: Versions, first: str, what: str
) -> None:
    before, now, expected = BROKEN[what]
    versions.begin_with(first)
    other, method = {"old": (versions.new, now), "new": (versions.old, before)}[first]
    with (
        Daemon(tmp_path, JOBS, parts={"pool": POOL}, package=versions.place.path) as daemon,
        Unharmed(daemon, tmp_path) as unharmed,
    ):
        with patched(other, method, "os._exit(5)"):
            versions.switch()
            unharmed.refused([expected])
            versions.switch()
        talk = daemon.talk()
        versions.serving(talk)
        restart(daemon)  # the same version once more, with the journal as it is now
        versions.serving(talk)
        versions.switch()  # and what was broken is mended
        unharmed.repaired()
        versions.serving(talk)


def test_without_the_history_the_reason_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(NoHistory, match=r"git fetch --unshallow"):
        unpacked(tmp_path, "0" * 40)


def test_p6_each_version_starts_with_what_the_other_left(tmp_path: Path, versions: Versions) -> None:
    ended: dict[str, Any] = {}
    daemon = Daemon(tmp_path, JOBS, parts={"pool": 'pm = "static"\nmax_workers = 1'}, package=versions.place.path)
    with daemon:
        for number in range(2 * ROUND_TRIPS):
            with gate(tmp_path, f"gate {number}") as held:
                talk = daemon.talk()
                versions.serving(talk)
                for key, record in ended.items():
                    assert {name: talk.rpc("status", key=key)[name] for name in record} == record
                talk.rpc("run", target="gate", key=f"ran {number}", params=[str(held.path)])
                held.wait_entered()
                talk.rpc("run", target="add", key=f"waits {number}", params=[number, 1])
                daemon.stop(signal.SIGTERM)
            versions.switch()
            daemon.start()
            talk = daemon.talk()
            assert talk.rpc("wait", key=f"waits {number}")["result"] == number + 1
            for key in (f"ran {number}", f"waits {number}"):
                record = talk.rpc("status", key=key)
                ended[key] = {name: record[name] for name in ("outcome", "retcode", "signal", "result", "attempt", "target")}
        outcomes = Counter(record["outcome"] for record in ended.values())
        assert outcomes == {"cancelled": 2 * ROUND_TRIPS, "ok": 2 * ROUND_TRIPS}
        assert talk.rpc("stats")["generation"] == 2 * ROUND_TRIPS + 1
