"""The acts: what is done to the daemon, and what must be true afterwards.

What must live here: the order of things, and every claim.
What this file must not know: sockets, files, colours.
"""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass
from typing import Any

from demo.load import Load, Quiet, Tally
from demo.screen import Screen
from demo.stage import Stage, StageError, own, resident
from rocksyd.client import Run
from rocksyd.errors import JobFailed, NoDaemon, NotNow

LAUNCHES = 60
BURST = 100
WORKING = 4
RESTARTS = 3
BEGUN = 20
REQUESTS = 1500
"""That have to be answered before and after the master is killed."""

SYNTAX_ERROR = "\n\ndef next_quarter(:\n    return None\n"
SMOKE_FAILS = """


def smoke() -> None:
    raise LookupError("no price list for 2027 yet")
"""


@dataclass
class Cast:
    """Everybody on the stage."""

    stage: Stage
    load: Load
    quiet: Quiet
    work: Work


@dataclass
class Outcome:
    """What one act cost."""

    tally: Tally
    wrong: int
    kept: str
    working: str


class Work:
    """Jobs that run from here to the end of the demonstration, whatever happens to the daemon."""

    def __init__(self, stage: Stage) -> None:
        self._client = stage.client()
        self._folder = stage.folder
        self.runs: list[Run] = [self._client.run("work", key=f"work-{number}") for number in range(WORKING)]
        deadline = time.monotonic() + 30
        while (pids := self.pids()) is None or len(pids) < WORKING:
            if time.monotonic() > deadline:
                raise StageError("the jobs do not start")
            time.sleep(0.01)
        self.first = pids

    def pids(self) -> list[int] | None:
        """The processes they run in; None while not all of them run."""
        records = [run.status() for run in self.runs]
        return [record["pid"] for record in records] if all(record["state"] == "running" for record in records) else None

    def unharmed(self) -> int:
        """How many of them still run in the process they began in."""
        pids = self.pids() or []
        return sum(pid == first and os.path.exists(f"/proc/{pid}") for pid, first in zip(pids, self.first, strict=False))

    def finish(self) -> list[dict[str, Any]]:
        """Let them end; returns what they said."""
        (self._folder / "enough").touch()
        return [run.result(30) for run in self.runs]

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def during(screen: Screen, load: Load | None, text: str, call: Callable[[], Any]) -> Any:
    """Carry out ``call``; on a terminal say meanwhile that it is under way."""
    with ThreadPoolExecutor(1) as pool:
        future: Future[Any] = pool.submit(call)
        while True:
            try:
                return future.result(0.1)
            except NotYet:
                screen.live(f"{text} … {load.total:,} requests answered" if load else f"{text} …")


# --- 1 ----------------------------------------------------------------------------------------------------------------
def start(screen: Screen, stage: Stage) -> None:
    """The application is loaded once."""
    screen.act(
        "Load once", "A Django shop with pandas and SQLAlchemy. The daemon imports it, once; every job will be a fork of that."
    )
    stage.deploy()
    during(screen, None, "making the shop's database", stage.make_database)
    cold = during(screen, None, "loading the shop in an interpreter of its own, to compare", stage.cold_start)
    seconds = during(screen, None, "starting the daemon", stage.start)
    screen.fact("a fresh interpreter loads the shop in", ms(cold))
    screen.fact("the daemon was started, loaded and ready in", ms(seconds))
    with stage.client() as client:
        health, stats = client.request("health"), client.stats()
        screen.claim("it says that it is well", health["ok"] is True, f"generation {health['generation']}")
        zygote = next(iter(health["zygotes"].values()))
        sizes = [resident(pid) for pid in (stats["pid"], stats["master_pid"], zygote["pid"])]
        screen.fact("memory: keeper, master, the loaded shop", ", ".join(mb(size) for size in sizes))


