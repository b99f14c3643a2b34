"""Django's tasks are runs of the daemon; with the outbox a run exists exactly when its transaction does, whoever is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rocksyd.errors import NotFound
from rocksyd.testing import Daemon

pytest.importorskip("django", reason="the extra `examples` is not installed")
pytest.importorskip("django_tasks", reason="the extra `examples` is not installed")

from tests.process.django_project import project

TASKS = """
from django_tasks import task

@task(priority=5)
def add(a, b=1):
    return a + b

@task(takes_context=True)
def told(context, what):
    from rocksyd import current
    return [context.task_result.id == current().key, context.attempt, what]

@task
async def slow(what):
    return what

@task
def fails():
    raise KeyError("not there")

def no_task():
    return 1
"""
MORE = """
TASKS = {"default": {"BACKEND": "rocksyd.contrib.django.tasks.Backend"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
"""
BEGIN = """
import os, signal, sys, json
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
import django
django.setup()
from django.db import transaction
from django.contrib.auth.models import User
from rocksyd.contrib.django import outbox
from mail.tasks import *
"""
DIE = "transaction.on_commit(lambda: os.kill(os.getpid(), signal.SIGKILL))"


def tasks_project(folder: Path, *, installed: str = "") -> Daemon:
    apps = '", "'.join(["django_tasks", "rocksyd.contrib.django", *([installed] if installed else [])])
    made = project(folder, more=MORE, installed=apps)
    (made.app / "mail" / "tasks.py").write_text(TASKS)
    return made


def migrated(served: Daemon) -> Daemon:
    done(served, "from django.core.management import call_command\ncall_command('migrate', verbosity=0)\nprint('null')")
    return served


def script(served: Daemon, text: str) -> subprocess.CompletedProcess[str]:
    """Run this as a web server's process would, which only enqueues."""
    environment = {**os.environ, "ROCKSYD_ADDRESS": served.address}
    return subprocess.run(
        [sys.executable, "-c", f"{BEGIN}{text}"], cwd=served.app, env=environment, capture_output=True, text=True, check=False,
        timeout=60,
    )  # fmt: skip


def done(served: Daemon, text: str) -> Any:
    """What such a process prints, as JSON."""
    ended = script(served, text)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def test_tasks_are_runs_and_their_results_are_what_djangos_interface_says(tmp_path: Path) -> None:
    with tasks_project(tmp_path) as served, served.client() as client:
        keys = done(
            served,
            "from datetime import datetime, timedelta, UTC\n"
            "later = add.using(run_after=datetime.now(UTC) + timedelta(hours=1))\n"
            "print(json.dumps([one.id for one in (add.enqueue(2, b=3), told.enqueue('x'), slow.enqueue(['y']), fails.enqueue(),"
            " later.enqueue(1))]))",
        )
        for key in keys[:4]:
            client.request("wait", {"key": key}, wait=True)
        record = client.status(keys[0])
        assert (record["result"], record["priority"], record["labels"]["task"]) == (5, 5, "mail.tasks.add")
        found = done(
            served,
            f"keys = {keys!r}\nfrom django_tasks import default_task_backend as backend\n"
            "found = [backend.get_result(key) for key in keys]\n"
            "assert found[3].errors[0].exception_class is KeyError\n"
            "assert add.get_result(keys[0]).task.func is add.func\n"
            "print(json.dumps([[one.status, one.return_value if one.status == 'SUCCESSFUL' else None, one.attempts,"
            " one.is_finished, one.finished_at is not None] for one in found]))",
        )
        assert found == [
            ["SUCCESSFUL", 5, 1, True, True],
            ["SUCCESSFUL", [True, 1, "x"], 1, True, True],
            ["SUCCESSFUL", ["y"], 1, True, True],
            ["FAILED", None, 1, True, True],
            ["READY", None, 0, False, False],
        ]
        assert (
            script(served, "from django_tasks import default_task_backend as b\nb.get_result('none')")
            .stderr.strip()
            .endswith("TaskResultDoesNotExist: none")
        )
        run = client.run("django:tasks.run", params={"task": "mail.tasks.no_task", "args": [], "kwargs": {}})
        assert run.wait()["error"]["message"] == "'mail.tasks.no_task' is no task: decorate it with @task"


def exists(served: Daemon, key: str) -> bool:
    with served.client() as client:
        try:
            client.status(key)
        except NotFound:
            return False
        return True


OUTBOX = "rocksyd.contrib.django.outbox"


def test_a_run_exists_exactly_when_its_transaction_is_committed(tmp_path: Path) -> None:
    with migrated(tasks_project(tmp_path, installed=OUTBOX)) as served:
        committed, inside = done(
            served,
            "from rocksyd.contrib.django.conf import client\n"
            "with transaction.atomic():\n"
            "    key = outbox.order('django:check', key='committed')\n"
            "    task = add.enqueue(1)\n"
            "    inside = add.get_result(task.id).status\n"
            "    assert [run['key'] for run in client().request('list')] == []\n"
            "print(json.dumps([task.id, inside]))",
        )
        assert inside == "READY"
        assert exists(served, "committed")
        assert exists(served, committed)
        rolled = script(
            served, "with transaction.atomic():\n    outbox.order('django:check', key='rolled-back')\n    raise SystemExit(3)"
        )
        assert rolled.returncode == 3
        assert not exists(served, "rolled-back")
        assert done(served, "print(outbox.relay())") == 0


def test_p2_whoever_is_killed_between_commit_and_submission_loses_no_order_and_makes_none_twice(tmp_path: Path) -> None:
    with migrated(tasks_project(tmp_path, installed=OUTBOX)) as served, served.client() as client:
        killed = script(
            served,
            f"with transaction.atomic():\n    {DIE}\n    User.objects.create(username='a')\n"
            "    outbox.order('django:tasks.run', key='k', params={'task': 'mail.tasks.add', 'args': [1], 'kwargs': {}})",
        )
        assert killed.returncode == -signal.SIGKILL
        assert done(served, "print(json.dumps([User.objects.count(), outbox.find('k').key]))") == [1, "k"]
        assert not exists(served, "k"), "it was killed before the daemon was told"
        assert client.call("django:outbox.relay") == 1
        record = client.request("wait", {"key": "k"}, wait=True)
        assert (record["outcome"], record["result"]) == ("ok", 2)
        # Killed between the daemon's answer and the deletion of the row: it is there again.
        done(
            served,
            "from rocksyd.contrib.django.outbox.models import Waiting\n"
            "params = {'task': 'mail.tasks.add', 'args': [1], 'kwargs': {}}\n"
            "Waiting.objects.create(key='k', order={'target': 'django:tasks.run', 'params': params})\nprint('null')",
        )
        assert client.call("django:outbox.relay") == 1
        assert client.status("k")["attempt"] == 1
        assert client.status("k")["ended_at"] == record["ended_at"], "no second run"
        assert done(served, "print(json.dumps(outbox.find('k') is None))") is True


def test_an_order_waits_for_a_daemon_that_is_away_and_one_that_is_refused_says_why(tmp_path: Path) -> None:
    with migrated(tasks_project(tmp_path, installed=OUTBOX)) as served:
        served.stop()
        away = script(served, "outbox.order('django:check', key='waits')\noutbox.order('nothing', key='wrong')\nprint('went on')")
        assert (away.returncode, away.stdout) == (0, "went on\n")
        served.start()
        with served.client() as client:
            assert client.call("django:outbox.relay") == 1
            assert client.request("wait", {"key": "waits"}, wait=True)["outcome"] == "ok"
            assert client.call("django:outbox.relay") == 0
        assert "no job is called 'nothing'" in done(served, "print(json.dumps(outbox.find('wrong').trouble))")


def test_the_migration_is_what_the_model_says(tmp_path: Path) -> None:
    served = tasks_project(tmp_path, installed=OUTBOX)
    try:
        ended = subprocess.run(
            [sys.executable, "manage.py", "makemigrations", "--check", "--dry-run", "rocksyd_outbox"], cwd=served.app,
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stdout + ended.stderr
    finally:
        served.close()
