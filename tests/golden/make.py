"""Write what this version writes into a folder of its own, for every later version to read (promise P6).

    python -m tests.golden.make [FOLDER]

Run once for each release, before it is published; what is there for older ones is never changed. The folder gets

* ``rocksyd.toml``: every setting there is
* ``journal.sql``: a journal, as SQL
* ``handover.snapshot``: what an old master hands to a new one
* ``messages.json``: every message between processes, every field set
* ``expected.json``: what all of this says
"""

from __future__ import annotations

import json
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

from rocksyd import __version__, config, messages
from rocksyd.config import Config
from rocksyd.core import events as ev
from rocksyd.journal.store import Journal
from rocksyd.master.desk.waiters import Caller, Follower, Subscriber, Waiter
from rocksyd.master.staff.zygotes import READY
from rocksyd.model import ENDED
from rocksyd.posix.channel import pair
from rocksyd.wire.connection import Connection
from tests.golden.stage import server
from tests.unit.engine_desk import Desk

CONFIG = """\
listen = ["unix://run/rocksyd.sock", "tcp://127.0.0.1:31337"]
state_dir = "var"
token_file = "token"
auth = "token"
max_line = "2M"
write_timeout = "20s"
max_connections = 500

[restart]
hello_timeout = "15s"
prepare_timeout = "90s"
adopt_timeout = "5s"

[journal]
sync = "normal"
keep = "3d"
keep_runs = 5000

[output]
limit = "16M"
keep = "2d"

[apps.app]
path = "shop"
python = "shop/.venv/bin/python"
preload = ["django:setup", "shop.urls"]
jobs = ["shop.jobs"]
allow = ["shop.reports:*"]
env = { LANG = "C.UTF-8" }
unsafe = "warn"
huge_pages = false
smoke = "shop.smoke:check"
umask = "027"
oom_score_adj = 500

[apps.app.pool]
pm = "dynamic"
max_workers = 4
start_workers = 2
min_spare = 1
max_spare = 3
spawn_rate = 8
max_jobs = 500
max_jobs_jitter = 50
timeout = "10m"
grace = "5s"
max_queue = 100
queue_timeout = "1h"

[apps.app.jobs_settings."shop.jobs:nightly"]
timeout = "1h"
grace = "30s"
max_running = 1
retries = 3
priority = -5
start_within = "2h"

[apps.reports]
path = "reports"
allow = ["reports.daily:*"]
user = "nobody"
group = "nogroup"

[apps.reports.pool]
pm = "ondemand"
idle_timeout = "30s"
"""
CONNECTIONS = ["conn:3:0", "conn:7:1", "conn:9:2"]


def busy_engine(settings: Config) -> Desk:
    """Something of everything: runs that wait, run, are delayed, have ended, are tried again; workers in every state."""
    desk = Desk(settings.apps["app"].pool, {"job": {"target": "shop.jobs:job", "settings": {"max_running": 3}}})
    desk.fork()
    desk.submit("failed", params=["ä", 1.5, None, {"x": []}], retries=1)
    desk.fork()
    desk.result(desk.engine.runs["failed"], 1, error={"type": "E", "message": "m", "traceback": "t"})
    desk.submit("ended", labels={"team": "a"}, params={"day": "2026-01-31"})
    desk.result(desk.engine.runs["ended"], value={"rows": 3}, cpu=0.5, max_rss=1 << 20)
    for key in ("r1", "r2", "r3", "waits"):
        desk.submit(key, timeout=60, priority=1, env={"A": "b"})
        desk.fork()
    desk.say(ev.Heard(desk.engine.runs["r1"].attempt.worker, messages.Progress("r1", 1, 2, "half")))
    desk.say(ev.Terminate("r2"))
    desk.submit("later", delay=600, start_within=30)
    return desk


def full_message(cls: type[Any]) -> Any:
    """A message with a value in every field."""
    values: dict[str, Any] = {}
    for name in cls._fields:
        default = getattr(cls, name)
        match default:
            case ():
                values[name] = () if name == "fds" else ((1, 2, "pool", 3),) if name in ("workers", "exits") else ("a", "b")
            case bool():
                values[name] = not default
            case int() | float():
                values[name] = default + 3
            case str():
                values[name] = "ä text"
            case dict():
                values[name] = {"a": "b"}
            case _:
                values[name] = {"type": "E"} if name in ("error", "env", "value", "params") else 5
    return cls(**values)


def journal_sql(runs: list[Any], folder: Path) -> str:
    """A journal with these runs, as SQL."""
    path = str(folder / "journal.sqlite")
    with closing(Journal(path, sync="normal")) as journal:
        journal.commit(runs, [], {("meta", "service"): {"generation": 3, "restarts": 2}})
        journal.add_restart({"kind": "restart", "ok": True, "from": 2, "to": 3})
    with closing(sqlite3.connect(path)) as db:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        return "\n".join([*db.iterdump(), f"PRAGMA user_version = {version};", ""])


def write(folder: Path) -> None:
    """Write all of it."""
    folder.mkdir(parents=True)
    (folder / "rocksyd.toml").write_text(CONFIG)
    settings = config.parse(CONFIG, "/srv/rocksyd.toml")
    desk = busy_engine(settings)
    runs = [*desk.engine.runs.values(), *desk.engine.ended.values()]
    with tempfile.TemporaryDirectory() as scratch:
        (folder / "journal.sql").write_text(journal_sql(runs, Path(scratch)))
    with server(settings, CONNECTIONS) as state:
        state.engine = desk.engine
        state.generations.started_at, state.generations.restarts, state.generations.crashes = 1.7e9, 2, 1
        state.classic.served = 77
        half, owed, batched = state.clients.by_number.values()
        half.connection = Connection.restore(b'check {"hash":1}\ncheck {"ha', max_line=settings.max_line)
        owed.out += b'{"error_text":"OK"}\n'
        owed.waits = 1
        batched.batches = {4: [1, [b'{"jsonrpc":"2.0","id":1,"result":true}']]}
        state.waiters.wait(Waiter(Caller(7, "id", 0), "r1", True, 1100.0))
        state.waiters.follow(Follower(9, 5, "r1", 10))
        state.waiters.subscribers.append(Subscriber(9, None, "app", keys=["r1"]))
        state.waiters.drains.append(Caller(7, 8))
        state.generations.orders.load(
            {"current": {"kind": "restart", "reason": "test", "requesters": [{"client": 3, "classic": True}], "at": 1.0}}
        )
        ready = full_message(messages.Ready)
        ours, theirs = pair()
        zygote = state.children.zygotes.adopt("zygote:app@1", ours.detach(), READY, 4000)
        zygote.ready = ready
        (folder / "handover.snapshot").write_bytes(state.snapshot.dump(1000.0))
        zygote.channel.close()
        theirs.close()
    said = [messages.encode(full_message(cls))[0].decode() for cls in messages._TYPES.values()]
    (folder / "messages.json").write_text("[\n" + ",\n".join(said) + "\n]\n")
    expected = {
        "runs": {run.key: run.record() for run in runs},
        "live": sorted(run.key for run in runs if run.state != ENDED),
        "workers": {str(worker.number): worker.state for worker in desk.engine.workers.values()},
        "deadline": desk.engine.next_deadline(),
        "counters": dict(desk.engine.counters),
    }
    (folder / "expected.json").write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / __version__)
