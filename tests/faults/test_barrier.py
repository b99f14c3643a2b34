"""P12: an exception that nobody expected, in any handler of the master, ends whoever set it off, and nothing else.

The masters here are real ones, of a copy of the package whose handlers raise once when a file names them.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from rocksyd.master.desk.methods import METHODS
from rocksyd.master.staff.companions import Companions
from rocksyd.testing import Daemon
from rocksyd.testing.daemon import copy_package, until
from tests.companions import stage as bell

JOBS = """
import os, time
from rocksyd import current, job

@job
def echo(*args):
    return list(args)

@job
def dies():
    os._exit(3)

@job
def slow(seconds):
    time.sleep(seconds)

@job
def victim(*args):
    run = current()
    run.progress(1, 2, "half")
    run.finish("early")
    time.sleep(0.2)
"""
FAULTY = '''

import os as _os
from rocksyd.core.engine import Engine as _Engine
from rocksyd.master.desk import script_callers as _exec
from rocksyd.master.desk.classic import Classic as _Classic
from rocksyd.master.desk.rpc import Rpc as _Rpc
from rocksyd.master.staff.companions import Companions as _Companions
from rocksyd.master.staff.zygotes import Zygotes as _Zygotes
from rocksyd.master.turn import Turn as _Turn


def _raises(name):
    """Whether this is what the file says; then it is said no longer."""
    try:
        if _os.readlink(_os.environ["FAULT"]) != name:
            return
        _os.unlink(_os.environ["FAULT"])
    except FileNotFoundError:
        return
    raise ZeroDivisionError(name)


def _wrapped(name, real):
    def wrapper(*arguments, **more):
        _raises(name)
        return real(*arguments, **more)

    return wrapper


def _registering(cls, method, kind):
    real = getattr(cls, method)

    def register(self, what, act):
        real(self, what, _wrapped(f"{kind}:{getattr(what, '__name__', what)}", act))

    setattr(cls, method, register)


def _taking(cls, method, kind, place):
    real = getattr(cls, method)

    def take(self, *arguments):
        _raises(f"{kind}:{type(arguments[place]).__name__}")
        return real(self, *arguments)

    setattr(cls, method, take)


_registering(_Rpc, "serves", "method")
_registering(_Turn, "performs", "effect")
_taking(_Zygotes, "_heard", "zygote", 1)
_taking(_Companions, "_heard", "companion", 1)
_step, _init = _Engine.step, _Classic.__init__


def _half(self, event, now):
    """The engine raises when it has decided: what it has changed stays changed."""
    effects = _step(self, event, now)
    _raises(f"engine:{type(event).__name__}")
    return effects


def _verbs(self, *arguments):
    _init(self, *arguments)
    self._verbs = {kind: _wrapped(f"verb:{kind.__name__}", serve) for kind, serve in self._verbs.items()}


_Engine.step, _Classic.__init__ = _half, _verbs
for _name in ("_order", "_question"):
    setattr(_exec.Execs, _name, _wrapped(f"exec:{_name}", getattr(_exec.Execs, _name)))
'''


class Stage:
    """A daemon whose masters can be made to meet a fault."""

    def __init__(self, daemon: Daemon, fault: Path) -> None:
        self.daemon = daemon
        self.fault = fault
        self.number = 0

    def arm(self, name: str) -> None:
        """The next time this is done it raises."""
        self.fault.symlink_to(name)

    def met(self) -> bool:
        """Whether it has."""
        return not self.fault.is_symlink()

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Somebody else's connection outlives what is done meanwhile, and the master, which then serves as before."""
        with self.daemon.talk() as quiet:
            assert quiet.ask('check {"hash":2}') == {"error_text": "Hash not found"}
            master = self.daemon.master_pid
            yield
            assert quiet.ask('check {"hash":2}') == {"error_text": "Hash not found"}
            until(lambda: quiet.rpc("call", target="echo", params=[1])["result"] == [1], "an ordinary call")
            assert self.daemon.master_pid == master, self.daemon.log()

    def known(self, key: str) -> bool:
        """Whether the daemon has taken this run in."""
        with self.daemon.talk() as talk:
            return "result" in talk.ask(call("status", {"key": key}))

    def traffic(self) -> str:
        """A run with everything that happens to runs; what is said to this caller is of no interest, or that it is cut off."""
        self.number += 1
        key = f"victim-{self.number}"
        second, last = f"{key}-ended", 99
        with suppress(ConnectionError), self.daemon.talk() as talk:  # it may be cut off at any moment
            talk.send(call("subscribe", {}), call("run", {"target": "victim", "key": key}), call("call", {"target": "victim"}))
            talk.send(call("run", {"target": "slow", "params": [9], "key": second}), call("terminate", {"key": second}))
            talk.send(call("run", {"target": "dies"}), call("wait", {"key": key, "timeout": 10}, last))
            while (line := talk.line()) and json.loads(line).get("id") != last:
                continue
        return key

    def faults(self) -> dict[str, int]:
        """What ``health`` counts."""
        with self.daemon.talk() as talk:
            health = talk.rpc("health")
        assert health["ok"] == (not health["faults"])
        return dict(health["faults"])


