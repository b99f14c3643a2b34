"""Crontabs become scripts, and what of them cannot be carried over is said."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocksyd import config
from rocksyd.cli.commands import run_command
from rocksyd.schedule.crontab import Imported, read, written
from rocksyd.schedule.script import define_all

CRONTABS = Path(__file__).with_name("crontabs")
"""Crontabs in the style of public ones, those with users named ``.system``; beside each what is expected of every line."""

PERSONAL = r"""# m h dom mon dow command
SHELL=/bin/bash
PATH = "/usr/local/bin:/usr/bin:/bin"
MAILTO=ops@example.org

0 3 * * *   cd /srv/shop && .venv/bin/python manage.py clearsessions >> /var/log/shop.log 2>&1
*/5 * * * * /usr/bin/flock -n /run/lock/prices.lock /srv/shop/bin/prices.sh --all
@daily      /usr/bin/backup --to /srv/backup/$(date +\%F)
@reboot     /srv/shop/bin/warm-up
15 4 * * 0  mail -s "weekly" boss@example.org%Dear boss,%%all is well: 100\%.%
0 0 31 2 *  never
61 * * * *  wrong
* * * * *
CRON_TZ=America/New_York
MAILTO=""
30 9 * * mon-fri  report
30 9 * * mon-fri  report --again
"""
SYSTEM = """SHELL=/bin/sh
17 *  * * *  root  cd / && run-parts --report /etc/cron.hourly
25 6  * * *  root  test -x /usr/sbin/anacron || { cd / && run-parts --report /etc/cron.daily; }
09,39 * * * * www-data [ -x /usr/lib/php/sessionclean ] && /usr/lib/php/sessionclean
*/10 * * * * munin if [ -x /usr/bin/munin-cron ]; then /usr/bin/munin-cron; fi
"""


def by_name(lines: list[Imported]) -> dict[str, Imported]:
    return {one.name: one for one in lines if one.name}


def test_each_line_becomes_a_script_or_says_why_not() -> None:
    lines = read(PERSONAL)
    found = by_name(lines)
    assert list(found) == ["clearsessions", "prices", "backup", "mail", "report", "report-2"]
    assert found["clearsessions"].command == (
        "/bin/bash", "-c", "cd /srv/shop && .venv/bin/python manage.py clearsessions >> /var/log/shop.log 2>&1",
    )  # fmt: skip
    assert found["clearsessions"].env == {"PATH": "/usr/local/bin:/usr/bin:/bin"}
    assert [note[:40] for note in found["clearsessions"].notes] == [
        "its output goes to its file as before, a",
    ], "nothing was mailed: all of it went there"  # fmt: skip
    assert found["prices"].command == ("/srv/shop/bin/prices.sh", "--all")
    assert "the lock /run/lock/prices.lock was left out" in found["prices"].notes[1]
    assert found["backup"].cron == "@daily"
    assert found["backup"].command == ("/bin/bash", "-c", "/usr/bin/backup --to /srv/backup/$(date +%F)")
    assert (found["report"].timezone, found["report"].notes) == ("America/New_York", ())
    left = {one.number: one.notes[0] for one in lines if not one.name}
    assert left[9].startswith("@reboot is no time")
    assert "never comes" in left[11]
    assert "the minute is '61'" in left[12]
    assert "no command behind the times" in left[13]
    assert len(left) == 4


def test_the_system_form_names_users() -> None:
    found = by_name(read(SYSTEM, system=True))
    assert list(found) == ["run-parts", "run-parts-2", "sessionclean", "munin-cron"]
    assert all("it ran as " in one.notes[0] for one in found.values())


def test_what_stands_behind_a_percent_sign_is_what_the_command_reads(tmp_path: Path) -> None:
    (one,) = read(r"0 3 * * *  cat | tr a-z A-Z; echo 100\%%first%'second'%")
    said = subprocess.run(one.command, capture_output=True, text=True, check=True)
    assert said.stdout == "FIRST\n'SECOND'\n100%\n", "a last % ends the line, and makes no empty one"
    (one,) = read("0 3 * * *  wc -c%")
    assert subprocess.run(one.command, capture_output=True, text=True, check=True).stdout.strip() == "0"


@pytest.mark.parametrize(("text", "system"), [(PERSONAL, False), (SYSTEM, True)])
def test_what_is_written_is_a_right_configuration_with_the_same_commands(text: str, system: bool, tmp_path: Path) -> None:
    lines = read(text, system=system)
    toml = written(lines, "shop") + '[apps.shop]\npath = "."\njobs = ["jobs"]\n'
    loaded = config.parse(toml, str(tmp_path / "rocksyd.toml"))
    assert {name: script.command for name, script in loaded.scripts.items()} == {
        name: one.command for name, one in by_name(lines).items()
    }
    assert tomllib.loads(toml)["scripts"].keys() == by_name(lines).keys()
    for one in lines:
        assert f"# line {one.number}: {one.line}\n" in toml


def test_the_command_prints_the_tables_and_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "crontab"
    file.write_text(PERSONAL)
    assert run_command(["schedule", "import-crontab", str(file)]) == 1
    shown = capsys.readouterr()
    assert tomllib.loads(shown.out)["scripts"]["report"]["timezone"] == "America/New_York"
    assert "10 lines: 6 became scripts, 4 of them with a note, 4 did not" in shown.err
    assert "line 9 became none: @reboot is no time" in shown.err
    file.write_text("0 3 * * * true\n")
    assert run_command(["schedule", "import-crontab", str(file), "--json"]) == 0
    assert run_command(["schedule", "import-crontab", str(tmp_path / "nothing")]) == 2
    assert run_command(["schedule", "import-crontab"]) == 2


@pytest.mark.parametrize("name", sorted(path.stem for path in CRONTABS.glob("*.crontab")))
def test_crontabs_in_the_style_of_public_ones_become_what_is_expected_of_each_line(name: str, tmp_path: Path) -> None:
    lines = read((CRONTABS / f"{name}.crontab").read_text(), system=name.endswith(".system"))
    toml = written(lines)
    assert toml == (CRONTABS / f"{name}.toml").read_text()
    loaded = config.parse(f'{toml}\n[apps.shop]\npath = "."\njobs = ["jobs"]\n', str(tmp_path / "rocksyd.toml"))
    scripts, problems = define_all(loaded.companions["scheduler"].settings, loaded.places, "UTC")
    assert (problems, list(scripts)) == ([], [one.name for one in lines if one.name])


def test_there_are_ten_of_them() -> None:
    assert len(list(CRONTABS.glob("*.crontab"))) == len(list(CRONTABS.glob("*.toml"))) == 10


texts = st.text(st.characters(exclude_categories=["Cs"]))
pieces = st.sampled_from([
    "cd", " ", "/srv", "&&", "||", "|", ";", "(", ")", "{", "}", "if", "then", "fi", "!", "2>&1", ">>", ">", "<",
    "%", "\\", "'", '"',
    "$(", "`", "#", "-c", "-e", "-n", "flock", "nice", "timeout", "sudo", "python3", "php8.2", "A=b", "[", "]", "~", "ä", "\x7f",
])  # fmt: skip


@given(st.lists(pieces, min_size=1, max_size=12).map("".join) | st.lists(pieces, min_size=1, max_size=12).map(" ".join) | texts)
def test_whatever_a_command_is_what_is_written_of_it_is_right(command: str) -> None:
    lines = read(f"0 3 * * * {command}")
    assert tomllib.loads(written(lines)).get("scripts", {}).keys() == by_name(lines).keys()
