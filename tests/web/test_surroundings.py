"""As whom and with what the workers of a web pool run: as those of a pool of jobs."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from rocksyd.testing import Daemon
from tests.faults.test_control_groups import hierarchy
from tests.pools.stage import OTHER, may_be_run_by_anybody
from tests.web.stage import get, served, site

WSGI = """
import json, os, resource
def application(environ, start_response):
    umask = os.umask(0)
    os.umask(umask)
    with open("/proc/self/oom_score_adj") as file:
        score = int(file.read())
    said = {
        "uid": os.getuid(), "gid": os.getgid(), "groups": os.getgroups(), "umask": umask, "oom": score,
        "nice": os.getpriority(os.PRIO_PROCESS, 0), "cpus": sorted(os.sched_getaffinity(0)),
        "nofile": resource.getrlimit(resource.RLIMIT_NOFILE), "core": resource.getrlimit(resource.RLIMIT_CORE),
        "home": os.environ.get("HOME"), "mode": os.environ.get("MODE"), "pid": os.getpid(),
    }
    start_response("200 OK", [])
    return [json.dumps(said).encode()]
"""
ONE = 'pm = "static"\nmax_workers = 1\ngrace = "30s"\n'


def said(daemon: Daemon) -> dict[str, Any]:
    status, text = get(daemon)
    assert status == 200
    found: dict[str, Any] = json.loads(text)
    return found


def test_a_web_pool_has_surroundings_of_its_own_and_what_cannot_be_had_is_refused(tmp_path: Path) -> None:
    cpu = min(os.sched_getaffinity(0))
    pool = ONE + OTHER.format(cpu=cpu)
    with served(tmp_path, WSGI, interface="wsgi", pool=pool, web="threads = 1") as daemon:
        found = said(daemon)
        assert {name: found[name] for name in ("umask", "cpus", "nofile", "core", "oom", "mode")} == {
            "umask": 0o077, "cpus": [cpu], "nofile": [64, 64], "core": [0, 0], "oom": 700, "mode": "other",
        }  # fmt: skip
        assert found["nice"] == os.getpriority(os.PRIO_PROCESS, 0) + 3
        assert found["uid"] == os.getuid()
        text = daemon.config.read_text()
        for setting, reason in (
            ('user = "no-such-user"', "pool app/web: user = 'no-such-user': there is no such user on this system"),
            ("cpu_affinity = [8191]", "pool app/web: cpu_affinity: this process may not run on CPU 8191"),
        ):
            daemon.config.write_text(text.replace("cpu_affinity", "# cpu_affinity") + f"\n{setting}\n")
            assert reason in daemon.restart()["error_text"]
            assert said(daemon)["pid"] == found["pid"], "nothing has changed"


def test_a_web_worker_has_a_group_of_its_own_with_the_limits_of_its_pool(tmp_path: Path) -> None:
    """The group is a folder that stands for a delegated one, as in the tests of jobs'."""
    hierarchy(tmp_path)
    limits = 'max_rss_hard = "1G"\nmax_processes = 20\nmax_cpu = 1.5\n'
    with served(tmp_path, WSGI, interface="wsgi", top='cgroup = "groups"', pool=ONE + limits, web="threads = 1") as daemon:
        assert said(daemon)["uid"] == os.getuid()
        (group,) = (tmp_path / "groups").glob("app@1/worker-*")
        assert {file.name: file.read_text() for file in group.iterdir()} == {
            "memory.max": str(1 << 30), "memory.oom.group": "1", "pids.max": "20", "cpu.max": "150000 100000",
            "cgroup.procs": "0",
        }  # fmt: skip


def python_of_everybody(folder: Path) -> str:
    """An interpreter that every user may run, for which what serves requests is copied into ``folder``; skips where none fits."""
    python = next((path for path in (sys.executable, "/usr/bin/python3") if may_be_run_by_anybody(path)), None)
    if python is None:
        pytest.skip("there is no Python here that every user may run")
    for name in ("uvicorn", "httptools", "click", "h11", "websockets"):
        found = importlib.util.find_spec(name)
        if found is not None and found.origin is not None:
            shutil.copytree(Path(found.origin).parent, folder / name)
    if subprocess.run([python, "-c", "import uvicorn, httptools"], cwd=folder, capture_output=True, check=False).returncode:
        pytest.skip(f"uvicorn as it is here cannot be loaded by {python}")
    return python


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the user")
@pytest.mark.parametrize("whose", ["pool", "application"])
def test_the_workers_of_a_web_pool_are_another_users(tmp_path: Path, whose: str) -> None:
    """Theirs is then the access log as well; where they may not write it, new code is refused."""
    folder = Path(tempfile.mkdtemp(prefix="rocksyd-t-", dir="/tmp"))
    user = 'user = "nobody"\n'
    try:
        folder.chmod(0o755)
        python = python_of_everybody(folder)
        pool = ONE + (user if whose == "pool" else "")
        daemon = site(tmp_path, WSGI, interface="wsgi", pool=pool, web="threads = 1")
        for file in daemon.app.iterdir():
            shutil.copy(file, folder)
        more = f'path = "{folder}"\npython = "{python}"\n' + (user if whose == "application" else "")
        text = daemon.config.read_text().replace('path = "app"\n', more)
        daemon.config.write_text(text)
        with daemon:
            found = said(daemon)
            assert (found["uid"], found["gid"], found["home"]) == (65534, 65534, "/nonexistent")
            assert 0 not in found["groups"]
            (folder / "theirs").mkdir(0o700)
            log = folder / "theirs" / "access.log"
            daemon.config.write_text(text.replace("threads = 1", f'threads = 1\naccess_log = "{log}"'))
            assert f"access_log: {log} cannot be opened: Permission denied" in daemon.restart()["error_text"]
            assert said(daemon)["pid"] == found["pid"], "nothing has changed"
    finally:
        shutil.rmtree(folder)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the user")
def test_whoever_cannot_become_its_user_says_so_where_it_is_waited_for(tmp_path: Path) -> None:
    """The sentence of the worker is what refuses the configuration, and not that it has ended."""
    with served(tmp_path, WSGI, interface="wsgi", pool=ONE, web="threads = 1") as daemon:
        before = said(daemon)["pid"]
        tmp_path.chmod(0o700)
        daemon.config.write_text(daemon.config.read_text() + '\nuser = "nobody"\n')
        reply = daemon.restart()["error_text"]
        assert "pool app/web: user 65534 cannot" in reply
        assert said(daemon)["pid"] == before
