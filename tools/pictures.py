"""The pictures of the gateway's pages in docs/: of a daemon at work, by headless Chromium, light, dark and as narrow as a phone.

.venv/bin/python tools/pictures.py
"""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from playwright.sync_api import sync_playwright

from rocksyd.client import Client
from rocksyd.journal.store import Journal
from rocksyd.model import ENDED, Attempt, Order, Run
from rocksyd.testing import Daemon
from rocksyd.testing.daemon import until

DOCS = Path(__file__).parents[1] / "docs"
WIDE, PHONE = {"width": 1360, "height": 860}, {"width": 390, "height": 844}


class Picture(NamedTuple):
    """One of them."""

    name: str
    path: str
    scheme: str = "light"
    window: dict[str, int] = WIDE


PICTURES = (
    Picture("now", "/"),
    Picture("now-dark", "/", "dark"),
    Picture("now-phone", "/", "dark", PHONE),
    Picture("target", "/target/shop/import_orders"),
    Picture("run", "/run/nightly-31"),
    Picture("run-phone", "/run/nightly-31", "light", PHONE),
    Picture("schedules", "/schedules", "dark"),
)
JOBS = '''
import os, time
from rocksyd import current, job

@job
def import_orders(supplier: str, limit: int = 0, *, dry_run: bool = False):
    """Reads a supplier's orders."""
    if supplier == "empty":
        raise ValueError(f"no orders from {supplier}: the supplier has sent an empty file")

@job(timeout="1h", pool="reports")
def nightly(day: str = "2026-01-31"):
    """Sums up the day's orders and mails the report."""
    print("orders of", day)
    for number, what in enumerate(("read", "sorted", "summed up")):
        print(f"\\033[32m{what}\\033[0m: {1200 + 7 * number} orders", flush=True)
    current().progress(40, 100, "writing the report")
    while not os.path.exists(os.environ["GO"]):
        time.sleep(0.05)

@job
def mail(to: str):
    """Sends a letter."""

@job
def stock():
    """Looks what has been sold."""

@job
def thumbnails(picture: str):
    """Makes the small pictures of a product."""
'''
CONFIG = """\
listen = ["unix://d.sock"]
state_dir = "var"
[gateway]
listen = ["http://127.0.0.1:0"]
[history]
[scheduler]
[apps.shop]
path = "app"
jobs = ["jobs"]
env = {{ GO = "{go}" }}
[apps.shop.pool]
pm = "dynamic"
max_workers = 6
min_spare = 2
max_spare = 3
[apps.shop.pools.reports]
pm = "static"
max_workers = 2
[scripts.nightly]
target = "nightly"
cron = "0 3 * * *"
[scripts.import-oak]
target = "import_orders"
params = ["oak"]
every = "15m"
[scripts.import-elm]
target = "import_orders"
params = ["elm"]
every = "1h"
[scripts.stock]
target = "stock"
every = "1s"
[scripts.newsletter]
target = "mail"
params = ["everybody"]
cron = "30 7 * * mon-fri"
"""
HOUR = 3600.0
NOT_SHOWN = ".alarm .warning { display: none }"
"""What `health` warns of, which here is that the machine that takes the pictures has too much to do."""


def main() -> None:
    """Make all of them."""
    with tempfile.TemporaryDirectory(prefix="") as name:
        folder, go = Path(name), Path(name) / "go"
        _past(folder)
        with Daemon(folder, JOBS, config=CONFIG.format(go=go)) as daemon, daemon.client() as client:
            _present(daemon, client)
            if problems := client.request("health")["problems"]:
                raise SystemExit(f"the pages would show trouble: {problems}")
            (gateway,) = [one for one in client.request("health")["companions"] if one["name"] == "gateway"]
            with _chromium() as chromium:
                for picture in PICTURES:
                    _take(chromium, gateway["listen"][0], picture)
            go.touch()
            until(lambda: not client.runs(state="running"), "all to end")


def _past(folder: Path) -> None:
    """What has run in the last hours: as many runs as make the charts worth a look, some of which failed."""
    (folder / "var").mkdir()
    with closing(Journal(str(folder / "var" / "journal.sqlite"), sync="normal")) as journal:
        journal.own()
        journal.commit(_runs(time.time()), [])


def _runs(now: float) -> Iterator[Run]:
    chance = random.Random(1)
    moments = sorted(now - 2 - 2 * HOUR * chance.random() for _ in range(1600))
    for number, ended in enumerate(moments):
        target = "import_orders" if number % 20 == 0 else ("mail", "thumbnails", "thumbnails")[number % 3]
        failed = target == "import_orders" and chance.random() < 0.06
        took = {"import_orders": 3.0, "thumbnails": 0.8, "mail": 0.2}[target] * chance.lognormvariate(0.0, 0.35)
        params = [{"import_orders": ("oak", "elm")[number // 20 % 2], "mail": "a.b@example.org"}.get(target, f"p{number}.jpg")]
        order = Order("shop", target, f"jobs:{target}", params=params, submitted_at=ended - took - 0.05)
        attempt = Attempt(outcome="failed" if failed else "ok", retcode=int(failed), started_at=ended - took, ended_at=ended)
        if failed:
            text = "sftp.example.org does not answer"
            attempt.error = {"type": "TimeoutError", "message": text, "traceback": f"TimeoutError: {text}"}
        yield Run(
            f"{target.replace('_', '-')}-{number}", order, attempt, state=ENDED, pool="shop", sequence=number + 1, rev=number + 1
        )


def _present(daemon: Daemon, client: Client) -> None:
    """Runs that run, two that wait for them, some that have just ended, a deploy and a refused one."""
    for supplier in ("oak", "empty", "elm"):
        client.run("import_orders", supplier, key=f"orders-{supplier}", labels={"tenant": "4"}).wait()
    for day in (31, 30, 29, 28):
        client.run("nightly", params=[f"2026-01-{day}"], key=f"nightly-{day}")
    client.run("mail", "c.d@example.org", key="letter", delay="20m")
    until(lambda: len(client.runs(state="running")) == 2, "two to run")
    talk = daemon.talk()
    talk.ask("restart")
    text = (daemon.app / "jobs.py").read_text()
    (daemon.app / "jobs.py").write_text("import nothing_of_this_name\n")
    talk.ask("restart")
    (daemon.app / "jobs.py").write_text(text)


@contextmanager
def _chromium() -> Iterator[Any]:
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        raise SystemExit("there is no Chromium: apt-get install chromium")
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage"])
        try:
            yield chromium
        finally:
            chromium.close()


def _take(chromium: Any, address: str, picture: Picture) -> None:
    page = chromium.new_page(viewport=picture.window, color_scheme=picture.scheme, reduced_motion="reduce", bypass_csp=True)
    page.goto(address + picture.path)
    page.wait_for_selector("#live.on, body[data-live='']")
    page.screenshot(path=DOCS / f"gateway-{picture.name}.png", style=NOT_SHOWN)
    page.close()


if __name__ == "__main__":
    main()
