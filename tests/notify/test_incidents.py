"""A night: ten incidents are played, each is told, and one command says what it is; the page about them shows what was seen."""

from __future__ import annotations

import os
import re
import socket
from contextlib import ExitStack, chdir
from pathlib import Path
from typing import Any

import pytest

from rocksyd.cli.commands import run_command
from rocksyd.testing import Daemon
from rocksyd.testing.daemon import until
from tests.faults.crowd import kill_master
from tests.faults.test_journal import SmallDisk
from tests.notify.receivers import Hook, hook
from tests.notify.stage import wait_hears

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "incidents.md"
CONFIG = """
listen = ["unix://d.sock"]
state_dir = "var"
timezone = "UTC"
[notify.ops]
webhook = "{url}"
[scripts.invoices]
app = "shop"
target = "invoices"
every = "1h"
long_after = "1s"
[apps.shop]
path = "app"
jobs = ["jobs"]
[apps.shop.pool]
max_workers = 3
idle_timeout = "1h"
[apps.shop.pools.nightly]
max_workers = 1
[apps.shop.pools.mail]
max_workers = 1
max_queue = 10
[apps.shop.pools.large]
max_workers = 1
max_rss_hard = "100M"
[apps.images]
path = "images"
jobs = ["thumbnails"]
[apps.images.pool]
park_after = 2
"""
REPORT = """
[scripts.report]
app = "shop"
target = "report"
every = "1s"
late_after = "1s"
"""
JOBS = """
import os, socket, time
from rocksyd import job

HERE = os.path.dirname(__file__)

def wait_for(name):
    while not os.path.exists(os.path.join(HERE, name)):
        time.sleep(0.01)

@job(pool="nightly")
def invoices():
    with open(os.path.join(HERE, "printer")) as printer:
        return printer.read()

@job(pool="nightly")
def report():
    return "reported"

@job(timeout="5s")
def prices():
    with socket.socket(socket.AF_UNIX) as backend:
        backend.connect("backend")
        return backend.recv(100).decode()

@job(pool="large")
def catalogue():
    rows = [bytes([n]) * 1_000_000 for n in range(150)]
    wait_for("never")
    return len(rows)

@job(pool="mail")
def newsletter():
    wait_for("mail server")
"""
IMAGES = """
import os
from rocksyd import job
from rocksyd.jobs import after_fork

@after_fork
def licence():
    if not os.path.exists("licence"):
        os._exit(3)

@job
def thumbnail():
    return "small"
"""

CALM = "0.10 0.10 0.10 1/100 1\n"


class Night:
    """The daemon of that night, what its operators were told, and what commands said to them."""

    def __init__(self, daemon: Daemon, got: Hook, capsys: pytest.CaptureFixture[str]) -> None:
        self.daemon = daemon
        self.talk = daemon.talk()
        self.seen: dict[str, list[str]] = {}
        """Incident -> the alert's title, the command, and what it printed."""
        self._got = got
        self._capsys = capsys
        self._told: list[dict[str, Any]] = []

    def told(self, kind: str, subject: str, *, over: bool = False) -> dict[str, Any]:
        """Wait until this was told."""
        while True:
            for one in self._told:
                if (one["kind"], one["subject"], one["over"]) == (kind, subject, over):
                    return one
            self._told.append(self._got.next())

    def asked(self, incident: str, told: dict[str, Any], *words: str, status: int = 0) -> None:
        """Ask with a command, as somebody would who was told this, and keep what was seen."""
        self._capsys.readouterr()
        assert run_command(["--address", self.daemon.address, *words]) == status
        said = self._capsys.readouterr().out.splitlines()
        self.seen[incident] = [f"alert: {told['title']}", f"$ rocksyd {' '.join(words)}", *said]

    def runs(self, target: str, number: int) -> None:
        """Order some runs: ``target-1``, ``target-2`` ..."""
        for key in range(1, number + 1):
            self.talk.rpc("run", target=target, key=f"{target}-{key}")

    def wait(self, target: str, number: int) -> None:
        """Wait until these have ended."""
        for key in range(1, number + 1):
            self.talk.rpc("wait", key=f"{target}-{key}")

    def there(self, file: str) -> None:
        """What the application has waited for has come."""
        (self.daemon.app / file).touch()


def stuck_and_late(night: Night) -> None:
    night.talk.rpc("schedule.run", name="invoices")
    told = night.told("long", "invoices")
    night.asked("A job is stuck", told, "stack", told["about"]["key"])
    assert f"`rocksyd stack {told['about']['key']}`" in told["text"]
    night.talk.rpc("schedule.apply", text=REPORT)
    told = night.told("late", "report")
    until(lambda: night.talk.rpc("schedule.show", name="report")["going"], "its run to be ordered")
    (key,) = night.talk.rpc("schedule.show", name="report")["going"]
    night.asked("A schedule is late", told, "why", key)
    # Whether it was ordered may not have been known yet.
    assert f"`rocksyd why {key}`" in told["text"] or "`rocksyd schedule show report`" in told["text"]
    with (night.daemon.app / "printer").open("w") as printer:
        printer.write("paper is there again")
    assert night.told("long", "invoices", over=True)
    assert night.told("late", "report", over=True)
    night.talk.rpc("schedule.pause", name="report")


def slow(night: Night) -> None:
    night.wait("prices", 3)
    night.asked("A backend is slow", night.told("failed", "prices"), "errors", "--since", "1h")


def memory(night: Night) -> None:
    night.runs("catalogue", 1)
    told = night.told("failed", "catalogue")
    night.asked("A run is killed for its memory", told, "why", told["about"]["key"])


