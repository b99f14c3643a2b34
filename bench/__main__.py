"""``python -m bench [--quick] [--document] [names...]``: measure, print the tables, keep the figures in bench/results."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from importlib import import_module

from bench import document, machine
from bench.figures import Report

MEASUREMENTS = (
    "launch",
    "rate",
    "calls",
    "avalanche",
    "check",
    "restart",
    "idle",
    "command",
    "exec",
    "sizes",
    "memory",
    "refork",
    "schedules",
    "versions",
    "generation",
    "watching",
    "dashboards",
    "pages",
    "web",
    "web_avalanche",
    "history",
)


def main() -> int:
    """Measure; the exit status says whether every figure is as asked."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is stopped on the way out
    about = machine.describe()
    print(document.machine(about), end="\n\n", flush=True)
    reports = []
    for name in options.names or MEASUREMENTS:
        report = _measured(name, options)
        reports.append(report)
        document.keep(report, about)
    if options.document:
        document.write()
    return 0 if all(figure.kept is not False for report in reports for figure in report.figures) else 1


def _measured(name: str, options: argparse.Namespace) -> Report:
    share = machine.wait_until_quiet(options.patience)
    began = time.monotonic()
    report: Report = import_module(f"bench.{name}").measure(options.quick)
    report.quick = options.quick
    report.disturbance = max(share, machine.busy_share())
    took = time.monotonic() - began
    print(report.table())
    busy = f"; others used {report.disturbance:.0%} of the machine" if report.disturbance > machine.BUSY_SHARE else ""
    print(f"({took:.0f} s{busy})\n", flush=True)
    return report


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measures rocksyd beside its peers on this machine.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"what to measure: {', '.join(MEASUREMENTS)}; all by default")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions: minutes instead of an hour, coarser figures")
    parser.add_argument("--document", action="store_true", help="put the figures kept so far into docs/performance.md")
    parser.add_argument("--patience", type=float, default=60.0, help="seconds to wait for a quiet machine before each (60)")
    options = parser.parse_args()
    unknown = set(options.names) - set(MEASUREMENTS)
    if unknown:
        parser.error(f"there is no measurement {', '.join(sorted(unknown))}; there are: {', '.join(MEASUREMENTS)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
