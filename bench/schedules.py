"""Schedules: a thousand of ten thousand scripts due in the same second, beside Celery beat and APScheduler with as many."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec

from bench.figures import Report, p50, percentile
from bench.programs import Rocksyd

ALL, DUE = 10_000, 1_000
AHEAD = 30
"""Seconds from now to the second in which they are due, for everything to be loaded by then."""

PEER = """
import sys, time
from datetime import UTC, datetime

number, due, moment = int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
begun = []


def celery():
    from celery import Celery
    from celery.beat import ScheduleEntry, Scheduler
    from celery.schedules import crontab, schedule
    from datetime import timedelta

    app = Celery("bench", broker="memory://")
    app.conf.timezone = "UTC"

    class Counting(Scheduler):
        def apply_async(self, entry, producer=None, advance=True, **kwargs):
            self.reserve(entry)
            begun.append(time.time())

    scheduler = Counting(app=app, lazy=True)
    at = datetime.fromtimestamp(moment, UTC)
    period = timedelta(hours=1)
    for one in range(number):
        last = at - period if one < due else at + timedelta(days=1)
        scheduler.schedule[str(one)] = ScheduleEntry(str(one), "t", last, 0, schedule(period, app=app), app=app)
    while len(begun) < due:
        time.sleep(min(max(scheduler.tick(), 0), 0.1))


def apscheduler():
    from apscheduler.schedulers.blocking import BlockingScheduler
    from datetime import timedelta

    scheduler = BlockingScheduler(timezone="UTC")
    at = datetime.fromtimestamp(moment, UTC)

    def job():
        begun.append(time.time())
        if len(begun) == due:
            scheduler.shutdown(wait=False)

    for one in range(number):
        scheduler.add_job(job, "date", run_date=at if one < due else at + timedelta(days=1), misfire_grace_time=None)
    scheduler.start()


globals()[sys.argv[1]]()
print(*(one - moment for one in begun[:due]))
"""


def _ours(number: int, due: int) -> tuple[list[float], float]:
    """Accepted - nominal of each tick, and the time until the last run has ended; seconds."""
    at = datetime.fromtimestamp(time.time() + AHEAD, UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
    then, seldom = f"{at.minute} {at.hour} * * *", "0 0 29 2 *"
    tables = "".join(
        f'[scripts.s{one}]\ntarget = "nothing"\noverlap = "allow"\ncron = "{then if one < due else seldom}"\n'
        for one in range(number)
    )
    with Rocksyd(ballast=0, top=f'timezone = "UTC"\n{tables}') as daemon:
        talk = daemon.talk()
        if time.time() >= at.timestamp():
            raise RuntimeError(f"{number} scripts were not loaded within {AHEAD} s: raise AHEAD")
        time.sleep(at.timestamp() - time.time())
        ended: list[dict[str, float]] = []
        while len(ended) < due:
            time.sleep(0.2)
            ended = talk.rpc("list", target="nothing", state="ended", limit=1000)
    nominal = at.timestamp()
    return [row["submitted_at"] - nominal for row in ended], max(row["ended_at"] for row in ended) - nominal


def _peer(name: str, number: int, due: int) -> list[float]:
    words = [sys.executable, "-c", PEER, name, str(number), str(due), str(int(time.time()) + AHEAD)]
    return [float(word) for word in subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()]


def measure(quick: bool) -> Report:
    number, due = (1_000, 100) if quick else (ALL, DUE)
    report = Report("schedules", f"{due:,} of {number:,} schedules due in the same second")
    accepted, drained = _ours(number, due)
    report.add(
        "rocksyd: accepted - nominal, p99", percentile(accepted, 0.99), "s", at_most=1.0, note=f"p50 {p50(accepted):.2f} s"
    )
    report.add("rocksyd: until the last of them has ended", drained, "s", note="each is a run with a record, in a journal")
    for name, what in (("celery", "Celery beat"), ("apscheduler", "APScheduler")):
        if find_spec(name) is None:
            report.left_out.append(f"{what}: {name} is not installed")
            continue
        handed_on = _peer(name, number, due)
        report.add(f"{what}: handed on - nominal, p99", percentile(handed_on, 0.99), "s", note="in memory: no broker, no record")
    return report