def queue(night: Night) -> None:
    night.runs("newsletter", 1)
    until(lambda: night.talk.rpc("status", key="newsletter-1")["state"] == "running", "the first to begin")
    night.runs("newsletter", 10)  # the first of them is known
    night.asked("A queue grows", night.told("health", "queue shop/mail"), "pools")
    night.there("mail server")
    assert night.told("health", "queue shop/mail", over=True)


def disk(night: Night, disk: SmallDisk) -> None:
    found = os.statvfs(disk.folder)
    (disk.folder / "ballast").write_bytes(bytes(found.f_bavail * found.f_frsize - found.f_blocks * found.f_frsize // 50))
    night.talk.rpc("stats")  # somebody wants something of the daemon, so that it looks
    night.asked("A disk is nearly full", night.told("health", "disk"), "health")
    disk.empty(night.daemon)
    night.talk.rpc("stats")
    assert night.told("health", "disk", over=True)


def overloaded(night: Night, load: Path) -> None:
    load.write_text(f"0.00 {10 * len(os.sched_getaffinity(0))}.00 0.00 1/100 1\n")
    night.talk.rpc("stats")
    night.asked("The machine is overloaded", night.told("health", "machine"), "health")
    load.write_text(CALM)
    night.talk.rpc("stats")
    assert night.told("health", "machine", over=True)


def parked_and_refused(night: Night, images: Path) -> None:
    (images / "licence").unlink()
    night.talk.rpc("run", target="thumbnail", app="images", key="thumbnail-1")
    night.asked("A pool is parked", night.told("pool", "images"), "health", status=1)
    (images / "licence").touch()
    jobs = night.daemon.app / "jobs.py"
    jobs.write_text(f"import catalog\n{JOBS}")
    assert "No module named 'catalog'" in night.daemon.restart()["error_text"]
    night.asked("A deploy is refused", night.told("restart", "restart"), "restarts")
    jobs.write_text(JOBS)
    assert night.daemon.restart() == {"error_text": "Restarted successfully"}
    assert night.told("restart", "restart", over=True)
    assert night.told("pool", "images", over=True)
    night.wait("thumbnail", 1)


def crashes(night: Night) -> None:
    for _ in range(2):
        kill_master(night.daemon)
    night.asked("The master crashes again and again", night.told("crash", "master"), "restarts")


def plain(line: str) -> str:
    """Without what differs from night to night: keys, numbers, times, sizes, folders, who it was, the width of columns."""
    line = re.sub(r"(\w)[@!][\w:-]+", r"\1@", line)
    line = re.sub(r"(?:/[\w.-]+)+/([\w.-]+)", r"/srv/\1", line)
    line = re.sub(r"[\w-]+( \d+)?, pid", "somebody, pid", line)
    line = re.sub(r"\d[\d.,:]*(?:ms|[smhdKMGT])?", "#", line)
    return " ".join(re.sub("#+", "#", line).split())


def printed() -> dict[str, list[str]]:
    """What the page shows of each incident."""
    found = re.findall(r"^## (.*?)\n(.*?)^```text\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return {title: [line for line in text.splitlines() if line.strip() not in ("", "...")] for title, _, text in found}


def assert_shown(title: str, page: list[str], seen: list[str]) -> None:
    """What the page shows was seen, in this order; it may leave lines out, and the end of one (``...``)."""
    rest = iter([plain(line) for line in seen])
    for line in page:
        shown, cut, _ = line.partition("...")
        assert any(one.startswith(plain(shown)) if cut else one == plain(line) for one in rest), (
            f"{title}: {line!r} was not seen (there) in\n" + "\n".join(seen)
        )


@pytest.mark.long
def test_ten_incidents_are_told_and_one_command_says_what_each_is_as_the_page_shows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, load = tmp_path / "images", tmp_path / "loadavg"
    images.mkdir()
    (images / "thumbnails.py").write_text(IMAGES)
    (images / "licence").touch()
    load.write_text(CALM)
    with ExitStack() as stack:
        got = stack.enter_context(hook())
        small = _small_disk(stack, tmp_path)
        prefix = (
            () if small is None else ("unshare", "--mount", "sh", "-c", f'mount --bind {load} /proc/loadavg && exec "$@"', "sh")
        )
        daemon = Daemon(tmp_path, JOBS, config=CONFIG.format(url=got.url), prefix=prefix)
        os.mkfifo(daemon.app / "printer")
        backend = stack.enter_context(socket.socket(socket.AF_UNIX))  # it takes whoever comes, and answers nobody
        with chdir(daemon.app):
            backend.bind("backend")
        backend.listen()
        stack.enter_context(daemon)
        night = Night(daemon, got, capsys)
        wait_hears(daemon, "failed", "scripts")
        night.runs("prices", 3)  # they take some seconds
        stuck_and_late(night)
        memory(night)
        queue(night)
        slow(night)
        if small is not None:
            disk(night, small)
            overloaded(night, load)
        parked_and_refused(night, images)
        crashes(night)
    page = printed()
    assert len(page) == 10
    assert page.keys() >= night.seen.keys()
    for title, seen in night.seen.items():
        assert_shown(title, page[title], seen)
    if small is None:
        pytest.skip("played without the disk and the overloaded machine: no file system can be mounted here")
    assert page.keys() == night.seen.keys()


def _small_disk(stack: ExitStack, folder: Path) -> SmallDisk | None:
    """The daemon's disk; None where nothing may be mounted."""
    try:
        made = SmallDisk(folder, "64m")
    except pytest.skip.Exception:
        return None
    stack.callback(made.close)
    return made
