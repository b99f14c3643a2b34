"""The span that the caller is in, for what it orders (W3C's trace context).

What must live here: finding it. What this file must not know: OpenTelemetry, unless the caller has loaded it.
"""

from __future__ import annotations

import sys


def traceparent() -> str | None:
    """As the option ``traceparent`` has it; None outside of any span, and where OpenTelemetry is not loaded."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"
