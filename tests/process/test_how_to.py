"""The how-tos' projects: their files are written as printed, and what the page says of them happens."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from rocksyd import config as configuration
from rocksyd.testing import Daemon
from rocksyd.testing.project import for_tests

DOCS = Path(__file__).parents[2] / "docs" / "how-to"
FILE = re.compile(r"^```(?:python|toml)\n# ([\w.]+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ORDERS = "sku,pieces\nS1,2\nS2,5\nS3,1\n"


def written(page: str, folder: Path) -> Path:
    """The page's files in a folder; its rocksyd.toml."""
    folder.mkdir()
    for name, text in FILE.findall((DOCS / page).read_text()):
        (folder / name).write_text(text)
    return folder / "rocksyd.toml"


def daemon_of(tmp_path: Path, page: str, *, jobs: tuple[str, ...] = ()) -> Daemon:
    path = written(page, tmp_path / "project")
    if jobs:
        text = path.read_text()
        listed = f"jobs = [{', '.join(map(repr, jobs))}]\n"
        path.write_text(re.sub(r"^jobs = .*\n", listed, text, flags=re.MULTILINE) if "\njobs = " in text else f"{text}{listed}")
    return Daemon(tmp_path / "daemon", config=for_tests(path))


def command(daemon: Daemon, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "ROCKSYD_ADDRESS": daemon.address}
    return subprocess.run(
        [sys.executable, "-m", "rocksyd.cli", *words], cwd=daemon.folder.parent / "project", env=environment, capture_output=True,
        text=True, check=False, timeout=60,
    )  # fmt: skip


def test_a_script_runs_unchanged_and_as_a_run(tmp_path: Path) -> None:
    with daemon_of(tmp_path, "scripts.md") as daemon:
        (tmp_path / "project" / "orders.csv").write_text(ORDERS)
        done = command(daemon, "exec", "--", "import_orders.py", "orders.csv")
        assert (done.returncode, done.stdout.splitlines()) == (0, ["S1 2", "S2 5", "S3 1", "{'orders': 3}"])
        assert command(daemon, "exec", "--", "import_orders.py", "missing.csv").returncode == 1
        done = command(daemon, "run", "import_orders:main", "path=orders.csv", "limit=2", "--key", "orders-1", "--wait")
        assert (done.returncode, done.stdout) == (0, 'orders-1\n{"orders": 3}\n')
        assert command(daemon, "logs", "orders-1").stdout == "S1 2\nS2 5\n"


def test_a_script_with_a_declared_job_has_its_short_name_and_limits(tmp_path: Path) -> None:
    with daemon_of(tmp_path, "scripts.md", jobs=("nightly",)) as daemon, daemon.client() as client:
        (tmp_path / "project" / "orders.csv").write_text(ORDERS)
        assert client.call("orders", path="orders.csv", limit=1) == {"orders": 3}
        (row,) = [row for row in client.targets() if row["name"] == "orders"]
        assert row["settings"] == {"timeout": 1800.0, "max_running": 1, "retries": 2}


@pytest.mark.parametrize("page", ["scripts.md", "flask.md"])
def test_every_configuration_of_the_page_is_right(page: str, tmp_path: Path) -> None:
    for name, text in FILE.findall((DOCS / page).read_text()):
        if name.endswith(".toml"):
            assert configuration.parse(text, str(tmp_path / name)).apps
            assert tomllib.loads(text)


def test_jobs_of_a_flask_application_have_its_context(tmp_path: Path) -> None:
    pytest.importorskip("flask", reason="the extra `examples` is not installed")
    with daemon_of(tmp_path, "flask.md") as daemon, daemon.client() as client:
        assert client.call("welcome", name="Ada") == "hello Ada"
        assert "Traceback" not in daemon.log()


def test_flasks_commands_are_jobs_and_scripts(tmp_path: Path) -> None:
    pytest.importorskip("flask", reason="the extra `examples` is not installed")
    with daemon_of(tmp_path, "flask.md", jobs=("jobs", "commands")) as daemon, daemon.client() as client:
        run = client.run("flask:greet", "Ada", "--times", 2)
        assert run.wait()["outcome"] == "ok"
        assert "".join(run.logs()) == "hello Ada\nhello Ada\n"
        assert client.run("flask:greet").wait()["outcome"] == "failed"
        assert command(daemon, "exec", "--", "-m", "flask", "--app", "web", "greet", "Ada").stdout == "hello Ada\n"


SHOP_JOBS = """
import time
from datetime import date
from rocksyd import current, job

@job
def daily_report(day: date) -> dict:
    print("report written")
    return {"revenue": 4200}

@job
def nightly_import() -> dict:
    rows = 0
    while current().deadline - time.monotonic() > 1:
        time.sleep(1)
        rows += 1
    return {"rows": rows, "complete": False}

@job
def count_orders() -> int:
    return 0
"""
SHOP_VIEWS = """
from rocksyd import Client

def order_report(day: str) -> dict:
    return {"key": Client().run("daily_report", day=day).key}
"""
HEAD = "import pytest\nfrom datetime import date\nfrom shop.jobs import daily_report\nfrom shop.views import order_report\n"
BLOCK = re.compile(r"^```(python|ini)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_tests_on_the_page_about_tests_pass(tmp_path: Path) -> None:
    found = BLOCK.findall((DOCS / "testing.md").read_text())
    files = {
        "shop/__init__.py": "",
        "shop/jobs.py": SHOP_JOBS,
        "shop/views.py": SHOP_VIEWS,
        "deploy/rocksyd.toml": '[apps.shop]\npath = ".."\njobs = ["shop.jobs"]\n',
        "pytest.ini": "\n".join(re.sub(r" +#.*", "", text) for kind, text in found if kind == "ini") + "pythonpath = .\n",
        "test_page.py": HEAD + "\n".join(text for kind, text in found if kind == "python"),
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    words = ["-q", "-p", "rocksyd.testing.plugin", "-p", "no:cacheprovider", "--basetemp", str(tmp_path / "base")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        timeout=60,
    )  # fmt: skip
    assert "4 passed" in done.stdout, done.stdout + done.stderr
