"""Where the demonstration is played: a temporary folder with releases of the shop, and the daemon that runs the current one.

What must live here: files and processes, and that all of them go away.
What this file must not know: what is shown.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rocksyd import Client
from rocksyd.testing.daemon import descendants

ROOT = Path(__file__).resolve().parent.parent
SHOP = ROOT / "examples" / "shop"
PATIENCE = 60.0
MARK = "ROCKSYD_DEMO"
"""An environment variable that every process of the demonstration has: how one that was left behind is found."""
PRELOAD = ("django:setup", "shop.urls", "shop.warehouse", "shop.reports", "shop.prices:load")

CONFIG = """\
listen = ["unix://d.sock", "tcp://127.0.0.1:{port}"]
state_dir = "state"
auth = "none"

[apps.shop]
path = "current"
preload = [{preload}]
jobs = ["shop.jobs", "demo_jobs"]
smoke = "shop.checks:smoke"
env = {{ DJANGO_SETTINGS_MODULE = "shop.settings", SHOP_VAR = "{folder}/var", DEMO_FOLDER = "{folder}" }}

[apps.shop.pool]
pm = "dynamic"
max_workers = 10
min_spare = 2
max_spare = 4
grace = "2s"
"""


class StageError(Exception):
    """The demonstration cannot go on; the message says why."""


class Stage:
    """Use as a context manager; ``start`` starts the daemon."""

    def __init__(self) -> None:
        self.mark = f"{os.getpid()}-{time.monotonic_ns()}"
        self.folder = Path()
        self.release = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.tcp = ("127.0.0.1", 0)

    def __enter__(self) -> Stage:
        # The kernel allows a unix socket's path 107 bytes.
        base = tempfile.gettempdir()
        self.folder = Path(tempfile.mkdtemp(prefix="rocksyd-demo-", dir=base if len(base) < 70 else "/tmp"))
        (self.folder / "var").mkdir()
        return self

    def __exit__(self, *_: object) -> None:
        process = self.process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                for pid in [*descendants(process.pid), process.pid]:
                    _kill(pid)
                process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- releases -----------------------------------------------------------------------------------------------------
    @property
    def environment(self) -> dict[str, str]:
        """Of every process that is started."""
        return {
            **os.environ, MARK: self.mark, "DJANGO_SETTINGS_MODULE": "shop.settings", "SHOP_VAR": str(self.folder / "var"),
            "DEMO_FOLDER": str(self.folder),
        }  # fmt: skip

    def deploy(self, append: dict[str, str] | None = None) -> Path:
        """Put a new release beside the others and switch the link to it; ``append`` is put at the end of some of its files."""
        self.release += 1
        folder = self.folder / f"release-{self.release}"
        shutil.copytree(SHOP, folder, ignore=shutil.ignore_patterns("var", "__pycache__", "rocksyd.toml"))
        shutil.copyfile(Path(__file__).with_name("shop_jobs.py"), folder / "demo_jobs.py")
        for name, text in (append or {}).items():
            with (folder / name).open("a") as file:
                file.write(text)
        self.switch(folder)
        return folder

    def switch(self, folder: Path) -> None:
        """Let `current` be this release, in one step (rename)."""
        new = self.folder / "current.new"
        new.symlink_to(folder.name)
        new.replace(self.folder / "current")

    @property
    def current(self) -> Path:
        """The release that `current` points to."""
        return (self.folder / "current").resolve()

    def make_database(self) -> None:
        """The shop's own database: a copy of the one that is there, or a new one."""
        there = SHOP / "var" / "shop.sqlite3"
        if there.exists():
            shutil.copyfile(there, self.folder / "var" / "shop.sqlite3")
            return
        for command in (["migrate", "--verbosity", "0"], ["seed"]):
            self.python(str(self.current / "manage.py"), *command)

    def cold_start(self) -> float:
        """Seconds that a fresh interpreter takes to load what the daemon has loaded."""
        code = "import importlib, sys\nfor name in sys.argv[1:]:\n    module, _, function = name.partition(':')\n"
        code += "    loaded = importlib.import_module(module)\n    function and getattr(loaded, function)()\n"
        began = time.monotonic()
        self.python("-c", code, *PRELOAD)
        return time.monotonic() - began

    def python(self, *arguments: str) -> None:
        """Run the interpreter in the current release."""
        done = subprocess.run(
            [sys.executable, *arguments], cwd=self.current, env=self.environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise StageError(f"`python {' '.join(arguments)[:60]}` failed:\n{done.stderr[-2000:]}")

    # --- the daemon ---------------------------------------------------------------------------------------------------
    def start(self) -> float:
        """Start `rocksyd serve`; returns the seconds until it says READY=1, as it would to systemd."""
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.tcp = ("127.0.0.1", probe.getsockname()[1])
        preload = ", ".join(f'"{name}"' for name in PRELOAD)
        (self.folder / "rocksyd.toml").write_text(CONFIG.format(port=self.tcp[1], preload=preload, folder=self.folder))
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notify.bind(str(self.folder / "notify"))
        notify.settimeout(0.1)
        words = [sys.executable, "-m", "rocksyd.cli", "serve", "-c", str(self.folder / "rocksyd.toml")]
        environment = {**self.environment, "NOTIFY_SOCKET": str(self.folder / "notify")}
        began = time.monotonic()
        # A session of its own: Ctrl-C in the terminal is for the demonstration, which ends the daemon in order.
        with (self.folder / "log").open("ab") as log, notify:
            self.process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, cwd=self.folder, start_new_session=True
            )
            while True:
                try:
                    if "READY=1" in notify.recv(65536).decode().split("\n"):
                        return time.monotonic() - began
                except TimeoutError:
                    if self.process.poll() is not None or time.monotonic() > began + PATIENCE:
                        raise StageError(f"the daemon did not start:\n{self.log()}") from None

    def client(self) -> Client:
        """The public client, over the unix socket."""
        return Client(f"unix://{self.unix}")

    @property
    def unix(self) -> str:
        """Path of the unix socket."""
        return str(self.folder / "d.sock")

    def log(self) -> str:
        """The daemon's log."""
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def left(self) -> list[str]:
        """Processes that the demonstration has started and that still are."""
        found = []
        wanted = f"{MARK}={self.mark}".encode()
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(f"process {entry.name}")
            except OSError:
                continue
        return found


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def resident(pid: int) -> int:
    """Bytes of memory a process has in RAM, those it shares with others included."""
    return _kib(f"/proc/{pid}/smaps_rollup", "Rss")


def own(pid: int) -> int:
    """Bytes of memory that only this process has."""
    return _kib(f"/proc/{pid}/smaps_rollup", "Private_Clean", "Private_Dirty")


def _kib(path: str, *names: str) -> int:
    lines = (line.split() for line in Path(path).read_text().splitlines())
    return sum(int(line[1]) for line in lines if line[0].rstrip(":") in names) * 1024
