"""A real daemon whose clock is shifted (libfaketime): across a change of the clock, and set while it runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from rocksyd.testing import Daemon
from rocksyd.testing.daemon import until
from tests.schedule.stage import daemon, ran, ticks, wait_ran, wait_ready
from tests.schedule.test_scheduler import EVERY, accounted

LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
pytestmark = pytest.mark.skipif(LIBRARY is None, reason="libfaketime (package faketime) is missing")


def set_clock(folder: Path, moment: str) -> None:
    """Let it be this moment for the daemon, in all of its processes."""
    behind = datetime.now(UTC) - datetime.fromisoformat(moment).replace(tzinfo=UTC)
    (folder / "next").write_text(f"-{behind.total_seconds():.0f}")
    (folder / "next").rename(folder / "moment")  # whoever reads it in between finds the one or the other


def shifted(folder: Path, scripts: str, moment: str) -> Daemon:
    """A daemon that begins at this moment, UTC."""
    set_clock(folder, moment)
    environment = {
        "LD_PRELOAD": str(LIBRARY), "FAKETIME_TIMESTAMP_FILE": str(folder / "moment"), "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1", "TZ": "UTC",
    }  # fmt: skip
    return daemon(folder, scripts, environment=environment)


def test_a_time_that_the_clock_leaves_out_is_made_up_for_at_the_end_of_the_gap(tmp_path: Path) -> None:
    script = '[scripts.nightly]\ntarget = "tick"\ncron = "30 2 * * *"\ntimezone = "Europe/Berlin"\nmisfire = "skip"\n'
    script += '[scripts.other]\ntarget = "tick"\n'
    with shifted(tmp_path, script, "2020-03-29 00:30:00") as served:
        wait_ready(served.talk(), "scheduler")
        assert served.talk().rpc("schedule.list")[0]["next"] == "2020-03-29T03:00:00+02:00"
        set_clock(tmp_path, "2020-03-29 00:59:57")
        talk = served.talk()
        # The alarm does not hear of a clock that only the library has set: somebody has to wake the scheduler.
        talk.rpc("schedule.pause", name="other")
        talk.rpc("schedule.resume", name="other")
        assert wait_ran(served, 1) == ["nightly@2020-03-29T01:00:00Z"]
        until(lambda: talk.rpc("schedule.list")[0]["last"], "the tick to be written down, which is after its run was ordered")
        row = talk.rpc("schedule.list")[0]
        assert (row["last"], row["next"]) == ("2020-03-29T03:00:00+02:00", "2020-03-30T02:30:00+02:00")


def test_a_clock_that_is_set_forward_misses_ticks_and_one_that_is_set_back_repeats_none(tmp_path: Path) -> None:
    """Cronicle #600."""
    with shifted(tmp_path, EVERY, "2020-06-01 12:00:00") as served:
        wait_ran(served, 1)
        talk = served.talk()
        set_clock(tmp_path, "2020-06-01 13:30:00")
        until(lambda: ran(served)[-1] > "beat@2020-06-01T13", "a tick by the new clock")
        until(lambda: "missed" in [one["what"] for one in ticks(talk, "beat")], "the missed ones to be written down")
        missed = next(one for one in ticks(talk, "beat") if one["what"] == "missed")
        assert missed["count"] > 3000
        accounted(talk, "beat")
        before = len(ran(served))
        latest = datetime.fromisoformat(ran(served)[-1].partition("@")[2])
        set_clock(tmp_path, f"{latest - timedelta(seconds=5):%Y-%m-%d %H:%M:%S}")
        wait_ran(served, before + 1)
        begun = ran(served)
        assert len(set(begun)) == len(begun), "none is run a second time"
        assert begun == sorted(begun)
        accounted(talk, "beat")
        assert datetime.now(UTC).year > 2020, "only the daemon's clock was set"


def test_a_run_for_a_time_of_the_clock_begins_at_it_although_the_clock_was_set_forward(tmp_path: Path) -> None:
    with shifted(tmp_path, "", "2020-06-01 12:00:00") as served:
        talk = served.talk()
        talk.rpc("run", target="tick", key="later", eta="2020-06-01T14:00:00Z", start_within="1h")
        talk.rpc("run", target="tick", key="delayed", delay="2h")
        set_clock(tmp_path, "2020-06-01 14:00:00")
        talk.rpc("status", key="later")  # as above: any turn of the master looks
        assert talk.rpc("wait", key="later")["outcome"] == "ok"
        assert talk.rpc("status", key="delayed")["state"] == "waiting"
