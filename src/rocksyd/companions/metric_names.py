"""The names of all metrics, each declared once: what ``/metrics`` serves and what the manual says is made from here.

What must live here: name, kind, unit, labels, source and sentence of each metric.
What this file must not know: how a text of metrics is written (``metrics``), and any library that writes it.
"""

from __future__ import annotations

from typing import NamedTuple

from rocksyd.core.companions import ABSENT, FAILED, READY, STARTING

COUNTERS = {
    "rocksyd_requests": ("requests", "Requests of clients that were served."),
    "rocksyd_connections_accepted": ("total_connections", "Connections of clients that were accepted."),
    "rocksyd_connections_dropped": ("dropped_connections", "Connections dropped: did not read, or did not show the token."),
    "rocksyd_runs_submitted": ("runs_submitted", "Runs that were accepted."),
    "rocksyd_runs_refused": ("runs_refused", "Orders of runs that were refused: too many waited."),
    "rocksyd_runs_retried": ("runs_retried", "Attempts after the first."),
    "rocksyd_runs_slow": ("runs_slow", "Runs that took longer than their slow_after."),
    "rocksyd_forks_failed": ("forks_failed", "Workers that could not be forked."),
    "rocksyd_restarts": ("restart_count", "Restarts and reloads that came about."),
    "rocksyd_crashes": ("crashes", "Deaths of the master."),
}
"""Metric -> name in ``stats``, help."""
GAUGES = {
    "rocksyd_generation": ("generation", "The generation that serves."),
    "rocksyd_connections": ("curr_connections", "Connections of clients."),
    "rocksyd_connections_limit": ("max_connections", "Connections that are accepted at most."),
    "rocksyd_workers": ("workers", "Processes that run jobs or wait for one."),
    "rocksyd_draining": ("draining", "1 when no new runs are taken."),
}
POOL_COUNTERS = {
    "rocksyd_pool_served": ("served", "Runs that the pool's workers have ended; of a web pool requests."),
    "rocksyd_pool_recycled": ("recycled", "Workers replaced because of max_jobs or max_age."),
    "rocksyd_pool_workers_limit_reached": ("max_workers_reached", "Times at which runs waited because all workers were busy."),
}
POOL_GAUGES = {
    "rocksyd_pool_generation": ("generation", "The generation of the code that new workers have."),
    "rocksyd_pool_ready": ("ready", "1 when the pool's application is loaded."),
    "rocksyd_pool_workers": ("workers", "Workers, whatever they do."),
    "rocksyd_pool_workers_idle": ("idle", "Workers that wait for a run."),
    "rocksyd_pool_workers_busy": ("busy", "Workers that run something."),
    "rocksyd_pool_workers_starting": ("starting", "Workers that were forked and are not idle yet."),
    "rocksyd_pool_workers_leaving": ("leaving", "Workers that were told to leave."),
    "rocksyd_pool_workers_replacing": ("replacing", "Workers that are being replaced."),
    "rocksyd_pool_workers_limit": ("max_workers", "The pool's max_workers."),
    "rocksyd_pool_workers_busy_peak": ("peak_busy", "The most that were busy at the same time."),
    "rocksyd_pool_concurrency": ("concurrency", "Runs that one worker has at the same time, at most."),
    "rocksyd_pool_runs_waiting": ("waiting", "Runs that wait for a worker of the pool; of a web pool connections."),
    "rocksyd_pool_runs_waiting_limit": ("max_queue", "The pool's max_queue."),
    "rocksyd_pool_runs_waiting_peak": ("peak_waiting", "The most that waited at the same time."),
    "rocksyd_pool_memory_bytes": ("memory", "Memory of the workers together, where max_total_rss has it measured."),
    "rocksyd_pool_parked": ("parked", "1 when the pool forks nothing, because its workers died at their start."),
    "rocksyd_pool_start_failures": ("failures", "Workers in a row that died before their first run."),
}
WEB_COUNTERS = {
    "rocksyd_web_connections_accepted": ("accepted", "Connections that were accepted."),
    "rocksyd_web_connections_handed_over": ("adopted", "Kept connections that a worker has taken over from another."),
    "rocksyd_web_refused": ("refused", "Requests and connections refused with 503, because too many waited."),
    "rocksyd_web_timeouts": ("timeouts", "Requests whose response had not begun within timeout."),
    "rocksyd_web_slow": ("slow", "Requests that took longer than slow_after."),
    "rocksyd_web_bad": ("bad", "Requests refused because they were no HTTP, or too large."),
    "rocksyd_web_sent_bytes": ("bytes_sent", "Bytes of the bodies of responses."),
}
WEB_GAUGES = {
    "rocksyd_web_in_flight": ("in_flight", "Requests that are being answered."),
    "rocksyd_web_connections": ("connections", "Connections that the pool's workers have."),
    "rocksyd_web_websockets": ("websockets", "Those of them that are WebSockets."),
}
SERVICE_COUNTERS = {
    "rocksyd_service_messages": ("messages", "Messages that the service has handled."),
}
SERVICE_GAUGES = {
    "rocksyd_service_connections": ("connections", "Connections that the service has."),
    "rocksyd_service_connections_limit": ("max_connections", "The service's max_connections."),
    "rocksyd_service_unsent_bytes": ("unsent", "Bytes owed to peers that do not read."),
    "rocksyd_service_state_bytes": ("checkpoint_bytes", "The state that is kept in case its process dies; 0 for none."),
    "rocksyd_service_taken_over_time_seconds": ("taken_over_at", "When its worker took over from another (Unix); 0 for never."),
    "rocksyd_service_silence_seconds": ("silence", "For how long no message was handled then."),
    "rocksyd_service_memory_bytes": ("rss", "Resident memory of its worker."),
    "rocksyd_service_generation": ("generation", "The generation of the code that serves."),
    "rocksyd_service_serving": ("pid", "1 while a worker serves it."),
    "rocksyd_service_kept": ("kept", "1 while it goes on in the code before, although newer code is loaded."),
}
WEB_DURATION = ("rocksyd_web_request_duration_seconds", "From a request's head to the end of its response.")
WEB_RESPONSES = ("rocksyd_web_responses", "Responses, by the class of their status: 1xx to 5xx.")
STATES = (STARTING, READY, FAILED, ABSENT)
DURATIONS = {
    "rocksyd_run_queue_seconds": ("queue", "From the order, or the end of its delay, until the run was given to a worker."),
    "rocksyd_run_launch_seconds": ("launch", "From there until its code began."),
    "rocksyd_run_duration_seconds": ("run", "From there to its end."),
}