# --- 2 ----------------------------------------------------------------------------------------------------------------
def jobs(screen: Screen, stage: Stage) -> None:
    """Launching, and every kind of end."""
    screen.act(
        "Fork every job",
        "Each of these is a process of its own with the whole shop in it, and in the journal on disk before it is accepted.",
    )
    with stage.client() as client:
        moments = during(screen, None, f"{LAUNCHES} jobs one after another", lambda: [_launch(client) for _ in range(LAUNCHES)])
        pair = f"{ms(statistics.median(moments))}, {ms(max(moments))}"
        screen.fact("from the order to the job's first line: median, slowest", pair)
        began = time.monotonic()
        calls = [("run", {"target": "count_orders", "key": f"burst-{number}"}) for number in range(BURST)]
        client.requests(calls)
        ended = during(screen, None, f"{BURST} jobs at once", lambda: list(client.wait(*[call["key"] for _, call in calls])))
        spent = time.monotonic() - began
        good = sum(record["outcome"] == "ok" and record["result"] >= 0 for record in ended)
        screen.claim(f"{BURST} jobs at once, each asks the database", good == BURST, f"{good} ok, {BURST / spent:.0f} a second")
        sleeper = client.run("sleep", 60, key="sleeper")
        pid = _running(sleeper)
        screen.fact("memory of one job: all it sees, all it costs", f"{mb(resident(pid))}, {mb(own(pid))}")
        os.kill(pid, signal.SIGKILL)
        record = sleeper.wait(30)
        screen.claim("killed by SIGKILL: told as what it is", record["retcode"] == 137 and record["signal"] == 9, _ending(record))
        record = client.run("leave", 3).wait(30)
        screen.claim("sys.exit(3)", record["retcode"] == 3 and record["outcome"] == "failed", _ending(record))
        screen.claim("an exception", *_exception(client))
        record = client.run("sleep", 60, key="late", timeout="200ms").wait(30)
        screen.claim("longer than its timeout", record["reason"] == "timeout", _ending(record))


def _launch(client: Any) -> float:
    began = time.monotonic()
    _, first_line = client.call("beginning")
    return float(first_line) - began


def _running(run: Run) -> int:
    """The process of a run that has printed something: one that is killed before its first line is run by another worker."""
    deadline = time.monotonic() + 30
    while (record := run.status())["state"] != "running" or not any(run.logs()):
        if time.monotonic() > deadline:
            raise StageError("the job does not start")
        time.sleep(0.005)
    return int(record["pid"])


def _ending(record: dict[str, Any]) -> str:
    return f"{record['outcome']}, retcode {record['retcode']}"


def _exception(client: Any) -> tuple[bool, str]:
    try:
        client.call("broken")
    except JobFailed as error:
        text = str(error).rpartition("failed: ")[2]
        return text == "RuntimeError: this job always fails", text
    return False, "no error"


# --- 3 ----------------------------------------------------------------------------------------------------------------
def restarts(screen: Screen, cast: Cast) -> Outcome:
    """New code, three times."""
    stage, load = cast.stage, cast.load
    quiet = f"{len(cast.quiet.sockets)} connections are quiet ({BEGUN} of them with half a request sent)"
    text = f"{len(load.askers)} clients keep asking, {quiet}, {WORKING} jobs work. Three deploys, each a `rocksyd restart`."
    screen.act("Restart under load", text)
    with stage.client() as client:
        before = client.stats()
        load.take()
        begun = cast.quiet.begin(BEGUN)
        reached = []
        for number in range(RESTARTS):
            folder = stage.deploy()
            during(screen, load, f"restart {number + 1} of {RESTARTS}", client.restart)
            release, _ = client.call("beginning")
            reached.append(release == folder.name)
        finished = cast.quiet.finish(begun)
        after = client.stats()
        records = after["restarts"][:RESTARTS][::-1]
        screen.claim("new jobs run the new code", all(reached), stage.current.name)
        taken = [record["waited_ms"] for record in records]
        screen.fact("nobody was served for", ", ".join(f"{value:.1f}" for value in taken) + " ms")
        screen.fact(
            "loading the new code meanwhile took", ", ".join(f"{record['took_ms'] / 1000:.1f}" for record in records) + " s"
        )
        screen.fact("handed over each time", f"{records[-1]['connections']} connections, {records[-1]['jobs']} workers")
        carried = [record["bytes"] for record in records]
        screen.claim(
            "half requests sent before, finished after",
            finished == BEGUN and min(carried) > 0,
            f"{finished} of {BEGUN}, {carried[0]} bytes",
        )
        outcome = _seen(screen, cast, client)
        same = after["pid"] == before["pid"] and after["master_pid"] != before["master_pid"]
        screen.claim(
            "the same service, another master",
            same and after["generation"] == before["generation"] + RESTARTS,
            f"PID {after['pid']}",
        )
    return outcome


