"""The companion ``metrics``: the numbers of ``stats``, ``pools``, ``durations`` and ``health`` at ``/metrics``, as OpenMetrics.

What must live here: metrics as text, made from what the daemon answers.
What this file must not know: what the numbers mean to the daemon; which metrics there are is declared in ``metric_names``.

Sources: the OpenMetrics specification 1.0 (names, units, ``_total``, ``_info``, state sets).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from itertools import accumulate
from typing import Any

from rocksyd.companions.companion import CannotAttend, Companion
from rocksyd.companions.metric_names import (
    COUNTERS,
    DURATIONS,
    GAUGES,
    OF_POOL,
    OF_SERVICE,
    OF_TARGET,
    POOL_COUNTERS,
    POOL_GAUGES,
    SERVICE_COUNTERS,
    SERVICE_GAUGES,
    STATES,
    WEB_COUNTERS,
    WEB_DURATION,
    WEB_GAUGES,
    WEB_RESPONSES,
)
from rocksyd.companions.pages import Page, Pages
from rocksyd.errors import RocksydError
from rocksyd.model import OUTCOMES

try:
    from prometheus_client import CollectorRegistry, exposition
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        InfoMetricFamily,
        Metric,
        StateSetMetricFamily,
    )
    from prometheus_client.openmetrics import exposition as openmetrics
    from prometheus_client.registry import Collector
except ImportError as missing:
    raise CannotAttend(
        f"[metrics] needs prometheus-client, which {sys.executable} does not have: pip install rocksyd[metrics]"
    ) from missing

TIMEOUT = 5.0
"""Seconds in which the daemon has to answer. One that restarts answers later than usual; what scrapes us usually waits 10 s."""


METHODS = ("stats", "pools", "services", "durations", "health")
"""What is asked for the metrics, in the order in which ``families`` takes the answers."""


def families(
    stats: dict[str, Any],
    pools: list[dict[str, Any]],
    services: list[dict[str, Any]],
    times: dict[str, Any],
    health: dict[str, Any],
) -> Iterator[Metric]:
    """The metrics, from what METHODS answer."""
    yield InfoMetricFamily("rocksyd", "The daemon.", {"version": str(stats["version"])})
    yield InfoMetricFamily("rocksyd_revision", "The revision of the code that serves.", {"revision": str(stats.get("rev", ""))})
    started = GaugeMetricFamily("rocksyd_start_time_seconds", "When the service was started (Unix).", unit="seconds")
    started.add_metric([], stats["time"] - stats["uptime"])
    yield started
    yield _gauge("rocksyd_healthy", "1 when health is ok.", [], [([], health["ok"])])
    yield from (_counter(name, text, [], [([], stats[key])]) for name, (key, text) in COUNTERS.items())
    yield from (_gauge(name, text, [], [([], stats[key])]) for name, (key, text) in GAUGES.items())
    now = [([state], stats[f"runs_{state}"]) for state in ("waiting", "running")]
    yield _gauge("rocksyd_runs", "Runs that have not ended.", ["state"], now)
    ended = [([outcome], stats[f"runs_ended_{outcome}"]) for outcome in OUTCOMES]
    yield _counter("rocksyd_runs_ended", "Runs that have ended.", ["outcome"], ended)
    labels = list(OF_POOL)
    for name, (key, text) in POOL_COUNTERS.items():
        yield _counter(name, text, labels, [([row["pool"], row["app"]], row[key]) for row in pools])
    for name, (key, text) in POOL_GAUGES.items():
        unit = "bytes" if name.endswith("_bytes") else ""
        yield _gauge(name, text, labels, [([row["pool"], row["app"]], row[key]) for row in pools], unit)
    yield from _web([row for row in pools if row.get("kind") == "web"])
    yield from _services(services)
    yield from _durations(times)
    said = [([app, name], value) for app, values in stats["gauges"].items() for name, value in values.items()]
    yield _gauge("rocksyd_user_value", "What jobs have said with rocksyd.gauge.", ["app", "name"], said)
    yield from _companions(health["companions"])


def _web(rows: list[dict[str, Any]]) -> Iterator[Metric]:
    labels = list(OF_POOL)
    responses = [([row["pool"], row["app"], code], count) for row in rows for code, count in row["status"].items()]
    yield _counter(*WEB_RESPONSES, [*labels, "status"], responses)
    for make, names in ((_counter, WEB_COUNTERS), (_gauge, WEB_GAUGES)):
        for name, (key, text) in names.items():
            yield make(name, text, labels, [([row["pool"], row["app"]], row[key]) for row in rows])
    family = HistogramMetricFamily(*WEB_DURATION, labels=labels, unit="seconds")
    for row in rows:
        _add(family, [row["pool"], row["app"]], row["durations"]["bounds"], row["durations"])
    yield family


def _services(rows: list[dict[str, Any]]) -> Iterator[Metric]:
    """Of a text only whether there is one, of a process id as well, and 0 for what is not known."""
    labels = list(OF_SERVICE)

    def samples(key: str) -> Samples:
        found = [(row["service"], row["app"], row[key]) for row in rows]
        return [([name, app], bool(said) if key in ("pid", "kept") else said or 0) for name, app, said in found]

    for name, (key, text) in SERVICE_COUNTERS.items():
        yield _counter(name, text, labels, samples(key))
    for name, (key, text) in SERVICE_GAUGES.items():
        unit = next((unit for unit in ("bytes", "seconds") if name.endswith(f"_{unit}")), "")
        yield _gauge(name, text, labels, samples(key), unit)


def _durations(times: dict[str, Any]) -> Iterator[Metric]:
    for name, (kind, text) in DURATIONS.items():
        family = HistogramMetricFamily(name, text, labels=list(OF_TARGET), unit="seconds")
        for row in times["rows"]:
            _add(family, [row[label] for label in OF_TARGET], times["bounds"], row[kind])
        yield family


def _add(family: HistogramMetricFamily, labels: list[str], bounds: list[float], counted: dict[str, Any]) -> None:
    """Add a histogram; what the daemon counts for each bound alone, the format has together with all below it."""
    sums = list(zip([*map(str, bounds), "+Inf"], accumulate(counted["counts"]), strict=True))
    family.add_metric(labels, sums, counted["sum"])


def _companions(rows: list[dict[str, Any]]) -> Iterator[Metric]:
    states = StateSetMetricFamily("rocksyd_companion_state", "The state of each companion.", labels=["companion"])
    for row in rows:
        states.add_metric([row["name"]], {state: row["state"] == state for state in STATES})
    yield states
    restarts = [([row["name"]], row["restarts"]) for row in rows]
    yield _counter("rocksyd_companion_restarts", "Times the companion was started again.", ["companion"], restarts)


Samples = Iterable[tuple[list[str], float]]


def _counter(name: str, text: str, labels: list[str], samples: Samples) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for values, value in samples:
        family.add_metric(values, float(value))
    return family


def _gauge(name: str, text: str, labels: list[str], samples: Samples, unit: str = "") -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels, unit=unit)
    for values, value in samples:
        family.add_metric(values, float(value))
    return family


class _Scrape(Collector):
    def __init__(self, found: list[Metric]) -> None:
        self._found = found

    def collect(self) -> Iterable[Metric]:
        return self._found


def text(found: Iterable[Metric], accept: str = "") -> tuple[str, bytes]:
    """Content type and text: OpenMetrics, but for who takes only Prometheus's older text."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Scrape(list(found)))
    if "text/plain" in accept and "openmetrics" not in accept:
        return exposition.CONTENT_TYPE_LATEST, exposition.generate_latest(registry)
    return openmetrics.CONTENT_TYPE_LATEST, openmetrics.generate_latest(registry)  # type: ignore[no-untyped-call]


def serve(companion: Companion) -> None:
    """Be the companion."""
    client = companion.client(timeout=TIMEOUT, patience=TIMEOUT)

    def answer(path: str, accept: str) -> Page:
        if path != "/metrics":
            return Page(HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", b"the numbers are at /metrics\n")
        try:
            answers = client.requests([(method, {}) for method in METHODS])
        except RocksydError as error:
            return Page(HTTPStatus.SERVICE_UNAVAILABLE, "text/plain; charset=utf-8", f"{error}\n".encode())
        return Page(HTTPStatus.OK, *text(families(*answers), accept))

    servers = [Pages(listening.socket, answer) for listening in companion.listening]
    for server in servers:
        server.start()
    companion.ready()
    companion.serve()
    for server in servers:
        server.stop()
    client.close()
