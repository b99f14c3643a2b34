"""Spans of runs: every one arrives at a collector, below the span of who ordered the run, and in its record."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("opentelemetry.exporter.otlp.proto.http.trace_exporter", reason="rocksyd[otel] is not installed")
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from rocksyd.errors import JobFailed, RequestError
from rocksyd.testing import Daemon
from rocksyd.testing.daemon import DaemonError, until
from tests.seeing.stage import rocksyd

JOBS = """
import os
import sys
from rocksyd import Client, current, job

@job
def short(number):
    return current().traceparent

@job
def fails():
    raise ValueError("no orders")

@job
def nests():
    from opentelemetry import trace
    with trace.get_tracer("shop").start_as_current_span("inner"):
        pass
    return sys.modules["rocksyd.worker.tracing"]._tracer is not None

@job
def orders():
    return Client(os.environ["ROCKSYD_ADDRESS"]).run("short", 1, key="ordered").wait() and None

@job
async def soon(number):
    return number
"""
MOST = 1000 if os.environ.get("HYPOTHESIS_PROFILE") == "thorough" else 150
"""Forked jobs whose spans are counted."""
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
POOL = 'pm = "dynamic"\nmax_workers = 4\nmin_spare = 2\nmax_spare = 2\n{more}'


class Collector:
    """Takes OTLP over HTTP, as the specification says, and keeps the spans."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.services: set[str] = set()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
                for resource in request.resource_spans:
                    names = {one.key: one.value.string_value for one in resource.resource.attributes}
                    collector.services.add(names["service.name"])
                    for scope in resource.scope_spans:
                        collector.spans.extend(scope.spans)
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]


@contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()
    thread = threading.Thread(target=collector.server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield collector
    finally:
        collector.server.shutdown()
        collector.server.server_close()
        thread.join()


def traced(folder: Path, collector: Collector, more: str = "max_jobs = 1") -> Daemon:
    env = f'\n[apps.app.env]\nOTEL_EXPORTER_OTLP_ENDPOINT = "{collector.address}"\n'
    return Daemon(folder, JOBS, parts={"app": "otel = true", "pool": POOL.format(more=more) + env})


def attributes(span: Span) -> dict[str, Any]:
    return {one.key: one.value.string_value or one.value.int_value for one in span.attributes}


def test_every_span_of_so_many_forked_jobs_arrives(tmp_path: Path) -> None:
    with collecting() as collector, traced(tmp_path, collector) as daemon, daemon.client() as client:
        runs = [client.run("short", number, key=f"k{number}") for number in range(MOST)]
        for run in runs:
            run.wait()
        until(lambda: len(collector.spans) >= MOST, f"{MOST} spans")
        found = {attributes(span)["rocksyd.key"]: span for span in collector.spans}
        assert set(found) == {f"k{number}" for number in range(MOST)}
        assert len({span.span_id for span in found.values()}) == len({span.trace_id for span in found.values()}) == MOST
        assert len({attributes(span)["process.pid"] for span in found.values()}) == MOST, "each in a process of its own"
        assert collector.services == {"app"}


def test_a_run_is_below_the_span_of_who_ordered_it_and_its_own_are_below_it(tmp_path: Path) -> None:
    with collecting() as collector, traced(tmp_path, collector) as daemon, daemon.client() as client:
        assert client.call("short", 1, traceparent=PARENT) == PARENT
        run = client.run("nests", key="n", traceparent=PARENT)
        assert run.wait()["traceparent"] == PARENT
        assert "traceparent" not in client.run("short", 2, key="s").wait()
        with pytest.raises(JobFailed, match="no orders"):
            client.call("fails", traceparent=PARENT)
        done = subprocess.run(
            [sys.executable, "-m", "rocksyd.cli", "run", "short", "number=3", "--key", "cli", "--wait"],
            env={**os.environ, "ROCKSYD_ADDRESS": daemon.address, "TRACEPARENT": PARENT}, check=True, capture_output=True,
        )  # fmt: skip
        assert PARENT.encode() in done.stdout
        assert client.status("cli")["traceparent"] == PARENT
        until(lambda: {"nests", "inner", "fails"} <= {span.name for span in collector.spans}, "the spans")
        (nests,), (inner,), (fails,) = (collector.named(name) for name in ("nests", "inner", "fails"))
        assert nests.trace_id.hex() == inner.trace_id.hex() == PARENT.split("-")[1]
        assert nests.parent_span_id.hex() == PARENT.split("-")[2]
        assert inner.parent_span_id == nests.span_id
        assert (fails.status.code, "no orders" in fails.status.message) == (Status.STATUS_CODE_ERROR, True)
        assert nests.kind == Span.SPAN_KIND_CONSUMER
        for wrong in (
            "",
            "00-0-0-0",
            PARENT.upper(),
            PARENT.replace("4bf92f3577b34da6a3ce929d0e0e4736", "0" * 32),
            PARENT + "-x",
        ):
            with pytest.raises(RequestError, match="traceparent"):
                client.run("short", 1, traceparent=wrong)


@pytest.mark.parametrize("more", ["max_jobs = 0", "max_jobs = 0\nconcurrency = 4"])
def test_a_worker_that_has_many_runs_sends_each_when_it_has_ended(tmp_path: Path, more: str) -> None:
    with collecting() as collector, traced(tmp_path, collector, more) as daemon, daemon.client() as client:
        for number in range(5):
            client.call("soon", number)
            until(lambda number=number: len(collector.named("soon")) == number + 1, "its span, while the worker lives")


def test_a_script_is_a_span_below_its_callers_and_sees_nothing_of_how_it_is_sent(tmp_path: Path) -> None:
    inside = (
        "import os; from opentelemetry import trace; from rocksyd.client.tracing import traceparent; "
        "print(type(trace.get_tracer_provider()).__name__, 'OTEL_EXPORTER_OTLP_ENDPOINT' in os.environ, traceparent())"
    )
    with collecting() as collector, traced(tmp_path, collector) as daemon:

        def execute(*words: str) -> subprocess.CompletedProcess[str]:
            env = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
            command = [sys.executable, "-m", "rocksyd.cli", "exec", "--", *words]
            env |= {"ROCKSYD_ADDRESS": daemon.address, "TRACEPARENT": PARENT}
            return subprocess.run(command, env=env, check=False, capture_output=True, text=True)

        done = execute("-c", inside)
        assert done.returncode == 0, done.stderr
        provider, env, span = done.stdout.split()
        assert (provider, env) == ("ProxyTracerProvider", "False"), "as in a Python that was started here"
        assert execute("-c", "import sys; sys.exit(3)").returncode == 3
        until(lambda: len(collector.spans) == 2, "both spans")
        good, bad = sorted(collector.spans, key=lambda span: attributes(span)["process.exit.code"])
        for one in (good, bad):
            assert (one.trace_id.hex(), one.parent_span_id.hex()) == tuple(PARENT.split("-")[1:3])
            assert attributes(one)["rocksyd.key"].startswith("exec-")
        assert span.split("-")[2] == good.span_id.hex(), "its own spans are below it"
        assert (bad.status.code, bad.status.message) == (Status.STATUS_CODE_ERROR, "exit status 3")


def test_what_a_run_orders_is_below_it(tmp_path: Path) -> None:
    with collecting() as collector, traced(tmp_path, collector) as daemon, daemon.client() as client:
        client.run("orders", env={"ROCKSYD_ADDRESS": daemon.address}, key="o").wait()
        until(lambda: collector.named("short") and collector.named("orders"), "both spans")
        (short,), (orders,) = collector.named("short"), collector.named("orders")
        assert (short.trace_id, short.parent_span_id) == (orders.trace_id, orders.span_id)


def test_a_collector_that_is_not_there_costs_no_run_its_result(tmp_path: Path) -> None:
    with collecting() as collector:
        pass
    with traced(tmp_path, collector) as daemon, daemon.client() as client:
        assert client.call("short", 1, traceparent=PARENT) == PARENT
        assert client.run("short", 2, key="k").wait()["outcome"] == "ok"


def test_without_opentelemetry_the_start_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "opentelemetry.py").write_text("")
    with (
        collecting() as collector,
        pytest.raises(DaemonError, match=re.compile(r"pip install rocksyd\[otel\]", re.DOTALL)),
        traced(tmp_path, collector),
    ):
        pass


def test_without_otel_nothing_of_it_is_loaded(tmp_path: Path) -> None:
    jobs = JOBS + "\n@job\ndef loaded():\n    return sorted(name for name in sys.modules if name.startswith('opentelemetry'))\n"
    with Daemon(tmp_path, jobs) as daemon, daemon.client() as client:
        assert client.call("loaded") == []
        assert client.call("short", 1, traceparent=PARENT) == PARENT
        assert rocksyd(daemon, "run", "short", "number=1", "--traceparent", "x").returncode == 2
