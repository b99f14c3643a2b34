"""The companion ``profiler`` at a real daemon: where the time of runs goes."""

from __future__ import annotations

import json
import os
import signal
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from rocksyd.client import Client
from rocksyd.errors import NotFound, NotNow, RequestError
from rocksyd.testing.daemon import Daemon, until
from tests.companions.stage import companion
from tests.seeing.stage import may_look, rocksyd

JOBS = """
import os
from rocksyd import current, job

@job
def spins(path):
    current().progress(1, 2)
    while not os.path.exists(path):
        innermost()

def innermost():
    return sum(number * number for number in range(1000))
"""


def seen(client: Client, **of: Any) -> dict[str, Any]:
    while (found := client.request("profile.get", {**of, "wait": 10}))["state"] != "done":
        continue
    return dict(found)


def spinning(client: Client, key: str, path: Path) -> None:
    client.run("spins", str(path), key=key)
    until(lambda: client.status(key)["progress"] is not None, f"{key} to spin")


def test_where_the_time_of_a_run_goes_is_seen_from_beside(tmp_path: Path) -> None:
    if trouble := may_look():
        pytest.skip(f"no process may look at another one here: {trouble}")
    with Daemon(tmp_path, JOBS, parts={"top": "[profiler]\n"}) as daemon, daemon.client() as client:
        one_run(client, daemon, tmp_path)
        its_end_ends_it(client, tmp_path)
        all_of_a_target(client, daemon, tmp_path)
        what_is_refused(client)


def one_run(client: Client, daemon: Daemon, folder: Path) -> None:
    spinning(client, "a", folder / "end-a")
    client.request("profile.start", {"key": "a", "seconds": 2})
    found = seen(client, key="a")
    assert found["samples"] > 0, found
    assert found["target"] == "spins"
    names = [name.split(" (")[0] for _, _, name in found["functions"]]
    assert "spins" in names, "the job's own, and the daemon's frames below it are left out"
    assert "innermost" in names
    assert all(line.startswith("spins (jobs.py:") for line in found["stacks"].splitlines() if "innermost" in line)
    picture = client.request("profile.get", {"key": "a", "format": "svg"})["svg"]
    assert "innermost" in "".join(ET.fromstring(picture).itertext())
    printed = rocksyd(daemon, "profile", "a", "--seconds", "1s", "-o", str(folder / "a.svg"))
    assert (printed.returncode, printed.stdout) == (0, ""), printed.stderr
    assert "innermost" in "".join(ET.fromstring((folder / "a.svg").read_text()).itertext())


def its_end_ends_it(client: Client, folder: Path) -> None:
    client.request("profile.start", {"key": "a", "seconds": "10m"})
    assert client.request("profile.list")["looking"] == ["a"]
    (folder / "end-a").touch()
    assert next(client.wait("a"))["outcome"] == "ok"
    seen(client, key="a")
    assert client.request("profile.list")["looking"] == []


def all_of_a_target(client: Client, daemon: Daemon, folder: Path) -> None:
    client.request("profile.flag", {"target": "spins", "for": "1h", "seconds": "10m"})
    spinning(client, "b", folder / "end-b")
    until(lambda: client.request("profile.list")["looking"] == ["b"], "it to be looked at")
    (folder / "end-b").touch()
    seen(client, key="b")
    assert [row["key"] for row in client.request("profile.list")["profiles"]] == ["b", "a"]
    assert client.request("profile.get", {"target": "spins"})["profiles"] == 2
    talk = daemon.talk()
    pid = companion(talk, "profiler")["pid"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: companion(talk, "profiler")["pid"] not in (None, 0, pid), "another one")
    until(lambda: companion(talk, "profiler")["state"] == "ready", "it to be ready")
    listed = json.loads(rocksyd(daemon, "profile", "--list", "--json").stdout)
    assert [flag["target"] for flag in listed["flags"]] == ["spins"]
    assert "spins" in rocksyd(daemon, "profile", "--list").stdout
    assert [rocksyd(daemon, "profile", "--target", "spins", "--stop").returncode for _ in range(2)] == [0, 1]
    assert client.request("profile.flags") == []


def what_is_refused(client: Client) -> None:
    for method, params, kind in (
        ("profile.start", {"key": "a"}, NotNow),
        ("profile.start", {"key": "nobody"}, NotFound),
        ("profile.get", {"key": "nobody"}, NotFound),
        ("profile.start", {"key": "a", "seconds": 0}, RequestError),
        ("profile.start", {"seconds": 1}, RequestError),
        ("profile.start", {"key": "a", "rate": 5000}, RequestError),
        ("profile.flag", {"target": "a", "script": "b"}, RequestError),
        ("profile.flag", {"target": "a", "for": "1y"}, RequestError),
        ("profile.get", {"key": "a", "format": "png"}, RequestError),
        ("profile.list", {"odd": 1}, RequestError),
    ):  # fmt: skip
        with pytest.raises(kind):
            client.request(method, params)
