"""Line plots as small SVG files, written by hand so that nothing has to be installed to draw or to read them.

What must live here: axes and lines. What this file must not know: what is plotted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import NamedTuple

Points = Sequence[tuple[float, float]]
WIDTH, HEIGHT = 640, 380
LEFT, RIGHT, TOP, BOTTOM = 62, 18, 34, 46
COLOURS = ("#1f6feb", "#d1242f", "#1a7f37", "#9a6700", "#8250df", "#57606a")
_STYLE = "text{font:12px system-ui,sans-serif;fill:#57606a}.t{font-size:14px;fill:#8b949e}line{stroke:#8b949e;stroke-opacity:.35}"


class Axis(NamedTuple):
    """A logarithmic axis."""

    low: float
    high: float
    start: float
    end: float
    """Where ``low`` and ``high`` are, in pixels."""

    def at(self, value: float) -> float:
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> Iterator[float]:
        """1, 2 and 5 times every power of ten; only the powers when there are many."""
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        for power in range(first, last + 1):
            for step in (1, 2, 5) if last - first <= 3 else (1,):
                if self.low <= (value := step * 10.0**power) <= self.high:
                    yield value


class Linear(Axis):
    """An axis of equal steps."""

    def at(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> Iterator[float]:
        """At most ten round numbers."""
        step = 10.0 ** math.ceil(math.log10((self.high - self.low) / 10))
        step = next(step * part for part in (0.2, 0.5, 1.0) if (self.high - self.low) / (step * part) <= 10)
        for number in range(math.ceil(self.low / step), math.floor(self.high / step) + 1):
            yield number * step


def plot(title: str, x_name: str, y_name: str, curves: Mapping[str, Points], *, time: bool = False) -> str:
    """An SVG with one line for each of ``curves``, both axes logarithmic; the horizontal one linear if it is ``time``."""
    xs = [x for points in curves.values() for x, _ in points]
    ys = [y for points in curves.values() for _, y in points]
    x_axis = Linear(0.0, max(xs), LEFT, WIDTH - RIGHT) if time else Axis(min(xs) * 0.9, max(xs) * 1.1, LEFT, WIDTH - RIGHT)
    y_axis = Axis(min(ys) * 0.8, max(ys) * 1.25, HEIGHT - BOTTOM, TOP)
    height = HEIGHT + 18 * math.ceil(len(curves) / 2)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">',
        f"<style>{_STYLE}</style>",
        f'<text class="t" x="{LEFT}" y="20">{escape(title)}</text>',
        *_grid(x_axis, y_axis),
        f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 8}" text-anchor="end">{escape(x_name)}</text>',
        f'<text x="14" y="{TOP}" transform="rotate(-90 14 {TOP})" text-anchor="end">{escape(y_name)}</text>',
    ]
    for number, (name, points) in enumerate(curves.items()):
        parts += _curve(number, name, [(x_axis.at(x), y_axis.at(y)) for x, y in points])
    return "\n".join([*parts, "</svg>", ""])


def _grid(x_axis: Axis, y_axis: Axis) -> Iterator[str]:
    for value in x_axis.ticks():
        x = x_axis.at(value)
        yield f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{HEIGHT - BOTTOM}"/>'
        yield f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{value:g}</text>'
    for value in y_axis.ticks():
        y = y_axis.at(value)
        yield f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>'
        yield f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>'


def _curve(number: int, name: str, points: Points) -> Iterator[str]:
    colour = COLOURS[number % len(COLOURS)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dash = ' stroke-dasharray="6 4"' if "small" in name else ""
    yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>'
    for x, y in points:
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>'
    x, y = LEFT + (number % 2) * (WIDTH - LEFT) // 2, HEIGHT + 18 * (number // 2) + 4
    yield f'<rect x="{x}" y="{y - 6}" width="18" height="4" fill="{colour}"/><text x="{x + 24}" y="{y}">{escape(name)}</text>'


def bars(title: str, x_name: str, panels: Mapping[str, Sequence[float]], step: float, end: float) -> str:
    """An SVG with one row of bars for each of ``panels``, one below the other, to one scale; ``step`` is a bar's width in x."""
    most = max((value for values in panels.values() for value in values), default=1) or 1
    row, gap = 92, 30
    height = TOP + len(panels) * (row + gap) + 18
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">',
        f"<style>{_STYLE}</style>",
        f'<text class="t" x="{LEFT}" y="20">{escape(title)}</text>',
    ]
    scale = (WIDTH - LEFT - RIGHT) / end
    for number, (name, values) in enumerate(panels.items()):
        base = TOP + number * (row + gap) + gap - 12 + row
        parts.append(f'<text x="{LEFT}" y="{base - row - 6}">{escape(name)}</text>')
        for value in (0, most):
            y = base - row * value / most
            parts.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>')
            parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
        for index, value in enumerate(values):
            if value and (index + 1) * step <= end + step / 2:
                tall = row * value / most
                at = LEFT + index * step * scale
                parts.append(
                    f'<rect x="{at:.1f}" y="{base - tall:.1f}" width="{max(step * scale - 0.5, 0.5):.1f}" height="{tall:.1f}" '
                    f'fill="{COLOURS[number % len(COLOURS)]}"/>'
                )
    for value in range(0, int(end) + 1, max(1, int(end) // 6)):
        parts.append(
            f'<text x="{LEFT + value * scale:.1f}" y="{height - 6}" text-anchor="middle">{value} {escape(x_name)}</text>'
        )
    return "\n".join([*parts, "</svg>", ""])
