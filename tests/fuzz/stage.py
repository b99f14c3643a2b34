"""The daemon that is attacked, and what of it must not change however it is spoken to."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any

from rocksyd.testing import Daemon
from rocksyd.testing.daemon import Conversation, DaemonError, command_line, descendants, until
from tests.faults.bystander import OWN, Bystander

JOBS = """
import fcntl, os, socket, struct, time
from rocksyd import current, job

@job
def echo(*args):
    return list(args)

@job
def fails(text="x"):
    raise ValueError(text)

@job
def prints(lines: int = 1):
    for number in range(min(lines, 1000)):
        print(number)
    current().progress(1, 1, "printed")

@job
def naps(seconds: float = 0.01):
    time.sleep(min(max(float(seconds), 0.0), 0.05))
    return seconds

def channel():
    "The socket that this worker's master listens to."
    for name in sorted(os.listdir("/proc/self/fd"), key=int):
        try:
            found = socket.socket(fileno=os.dup(int(name)))
        except OSError:
            continue
        if (found.family, found.type) == (socket.AF_UNIX, socket.SOCK_SEQPACKET):
            return found
        found.close()

def body(data, seals):
    fd = os.memfd_create("body", os.MFD_ALLOW_SEALING)
    os.write(fd, data)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd

@job
def speak(texts: list, how: str = "datagram", seals: int = 14, descriptors: int = 0):
    "Says each text on the channel of its worker, as it stands or in a memfd, with some descriptors too many."
    said, line = 0, channel()
    for text in texts:
        data = text.replace("MINE", current().key).encode("utf-8", "surrogatepass")
        fds = [0] * descriptors
        if how == "memfd":
            fds, data = [body(data, seals), *fds], b"M"
        elif how == "bytes":
            data = bytes(byte ^ 0x81 if number % 7 == 0 else byte for number, byte in enumerate(data))
        try:
            socket.send_fds(line, [data[:200_000]], fds[:250]) if fds else line.send(data[:200_000])
        except OSError:
            break
        said += 1
    return said
"""
CONFIG = """\
listen = ["unix://d.sock"]
state_dir = "var"
[journal]
sync = "normal"
keep_runs = 300
[apps.app]
path = "app"
jobs = ["jobs"]
[apps.app.pool]
pm = "static"
max_workers = 3
max_jobs = 0
grace = "30s"
timeout = "20s"
max_queue = 300
[apps.app.pools.rough]
pm = "ondemand"
idle_timeout = "100ms"
max_workers = 2
max_jobs = 1
grace = "30s"
timeout = "20s"
[apps.app.jobs_settings."jobs:speak"]
pool = "rough"
"""
"""Jobs that write on the channel have a process each: what they leave on it in one that lasts is heard during the next."""


class Stage:
    """A daemon with a bystander. At the end everything is as at the beginning, but for what was served."""

    def __init__(self, folder: Path) -> None:
        self.daemon = Daemon(folder, JOBS, config=CONFIG)
        self.counts: Counter[str] = Counter()
        self.bystander: Bystander

    def __enter__(self) -> Stage:
        self.daemon.__enter__()
        with self.daemon.client() as client:
            client.call("echo", 1)
        self.bystander = Bystander(self.daemon)
        self.bystander.__enter__()
        self.daemon.wait_shelved(1)
        with self.bystander.resting:
            until(self._at_rest, "three idle workers")
            self._before = self._open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.bystander.__exit__(kind, error, trace)
        self.daemon.__exit__(kind, error, trace)

    def ask(self, method: str, **params: Any) -> Any:
        """One call over a connection of its own."""
        with Conversation(self.daemon.connect()) as conversation:
            return conversation.rpc(method, **params)

    def _at_rest(self) -> bool:
        pools = {pool["pool"]: pool for pool in self.ask("pools")}
        lasting, rough = pools["app"], pools["app/rough"]
        return lasting["idle"] == lasting["workers"] == 3 and not rough["workers"]

    def _open(self) -> dict[str, int]:
        """Descriptors of each lasting process, and how many processes there are."""
        zygote = self.ask("health")["zygotes"]["zygote:app@1"]["pid"]
        processes = {"keeper": self.daemon.pid, "master": self.daemon.master_pid, "zygote": zygote}
        counts = {name: len(self.daemon.descriptors(pid)) for name, pid in processes.items()}
        return {**counts, "processes": len(descendants(self.daemon.pid))}

    def unharmed(self) -> None:
        """Nothing died, nothing leaked, no fault was caught, and the bystander has had its replies. Raises AssertionError."""
        stats: dict[str, Any] = self.ask("stats")
        assert stats["crashes"] == 0, self.daemon.log()
        health = self.ask("health")
        assert not health["faults"], f"{health['faults']}\n{self.daemon.log()}"
        for record in [*self.ask("list", state="waiting", limit=1000), *self.ask("list", state="running", limit=1000)]:
            if record["labels"] == OWN:
                continue
            with Conversation(self.daemon.connect()) as conversation:
                conversation.ask(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "terminate", "params": {"key": record["key"]}}))
        try:
            with self.bystander.resting:
                until(lambda: self._at_rest() and self._open() == self._before, "what was open before")
        except DaemonError:
            held = sorted(self.daemon.descriptors(self.daemon.master_pid).items())
            held += [(pid, command_line(pid)) for pid in descendants(self.daemon.pid)]
            raise AssertionError(f"open were {self._before}, and are {self._open()}\n{held}\n{self.daemon.log()}") from None
        self.bystander.goes_on()
