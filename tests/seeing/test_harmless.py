"""Whatever a stranger has put into a run, no command lets it steer a terminal.

The commands are those of the command line's own table. One that is new is run as it stands there, with the strange key where it
takes a key; only what needs other words, or cannot be run here, is named.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rocksyd.cli.commands import COMMANDS, Parser, run_command
from rocksyd.testing.daemon import CONFIG, Daemon, until
from tests.terminal.stage import Program, command, environment

STRANGE = "\x1b]0;OWNED\x07\x1b[2J\x1b[5;5H\x1bcA\x9b2J\u202eB\x7f\x08<script>alert(1)</script>\r\nC\U0001f600"
"""What would set a title, wipe the screen, move the cursor, reset, do the same by one byte, turn the direction, go back."""
KEY = f"key {STRANGE}"[:120]
JOBS = f'''\
import os
import time
from rocksyd import current, job

STRANGE = {STRANGE!r}

@job(timeout="1h")
def strange(text="", path=None, fails=False):
    """{STRANGE.encode("unicode_escape").decode()}

    More: {STRANGE.encode("unicode_escape").decode()}
    """
    current().progress(1, 2, STRANGE)
    current().flush()
    print(STRANGE, flush=True)
    os.write(1, b"\\xff\\xfe\\x80 \\x9b2J \\xc2\\x9b2J\\n" + b"\\x1b[2J" * 200_000 + b"\\n")
    os.write(2, STRANGE.encode())
    while path is not None and not os.path.exists(path):
        time.sleep(0.01)
    if fails:
        raise type("E" + STRANGE, (ValueError,), {{}})(STRANGE * 3)
    return {{STRANGE: [STRANGE]}}
'''
STEERS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]|\x1b")
OURS = re.compile(r"\x1b\[[0-9;:]*m|\r\x1b\[K")
"""Colours, and what a line of progress begins with when it is drawn anew: nothing of that is in STRANGE."""
MORE: dict[str, list[list[str]]] = {
    "run": [["run", "strange", f"text={STRANGE}", "--follow"], ["run", "strange", "--wait"], ["run", STRANGE]],
    "logs": [["logs", KEY], ["logs", KEY, "--timestamps"], ["logs", KEY, "--grep", "OWNED"], ["logs", KEY, "--tail", "2"]],
    "ps": [["ps"], ["ps", "-a"], ["ps", "--failed"], ["ps", "-a", "--json"], ["ps", "--label", f"l={STRANGE}"]],
    "errors": [["errors"], ["errors", "--full"], ["errors", "--json"]],
    "search": [["search", "OWNED"], ["search", STRANGE]],
    "jobs": [["jobs"], ["jobs", "strange"], ["jobs", STRANGE]],
    "why": [["why", KEY], ["why", "holds"]],
    "check": [["check", KEY], ["check", "holds"], ["check", f"no {STRANGE}"]],
    "stack": [["stack", "holds"], ["stack", KEY]],
    "pools": [["pools"], ["pools", "--workers"], ["pools", "--wide"]],
    "services": [["services"], ["services", "--json"]],
    "stats": [["stats"], ["stats", "--json"]],
    "kill": [["kill", KEY], ["kill", "--target", STRANGE, "--yes"]],
    "journal": [["journal", "check", "-c", "{config}"], ["journal", "export", "-c", "{config}"]],
    "doctor": [["doctor", "-c", "{config}", "--all"]],
    "check-config": [["check-config", "-c", "{config}"], ["check-config", "-c", "{broken}"]],
    "schedule": [["schedule", "list"], ["schedule", "show", "scripted"], ["schedule", "show", STRANGE]],
    "notify": [["notify", "list"]],
    "completion": [["completion", "bash"]],
}
LAST = ("retry", "wait", "free", "restart", "reload", "restarts", "health", "drain", "stop")
"""In this order, behind the others: they change what the others show."""
ELSEWHERE = {"top", "serve", "dev", "exec", "try"}
"""The first two are looked at below, ``dev`` prints as ``serve`` and ``logs`` do. What ``exec`` and ``try`` run has this terminal
for its own, as it would without them."""


def words_of(name: str) -> list[list[str]]:
    """What is typed: the name, with the key where the command takes one."""
    parser = Parser(prog=name)
    COMMANDS[name].declare(parser)
    takes = {action.dest for action in parser._actions if not action.option_strings}
    return MORE.get(name) or [[name, *([KEY] if takes & {"key", "keys"} else [])]]


def test_every_command_has_its_place() -> None:
    assert {*MORE, *LAST, *ELSEWHERE} <= set(COMMANDS)


@contextlib.contextmanager
def terminal() -> Iterator[list[bytes]]:
    """Standard output and error are a terminal; what has been written to it."""
    master, slave = pty.openpty()
    written: list[bytes] = []

    def read() -> None:
        with contextlib.suppress(OSError):
            while data := os.read(master, 65536):
                written.append(data)

    reader = threading.Thread(target=read)
    reader.start()
    before = sys.stdout, sys.stderr
    try:
        with open(slave, "w", encoding="utf-8", errors="surrogateescape") as there:
            sys.stdout = sys.stderr = there
            yield written
    finally:
        sys.stdout, sys.stderr = before
        reader.join()
        os.close(master)


def steered(data: bytes) -> list[str]:
    """What of it steers a terminal, but for what is ours."""
    text = OURS.sub("", data.decode(errors="surrogateescape"))
    return [text[max(found.start() - 40, 0) : found.end() + 20] for found in STEERS.finditer(text)]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    (tmp_path / "revision").write_text(f"1 {STRANGE.splitlines()[0]}")
    scripts = '[scripts.scripted]\napp = "app"\ntarget = "strange"\nevery = "30d"\ntags = ["a"]\nowner = "me"\n'
    text = CONFIG.format(
        top="[history]\n", app=f'revision = "{tmp_path}/revision"', pool='pm = "ondemand"\nmax_workers = 3\ngrace = "30s"'
    )
    with Daemon(tmp_path, config=text + scripts, jobs=JOBS, environment={"ROCKSYD_LOG": "text"}) as daemon:
        yield daemon


def test_no_command_lets_a_stranger_steer_the_terminal(daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROCKSYD_ADDRESS", daemon.address)
    monkeypatch.delenv("NO_COLOR", raising=False)
    broken = tmp_path / "broken.toml"
    broken.write_text(f"{json.dumps(STRANGE)} = 1\n[apps.{json.dumps(STRANGE)}]\npath = 7\n")
    files = {"config": str(daemon.config), "broken": str(broken)}
    with daemon.client() as client:
        ordered = {"labels": {"l": STRANGE, "<b>": STRANGE}}
        client.run("strange", params={"text": [STRANGE], "fails": True}, key=KEY, **ordered).wait()
        client.run("strange", {STRANGE: STRANGE}, str(tmp_path / "go"), key="holds", **ordered)
        until(lambda: client.status("holds")["progress"], "it to say how far it is")
        until(lambda: client.request("history.search", {"text": "OWNED"}), "the output to be found")
        names = [name for name in COMMANDS if name not in {*LAST, *ELSEWHERE}]
        with Program(command("top"), environment(daemon)) as program:
            program.sees("strange")
            assert "OWNED\x07" not in program.screen.text
            program.type("q")
            program.ends()
        for name in (*names, *LAST):
            if name == "restart":
                (tmp_path / "go").touch()
                (tmp_path / "app" / "jobs.py").write_text(f"raise ValueError({STRANGE!r})\n")
            for words in words_of(name):
                with terminal() as written, contextlib.suppress(SystemExit):
                    run_command([word.format(**files) if word in ("{config}", "{broken}") else word for word in words])
                data = b"".join(written)
                assert data or name in ("free", "notify", "wait", "drain", "stop", "completion"), words
                assert not steered(data), words
                if name in ("logs", "errors", "search"):
                    assert b"OWNED" in data, words
    assert not steered(daemon.log().encode(errors="surrogateescape"))
