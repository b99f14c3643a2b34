"""``metrics``: what is served is OpenMetrics, the numbers are those of ``stats`` and ``pools``, and the manual names each."""

from __future__ import annotations

import importlib
import re
import signal
import socket
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.parser import text_string_to_metric_families as older_families

from rocksyd.companions import CannotAttend
from rocksyd.testing import Daemon
from rocksyd.testing.daemon import Conversation, until
from tests.companions.stage import IDLE_POOL, JOBS, METRICS, companion

SAYS = """
@job
def says(name, value):
    import rocksyd
    rocksyd.gauge(name, value)
"""
MANUAL = Path(__file__).parents[2] / "docs" / "metrics.md"


def base(talk: Conversation) -> str:
    address: str = companion(talk, "metrics")["listen"][0]
    return address


SITE = """
[apps.site]
path = "app"
jobs = ["talks"]
[apps.site.services.talk]
[apps.site.web]
wsgi = "jobs:site"
listen = ["unix://site.sock"]
[apps.site.pools.web]
pm = "static"
max_workers = 1
"""
"""An application that serves requests as well, and has a service."""
TALKS = """
from rocksyd import Lines, service
@service(listen="unix://talk.sock", protocol=Lines())
class Talk:
    def message(self, c, line):
        c.send(line)
"""
ANSWERS = """
def site(environ, start_response):
    start_response("200 OK", [])
    return [b"here"]
"""


def metrics(folder: Path, *, web: bool = False) -> Daemon:
    daemon = Daemon(folder, JOBS + SAYS + ANSWERS, parts={"top": METRICS + (SITE if web else ""), "pool": IDLE_POOL})
    (daemon.app / "talks.py").write_text(TALKS)
    return daemon


def scraped(talk: Conversation) -> dict[str, dict[tuple[str, ...], float]]:
    """Sample name -> the values of its labels -> value."""
    with urllib.request.urlopen(f"{base(talk)}/metrics") as answer:
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
        families = list(text_string_to_metric_families(answer.read().decode()))
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in families:
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


def test_the_numbers_are_those_of_stats_and_pools(tmp_path: Path) -> None:
    with metrics(tmp_path) as served:
        talk = served.talk()
        for key in range(3):
            talk.rpc("call", target="add", params=[1, 2])
            talk.ask(f'run {{"hash":{key},"class":"leave","params":[{key}]}}')
            talk.rpc("wait", key=str(key))
        assert talk.ask("restart") == {"error_text": "Restarted successfully"}
        found, stats = scraped(talk), talk.rpc("stats")
        (pool,) = talk.rpc("pools")
        for outcome in ("ok", "failed", "killed", "timeout", "memory", "lost", "cancelled"):
            assert found["rocksyd_runs_ended_total"][(outcome,)] == stats[f"runs_ended_{outcome}"]
        assert found["rocksyd_runs_ended_total"][("failed",)] == 2
        assert found["rocksyd_runs_submitted_total"][()] == stats["runs_submitted"] == 6
        assert found["rocksyd_restarts_total"][()] == 1
        assert found["rocksyd_generation"][()] == 2
        assert found["rocksyd_info"][(stats["version"],)] == 1
        assert found["rocksyd_healthy"][()] == 1
        assert found["rocksyd_pool_served_total"][("app", "app")] == pool["served"]
        assert found["rocksyd_pool_workers_limit"][("app", "app")] == pool["max_workers"]
        states = found["rocksyd_companion_state"]
        assert {state[-1]: value for state, value in states.items() if "metrics" in state} == {
            "starting": 0, "ready": 1, "failed": 0, "absent": 0,
        }  # fmt: skip


def test_the_manual_names_every_metric_and_no_other(tmp_path: Path) -> None:
    pytest.importorskip("uvicorn")
    with metrics(tmp_path, web=True) as served:
        talk = served.talk()
        scraped(talk)  # from here on it is counted how long runs take
        talk.rpc("call", target="add", params=[1, 2])
        talk.rpc("call", target="says", params=["users", 3])
        (service,) = talk.rpc("services")
        values = scraped(talk)
        assert set(values["rocksyd_service_serving"].values()) == {1}
        assert set(values["rocksyd_service_connections_limit"].values()) == {service["max_connections"]}
        found = {name for name in values if not name.endswith(("_seconds_count", "_seconds_sum"))}
    documented = set(re.findall(r"^\| `(rocksyd_[a-z_]+)", MANUAL.read_text(), re.MULTILINE))
    assert documented == {name.removesuffix("_bucket") for name in found}


