"""P3, P4: a new version of rocksyd itself that is broken, at every step of the hand-over: the old one goes on."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rocksyd.testing import Daemon
from rocksyd.testing.daemon import copy_package, edited
from tests.restart.stage import FAST, IDLE_POOL, JOBS, Unharmed, manifest, patched, window, zygotes

HANG = "__import__('signal').pause()"
AS_A_WHOLE = {
    "a syntax error": ("\ndef broken(:\n", ["master/main.py", "def broken(:", "SyntaxError"]),
    "an exit before HELLO": ("\nos._exit(3)\n", ["exited with status 3", "before it said HELLO"]),
    "a hang before HELLO": (f"\n{HANG}\n", ["did not say HELLO"]),
}
"""What its module says last, and the reason that is given."""
BROKEN: dict[str, tuple[str, list[str], list[str]]] = {
    "an exit after HELLO": ("_configure", ["os._exit(4)"], ["exited with status 4", "before it said PREPARED"]),
    "an exception after HELLO": ("_use_page", ["raise KeyError('page')"], ["KeyError: 'page'"]),
    "a hang while it prepares": ("_listen", [HANG], ["did not say PREPARED"]),
    "its death while it prepares": ("_listen", ["os.kill(os.getpid(), 9)"], ["SIGKILL", "before it said PREPARED"]),
    "its death with zygotes": ("_until", ["getattr(self, 'pending', 0) and os.kill(os.getpid(), 11)"], ["SIGSEGV"]),
    "an exit after ADOPT": ("_take_over", ["os._exit(5)"], ["exited with status 5", "before it said ADOPTED"]),
    "an exception after ADOPT": ("_take_over", ["raise ValueError('unheard of')"], ["ValueError: unheard of"]),
    "a hang after ADOPT": ("_take_over", [HANG], ["did not say ADOPTED within 4s"]),
    "its death after ADOPT": ("_take_over", ["os.kill(os.getpid(), 6)"], ["SIGABRT", "before it said ADOPTED"]),
    "a snapshot it cannot read": (
        "_take_over", ["from rocksyd.master import snapshot", "snapshot.FORMAT = 0"], ["the snapshot has format 1"],
    ),
    "a descriptor that is missing": (
        "_take_over", ["self.server.clients.discard(next(iter(self.server.clients.by_number.values())).name)"],
        ["do not match the manifest", "conn:"],
    ),
    "a journal it cannot open": (
        "_take_over",
        ["from dataclasses import replace", "self.journal = None",
         "self.folder = StateFolder(replace(self.config, state_dir='/nowhere'))"],
        ["/nowhere"],
    ),
    "its death when all was loaded": ("_load_snapshot", ["os._exit(6)"], ["exited with status 6"]),
}  # fmt: skip
"""The step that it does not do, what it does instead, and the reason that is given."""


PATIENCE = {"a hang while it prepares": "prepare_timeout", "a hang after ADOPT": "adopt_timeout"}


@contextmanager
def broken(package: Path, what: str) -> Iterator[None]:
    """The new version is broken in this way for a while."""
    main = package / "master" / "main.py"
    if what in AS_A_WHOLE:
        breaking = edited(main, main.read_text() + AS_A_WHOLE[what][0])
    else:
        method, lines, _ = BROKEN[what]
        breaking = patched(package, method, *lines)
    with breaking:
        yield


@pytest.mark.parametrize("what", [*AS_A_WHOLE, *BROKEN])
def test_p4_a_broken_new_version_leaves_the_service_to_the_old_one(tmp_path: Path, what: str) -> None:
    expected = {**AS_A_WHOLE, **BROKEN}[what][-1]
    package = copy_package(tmp_path)
    # This one alone has to be known before the restart: the new master can say nothing of its own.
    pool = FAST + ('\n[restart]\nhello_timeout = "8s"' if what == "a hang before HELLO" else "")
    with Daemon(tmp_path, JOBS, package=package, parts={"pool": pool}) as daemon, Unharmed(daemon, tmp_path) as unharmed:
        with broken(package, what):
            unharmed.refused(expected, impatient=PATIENCE.get(what, ""))
        unharmed.repaired()


@pytest.mark.parametrize("end", ["killed", "stopped for too long", "an error"])
def test_p4_requests_sent_while_a_take_over_fails_are_answered_by_the_old_master(tmp_path: Path, end: str) -> None:
    package = copy_package(tmp_path)
    with Daemon(tmp_path, JOBS, package=package) as daemon, window(package, tmp_path) as held:
        if end == "stopped for too long":
            daemon.config.write_text(daemon.config.read_text() + '\n[restart]\nadopt_timeout = "4s"\n')
        master = daemon.master_pid
        ordering, old = daemon.talk(), daemon.talk()
        old.ask('a {"n":0}')
        ordering.send('before {"n":1}', "restart", 'after {"n":2}')
        held.wait_entered()
        young = daemon.talk()
        for talk in (old, young):
            talk.send('run {"hash":1,"class":"add","params":[1,2]}', 'x {"n":3}')
        if end == "killed":
            (new,) = [pid for pid in daemon.children("rocksyd: master") if pid != master]
            os.kill(new, signal.SIGKILL)
        elif end == "an error":
            held.open(b"\xff")  # what the new master reads is not UTF-8
        assert b"before" in ordering.line()
        assert json.loads(ordering.line())["error_text"].startswith("Restart failed: ")
        assert b"after" in ordering.line()
        for talk in (old, young):
            assert json.loads(talk.line()) == {"error_text": "OK"}
            assert b"request_x" in talk.line()
        assert old.rpc("wait", key="1")["result"] == 3
        assert daemon.master_pid == master
        assert daemon.children("rocksyd: master") == [master]


def test_p4_a_new_version_that_fails_again_and_again_costs_nothing(tmp_path: Path) -> None:
    package = copy_package(tmp_path)
    with Daemon(tmp_path, JOBS, package=package, parts={"pool": IDLE_POOL}) as daemon:
        talk, before = daemon.talk(), {}
        with broken(package, "its death when all was loaded"):
            for attempt in range(6):
                assert "status 6" in talk.ask("restart")["error_text"]
                if attempt == 1:
                    manifest(daemon, talk, connections=1, old_zygotes=0, workers=0)
                    before = zygotes(talk)
        manifest(daemon, talk, connections=1, old_zygotes=0, workers=0)
        assert zygotes(talk) == before
        assert talk.ask("restart") == {"error_text": "Restarted successfully"}
