"""`rocksyd logs`: the output of a run, its end, what fits a pattern, with the time of each line.

What must live here: what of an output is shown, and how.
What this file must not know: how output comes here.

On a terminal colours are kept and every other escape sequence is shown as text; ``--raw``, a pipe and a file get what the run has
written.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, NamedTuple

from rocksyd.cli.output import harmless, json_line, write, write_raw
from rocksyd.client import Client

RESET = "\x1b[0m"
_UNFINISHED = re.compile(r"\x1b(?:\[[0-9;:]{0,60})?\Z")
_CHUNK = 256 * 1024
"""Bytes that are asked for at once when the end of an output is looked for."""
_END = 2**63 - 1


class Line(NamedTuple):
    """A line of output with its line break, if it has one yet, and when it was seen (Unix seconds; None: not known)."""

    text: str
    at: float | None


class Terminal:
    """Writes output to where the person sees it; ``raw`` as it is."""

    def __init__(self, *, raw: bool) -> None:
        self._raw = raw or not sys.stdout.isatty()
        self._kept = ""
        """The beginning of an escape sequence whose end has not come yet."""
        self._coloured = False

    def write(self, text: str) -> None:
        """Write a piece."""
        if self._raw:
            write_raw(text)
            return
        text, self._kept = self._kept + text, ""
        if unfinished := _UNFINISHED.search(text):
            text, self._kept = text[: unfinished.start()], unfinished[0]
        self._coloured = self._coloured or "\x1b" in text
        write_raw(harmless(text))

    def close(self) -> None:
        """Nothing more comes: a colour that the run has left on goes off."""
        if self._kept:
            write_raw(harmless(self._kept))
        if self._coloured:
            write_raw(RESET)


def pattern(word: str) -> re.Pattern[str]:
    """A regular expression."""
    try:
        return re.compile(word)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"not a regular expression ({error}): {word!r}") from None


def show(options: argparse.Namespace, daemon: Client) -> None:
    """Print the output of a run, as far as it is there or with ``follow`` until the run has ended."""
    since = _seconds(options.since)
    timed = options.timestamps or since is not None
    sizes = (
        daemon.request("logs", {"key": options.key, "offset": _END, "times": True}) if timed or options.tail is not None else {}
    )
    begin = 0
    if options.tail is not None and options.grep is None and since is None and not options.attempt:
        begin = _tail(daemon, options.key, int(sizes["offset"]), options.tail)
    pieces = (
        daemon.logs(options.key, follow=options.follow, offset=begin) if not options.attempt else _of_attempt(daemon, options)
    )
    by_line = timed or options.grep is not None or options.json or (options.tail is not None and begin == 0)
    if not by_line:
        _print(pieces, raw=options.raw)
        return
    times = _Times(sizes, daemon.status(options.key)) if timed else None
    lines: Iterable[Line] = _lines(pieces, begin, times)
    lines = (
        line for line in lines
        if (options.grep is None or options.grep.search(line.text)) and (since is None or line.at is None or line.at >= since)
    )  # fmt: skip
    if options.tail is not None and not options.follow:
        from collections import deque

        lines = deque(lines, options.tail)
    if options.json:
        for line in lines:
            write(json_line({"key": options.key, "text": line.text, **({"at": line.at} if timed else {})}))
        return
    _print((f"{_stamp(line.at)} {line.text}" if options.timestamps else line.text for line in lines), raw=options.raw)


def _of_attempt(daemon: Client, options: argparse.Namespace) -> Iterator[str]:
    offset, ended = 0, False
    while not ended:
        chunk = daemon.request("logs", {"key": options.key, "attempt": options.attempt, "offset": offset})
        yield chunk["text"]
        ended = chunk["ended"] or chunk["offset"] <= offset
        offset = chunk["offset"]


def last_lines(daemon: Client, key: str, lines: int) -> list[str]:
    """The last lines of a run's output."""
    size = int(daemon.request("logs", {"key": key, "offset": _END})["offset"])
    text = "".join(daemon.logs(key, offset=_tail(daemon, key, size, lines)))
    return text.splitlines()[-lines:]


def _print(pieces: Iterable[str], *, raw: bool) -> None:
    terminal = Terminal(raw=raw)
    try:
        for text in pieces:
            terminal.write(text)
    finally:
        terminal.close()


def _seconds(since: str | float | None) -> float | None:
    from rocksyd.units import parse_duration

    return time.time() - parse_duration(since) if isinstance(since, str) else since


def _stamp(at: float | None) -> str:
    """``2026-01-31T03:00:00.1+01:00``, with the tenths that are known."""
    if at is None:
        return "-"
    text = datetime.fromtimestamp(at).astimezone().isoformat(timespec="milliseconds")
    return text[:21] + text[23:]


class _Times:
    """When which part of an output was seen."""

    def __init__(self, known: dict[str, Any], record: dict[str, Any]) -> None:
        self._marks = [(int(offset), float(at)) for offset, at in known.get("times") or ()]
        self._size = int(known["offset"])
        self._last = record.get("ended_at")

    def of(self, end: int) -> float | None:
        """Of what ends at this byte; what came after the question was asked is seen now."""
        if end > self._size:
            return time.time()
        at = bisect_left(self._marks, (end, 0.0))
        return self._marks[at][1] if at < len(self._marks) else self._last or time.time()


def _lines(pieces: Iterable[str], offset: int, times: _Times | None) -> Iterator[Line]:
    rest = ""
    for piece in pieces:
        *whole, rest = (rest + piece).split("\n")
        for text in whole:
            offset += len(text.encode(errors="surrogatepass")) + 1
            yield Line(f"{text}\n", times.of(offset) if times else None)
    if rest:
        yield Line(rest, times.of(offset + len(rest.encode(errors="surrogatepass"))) if times else None)


def _tail(daemon: Client, key: str, size: int, lines: int) -> int:
    """Where the last ``lines`` lines of an output of ``size`` bytes begin."""
    if not lines:
        return size
    begin, wanted, first = size, lines, True
    while begin > 0:
        start = max(begin - _CHUNK, 0)
        text = ""
        at = start
        while at < begin:
            chunk = daemon.request("logs", {"key": key, "offset": at})
            if not chunk["text"] or chunk["offset"] <= at:
                break
            if chunk.get("begin", 0) > at:  # what was before it was not kept: no line is looked for behind that
                if chunk["begin"] >= begin:
                    return begin
                start, text = chunk["begin"], ""
            text, at = text + chunk["text"], chunk["offset"]
        data = text.encode(errors="surrogatepass")[: begin - start]
        end = len(data) - 1 if first and data.endswith(b"\n") else len(data)
        first = False
        while wanted and (end := data.rfind(b"\n", 0, end)) >= 0:
            wanted -= 1
            if not wanted:
                return start + end + 1
        begin = start
    return 0
