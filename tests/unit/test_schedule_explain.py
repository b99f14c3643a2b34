"""What becomes of a schedule when the clock is set is said in advance, and comes true."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from rocksyd.cli.commands import run_command
from rocksyd.schedule.explain import effects
from rocksyd.schedule.script import define

BERLIN = ZoneInfo("Europe/Berlin")
SUMMER = int(datetime(2026, 1, 1, tzinfo=BERLIN).timestamp())


@pytest.mark.parametrize(
    ("cron", "forward", "back"),
    [
        ("30 2 * * *", "02:30 does not exist: once at 03:00 instead", "02:30 comes twice: run the first time only"),
        ("0 3 * * *", "nothing changes", "nothing changes"),
        (
            "*/20 2 * * *",
            "02:00, 02:20, 02:40 do not exist: once at 03:00 instead",
            "02:00, 02:20, 02:40 come twice, and are run both times",
        ),
        (
            "*/5 * * * *",
            "nothing is made up for: it goes on after the same elapsed time",
            "02:00, 02:05, 02:10 ... come twice, and are run both times",
        ),
    ],
)
def test_each_change_of_the_clock_has_its_sentence(cron: str, forward: str, back: str) -> None:
    found = effects(define("s", {"target": "j", "cron": cron}, "Europe/Berlin"), SUMMER)
    assert [one.clock for one in found] == ["set forward from 02:00 to 03:00", "set back from 03:00 to 02:00"] * 2
    assert [one.effect for one in found] == [forward, back] * 2
    assert [f"{datetime.fromtimestamp(one.at, BERLIN):%Y-%m-%d}" for one in found][:2] == ["2026-03-29", "2026-10-25"]


def test_an_interval_and_a_zone_whose_clock_is_not_set_have_nothing_to_fear() -> None:
    found = effects(define("s", {"target": "j", "every": 60.0}, "Europe/Berlin"), SUMMER)
    assert {one.effect for one in found} == {"nothing changes: an interval of elapsed time"}
    assert effects(define("s", {"target": "j", "cron": "0 3 * * *"}, "Asia/Tokyo"), SUMMER) == []
    assert effects(define("s", {"target": "j"}, "Europe/Berlin"), SUMMER) == []


def test_check_config_knows_what_is_wrong_with_a_schedule_and_says_in_words_what_is_set_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rocksyd.toml"
    (tmp_path / "jobs.py").write_text("")
    text = (
        '[scripts.nightly]\ntarget = "x"\ncron = "0 3 * * *"\ntimezone = "Europe/Berlin"\n[apps.a]\npath = "."\njobs = ["jobs"]\n'
    )
    path.write_text(text)
    assert run_command(["check-config", "-c", str(path)]) == 0
    assert "  script nightly: every day at 03:00 Europe/Berlin\n" in capsys.readouterr().out
    path.write_text(text.replace("0 3 ", "0 33 ").replace("Berlin", "Bärlin"))
    assert run_command(["check-config", "-c", str(path)]) == 1
    assert f"{path}:4: scripts.nightly.timezone: there is no time zone 'Europe/Bärlin'" in capsys.readouterr().out
    path.write_text(text.replace("0 3 ", "0 33 "))
    assert run_command(["check-config", "-c", str(path)]) == 1
    assert f"{path}:3: scripts.nightly.cron: the hour is '33', and may be 0-23" in capsys.readouterr().out


WRONG = {
    'target = "t"\ncron = "0 3 * * *"\nevery = "5m"': "scripts.s.every: cron and every contradict each other",
    'cron = "0 3 * * *"': 'scripts.s: target is missing; add target = "..."',
    'target = "t"\nevery = "250ms"': 'scripts.s.every: expected a duration of whole seconds such as "30s"',
    'target = "t"\nmisfire = "twice"': 'scripts.s.misfire: expected "skip" or "once" or "all"',
    'target = "t"\nmisfire_limit = 5': 'scripts.s.misfire_limit: misfire_limit says something only with misfire = "all"',
    'target = "t"\nmisfire = "all"\nmisfire_within = "5m"': "scripts.s.misfire_within: misfire_within says something only with",
    'target = "t"\napp = "b"': "scripts.s.app: there is no application 'b' (there are: a)",
    'target = "t"\ncommand = ["x"]': "scripts.s.target: target and command contradict each other; remove one of the two",
    "command = []": "scripts.s.command: expected a program and its arguments",
    "command = [5]": "scripts.s.command[0]: expected a word of a command line, a string, got 5",
    'target = "t"\nparams = 5': "scripts.s.params: expected an array or a table of what JSON can carry",
    'target = "t"\nparams = [2026-01-31]': "scripts.s.params: expected an array or a table of what JSON can carry",
    'target = "t"\njitter = "2d"': "scripts.s.jitter: expected a duration of whole seconds, at most a day",
    'target = "t"\ntimeout = "5m"': "scripts.s.timeout: unknown key",
}


@pytest.mark.parametrize("lines", WRONG)
def test_what_is_wrong_with_a_scripts_table_is_named(lines: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rocksyd.toml"
    path.write_text(f'[apps.a]\npath = "."\njobs = ["jobs"]\n[scripts.s]\n{lines}\n')
    assert run_command(["check-config", "-c", str(path)]) == 1
    assert WRONG[lines] in capsys.readouterr().out