def _seen(screen: Screen, cast: Cast, client: Any) -> Outcome:
    """What holds in every act."""
    tally = cast.load.take()
    alive, working = cast.quiet.alive(), cast.work.unharmed()
    lost = [record for record in client.wait(*tally.runs) if record["outcome"] != "ok"] if tally.runs else []
    executions = cast.load.executions()
    odd = [number for number in tally.runs if executions[number] != 1]
    screen.fact("longest wait of any request", ms(tally.longest))
    screen.claim(
        "replies lost, repeated or out of order",
        not tally.wrong and tally.answered > 0,
        f"{len(tally.wrong)} of {tally.answered:,}",
    )
    if tally.wrong:
        screen.quote("\n".join(tally.wrong[:3]))
    if tally.runs:
        screen.claim(
            "runs accepted meanwhile, each ran once",
            not lost and not odd,
            f"{len(tally.runs) - len(lost) - len(odd)} of {len(tally.runs)}",
        )
    quiet = len(cast.quiet.sockets)
    screen.claim("quiet connections still there", alive == quiet, f"{alive} of {quiet}")
    screen.claim("jobs that were running still are", working == WORKING, f"{working} of {WORKING}")
    return Outcome(tally, len(tally.wrong) + len(lost) + len(odd), f"{alive}/{quiet}", f"{working}/{WORKING}")


# --- 4 ----------------------------------------------------------------------------------------------------------------
def broken_code(screen: Screen, cast: Cast) -> Outcome:
    """Code that cannot serve does not get to."""
    stage, load = cast.stage, cast.load
    screen.act(
        "Deploy broken code",
        "Two bad deploys under the same load: one that does not compile, one that does not pass its own smoke check.",
    )
    good = stage.current
    with stage.client() as client:
        before = client.stats()
        load.take()
        for what, name, text, expected in (
            ("a syntax error is refused, with its place", "shop/jobs.py", SYNTAX_ERROR, ("SyntaxError", "shop/jobs.py")),
            ("a failed smoke check is refused", "shop/checks.py", SMOKE_FAILS, ("LookupError", "2027")),
        ):
            stage.deploy({name: text})
            reason = during(screen, load, "restarting to broken code", lambda: _refusal(client))
            screen.claim(what, all(word in reason for word in expected), "refused" if reason else "served!")
            screen.quote(_gist(reason, str(stage.folder)))
        stage.switch(good)
        after = client.stats()
        release, _ = client.call("beginning")
        unchanged = all(after[name] == before[name] for name in ("pid", "master_pid", "generation"))
        screen.claim("nothing has changed", unchanged and release == good.name, f"generation {after['generation']}, {release}")
        return _seen(screen, cast, client)


def _refusal(client: Any) -> str:
    try:
        client.restart()
    except NotNow as error:
        return str(error)
    return ""


def _gist(reason: str, folder: str) -> str:
    """The first line, and the last ones of the traceback, with short paths."""
    lines = [line for line in reason.replace(f"{folder}/", "").splitlines() if line.strip() and not line.startswith("Traceback")]
    return "\n".join([lines[0], *lines[max(1, len(lines) - 4) :]])


