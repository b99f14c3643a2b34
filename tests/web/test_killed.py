"""P1, P3, P11: somebody is killed at each step of a hand-over, beside requests. None fails, no connection is closed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from rocksyd.testing import Daemon, until
from rocksyd.testing.daemon import command_line
from tests.faults.crowd import serving_master, the_master, zygotes
from tests.faults.held import Held, package_with_gates
from tests.restart.stage import many
from tests.web.stage import ASGI, Load, get, port, site

PLACES = {
    "loading": ("    def _load_applications(self", ""),
    "adopting": ("    def _take_over(self", ""),
    "serving": ("    def _begin_to_serve(self", ""),
    "frozen": ("def _verdict(", ""),
    "freezing": ("def freeze(", ""),
    "accepting": ("    def _tell(self, link", 'order.what == "accept"'),
    "leaving": ("    def _tell(self, link", 'order.what == "leave"'),
}
"""Where a master does each step of a hand-over. The last two: it has told nobody to accept, and then nobody to leave."""
WORST = [
    ("loading", "old"), ("freezing", "old"), ("frozen", "old"), ("adopting", "new"), ("serving", "new"), ("accepting", "new"),
    ("leaving", "new"),
]  # fmt: skip
"""Of each step the death that leaves most to be sorted out; those that are left are tried when it is to be thorough."""
REST = [
    (moment, victim) for moment in PLACES for victim in ("old", "new")
    if (moment, victim) != ("frozen", "new") and (moment, victim) not in WORST
]  # fmt: skip
WAITS = ASGI.replace(
    'await send({"type": message["type"] + ".complete"})',
    """while message["type"] == "lifespan.startup" and os.path.exists("hold"):
                open(f"starting.{VERSION}.{os.getpid()}", "w").close()
                await asyncio.sleep(0.005)
            await send({"type": message["type"] + ".complete"})""",
)


class Site:
    """A daemon whose masters can be held, and its application in one version after the other."""

    def __init__(self, daemon: Daemon, held: dict[str, Held]) -> None:
        self.daemon, self.held = daemon, held
        self.version = 1

    def write_next(self) -> None:
        self.version += 1
        (self.daemon.app / "website.py").write_text(WAITS.replace("VERSION = 1", f"VERSION = {self.version}"))

    def kill_at(self, moment: str, victim: str) -> None:
        """A restart in which one of the two masters is killed there."""
        daemon = self.daemon
        self.write_next()
        old = the_master(daemon)
        requester = daemon.talk()
        with self.held[moment].closed():
            requester.send("restart")
            self.held[moment].wait_reached()
            new = next((pid for pid in daemon.children("rocksyd: master") if pid != old), 0)
            killed = old if victim == "old" else new
            assert killed, (moment, victim)
            with suppress(ProcessLookupError):  # once the new one serves, the old one leaves by itself
                os.kill(killed, signal.SIGKILL)
        until(lambda: serving_master(daemon) not in (0, killed), "a master")
        self.wait_for_one_of_each()

    def wait_for_one_of_each(self) -> None:
        """Wait until nobody is left that is not needed: of one generation, a master, a zygote, and the pool's two workers."""
        daemon = self.daemon
        until(lambda: len(daemon.children("rocksyd: master")) == 1, "one master to be left")
        until(lambda: len(zygotes(daemon)) == 1, "one zygote to be left")
        workers = lambda: [command_line(pid) for pid in daemon.children("rocksyd: worker app/web")]  # noqa: E731
        until(lambda: workers() == ["rocksyd: worker app/web (accepting)"] * 2, "two workers to be left")

    def all_is_well(self) -> None:
        """A further restart is one as any other: its code serves, and nobody of an older one is left."""
        self.write_next()
        assert self.daemon.restart() == {"error_text": "Restarted successfully"}
        self.wait_for_one_of_each()
        assert get(self.daemon)[1].startswith(f"{self.version} ")


@contextmanager
def under_load(folder: Path) -> Iterator[tuple[Site, list[Load]]]:
    package, held = package_with_gates(folder, PLACES)
    ladder = package / "keeper" / "ladder.py"
    text = ladder.read_text()
    assert "YOUNG = 10.0" in text  # more masters are killed here than it allows
    ladder.write_text(text.replace("YOUNG = 10.0", "YOUNG = 0.0"))
    with (
        site(folder, WAITS, package=package, top='[restart]\nadopt_timeout = "20s"\n') as daemon,
        Load(daemon, 4) as kept, Load(daemon, 2, port(daemon)) as tcp, Load(daemon, 2, fresh=True) as fresh,
    ):  # fmt: skip
        yield Site(daemon, held), [kept, tcp, fresh]


def more(loads: list[Load]) -> None:
    for load in loads:
        load.more(10)
    assert [failed for load in loads for failed in load.failed] == []


@pytest.mark.long
@pytest.mark.timeout(400)
def test_p1_p3_p11_somebody_is_killed_at_each_step_of_a_hand_over(tmp_path: Path) -> None:
    with under_load(tmp_path) as (web, loads):
        for moment, victim in WORST + REST[: many(0, len(REST))]:
            web.kill_at(moment, victim)
            more(loads)
        for who, reason in (("zygote", b"the zygote of app ended ("), ("worker", b"was killed by SIGKILL before it could serve")):
            kill_before_it_serves(web, who, reason)
            more(loads)
        web.all_is_well()
        more(loads)


def kill_before_it_serves(web: Site, who: str, reason: bytes) -> None:
    """A restart in which the new zygote, or one of its web workers, is killed while the application's startup goes on."""
    daemon = web.daemon
    (daemon.app / "hold").touch()
    web.write_next()
    before = set(zygotes(daemon))
    requester = daemon.talk()
    requester.send("restart")
    started = f"starting.{web.version}.*"
    until(lambda: list(daemon.app.glob(started)), "a worker of the new code")
    (zygote,) = set(zygotes(daemon)) - before
    os.kill(zygote if who == "zygote" else int(next(daemon.app.glob(started)).suffix[1:]), signal.SIGKILL)
    reply = requester.line()
    assert reply.startswith(b'{"error_text":"Restart failed: '), reply
    assert reason in reply, reply
    (daemon.app / "hold").unlink()
