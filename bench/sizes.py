"""How launch and rate grow with the application, with huge pages and without, beside the bare fork."""

from __future__ import annotations

import contextlib

from bench.figures import Report, p50
from bench.launch import Caller
from bench.programs import ON_DEMAND, SPARE, Peer, Rocksyd
from bench.rate import Burst

SIZES = (0, 50, 100, 250, 500, 1000, 2000)
"""MB of ballast; the process without any has about 13."""
QUICK_SIZES = (0, 100, 500)


def measure(quick: bool) -> Report:
    report = Report("sizes", "Over the application's size")
    count, jobs = (15, 60) if quick else (60, 200)
    launch: dict[str, list[tuple[float, float]]] = {}
    rate: dict[str, list[tuple[float, float]]] = {}
    for ballast in QUICK_SIZES if quick else SIZES:
        with contextlib.ExitStack() as stack:
            bare = stack.enter_context(Peer("bare.py", ballast, "small"))
            size = bare.ask("resident") / (1 << 20)
            times = {"bare fork": p50(bare.ask("launch", count)["first"])}
            rates = {"bare fork, _exit, waitpid": jobs / bare.ask("rate", jobs)}
            for huge in (True, False):
                pages = "huge pages" if huge else "small pages"
                with Rocksyd(SPARE, ballast=ballast, huge=huge) as daemon:
                    times[f"rocksyd, a spare waits, {pages}"] = p50(Caller(daemon).ask("launch", count)["first"])
                    burst = Burst(daemon)
                    burst.ask("rate", 20)
                    rates[f"rocksyd, {pages}"] = jobs / burst.ask("rate", jobs)
                with Rocksyd(ON_DEMAND, ballast=ballast, huge=huge) as daemon:
                    times[f"rocksyd, no spare, {pages}"] = p50(Caller(daemon).ask("launch", count)["first"])
        for name, value in times.items():
            launch.setdefault(name, []).append((size, value))
        for name, value in rates.items():
            rate.setdefault(name, []).append((size, value))
        report.add(
            f"{size:,.0f} MB: bare fork", times["bare fork"], "ms", note=f"{rates['bare fork, _exit, waitpid']:.0f} jobs/s"
        )
        for pages in ("huge pages", "small pages"):
            spare, none = times[f"rocksyd, a spare waits, {pages}"], times[f"rocksyd, no spare, {pages}"]
            report.add(
                f"… rocksyd, a spare waits, {pages}",
                spare,
                "ms",
                note=f"no spare {none:.2f} ms, {rates[f'rocksyd, {pages}']:.0f} jobs/s",
            )
    report.curves = {"launch": launch, "rate": rate}
    return report
