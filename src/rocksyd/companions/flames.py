"""Where the time of a run went, as stacks with how often each was seen: read, added up, drawn as a flame graph.

What must live here: stacks as text and as a picture. What this file must not know: who has looked, and at whom.

A line is "outermost (file:line);...;innermost (file:line) NUMBER", which py-spy, perf and all that draw flame graphs understand.
The picture is SVG without a script or a style sheet, so that it may stand in a page that allows neither.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from html import escape
from typing import NamedTuple
from zlib import crc32

Stacks = Counter[tuple[str, ...]]
"""How often each stack was seen, the outermost frame first."""

_OURS = re.compile(r".*\((?:.*/)?rocksyd/(?:boot\.py|zygote/|worker/)|<module> \((?:.*/)?boot\.py")
"""Frames of the daemon's own, below those of a job."""
_WIDTH, _ROW, _LETTER = 1200.0, 17.0, 6.6
"""Of the picture, in its own units: how wide it is, how high a frame, how wide a letter."""
_NARROWEST = 0.4
"""Frames that are narrower are not drawn."""
_DEEPEST = 200
"""Frames of a stack that are drawn, the outermost."""


class Total(NamedTuple):
    """A function: how often it was seen at the end of a stack, and anywhere in one."""

    own: int
    total: int
    name: str


def read(text: str) -> Stacks:
    """The stacks in a profiler's text, without what of them is the daemon's. Lines that are none are left out."""
    found: Stacks = Counter()
    for line in text.splitlines():
        stack, _, number = line.rpartition(" ")
        if stack and number.isdecimal():
            found[_job_of(tuple(stack.split(";")))] += int(number)
    return found


def _job_of(stack: tuple[str, ...]) -> tuple[str, ...]:
    """What of a stack is the job's: all of it where nothing is."""
    inner = 0
    while inner < len(stack) and _OURS.match(stack[inner]):
        inner += 1
    return stack[inner:] or stack


def write(stacks: Stacks, most: int | None = None) -> tuple[str, int]:
    """The lines, what was seen most first, in at most ``most`` characters; and how often those were seen that are left out."""
    lines, size, left = [], 0, 0
    for stack, number in sorted(stacks.items(), key=lambda one: (-one[1], one[0])):
        line = f"{';'.join(stack)} {number}\n"
        if most is not None and size + len(line) > most:
            left += number
        else:
            lines.append(line)
            size += len(line)
    return "".join(lines), left


def totals(stacks: Stacks) -> list[Total]:
    """Every function, those first in which the most was seen that is their own. One that calls itself counts once."""
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for stack, number in stacks.items():
        own[stack[-1]] += number
        for frame in set(stack):
            total[frame] += number
    found = (Total(own[name], number, name) for name, number in total.items())
    return sorted(found, key=lambda one: (-one.own, -one.total, one.name))


# --- the picture ------------------------------------------------------------------------------------------------------
class _Frame(NamedTuple):
    name: str
    at: int
    """How many samples are left of it."""
    seen: int
    depth: int


def svg(stacks: Stacks, title: str) -> str:
    """The flame graph, the outermost frames at its foot. What is said of a frame is shown where the mouse is on it."""
    whole = sum(stacks.values())
    frames = [one for one in _frames(stacks) if one.seen * _WIDTH >= _NARROWEST * whole]
    height = (max((one.depth for one in frames), default=0) + 2) * _ROW + 8
    drawn = "".join(_drawn(one, whole, height) for one in frames)
    head = f'<text x="4" y="{_ROW - 4}" fill="#777777" font-weight="600">{escape(title)}, {whole:,} samples</text>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH:g} {height:g}" width="{_WIDTH:g}" height="{height:g}" '
        f'role="img" aria-label="{escape(title)}" font-family="ui-monospace, Menlo, Consolas, monospace" font-size="11" '
        f'fill="#1c1c1c">{head}{drawn}</svg>\n'
    )


def _drawn(frame: _Frame, whole: int, height: float) -> str:
    x, width = _WIDTH * frame.at / whole, _WIDTH * frame.seen / whole
    y = height - (frame.depth + 1) * _ROW - 2
    told = f"{frame.name}: {frame.seen:,} of {whole:,} samples, {100 * frame.seen / whole:.3g} %"
    letters = int((width - 6) / _LETTER)
    shown = frame.name if len(frame.name) <= letters else f"{frame.name[: letters - 1]}…" if letters >= 3 else ""
    text = f'<text x="{x + 3:.2f}" y="{y + _ROW - 5:.2f}">{escape(shown)}</text>' if shown else ""
    return (
        f'<g><title>{escape(told)}</title><rect x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{_ROW - 1:g}" '
        f'fill="{_colour(frame.name)}" rx="1"/>{text}</g>'
    )


def _colour(name: str) -> str:
    """Always the same for a function; of a file all are alike."""
    file = name[name.rfind("(") + 1 :].rpartition(":")[0]
    return f"hsl({16 + crc32(file.encode()) % 40} {60 + crc32(name.encode()) % 30}% {66 + crc32(name.encode()) % 12}%)"


def _frames(stacks: Stacks) -> Iterator[_Frame]:
    """All frames, those that several stacks have in common once."""
    at = 0
    going: list[_Frame] = []
    for stack, number in sorted(stacks.items()):
        shown = stack[:_DEEPEST]
        same = _in_common((one.name for one in going), shown)
        yield from going[same:]
        going = [one._replace(seen=one.seen + number) for one in going[:same]]
        going += [_Frame(name, at, number, same + deeper) for deeper, name in enumerate(shown[same:])]
        at += number
    yield from going


def _in_common(before: Iterable[str], now: tuple[str, ...]) -> int:
    number = 0
    for one, other in zip(before, now, strict=False):
        if one != other:
            break
        number += 1
    return number
