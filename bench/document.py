"""What was measured, kept from one day to the next, and as pages and plots of the manual.

What must live here: files. What this file must not know: how anything is measured.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench import machine as quiet
from bench import plots
from bench.figures import Report

RESULTS = Path(__file__).resolve().parent / "results"
KEPT = RESULTS / "figures.json"
DOCS = RESULTS.parent.parent / "docs"
PAGE = DOCS / "performance.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def keep(report: Report, about: dict[str, Any]) -> None:
    """Put a report in the place of the last one of its name."""
    kept = _kept()
    kept[report.name] = {"machine": about, "report": report.dump()}
    RESULTS.mkdir(exist_ok=True)
    KEPT.write_text(json.dumps(kept, indent=1))


def write() -> None:
    """The tables of all that is kept go between the marks in docs/performance.md, the plots beside it."""
    kept = _kept()
    parts = []
    about = None
    for entry in kept.values():
        report = Report.load(entry["report"])
        if entry["machine"] | {"at": ""} != about:
            about = entry["machine"] | {"at": ""}
            parts.append(f"Measured on {machine(entry['machine'])}.\n")
        parts.append(report.table())
        if report.disturbance > quiet.BUSY_SHARE:
            share = f"{report.disturbance:.0%}"
            parts.append(f"Not on a quiet machine: others used {share} of it before or after. Take the ratios, not the times.\n")
        if report.name == "sizes":
            _draw(report)
        if report.name == "avalanche":
            draw_avalanche(report)
        if report.name == "web_avalanche":
            draw_avalanche(report, "web-avalanche.svg")
    head, _, rest = PAGE.read_text().partition(BEGIN)
    tail = rest.partition(END)[2]
    PAGE.write_text("\n".join([head + BEGIN, *parts, END + tail]))


def machine(about: dict[str, Any]) -> str:
    """The machine in a line."""
    return (
        f"{about['processors']} processors ({about['processor']}), {about['memory_gb']} GB, Linux {about['kernel']}, "
        f"Python {about['python']}, transparent huge pages: {about['huge_pages']}; {about['at']}"
    )


def _kept() -> dict[str, Any]:
    kept: dict[str, Any] = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    return kept


def draw_avalanche(report: Report, name: str = "refusal.svg") -> None:
    """The plot of docs/refusal.md, or of web pools."""
    title = "The time to an answer while the backend is ten times slower"
    curve = plots.plot(title, "seconds", "seconds to the answer, p50", report.curves["time to the answer"], time=True)
    (DOCS / name).write_text(curve)


def _draw(report: Report) -> None:
    size = "size of the loaded application, MB"
    launch = plots.plot("From submitting a job to its first line", size, "ms, p50", report.curves["launch"])
    rate = plots.plot("Jobs a second, a process for every job", size, "jobs/s", report.curves["rate"])
    (DOCS / "performance-launch.svg").write_text(launch)
    (DOCS / "performance-rate.svg").write_text(rate)