def test_how_long_runs_take_is_counted_by_pool_and_target_and_carried_over_a_restart(tmp_path: Path) -> None:
    with metrics(tmp_path) as served:
        talk = served.talk()
        assert talk.rpc("durations")["rows"] == []
        for _ in range(3):
            talk.rpc("call", target="add", params=[1, 2])
        talk.rpc("run", target="leave", params=[3], key="l")
        talk.rpc("wait", key="l")
        talk.rpc("run", target="add", params=[1, 2], key="late", delay=0.2)
        talk.rpc("wait", key="late")
        before = {row["target"]: row for row in talk.rpc("durations")["rows"]}
        assert {name: sum(row["run"]["counts"]) for name, row in before.items()} == {"add": 4, "leave": 1}
        assert talk.ask("restart") == {"error_text": "Restarted successfully"}
        talk.rpc("call", target="add", params=[1, 2])
        found = scraped(talk)
        for kind in ("queue", "launch", "duration"):
            assert found[f"rocksyd_run_{kind}_seconds_count"] == {("app", "app", "add"): 5, ("app", "app", "leave"): 1}
            buckets = found[f"rocksyd_run_{kind}_seconds_bucket"]
            assert [value for labels, value in buckets.items() if {"add", "+Inf"} <= set(labels)] == [5]
            assert found[f"rocksyd_run_{kind}_seconds_sum"]["app", "app", "add"] > 0


def test_what_jobs_say_is_there(tmp_path: Path) -> None:
    with metrics(tmp_path) as served:
        talk = served.talk()
        talk.rpc("call", target="says", params=["users.count-1", -2.5])
        until(lambda: scraped(talk).get("rocksyd_user_value") == {("app", "users.count-1"): -2.5}, "the gauge")


def test_what_takes_only_the_older_text_gets_it(tmp_path: Path) -> None:
    with metrics(tmp_path) as served:
        request = urllib.request.Request(f"{base(served.talk())}/metrics", headers={"Accept": "text/plain"})
        with urllib.request.urlopen(request) as answer:
            assert answer.headers["Content-Type"].startswith("text/plain")
            assert {family.name for family in older_families(answer.read().decode())} > {"rocksyd_runs_ended"}


def test_other_requests_are_refused_and_clients_that_say_nothing_hold_up_nobody(tmp_path: Path) -> None:
    with metrics(tmp_path) as served:
        talk = served.talk()
        where = base(talk)
        for path, data, status in (("/", None, "404"), ("/metrics", b"x", "501")):
            with pytest.raises(urllib.error.HTTPError, match=status) as refused:
                urllib.request.urlopen(f"{where}{path}", data=data)
            refused.value.close()  # Python 3.14 warns of an answer that nobody closes
        host, port = where.removeprefix("http://").split(":")
        silent = [socket.create_connection((host, int(port))) for _ in range(40)]  # more than are served at the same time
        try:
            for one in silent[:3]:
                one.sendall(b"GET /metrics HTTP/1.1\r\nA: ")
            assert scraped(talk)
            assert talk.ask("restart") == {"error_text": "Restarted successfully"}
            assert scraped(talk)
        finally:
            for one in silent:
                one.close()


def test_without_prometheus_client_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delitem(sys.modules, "rocksyd.companions.metrics", raising=False)
    with pytest.raises(CannotAttend, match=r"\[metrics\] needs prometheus-client.*: pip install rocksyd\[metrics\]"):
        importlib.import_module("rocksyd.companions.metrics")


def test_when_the_daemon_does_not_answer_the_reason_is_the_page(tmp_path: Path) -> None:
    with metrics(tmp_path) as served:
        where, master = base(served.talk()), served.master_pid
        import os

        os.kill(master, signal.SIGSTOP)
        try:
            with pytest.raises(urllib.error.HTTPError, match="503") as refused:
                urllib.request.urlopen(f"{where}/metrics")
            with refused.value as answer:
                assert b"has not answered" in answer.read()
        finally:
            os.kill(master, signal.SIGCONT)
