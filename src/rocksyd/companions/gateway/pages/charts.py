"""Small pictures, as SVG made on the server: they need no script, and their colours are those of the page.

What must live here: shapes. What this file must not know: what they stand for, but the names of outcomes, which are classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup, escape


def _svg(width: float, height: float, inner: str, label: str, kind: str) -> Markup:
    view = f'viewBox="0 0 {width:g} {height:g}" preserveAspectRatio="none"'
    return Markup(f'<svg class="{escape(kind)}" {view} role="img" aria-label="{escape(label)}">{inner}</svg>')


def bars(rows: Sequence[tuple[float, float]], label: str) -> Markup:
    """A bar for each (good, bad), the bad on top."""
    most = max((good + bad for good, bad in rows), default=0) or 1
    inner = []
    for place, (good, bad) in enumerate(rows):
        low, high = 60 * good / most, 60 * bad / most
        if good or bad:
            inner.append(f'<rect class="ok" x="{place * 10 + 1}" y="{60 - low:.2f}" width="8" height="{low:.2f}" rx="1"/>')
            inner.append(
                f'<rect class="bad" x="{place * 10 + 1}" y="{60 - low - high:.2f}" width="8" height="{high:.2f}" rx="1"/>'
            )
        else:
            inner.append(f'<rect class="none" x="{place * 10 + 1}" y="59" width="8" height="1"/>')
    return _svg(max(10, len(rows) * 10), 60, "".join(inner), label, "bars")


def spark(values: Sequence[float], label: str) -> Markup:
    """A line through some values."""
    if len(values) < 2:
        return Markup('<svg class="spark" viewBox="0 0 100 24" aria-hidden="true"></svg>')
    most = max(values) or 1
    points = [(place * 100 / (len(values) - 1), 22 - 20 * value / most) for place, value in enumerate(values)]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return _svg(100, 24, f'<polygon points="0,24 {line} 100,24"/><polyline points="{line}"/>', label, "spark")


def strip(cells: Sequence[tuple[str, str]], label: str) -> Markup:
    """A row of cells, each with its outcome and what to say of it."""
    inner = "".join(
        f'<rect class="o-{escape(outcome)}" x="{place * 12}" y="0" width="10" height="20" rx="2">'
        f"<title>{escape(text)}</title></rect>"
        for place, (outcome, text) in enumerate(cells)
    )
    return Markup(
        f'<svg class="strip" width="{max(12, len(cells) * 12)}" height="20" role="img" aria-label="{escape(label)}">{inner}</svg>'
    )


def day(marks: Sequence[tuple[float, str]], label: str) -> Markup:
    """A line of 24 hours, with a mark at each of these shares of it."""
    hours = "".join(f'<line x1="{hour * 1000 / 24:.1f}" x2="{hour * 1000 / 24:.1f}" y1="0" y2="16"/>' for hour in range(25))
    inner = "".join(
        f'<rect class="tick" x="{share * 1000 - 2:.1f}" y="2" width="4" height="12" rx="1"><title>{escape(text)}</title></rect>'
        for share, text in marks
    )
    return _svg(1000, 16, hours + inner, label, "day")


def life(parts: Sequence[tuple[str, float, float, str]], label: str) -> Markup:
    """Stretches of time one behind the other: class, beginning and end as shares of the whole, what to say of it."""
    inner = "".join(
        f'<rect class="{escape(kind)}" x="{start * 1000:.1f}" y="0" width="{max(3.0, (end - start) * 1000):.1f}" height="18">'
        f"<title>{escape(text)}</title></rect>"
        for kind, start, end, text in parts
    )
    return _svg(1000, 18, inner, label, "life")


def percentile(values: Sequence[float], share: float) -> float | None:
    """The value that this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def share_of(part: Any, whole: Any) -> float:
    """From 0 to 1."""
    return min(1.0, max(0.0, float(part) / float(whole))) if whole else 0.0