class Declared(NamedTuple):
    """A metric. Of a counter, a histogram or an info the samples' names have what OpenMetrics puts behind it."""

    name: str
    kind: str
    source: str
    """Where the number comes from: a method, and what it is called there."""
    text: str
    labels: tuple[str, ...] = ()
    unit: str = ""

    @property
    def shown(self) -> str:
        """As a query names it."""
        return self.name + {"counter": "_total", "info": "_info"}.get(self.kind, "")


OF_POOL, OF_TARGET = ("pool", "app"), ("pool", "app", "target")


def _unit(name: str) -> str:
    return next((unit for unit in ("seconds", "bytes") if name.endswith(f"_{unit}")), "")


def _all(rows: dict[str, tuple[str, str]], kind: str, method: str, labels: tuple[str, ...] = ()) -> tuple[Declared, ...]:
    return tuple(Declared(name, kind, f"{method}: {key}", text, labels, _unit(name)) for name, (key, text) in rows.items())


DAEMON = (
    Declared("rocksyd", "info", "stats: version", "The daemon; always 1.", ("version",)),
    Declared("rocksyd_revision", "info", "stats: rev", "The revision of the code that serves; always 1.", ("revision",)),
    Declared("rocksyd_start_time_seconds", "gauge", "stats: uptime", "When the service was started (Unix).", (), "seconds"),
    Declared("rocksyd_healthy", "gauge", "health: ok", "1 when health is ok."),
    *_all(COUNTERS, "counter", "stats"),
    *_all(GAUGES, "gauge", "stats"),
    Declared("rocksyd_runs", "gauge", "stats: runs_waiting, runs_running", "Runs that have not ended.", ("state",)),
    Declared("rocksyd_runs_ended", "counter", "stats: runs_ended_ok and so on", "Runs that have ended.", ("outcome",)),
)
POOLS = (*_all(POOL_COUNTERS, "counter", "pools", OF_POOL), *_all(POOL_GAUGES, "gauge", "pools", OF_POOL))
WEB = (
    Declared(WEB_RESPONSES[0], "counter", "pools: status", WEB_RESPONSES[1], (*OF_POOL, "status")),
    *_all(WEB_COUNTERS, "counter", "pools", OF_POOL),
    *_all(WEB_GAUGES, "gauge", "pools", OF_POOL),
    Declared(WEB_DURATION[0], "histogram", "pools: durations", WEB_DURATION[1], OF_POOL, "seconds"),
)
OF_SERVICE = ("service", "app")
SERVICES = (
    *_all(SERVICE_COUNTERS, "counter", "services", OF_SERVICE), *_all(SERVICE_GAUGES, "gauge", "services", OF_SERVICE),
)  # fmt: skip
TIMES = _all(DURATIONS, "histogram", "durations", OF_TARGET)
USERS = (Declared("rocksyd_user_value", "gauge", "stats: gauges", "What jobs have said with `rocksyd.gauge`.", ("app", "name")),)
COMPANIONS = (
    Declared("rocksyd_companion_state", "stateset", "health: companions",
             "One of `starting`, `ready`, `failed`, `absent` is 1, the others 0.", ("companion",)),
    Declared("rocksyd_companion_restarts", "counter", "health: companions",
             "Times the companion was started again.", ("companion",)),
)  # fmt: skip
GROUPS = {
    "daemon": DAEMON,
    "pools": POOLS,
    "web": WEB,
    "services": SERVICES,
    "times": TIMES,
    "users": USERS,
    "companions": COMPANIONS,
}
ALL = tuple(one for group in GROUPS.values() for one in group)
