"""OpenTelemetry: a span for each run, below the span of whoever ordered it (W3C trace context).

What must live here: what is imported before the fork and made after it, the span, and when spans are sent.
What this file must not know: messages; where the spans go (the SDK reads its ``OTEL_…`` variables).

The SDK's own way of sending is a thread, which no fork has. So before the fork there are the imports and a provider that sends
nothing; a worker's first run makes it the process's, and spans are sent by the worker itself: when a run has ended and that was
said, so nobody waits for it.
Source: https://opentelemetry.io/docs/specs/otel/trace/sdk/, https://www.w3.org/TR/trace-context/
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from rocksyd.errors import JobError

BATCH = 512
"""Spans that are sent without waiting for the end of the run."""
MOST = 4096
"""Spans that wait to be sent, at most; further ones are dropped."""
TIMEOUT = 2
"""Seconds in which a collector has to take spans, while the worker waits; ``OTEL_EXPORTER_OTLP_TIMEOUT`` says otherwise."""

wanted = False
"""Whether runs of this process have spans."""
_app = ""
_provider: Any = None
_tracer: Any = None
_sending: Any = None


def prepare(app: str) -> None:
    """In the zygote: import what workers will need. Raises JobError where it is not installed."""
    global wanted, _app, _provider
    try:
        import opentelemetry.trace.propagation.tracecontext  # noqa: F401, PLC0415
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    except ImportError as error:
        raise JobError(
            f"otel = true needs OpenTelemetry in the application's environment ({error}): pip install rocksyd[otel]"
        ) from None
    unused: Any = OTLPSpanExporter()  # it imports the most when it is made: here once, and not in each worker
    unused.shutdown()
    named = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": app}
    _provider = TracerProvider(resource=Resource.create(named), shutdown_on_exit=False)
    wanted, _app = True, app


def within(job: Any, work: Callable[[], Any]) -> Any:
    """What ``work`` returns, in a span."""
    with _span(job):
        return work()


async def within_async(job: Any, work: Awaitable[Any]) -> Any:
    """What ``work`` comes to, in a span."""
    with _span(job):
        return await work


def flush() -> None:
    """Send what has not been sent. Never raises."""
    if _sending is not None:
        _sending.force_flush()


class Script:
    """The span of a script that ``exec`` runs: in the caller's environment, and beside whatever the script does of its own.

    So where spans go is read before the environment is the caller's; no provider is made the process's, because that is the
    script's to do; and it is sent when the caller has been told how the script ended. Nothing here ever raises.
    """

    def __init__(self, job: Any) -> None:
        self._job = job
        self._span: Any = None
        self._sending = _Sending()
        with contextlib.suppress(Exception):
            self._sending.begin()
            _provider.add_span_processor(self._sending)

    def begin(self, traceparent: str) -> None:
        """The script begins; ``traceparent``: the span of its caller, as its environment has it."""
        with contextlib.suppress(Exception):
            from opentelemetry import context, trace  # noqa: PLC0415

            self._span = _provider.get_tracer("rocksyd").start_span(**_described(self._job, traceparent))
            context.attach(trace.set_span_in_context(self._span))

    def end(self, status: int) -> None:
        """It has ended with this exit status."""
        if self._span is not None:
            with contextlib.suppress(Exception):
                from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415

                self._span.set_attribute("process.exit.code", status)
                if status:
                    self._span.set_status(Status(StatusCode.ERROR, f"exit status {status}"))
                self._span.end()
        self._sending.force_flush()


def _span(job: Any) -> Any:
    return _traced().start_as_current_span(**_described(job, job.traceparent))


def _described(job: Any, traceparent: str) -> dict[str, Any]:
    """What a run's span begins with."""
    from opentelemetry.trace import SpanKind  # noqa: PLC0415
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

    parent = TraceContextTextMapPropagator().extract({"traceparent": traceparent}) if traceparent else None
    attributes = {
        "rocksyd.key": job.key, "rocksyd.app": _app, "rocksyd.target": job.target, "rocksyd.attempt": job.attempt,
        "process.pid": os.getpid(),
    }  # fmt: skip
    name = job.title.rpartition(" #")[0] or job.target
    return {"name": name, "context": parent, "kind": SpanKind.CONSUMER, "attributes": attributes}


def _traced() -> Any:
    """The tracer: of the provider that the application has made after the fork, else of one that is made now."""
    global _tracer, _sending
    if _tracer is None:
        from opentelemetry import trace  # noqa: PLC0415

        _sending = trace.get_tracer_provider()
        if not hasattr(_sending, "add_span_processor"):
            _sending = _Sending()
            _provider.add_span_processor(_sending)
            trace.set_tracer_provider(_provider)
        _tracer = trace.get_tracer("rocksyd")
    return _tracer


class _Sending:
    """A span processor: gathers what has ended, and sends it when it is told to. A fork of the process begins with nothing."""

    def __init__(self) -> None:
        self._spans: list[Any] = []
        self._lock = threading.Lock()
        self._pid = 0
        self._exporter: Any = None

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        """A span has begun."""

    def _on_ending(self, span: Any) -> None:
        """It is about to end."""

    def on_end(self, span: Any) -> None:
        """It has ended."""
        if not span.context.trace_flags.sampled:
            return
        if self._pid != os.getpid():
            self.begin()
        with self._lock:
            if len(self._spans) < MOST:
                self._spans.append(span)
            full = len(self._spans) >= BATCH
        if full:
            self.force_flush()

    def begin(self) -> None:
        """In this process, from here on."""
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415

        self._pid, self._spans, self._lock = os.getpid(), [], threading.Lock()
        said = any(os.environ.get(f"OTEL_EXPORTER_OTLP_{name}TIMEOUT") for name in ("", "TRACES_"))
        self._exporter = OTLPSpanExporter(timeout=None if said else TIMEOUT)  # its connection is this process's own

    def force_flush(self, timeout_millis: int = 0) -> bool:
        """Send what is there; what nobody takes within the exporter's own time is dropped, as the SDK says in its log."""
        if self._pid != os.getpid():
            return True
        with self._lock:
            spans, self._spans = self._spans, []
        try:
            if spans:
                self._exporter.export(spans)
        except Exception:  # noqa: BLE001  (a run is over, and what watches it must not make it fail)
            return False
        return True

    def shutdown(self) -> None:
        """Nothing more will come."""
        self.force_flush()
