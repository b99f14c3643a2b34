"""What ``rocksyd dev`` shows: the daemon's log, what runs print, how they end, what a reload came to.

What must live here: lines and their colours. What this file must not know: where they come from.

Only colours that can be read on light and dark (as ``tables`` has them), and no background.
"""

from __future__ import annotations

import re
from typing import Any

from rocksyd.cli.output import clean, harmless
from rocksyd.client.records import failure_text
from rocksyd.units import rough_duration

_RUNS = ("36", "35", "32")
"""Cyan, magenta, green: one after another, so that two runs that print at the same time are told apart."""
_RED, _GREEN, _DIM, _BOLD = "31", "32", "2", "1"
_NAME = 16
_LOG = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z (\w+)\[\d+\] (.*)", re.DOTALL)
_OLD_CODE = "the code before goes on"


class View:
    """Text for the terminal; ``coloured`` says whether it takes colours, ``signs`` whether it can show check marks."""

    def __init__(self, *, coloured: bool, signs: bool = True) -> None:
        self._coloured = coloured
        self._good, self._bad = ("✓", "✗") if signs else ("ok", "failed")
        self._bar = "│" if signs else "|"
        self._given = 0
        self._colours: dict[str, str] = {}
        self._unfinished: dict[str, str] = {}
        """What a run has printed behind its last line break."""

    def _in(self, colour: str, text: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._coloured and colour and text else text

    # --- runs ---------------------------------------------------------------------------------------------------------
    def output(self, record: dict[str, Any], text: str) -> str:
        """Complete lines of what a run has printed, each with the run's name; the rest is kept until its line is complete."""
        key = str(record.get("key"))
        *lines, rest = (self._unfinished.pop(key, "") + text).split("\n")
        if rest:
            self._unfinished[key] = rest
        return "".join(self._line(record, line) for line in lines)

    def _line(self, record: dict[str, Any], line: str) -> str:
        # A progress bar draws over itself: what is seen of it at last is shown.
        shown = line.rstrip("\r").rpartition("\r")[2]
        reset = "\x1b[0m" if self._coloured and "\x1b" in shown else ""
        return f"{self._prefix(record)} {harmless(shown) if self._coloured else _plain(shown)}{reset}\n"

    def _prefix(self, record: dict[str, Any]) -> str:
        key = str(record.get("key"))
        colour = self._colours.get(key)
        if colour is None:
            colour = self._colours[key] = _RUNS[self._given % len(_RUNS)]
            self._given += 1
        return self._in(colour, f"{name_of(record):<{_NAME}} {clean(key)[:8]:<8} {self._bar}")

    def ended(self, record: dict[str, Any]) -> str:
        """How a run ended, behind what it printed last without a line break."""
        key = str(record.get("key"))
        rest = self._unfinished.pop(key, "")
        text = self._line(record, rest) if rest else ""
        seconds = max(0.0, (record.get("ended_at") or 0.0) - (record.get("started_at") or record.get("ended_at") or 0.0))
        if record.get("outcome") == "ok":
            said = self._in(_GREEN, self._good) + f" {rough_duration(seconds)}"
        else:
            said = (
                self._in(_RED, f"{self._bad} {record.get('outcome')}: {clean(failure_text(record))}")
                + f" ({rough_duration(seconds)})"
            )
        text += f"{self._prefix(record)} {said}\n"
        self._colours.pop(key, None)
        return text

    # --- the daemon ---------------------------------------------------------------------------------------------------
    def log(self, line: str) -> str:
        """A line of the daemon's own log."""
        found = _LOG.fullmatch(line)
        text = f"{found[1]}: {found[2]}" if found else line
        return self._in(_DIM, f"{'rocksyd':<{_NAME}} {'':<8} {self._bar} {_plain(text)}") + "\n"

    def note(self, text: str) -> str:
        """Something that ``dev`` itself has to say."""
        return self._in(_BOLD, f"{'rocksyd':<{_NAME}} {'':<8} {self._bar} {text}") + "\n"

    def reloaded(self, changed: list[str], generation: int, seconds: float) -> str:
        """New code serves."""
        return self.note(f"{self._good} reloaded in {rough_duration(seconds)}, generation {generation} ({_listed(changed)})")

    def refused(self, changed: list[str], reason: str) -> str:
        """The new code cannot serve."""
        head, *rest = reason.rstrip().split("\n")
        lines = [f"{self._bad} not reloaded ({_listed(changed)}), {_OLD_CODE}: {head}", *rest]
        return "".join(self._in(_RED, _plain(line)) + "\n" for line in lines)

    def not_started(self, reason: str) -> str:
        """The daemon could not be started at all."""
        return "".join(self._in(_RED, _plain(line)) + "\n" for line in f"{self._bad} {reason.rstrip()}".split("\n"))


def name_of(record: dict[str, Any]) -> str:
    """A run's target, at most so long that the lines stay aligned."""
    name = clean(record.get("target"))
    return name if len(name) <= _NAME else name[: _NAME - 1] + "…"


def _listed(paths: list[str]) -> str:
    shown = ", ".join(clean(path) for path in paths[:3])
    return shown if len(paths) <= 3 else f"{shown} and {len(paths) - 3} more"


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() or c == "\t" else "" for c in re.sub(r"\x1b\[[0-?]*[ -/]*[@-~]", "", text))
