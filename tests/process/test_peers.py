"""``rocksyd --on``: a command that goes to the daemons of other machines, by real daemons beside each other."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rocksyd.testing import Daemon
from rocksyd.testing.daemon import until
from tests.process.test_cli import command, environment, rocksyd

JOBS = """
import os, time
from rocksyd import job

@job
def hello(name="nobody"):
    print("hello", name)
    return name

@job
def counts(gate):
    print("one", flush=True)
    while not os.path.exists(gate):
        time.sleep(0.01)
    print("two", flush=True)

@job
def sleep():
    time.sleep(1000)
"""
NAMES = ("web1", "web2", "database")


@pytest.fixture
def daemons(tmp_path: Path) -> Iterator[dict[str, Daemon]]:
    found = [Daemon(tmp_path / name, JOBS) for name in NAMES]
    with found[0], found[1], found[2]:
        yield dict(zip(NAMES, found, strict=True))


@pytest.fixture
def desk(tmp_path: Path, daemons: dict[str, Daemon]) -> Path:
    """A folder with a rocksyd.toml that names them all, and one that is not there."""
    tables = [f'[peers.{name}]\naddress = "{daemon.address}"\n' for name, daemon in daemons.items()]
    return written(tmp_path, "".join(tables) + f'[peers.gone]\naddress = "unix://{tmp_path}/no.sock"\n')


def written(tmp_path: Path, peers: str, top: str = "") -> Path:
    desk = tmp_path / "desk"
    desk.mkdir()
    (desk / "rocksyd.toml").write_text(f'{top}\n[apps.app]\npath = "."\njobs = ["jobs"]\n{peers}')
    return desk


def on(desk: Path, names: str, *arguments: str, **more: str) -> Any:
    return rocksyd(None, "--on", names, *arguments, cwd=desk, **more)


def test_each_line_stands_behind_the_name_of_its_daemon(desk: Path, daemons: dict[str, Daemon]) -> None:
    done = on(desk, "web1,web2,database", "run", "hello", "name=me", "--key", "h", "--wait")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == 'web1     | h\nweb1     | "me"\nweb2     | h\nweb2     | "me"\ndatabase | h\ndatabase | "me"\n'
    for daemon in daemons.values():
        assert daemon.talk().rpc("status", key="h")["outcome"] == "ok"
    [only] = on(desk, "database", "check", "h").stdout.splitlines()
    assert only.startswith("database | h: ended ok")


def test_one_that_is_not_there_keeps_nobody_else(desk: Path) -> None:
    done = on(desk, "gone,web2", "run", "hello", "--key", "k", "--wait")
    assert done.returncode == 69
    assert done.stdout == 'web2 | k\nweb2 | "nobody"\n'
    assert done.stderr.startswith("gone | rocksyd: ")
    assert "no.sock" in done.stderr
    everybody = on(desk, "all", "health", "--json")
    assert everybody.returncode == 69
    found = json.loads(everybody.stdout)
    assert list(found) == [*NAMES, "gone"]
    assert [one["status"] for one in found.values()] == [0, 0, 0, 69]
    assert found["web1"]["output"]["ok"] is True
    assert "no.sock" in found["gone"]["error"]


def test_a_command_about_a_run_goes_to_the_daemon_that_knows_it(desk: Path, daemons: dict[str, Daemon]) -> None:
    for key, name in (("a", "web1"), ("b", "database")):
        daemons[name].talk().rpc("run", target="sleep", key=key)
        until(lambda key=key, name=name: daemons[name].talk().rpc("status", key=key)["state"] == "running", "it runs")
    [line] = on(desk, "web1,web2,database", "check", "b").stdout.splitlines()
    assert line.startswith("database | b: running")
    why = on(desk, "web1,web2,database", "why", "b", "--json")
    assert (why.returncode, json.loads(why.stdout)["web2"]) == (0, {"status": 0, "output": None})
    nowhere = on(desk, "web1,web2,database", "why", "c")
    assert (nowhere.returncode, nowhere.stdout, nowhere.stderr) == (1, "", "rocksyd: no run 'c' on web1, web2, database\n")
    killed = on(desk, "web1,web2,database", "kill", "a", "b", "c")
    assert (killed.returncode, killed.stderr) == (1, "rocksyd: no run 'c' on web1, web2, database\n")
    for key, name in (("a", "web1"), ("b", "database")):
        assert daemons[name].talk().rpc("wait", key=key)["outcome"] == "cancelled"


def test_output_is_followed_line_by_line_where_it_is_written(tmp_path: Path, desk: Path, daemons: dict[str, Daemon]) -> None:
    gate = tmp_path / "gate"
    daemons["web2"].talk().rpc("run", target="counts", key="c", params=[str(gate)])
    words = command("--on", "web1,web2", "logs", "-f", "c")
    with subprocess.Popen(words, cwd=desk, env=environment(), stdout=subprocess.PIPE, text=True) as follower:
        assert follower.stdout is not None
        assert follower.stdout.readline() == "web2 | one\n"
        gate.touch()
        assert follower.stdout.read() == "web2 | two\n"
    assert follower.returncode == 0


def test_a_restart_goes_from_one_to_the_next_and_stops_at_the_first_refusal(desk: Path, daemons: dict[str, Daemon]) -> None:
    assert on(desk, "web2,web1", "restart").stdout == "web2 | restarted: generation 2\nweb1 | restarted: generation 2\n"
    (daemons["web2"].app / "jobs.py").write_text("import nothing_of_that_name")
    done = on(desk, "web1,web2,database", "restart")
    assert done.returncode == 1
    assert done.stdout == "web1     | restarted: generation 3\n"
    assert "web2     | rocksyd: " in done.stderr
    assert "nothing_of_that_name" in done.stderr
    assert done.stderr.endswith("rocksyd: web2 has refused (exit status 1), so others were not asked, which are: --on database\n")
    assert [daemons[name].talk().rpc("health")["generation"] for name in NAMES] == [3, 2, 1]
    told = json.loads(on(desk, "web2,database", "restart", "--json").stdout)
    assert (told["web2"]["status"], told["database"]) == (1, {"status": None, "output": None})


def test_the_token_is_shown_to_the_daemon_it_is_for(tmp_path: Path) -> None:
    top = 'listen = ["unix://d.sock", "tcp://127.0.0.1:0"]\ntoken_file = "token"\n'
    config = f'{top}[apps.app]\npath = "app"\njobs = ["jobs"]\n'
    folder = tmp_path / "there"
    folder.mkdir()
    for path, secret in ((folder / "token", "theirs"), (tmp_path / "own", "ours")):
        path.write_text(secret)
        path.chmod(0o600)
    with Daemon(folder, JOBS, config=config) as daemon:
        [address] = [one for one in daemon.talk().rpc("health")["listen"] if one.startswith("tcp://")]
        address = f'address = "{address}"\n'
        peers = f'[peers.right]\n{address}token_file = "{folder}/token"\n[peers.wrong]\n{address}'
        desk = written(tmp_path, peers, f'token_file = "{tmp_path}/own"')
        assert on(desk, "right", "run", "hello", "--wait", "--key", "h").returncode == 0
        refused = on(desk, "wrong", "check", "h")
        assert refused.returncode != 0
        assert "token" in refused.stderr
        # What a shell has set is for the daemon that it names, not for any.
        assert on(desk, "right", "check", "h", ROCKSYD_TOKEN="another").returncode == 0
        (folder / "token").chmod(0o644)
        open_to_all = on(desk, "right", "check", "h")
        assert (open_to_all.returncode, "[peers.right] token_file: " in open_to_all.stderr) == (1, True)


@pytest.mark.parametrize(
    ("names", "words", "status", "told"),
    [
        ("web11", ["ps"], 2, "has no [peers.web11] (did you mean web1?); there are: web1, web2, database, gone"),
        (",", ["ps"], 2, "no daemon is named; there are: web1, web2, database, gone, or all of them: all"),
        ("web1", ["top"], 2, "this command is for one daemon, or for none: leave --on, or name the daemon with --address"),
        ("web1", ["exec", "x.py"], 2, "this command is for one daemon"),
        ("web1", ["serve"], 2, "this command is for one daemon"),
        ("web1", ["--address", "unix:///d", "ps"], 2, "leave one of the two"),
    ],
)
def test_mistakes(tmp_path: Path, names: str, words: list[str], status: int, told: str) -> None:
    peers = [f'[peers.{name}]\naddress = "unix://{tmp_path}/{name}"\n' for name in (*NAMES, "gone")]
    done = on(written(tmp_path, "".join(peers)), names, *words)
    assert (done.returncode, done.stdout) == (status, "")
    assert told in done.stderr


def test_without_peers_it_is_said_how_to_name_them(tmp_path: Path) -> None:
    done = on(written(tmp_path, ""), "web1", "ps")
    assert (done.returncode, "add [peers.web1], address = " in done.stderr) == (2, True)
    nowhere = on(tmp_path, "web1", "ps")
    assert (nowhere.returncode, "no rocksyd.toml in" in nowhere.stderr) == (2, True)


def test_what_is_wrong_elsewhere_in_the_configuration_keeps_nobody_from_the_others(desk: Path) -> None:
    config = desk / "rocksyd.toml"
    config.write_text("no_such_key = 1\n" + config.read_text())
    assert on(desk, "web1", "health").returncode == 0
    config.write_text(config.read_text().replace("[peers.gone]\naddress", "[peers.gone]\nadress"))
    wrong = on(desk, "web1", "health")
    assert wrong.returncode == 1
    assert "peers.gone" in wrong.stderr
    assert "no_such_key" not in wrong.stderr