# --- 5 ----------------------------------------------------------------------------------------------------------------
def kill_master(screen: Screen, cast: Cast) -> Outcome:
    """The worst."""
    stage, load = cast.stage, cast.load
    screen.act("kill -9 the master", "The process that has all connections and the table of all jobs, in the middle of its work.")
    with stage.client() as client:
        before = client.stats()
        load.take()
        load.may_close = True
        during(screen, load, "in the middle of its work", lambda: load.wait(REQUESTS))
        began = time.monotonic()
        os.kill(before["master_pid"], signal.SIGKILL)
        after = during(screen, load, "a new master is on its way", lambda: _another(client, before["master_pid"]))
        seconds = time.monotonic() - began
        screen.fact("until another one answered", ms(seconds))
        same = after["pid"] == before["pid"] and after["crashes"] == before["crashes"] + 1
        screen.claim(
            "the same service, a new master", same and after["master_pid"] != before["master_pid"], f"PID {after['pid']}"
        )
        during(screen, load, "the new master at work", lambda: load.wait(REQUESTS))
        release, _ = client.call("beginning")
        screen.claim("new jobs run the code that was serving", release == stage.current.name, release)
        outcome = _seen(screen, cast, client)
        busy = len(load.askers)
        closed = outcome.tally.closed
        screen.claim("closed in the middle of a request, which was repeated", closed <= busy, f"{closed} of {busy}")
        load.may_close = False
    return outcome


def _another(client: Any, pid: int) -> dict[str, Any]:
    """What the next master says of itself."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            stats: dict[str, Any] = client.stats()
        except NoDaemon:
            continue
        if stats["master_pid"] != pid:
            return stats
    raise StageError("no other master")


# --- 6 ----------------------------------------------------------------------------------------------------------------
def the_end(screen: Screen, cast: Cast) -> None:
    """The jobs that ran through it all."""
    screen.act("The end", f"The {WORKING} jobs that began before all that are told that it is enough. Then the daemon stops.")
    said = during(screen, cast.load, "waiting for the jobs", cast.work.finish)
    cast.work.close()
    screen.claim("they ended well, in the code they began with", all(one["release"] == "release-1" for one in said), "release-1")
    pids = [one["pid"] for one in said] == cast.work.first
    screen.claim("each in one process from first to last", pids, f"{sum(one['steps'] for one in said):,} steps of 20 ms")
    screen.fact("longest time one of them stood still", ms(max(one["longest"] for one in said)))


def stop(screen: Screen, stage: Stage) -> None:
    """An orderly stop."""
    process = stage.process
    assert process is not None
    began = time.monotonic()
    with stage.client() as client:
        during(screen, None, "stopping", client.stop)
    status = process.wait(30)
    screen.claim("it stops in order, exit status 0", status == 0, ms(time.monotonic() - began))


def nothing_left(screen: Screen, stage: Stage) -> None:
    """Nothing stays."""
    left = stage.left() + ([str(stage.folder)] if stage.folder.exists() else [])
    screen.claim("left behind: no process, no file", not left, "nothing" if not left else ", ".join(left))


def summary(*outcomes: Outcome) -> Sequence[Sequence[str]]:
    """All acts in one table."""
    return (
        ("requests answered", *(f"{one.tally.answered:,}" for one in outcomes)),
        ("longest wait of any", *(ms(one.tally.longest) for one in outcomes)),
        ("quiet connections kept", *(one.kept for one in outcomes)),
        ("running jobs kept", *(one.working for one in outcomes)),
        ("requests repeated by the client", *(str(one.tally.closed) for one in outcomes)),
        ("lost", *(str(one.wrong) for one in outcomes)),
    )


def ms(seconds: float) -> str:
    """``4.1 ms``, ``1.20 s``."""
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.0995 else f"{seconds * 1000:.1f} ms"


def mb(size: int) -> str:
    """``190 MB``."""
    return f"{size / 1e6:.0f} MB" if size >= 9.95e6 else f"{size / 1e6:.1f} MB"
