"""What `rocksyd schedule` shows is read to its end on a terminal of 80 columns."""

from __future__ import annotations

from argparse import Namespace
from datetime import UTC, datetime
from typing import Any

import pytest

from rocksyd.cli.filters import asked
from rocksyd.cli.schedule import explained, shown_script
from rocksyd.cli.tables import Screen
from rocksyd.schedule import words
from rocksyd.schedule.explain import effects
from rocksyd.schedule.script import Script, define

NOW = int(datetime(2026, 11, 29, tzinfo=UTC).timestamp())


def said(script: Script) -> dict[str, Any]:
    """As ``schedule.explain`` answers."""
    assert script.timetable is not None
    zone = script.timetable.zone
    changes = [{"at": words.moment(one.at, zone), "clock": one.clock, "effect": one.effect} for one in effects(script, NOW)]
    return {"name": script.name, "schedule": words.schedule(script), "zone": script.zone, "changes": changes}


def test_what_the_clock_does_to_a_script_is_not_cut() -> None:
    script = define("nightly", {"target": "t", "cron": "30 2 * * *"}, "Europe/Berlin")
    assert explained(said(script), Screen(80)).splitlines()[:6] == [
        "nightly: every day at 02:30 Europe/Berlin",
        "",
        "AT                          CLOCK                      EFFECT",
        "2027-03-28 03:00:00 +02:00  set forward from 02:00 to  02:30 does not exist:",
        "                            03:00                      once at 03:00 instead",
        "2027-10-31 02:00:00 +01:00  set back from 03:00 to     02:30 comes twice: run",
    ]


@pytest.mark.parametrize(("cron", "zone"), [
    ("*/7 8-18/2 1,15 jan-mar mon-fri", "America/New_York"), ("*/20 1,2 * * *", "Europe/London"), ("30 2 * * *", "Etc/UTC"),
])  # fmt: skip
def test_every_word_of_it_is_there_and_none_is_broken(cron: str, zone: str) -> None:
    found = said(define("a-script-with-a-long-name", {"target": "t", "cron": cron}, zone))
    whole, narrow = explained(found, Screen()), explained(found, Screen(80))
    assert sorted(whole.split()) == sorted(narrow.split())
    assert max(map(len, narrow.splitlines())) <= 80


def test_the_reason_why_a_tick_was_left_out_is_read_to_its_end() -> None:
    reason = 'the daemon was not there at its time, and misfire = "once" runs the latest one only'
    tick = {"first": "2026-01-01T00:00:00Z", "last": "2026-01-03T00:00:00Z", "count": 1234, "what": "missed", "outcome": None,
            "key": None, "reason": reason}  # fmt: skip
    found: dict[str, Any] = dict.fromkeys(("command", "paused", "going", "jitter", "owner", "when", "last", "last_outcome"), "")
    found |= {"name": "nightly", "schedule": "every day", "target": "t", "next": None, "misfire": "once", "overlap": "skip",
              "tags": [], "order": {}, "ticks": [tick]}  # fmt: skip
    shown = shown_script(found, Screen(80))
    assert max(map(len, shown.splitlines())) <= 80
    ticks = shown.partition("KEY OR REASON\n")[2].splitlines()
    assert " ".join(line[ticks[0].index("the daemon") :].strip() for line in ticks) == reason


def test_the_runs_of_a_script_are_found_by_its_name() -> None:
    assert asked(Namespace(script="nightly", label=[("who", "me")])) == {"labels": {"who": "me", "script": "nightly"}}
    assert asked(Namespace(script=None)) == {}


def test_the_marks_of_a_tick_stand_beside_its_outcome() -> None:
    tick = {"first": "2026-11-29T03:00:00Z", "last": "2026-11-29T03:00:00Z", "count": 1, "what": "run", "reason": None,
            "key": "a@b", "outcome": "ok", "marks": ["late", "short"]}  # fmt: skip
    found = {
        "name": "a", "schedule": "every hour", "when": "1h", "order": {}, "command": None, "target": "t", "next": None,
        "paused": False,
        "last": None, "last_outcome": None, "going": [], "misfire": "once", "overlap": "skip", "jitter": 0, "owner": "",
        "tags": [],
        "ticks": [tick],
    }  # fmt: skip
    assert "ok, late, short" in shown_script(found, Screen(80))