def faulty_package(folder: Path) -> Path:
    package = copy_package(folder / "faulty")
    main = package / "master" / "main.py"
    main.write_text(main.read_text() + FAULTY)
    return package


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    fault = tmp_path / "fault"
    with Daemon(tmp_path, JOBS, package=faulty_package(tmp_path), environment={"FAULT": str(fault)}) as daemon:
        yield Stage(daemon, fault)


def call(name: str, params: Any, number: int = 1) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": name, "params": params})


ECHO = {"target": "echo"}
PARAMS: dict[str, Any] = {
    "run": ECHO, "call": ECHO, "list": {}, "auth": {"token": "x"},
    "flag": {"flag": "debug", **ECHO}, "unflag": {"flag": "debug", **ECHO},
}  # fmt: skip
VERBS = {
    "Check": 'check {"hash":1}', "Submit": 'run {"hash":1,"class":"echo","params":[]}', "Terminate": 'terminate {"hash":1}',
    "Free": 'free {"hash":1}', "DaemonOrder": "drain", "Bye": "bye", "Quit": "quit", "Auth": 'auth {"token":"x"}',
    "Answer": 'what {"n":1}', "Call": call("status", {"key": "x"}), "Batch": f"[{call('status', {'key': 'x'})}]",
    "Stats": "stats", "Version": "version",
}  # fmt: skip


def test_p12_a_method_that_raises_costs_the_connection_that_called_it(stage: Stage) -> None:
    for name, method in METHODS.items():
        has_key = any(parameter.name == "key" and parameter.required for parameter in method.parameters)
        line = call(name, PARAMS.get(name, {"key": "nobody's"} if has_key else {}))
        costs_the_client(stage, f"method:{name}", line)


def test_p12_a_request_that_raises_costs_the_connection_that_made_it(stage: Stage) -> None:
    for name, line in VERBS.items():
        costs_the_client(stage, f"verb:{name}", line)


def costs_the_client(stage: Stage, fault: str, line: str) -> None:
    before = stage.faults().get("client", 0)
    with stage.undisturbed(), stage.daemon.talk() as talk:
        assert talk.ask('check {"hash":2}') == {"error_text": "Hash not found"}
        stage.arm(fault)
        talk.send(line)
        assert talk.line() == b"", "the connection is closed"
        assert stage.met()
    assert stage.faults()["client"] == before + 1
    assert f"ZeroDivisionError: {fault}" in stage.daemon.log()


EFFECTS = ["StartJob", "AckResult", "ForkWorker", "Started", "Progressed", "Answered", "Answer", "Ended"]
EVENTS = ["Submit", "Terminate", "HeardZygote", "Heard", "WorkerExited"]
SAYINGS = ["Forked", "Exited"]


def test_p12_an_effect_that_cannot_be_carried_out_costs_what_it_was_for(stage: Stage) -> None:
    for name in EFFECTS:
        costs_something(stage, f"effect:{name}")


def test_p12_an_event_that_the_engine_trips_over_costs_whoever_told_it(stage: Stage) -> None:
    for name in EVENTS:
        costs_something(stage, f"engine:{name}")


def test_p12_what_a_zygote_says_and_nobody_can_deal_with_costs_the_zygote(stage: Stage) -> None:
    for name in SAYINGS:
        costs_something(stage, f"zygote:{name}")


def costs_something(stage: Stage, fault: str) -> None:
    """Ordinary runs go on until the fault is met; then all is as before, and every run has an end."""
    before = sum(stage.faults().values())
    with stage.undisturbed():
        stage.arm(fault)
        keys = []
        while not stage.met():
            assert len(keys) < 20, f"{fault} is never met"
            keys.append(stage.traffic())
        with stage.daemon.talk() as talk:
            for key in keys:
                record = talk.rpc("wait", key=key, timeout=60) if stage.known(key) else {"state": "ended"}
                assert record["state"] == "ended", (record, stage.daemon.log())
    assert sum(stage.faults().values()) == before + 1
    assert f"ZeroDivisionError: {fault}" in stage.daemon.log()


def messages_of(handler: object) -> set[str]:
    """The messages that a handler knows, from itself."""
    return set(re.findall(r"case m\.(\w+)\(\)", inspect.getsource(handler)))  # type: ignore[arg-type]


def test_p12_what_a_companion_says_and_nobody_can_deal_with_costs_the_companion(tmp_path: Path) -> None:
    fault, cannot = tmp_path / "fault", tmp_path / "cannot"
    environment = {"FAULT": str(fault)}
    with bell.daemon(tmp_path, package=faulty_package(tmp_path), environment=environment) as daemon, daemon.talk() as talk:
        master = daemon.master_pid
        names = sorted(messages_of(Companions._heard))
        assert {"Attending", "Failed", "Reply"} <= set(names)
        for count, name in enumerate(names, 1):
            pid = bell.wait_ready(talk)
            if name == "Failed":
                cannot.touch()
            fault.symlink_to(f"companion:{name}")
            if name == "Reply":
                assert bell.error(talk, "bell.ring")["code"] == -32005
            else:
                os.kill(pid, signal.SIGKILL)
            until(lambda: not fault.is_symlink(), f"the fault at {name}")
            cannot.unlink(missing_ok=True)
            bell.wait_ready(talk, other_than=pid)
            assert talk.rpc("bell.ring")["pid"] == bell.companion(talk)["pid"]
            assert talk.rpc("health")["faults"] == {"companion": count}
            assert f"ZeroDivisionError: companion:{name}" in daemon.log()
        assert daemon.master_pid == master
