"""What the commands show on terminals of 80 and 200 columns, and in a pipe, from a real daemon: docs/captures.md.

.venv/bin/python tools/captures.py
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Sequence
from pathlib import Path

from rocksyd.client import Client
from rocksyd.master.desk.outlook import machine
from rocksyd.testing import Daemon
from rocksyd.testing.daemon import until

PAGE = Path(__file__).parents[1] / "docs" / "captures.md"
JOBS = """
import os, time
from rocksyd import current, gauge, job

def _rows(file):
    raise ValueError(f"no orders in {file}: the supplier has sent an empty file, or none at all")

@job
def import_orders(file: str, limit: int = 0):
    "Reads a supplier's file."
    print("\\033[32mreading\\033[0m", file)
    if file.endswith("empty.csv"):
        _rows(file)

@job(timeout="10m")
def nightly(path: str, day: str = "2026-01-31"):
    "Sums up the day's orders and mails the report."
    gauge("orders_open", 17)
    current().progress(40, 100, "reading orders")
    while not os.path.exists(path):
        time.sleep(0.05)
"""
CONFIG = 'pm = "dynamic"\nmax_workers = 2\nmin_spare = 1\nmax_spare = 1'
COMMANDS = (
    ("ps",), ("ps", "--failed"), ("why", "waits"), ("errors",), ("search", "empty"), ("logs", "suppliers-2"), ("jobs",),
    ("jobs", "import_orders"), ("restarts",), ("pools",), ("pools", "--wide"), ("health",),
)  # fmt: skip
STAND_IN = "/srv/the-shop"
"""For the folder that the daemon is in; as long as that, so that lines are filled, broken and cut as they would be there."""
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def shown(words: tuple[str, ...], environment: dict[str, str], columns: int) -> str:
    """What a command writes on a terminal of so many columns; 0: in a pipe."""
    command = [sys.executable, "-m", "rocksyd.cli", *words]
    if not columns:
        return _COLOURS.sub("", subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout)
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    process = subprocess.Popen(command, env=environment, stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    written = b""
    try:
        while data := os.read(master, 65536):
            written += data
    except OSError:  # the last who had the terminal has left
        pass
    os.close(master)
    process.wait()
    return _COLOURS.sub("", written.decode(errors="replace")).replace("\r", "")


def _elsewhere(text: str, folders: Sequence[str]) -> str:
    """The text as if its folders were the stand-in, also where one is cut off."""
    for folder in folders:
        text = text.replace(folder, STAND_IN)
        for length in range(len(folder) - 1, 1, -1):
            text = text.replace(folder[:length] + "…", STAND_IN[:length] + "…")
    return text


def page(environment: dict[str, str], folders: Sequence[str]) -> str:
    """The page's text, with a stand-in for the folders of the daemon."""
    parts = [
        "# Captures\n\nWhat the commands show, made by `tools/captures.py` from a real daemon; colours are left out.\n",
    ]
    for words in COMMANDS:
        parts.append(f"## rocksyd {' '.join(words)}\n")
        for columns in (80, 200, 0):
            text = _elsewhere(shown(words, environment, columns), folders).rstrip()
            if stray := re.search(rf"{re.escape(tempfile.gettempdir())}\b.*", text):
                raise SystemExit(f"{' '.join(words)}: a path of this machine is on the page: {stray[0]}")
            widest = max((len(line) for line in text.splitlines()), default=0)
            if columns and widest > columns and words[0] != "logs":  # what a run has written is not broken
                raise SystemExit(f"{' '.join(words)}: a line of {widest} columns at {columns}")
            parts.append(f"{f'At {columns} columns' if columns else 'In a pipe'}:\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


def main() -> None:
    """Write the page."""
    if trouble := next(machine(), None):
        raise SystemExit(f"`health` would show this machine's trouble on the page: {trouble.text}; wait until it is quieter")
    with (
        tempfile.TemporaryDirectory(prefix="") as folder,
        Daemon(Path(folder), JOBS, parts={"top": "[history]", "pool": CONFIG}) as daemon,
    ):
        environment = {**os.environ, "ROCKSYD_ADDRESS": daemon.address, "TERM": "xterm-256color", "LANG": "C.UTF-8"}
        environment.pop("NO_COLOR", None)
        go = Path(folder) / "go"
        with daemon.client() as client:
            _stage(client, str(go))
            talk = daemon.talk()
            talk.ask("restart")
            jobs = daemon.app / "jobs.py"
            text = jobs.read_text()
            jobs.write_text("import nothing_of_this_name\n")
            talk.ask("restart")
            jobs.write_text(text)
            until(lambda: client.request("history.search", {"text": "empty"}), "what ended to be taken in")
            PAGE.write_text(page(environment, (folder, daemon.address.removeprefix("unix://").removesuffix("/d.sock"))))
            go.touch()
            for key in ("nightly-1", "nightly-2", "waits"):
                next(iter(client.wait(key)))


def _stage(client: Client, go: str) -> None:
    for number, file in enumerate(("monday.csv", "empty.csv", "north/empty.csv")):
        client.run("import_orders", file, key=f"suppliers-{number}", labels={"tenant": "4"}).wait()
    for number in (1, 2):
        client.run("nightly", go, key=f"nightly-{number}")
    until(lambda: len(client.runs(state="running")) == 2, "both to run")
    client.run("import_orders", "tuesday.csv", key="waits")


if __name__ == "__main__":
    main()
