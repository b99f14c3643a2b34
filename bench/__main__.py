"""``python -m bench [--quick] [names...]``: measure, print the tables, keep the figures in bench/results."""

from __future__ import annotations

import argparse
import sys
import time
from importlib import import_module
from pathlib import Path

from bench import machine, plots
from bench.figures import Report, as_json

MEASUREMENTS = ("launch", "rate", "check", "restart", "idle", "command", "exec", "sizes")
RESULTS = Path(__file__).resolve().parent / "results"
DOCS = RESULTS.parent.parent / "docs"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measures rocksyd beside its peers on this machine.")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"what to measure: {', '.join(MEASUREMENTS)}; everything by default"
    )
    parser.add_argument(
        "--quick", action="store_true", help="fewer repetitions: minutes instead of half an hour, coarser figures"
    )
    parser.add_argument("--plots", action="store_true", help="write the plots of docs/performance.md anew (with `sizes`)")
    parser.add_argument(
        "--patience", type=float, default=60.0, help="seconds to wait for a quiet machine before each (default: 60)"
    )
    options = parser.parse_args()
    unknown = set(options.names) - set(MEASUREMENTS)
    if unknown:
        parser.error(f"there is no measurement {', '.join(sorted(unknown))}; there are: {', '.join(MEASUREMENTS)}")
    about = machine.describe()
    print(" · ".join(f"{name} {value}" for name, value in about.items()), end="\n\n", flush=True)
    reports = []
    for name in options.names or MEASUREMENTS:
        share = machine.wait_until_quiet(options.patience)
        began = time.monotonic()
        report = import_module(f"bench.{name}").measure(options.quick)
        reports.append(report)
        print(report.table())
        busy = f"; others used {share:.0%} of the machine before it" if share > machine.BUSY_SHARE else ""
        print(f"({time.monotonic() - began:.0f} s{busy})\n", flush=True)
        _keep(about, reports)
        if options.plots:
            _draw(report)
    return 0 if all(figure.kept is not False for report in reports for figure in report.figures) else 1


def _keep(about: dict[str, object], reports: list[Report]) -> None:
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "figures.json").write_text(as_json(about, reports))
    (RESULTS / "figures.md").write_text("\n".join(report.table() for report in reports))


def _draw(report: Report) -> None:
    if report.name != "sizes":
        return
    size = "size of the loaded application, MB"
    launch = plots.plot("From submitting a job to its first line", size, "ms, p50", report.curves["launch"])
    rate = plots.plot("Jobs a second, a process for every job", size, "jobs/s", report.curves["rate"])
    (DOCS / "performance-launch.svg").write_text(launch)
    (DOCS / "performance-rate.svg").write_text(rate)


if __name__ == "__main__":
    sys.exit(main())
