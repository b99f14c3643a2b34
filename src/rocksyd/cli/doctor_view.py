"""What `rocksyd doctor` shows a person, from 40 columns to any number.

What must live here: sections, tables, what is worth a line. What this file must not know: how anything was measured or judged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rocksyd.cli.output import clean
from rocksyd.cli.tables import Cell, Column, Screen, coloured, lines_of, wrapped
from rocksyd.config import AppConfig
from rocksyd.doctor.findings import BREAKS, HINTS, HOOK, SAFE, UNSAFE, WARNS, Finding
from rocksyd.units import format_duration, format_size, rough_duration

_MARKS = {BREAKS: ("✗", "red"), WARNS: ("!", "magenta"), HINTS: ("·", "cyan")}
_SHARE = 0.02
"""An import that took less than this share of the whole is not shown, unless all are."""
_LINES = 30
_ROWS = 12
_VERDICTS = {SAFE: "safe", HOOK: "safe with a hook", UNSAFE: "not safe"}


def shown(app: AppConfig, report: dict[str, Any], found: Sequence[Finding], target: Screen, *, everything: bool) -> str:
    """The whole text on one application."""
    page = Page(target)
    page.title(app, report)
    for finding in found:
        page.finding(finding)
    if not found:
        page.line("  nothing found", "green")
    if report.get("failed", {}).get("traceback"):
        page.section("Where it failed")
        for line in report["failed"]["traceback"].splitlines():
            page.line(f"  {line}", "dim")
    page.imports(report.get("imports", {}).get("steps", []), everything)
    page.sharing(report.get("sharing", {}), report.get("run"), everything)
    page.forks(report.get("forks", {}))
    page.libraries(report.get("loaded", {}).get("libraries", {}), everything)
    return "".join(f"{line}\n" for line in [*page.lines, ""])


class Page:
    """Lines for one screen."""

    def __init__(self, target: Screen) -> None:
        self.lines: list[str] = []
        self._target = target

    def line(self, text: str, colour: str = "") -> None:
        """One line, broken where it is too long for the screen, with the same indentation."""
        text = clean(text)
        indent = " " * (len(text) - len(text.lstrip(" ")))
        width = None if self._target.width is None else max(self._target.width - len(indent), 8)
        for part in wrapped(text[len(indent) :], width) or [""]:
            self.lines.append(coloured(indent + part, colour, self._target))

    def section(self, title: str) -> None:
        """A heading."""
        self.lines.append("")
        self.line(title, "bold")

    def title(self, app: AppConfig, report: dict[str, Any]) -> None:
        """What was loaded, in two lines."""
        begin, loaded = report.get("begin"), report.get("loaded")
        self.line(f"application {app.name} in {app.path}", "bold")
        words = [f"Python {begin['python']} ({begin['executable']})"] if begin else []
        if loaded:
            words += [
                f"loaded in {format_duration(loaded['seconds'])}",
                f"{format_size(_round(loaded['memory']))} of memory",
                f"{loaded['modules']} modules",
                f"{len(loaded['jobs'])} jobs" if len(loaded["jobs"]) != 1 else "1 job",
            ]
        if words:
            self.line("  " + ", ".join(words))
        self.lines.append("")

    def finding(self, finding: Finding) -> None:
        """A mark, the sentence, and below it what to do."""
        mark, colour = _MARKS[finding.level]
        width = None if self._target.width is None else max(self._target.width - 4, 8)
        texts = wrapped(clean(finding.text), width)
        for number, text in enumerate(texts):
            lead = f"  {coloured(mark, colour, self._target)} " if number == 0 else "    "
            self.lines.append(lead + text)
        for text in wrapped(clean(finding.advice), width):
            self.lines.append("    " + coloured(text, "dim", self._target))

    # --- tables -------------------------------------------------------------------------------------------------------
    def _table(self, columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> None:
        width = None if self._target.width is None else self._target.width - 2
        self.lines += [f"  {line}".rstrip() for line in lines_of(columns, rows, Screen(width, self._target.coloured))]

    def imports(self, steps: list[dict[str, Any]], everything: bool) -> None:
        """The tree of imports, the slow branches of it."""
        if not steps:
            return
        self.section("Imports, with what they import in turn")
        whole = sum(step["ms"] for step in steps)
        rows = []
        for step in steps:
            rows.append([Cell(f"{step['ms']:.0f}"), _megabytes(step["bytes"]), Cell(""), Cell(step["name"], "bold")])
            rows += _branches(step, 0.0 if everything else whole * _SHARE, 1)
        left_out = 0 if everything else max(0, len(rows) - _LINES)
        if left_out:
            least = sorted((_number(row[0]) for row in rows), reverse=True)[_LINES - 1]
            kept = [row for row in rows if _number(row[0]) >= least]
            left_out, rows = len(rows) - len(kept), kept
        titles = (
            Column("MS", right=True),
            Column("MB", right=True),
            Column("OWN MS", right=True, rank=1),
            Column("IMPORT", gives=True),
        )
        self._table(titles, rows)
        if not everything:
            self.line("  Branches below 2 % are left out; --all shows every import.", "dim")

    def sharing(self, sharing: dict[str, Any], run: dict[str, Any] | None, everything: bool) -> None:
        """What a worker un-shares."""
        if not sharing:
            return
        self.section("Memory that a worker stops sharing")
        start, collection = sharing["start"], sharing["collection"]
        self.line(f"  {_mb(start['bytes'])} MB by starting, {_mb(collection['bytes'])} MB by one garbage collection.")
        if run:
            copied = sum(run["copied"].values())
            rest = _mb(max(0, run["bytes"] - copied))
            words = f"{_mb(copied)} MB by one run of {run['target']} ({rough_duration(run['ms'] / 1000)})"
            self.line(f"  {words}, and {rest} MB that are new or no package's.")
        self.line(_EXPLAINED)
        rows = [row for row in sharing["packages"] if everything or row["copied"] >= 1 << 18 or row["loaded"] >= 1 << 20]
        cells = [
            [
                Cell(_mb(run["copied"].get(row["package"], 0)) if run else ""),
                Cell(_mb(row["copied"])),
                Cell(_mb(row["loaded"])),
                Cell(f"{row['objects']:,}".replace(",", " ")),
                Cell(row["package"]),
            ]
            for row in (rows if everything else rows[:_ROWS])
        ]
        sizes = (Column("BY RUN MB", right=True), Column("COPIED MB", right=True), Column("LOADED MB", right=True))
        self._table((*sizes, Column("OBJECTS", right=True, rank=1), Column("PACKAGE", gives=True)), cells)

    def forks(self, forks: dict[str, Any]) -> None:
        """What a fork costs, with and without huge pages."""
        if not forks:
            return
        self.section("Forks and huge pages")
        huge = (
            f"{format_size(_round(forks['huge']))} of its memory are in huge pages"
            if forks["huge"]
            else "no memory is in huge pages"
        )
        system = forks["system"] or "not there"
        setting = "" if forks["huge_pages"] else ", huge_pages = false"
        self.line(f"  {huge} (transparent huge pages of this system: {system}{setting}).")
        rows = [("as the daemon has it", forks["ms"], forks["whole_ms"])]
        if forks["huge_pages"] and forks["scattered_ms"] is not None:
            rows.append(("before huge pages", forks["scattered_ms"], forks["scattered_whole_ms"]))
        cells = [[Cell(f"{fork:.2f}"), Cell(f"{whole:.2f}"), Cell(name)] for name, fork, whole in rows]
        self._table((Column("FORK MS", right=True), Column("WITH ITS END", right=True), Column("")), cells)

    def libraries(self, loaded: dict[str, Any], everything: bool) -> None:
        """The libraries that are known, and what is known of them. (Objects that should not have been made are findings.)"""
        from rocksyd.doctor.libraries import libraries

        known = libraries()
        told = {name: known[name] for name in loaded if known[name]["when"] != "made"}
        if not told:
            return
        self.section("Known libraries, used before the fork and after it")
        for name, entry in told.items():
            if everything or entry["verdict"] != SAFE:
                words = f"{entry['name']} {loaded[name]['version']}".strip()
                why = f": {entry['why']}; {entry['cure']}" if entry["verdict"] != SAFE else ""
                self.line(f"  {words} is {_VERDICTS[entry['verdict']]}{why}")
        safe = [entry["name"] for entry in told.values() if entry["verdict"] == SAFE]
        if safe and not everything:
            self.line(f"  safe: {', '.join(safe)}")


_EXPLAINED = (
    "  COPIED is the private memory of a fork that has looked once at every object of the package: the most that a job which"
    " uses it stops sharing (data of arrays not counted). LOADED is by how much memory grew while it was imported."
)


def _branches(node: dict[str, Any], least: float, depth: int) -> Iterator[list[Cell]]:
    for child in sorted(node.get("imports", ()), key=lambda one: -one["ms"]):
        if child["ms"] < least:
            break
        own = child["ms"] - sum(one["ms"] for one in child.get("imports", ()))
        name = "  " * depth + child["name"] + (" (failed)" if child.get("failed") else "")
        yield [Cell(f"{child['ms']:.0f}"), _megabytes(child["bytes"]), Cell(f"{own:.0f}"), Cell(name)]
        yield from _branches(child, least, depth + 1)


def _number(cell: Cell) -> float:
    return float(cell.text)


def _megabytes(size: int) -> Cell:
    return Cell(_mb(size))


def _mb(size: int) -> str:
    return f"{size / 2**20:.1f}"


def _round(size: int) -> int:
    return max(size >> 20, 1) << 20
