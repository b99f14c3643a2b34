"""Management commands are jobs without any code, in an environment that has Django and nothing of rocksyd."""

from __future__ import annotations

import datetime
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rocksyd.errors import JobFailed, NotAllowed, RequestError
from rocksyd.testing import Daemon, until

pytest.importorskip("django", reason="the extra `examples` is not installed")

from tests.process.django_project import environment_with_django, project

REPORT = """
from django.core.management.base import BaseCommand

class Command(BaseCommand):
    def add_arguments(self, parser):
        parser.add_argument("--day")

    def handle(self, day, **options):
        return day
"""


def test_a_management_command_is_a_job_in_an_environment_without_rocksyd(tmp_path: Path) -> None:
    python = environment_with_django(tmp_path / "venv")
    assert subprocess.run([python, "-c", "import rocksyd"], check=False, capture_output=True).returncode == 1
    with project(tmp_path, app=f'python = "{python}"') as daemon, daemon.client() as client:
        run = client.run("django:digest", box="in", to="a@example.com", hours=3, day="2026-01-31", tags=["x", "y"], others=[1, 2])
        assert run.result() == repr(
            {
                "box": "in", "others": [1, 2], "to": "a@example.com", "hours": 3, "day": datetime.date(2026, 1, 31),
                "format": "text", "tags": ["X", "Y"], "dry_run": False,
            }
        )  # fmt: skip
        output = "".join(run.logs())
        assert "to standard output\n" in output
        assert "to standard error\n" in output
        assert client.call("django:migrate", verbosity=0) is None
        assert "Traceback" not in daemon.log()


def test_an_array_is_the_words_of_a_command_line(tmp_path: Path) -> None:
    with project(tmp_path) as daemon, daemon.client() as client:
        said = client.call("django:digest", "in", 7, "--to", "b@example.com", "--tag=one", "--dry-run")
        assert "'others': [7], 'to': 'b@example.com'" in said
        assert "'tags': ['ONE'], 'dry_run': True" in said


def test_commands_are_listed_and_parameters_checked_before_anything_runs(tmp_path: Path) -> None:
    with project(tmp_path) as daemon, daemon.client() as client:
        rows = {row["name"]: row for row in client.targets()}
        assert {"django:digest", "django:migrate", "django:check", "django:createsuperuser"} <= set(rows)
        assert not {"django:runserver", "django:shell", "django:dbshell"} & set(rows)
        names = [parameter["name"] for parameter in rows["django:digest"]["signature"]["parameters"]]
        assert names[:10] == ["box", "others", "to", "hours", "day", "format", "tags", "dry_run", "tag", "secret"]
        for wrong, named in (
            ({"box": "in"}, "'to' is missing"),
            ({"box": "in", "to": "a", "hours": "many"}, "hours"),
            ({"box": "in", "to": "a", "format": "pdf"}, "format"),
            ({"box": "in", "to": "a", "colour": "red"}, "there is no parameter 'colour'"),
        ):
            with pytest.raises(RequestError, match=named):
                client.run("django:digest", params=wrong)
        with pytest.raises(NotAllowed):
            client.run("django:nothing")


def test_a_command_error_is_the_runs_failure_with_its_own_exit_status(tmp_path: Path) -> None:
    with project(tmp_path) as daemon, daemon.client() as client:
        with pytest.raises(JobFailed, match="CommandError: the box is broken"):
            client.call("django:digest", box="broken", to="1")
        run = client.run("django:digest", box="broken", to="5")
        assert run.wait()["retcode"] == 5
        assert "CommandError: the box is broken" in "".join(run.logs())
        with pytest.raises(JobFailed, match="begins with -"):
            client.call("django:digest", box="--dry-run", to="1")


def test_the_settings_choose_the_commands(tmp_path: Path) -> None:
    with project(tmp_path, more='ROCKSYD = {"COMMANDS": ["dig*", "shell"]}') as daemon, daemon.client() as client:
        assert [row["name"] for row in client.targets()] == ["django:digest", "django:shell"]


def test_a_command_that_cannot_be_imported_is_a_warning_and_its_run_says_why(tmp_path: Path) -> None:
    with_broken = project(tmp_path)
    (tmp_path / "app" / "mail" / "management" / "commands" / "spoilt.py").write_text("import nowhere_to_be_found\n")
    with with_broken as daemon, daemon.client() as client:
        until(lambda: "the management command 'spoilt' cannot be loaded (ModuleNotFoundError" in daemon.log(), "the warning")
        with pytest.raises(JobFailed, match="nowhere_to_be_found"):
            client.call("django:spoilt")


def manage(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    return subprocess.run(
        [sys.executable, str(folder / "app" / "manage.py"), *words], cwd="/", env={**kept, **environment},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_manage_py_rocksyd_passes_on_to_the_projects_daemon_from_any_folder(tmp_path: Path) -> None:
    more = 'ROCKSYD = {"CONFIG": BASE_DIR.parent / "rocksyd.toml"}'
    with project(tmp_path, more=more, installed="rocksyd.contrib.django") as daemon:
        done = manage(tmp_path, "rocksyd", "run", "django:digest", "box=in", "to=c@example.com", "--wait")
        assert done.returncode == 0, done.stderr
        assert "c@example.com" in done.stdout
        assert manage(tmp_path, "rocksyd", "check", "no-such-run", ROCKSYD_ADDRESS=daemon.address).returncode == 1
        assert str(tmp_path) in manage(tmp_path, "rocksyd", "check-config").stdout


def test_wrong_settings_are_found_by_djangos_checks(tmp_path: Path) -> None:
    project(tmp_path, more='ROCKSYD = {"COMMAND": []}', installed="rocksyd.contrib.django").close()
    done = manage(tmp_path, "check")
    assert done.returncode == 1
    assert "rocksyd.E001" in done.stderr
    assert "'COMMAND', which means nothing" in done.stderr


def test_tab_completes_commands_and_their_arguments(tmp_path: Path) -> None:
    with project(tmp_path) as daemon:
        assert completed(daemon, "run", "django:dig") == ["django:digest"]
        named = completed(daemon, "run", "django:digest", "")
        assert named[:4] == ["box=", "others=", "to=", "hours="]


def completed(daemon: Daemon, *words: str) -> list[str]:
    command = [sys.executable, "-m", "rocksyd.cli", "__complete", "words", *words]
    environment = {**os.environ, "ROCKSYD_ADDRESS": daemon.address}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return [line.partition("\t")[0] for line in done.stdout.splitlines()]


def test_the_python_of_the_page_on_django_is_right(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "how-to" / "django.md").read_text()
    settings, view = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    opened = project(tmp_path, more=settings.replace('"send_digest", "import_*"', '"d*"'))
    (tmp_path / "app" / "mail" / "management" / "commands" / "daily_report.py").write_text(REPORT)
    with opened as daemon, daemon.client() as client:
        head = "import django\ndjango.setup()\nfrom django.http import JsonResponse\n"
        environment = {**os.environ, "ROCKSYD_ADDRESS": daemon.address, "DJANGO_SETTINGS_MODULE": "settings"}
        command = [sys.executable, "-c", f"{head}{view}\nprint(order_report(None, '2026-01-31'))"]
        done = subprocess.run(command, cwd=tmp_path / "app", env=environment, capture_output=True, text=True, check=False)
        assert done.stdout == '<JsonResponse status_code=202, "application/json">\n', done.stderr
        assert client.get("daily-2026-01-31").result() == "2026-01-31"
