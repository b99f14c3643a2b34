"""Crashes, signals, and what the service manager is told."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.keeper_stage import PATIENCE, Puppet, Stage, alive, descendants, wait_for


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()


def serve_after_crash(stage: Stage) -> Puppet:
    new = stage.master()
    new.prepare("crash")
    new.say("Prepared")
    new.expect("Adopt")
    new.say("Adopted", generation=1)
    return new


def test_the_ladder_to_its_end(stage: Stage) -> None:
    """Eight masters that die young: the last ones get no busy connections, then the keeper gives up, and says how they died."""
    master = stage.start("--pid-file", str(stage.folder / "pid")).serving()
    quiet = {"listen:a", "conn:2:1", "busy"}
    names = ["listen:a", "conn:1:0", "conn:2:1", "busy"]
    master.say("Shelve", names=names, fds=["memfd:A", "memfd:C", "memfd:D", "memfd:\x01\x02"])  # the page: slot 0 is busy
    zygote = stage.spawn(master, "zygote:shop@1", "deaf")
    for crash in range(1, 8):
        master.order(exit=crash) if crash % 2 else master.kill()
        master = stage.master()
        fields, shelf = master.prepare("crash")
        assert fields["crashes"] == crash
        assert set(shelf) == (quiet | {"conn:1:0"} if crash < 4 else quiet)
        assert fields["children"] == {"zygote:shop@1": zygote}
        if crash % 3 == 0:
            continue  # the next one dies without having served
        master.say("Prepared")
        master.expect("Adopt")
        master.say("Adopted", generation=1)
        stage.settled(master)
    os.kill(master.pid, signal.SIGABRT)
    # The zygote ignores TERM; a further order to stop ends the waiting.
    stage.wait_for_log("giving up after 8 masters died young; the last: ")
    stage.send(signal.SIGTERM)
    assert stage.wait() == 70
    assert "was killed by SIGABRT" in stage.log.read_text().splitlines()[-1]
    assert not alive(zygote)
    assert not (stage.folder / "pid").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_signals_go_to_the_serving_master(stage: Stage, number: int) -> None:
    master = stage.start().serving()
    stage.send(number)
    assert master.expect("Signalled")[0]["number"] == number


def test_a_signal_while_a_new_master_prepares_goes_to_the_old_one(stage: Stage) -> None:
    old = stage.start().serving()
    old.say("Restart")
    stage.master().prepare("restart")
    stage.send(signal.SIGUSR1)
    old.expect("Signalled")


def freeze(stage: Stage) -> tuple[Puppet, Puppet]:
    old = stage.start().serving()
    old.say("Restart")
    new = stage.master()
    new.prepare("restart")
    new.say("Prepared")
    old.expect("Freeze")
    return old, new


def test_signals_in_the_window_go_to_the_new_master(stage: Stage) -> None:
    old, new = freeze(stage)
    stage.send(signal.SIGUSR2)
    old.say("Frozen", fds=["memfd:S"])
    new.expect("Adopt")
    stage.send(signal.SIGTERM)
    new.say("Adopted", generation=2)
    old.expect("Retired")
    assert {new.expect("Signalled")[0]["number"] for _ in range(2)} == {signal.SIGUSR2, signal.SIGTERM}


def test_signals_in_a_window_that_fails_go_to_the_old_master(stage: Stage) -> None:
    old, new = freeze(stage)
    stage.send(signal.SIGTERM)
    old.say("Frozen", fds=["memfd:S"])
    new.expect("Adopt")
    new.say("Refused", reason="no")
    old.expect("Thaw")
    assert old.expect("Signalled")[0]["number"] == signal.SIGTERM


def test_an_order_to_stop_survives_the_master_that_was_told(stage: Stage) -> None:
    master = stage.start().serving()
    stage.send(signal.SIGTERM)
    master.expect("Signalled")
    master.kill()
    new = serve_after_crash(stage)
    assert new.expect("Signalled")[0]["number"] == signal.SIGTERM
    new.say("Stopped")
    assert stage.wait() == 0


def test_signals_while_nobody_serves_wait_for_the_next_master(stage: Stage) -> None:
    master = stage.start().serving()
    master.kill()
    new = stage.master()
    stage.send(signal.SIGHUP)
    new.prepare("crash")
    new.say("Prepared")
    new.expect("Adopt")
    new.say("Adopted", generation=1)
    assert new.expect("Signalled")[0]["number"] == signal.SIGHUP


def test_insisting_stops_a_service_without_a_master(stage: Stage) -> None:
    master = stage.start().serving()
    zygote = stage.spawn(master, "zygote:shop@1", "orphan", "deaf")
    family = descendants(stage.pid)
    master.kill()
    stuck = stage.master()
    stage.send(signal.SIGTERM)
    stage.send(signal.SIGINT)
    stage.wait_for_log("stopped at once by a repeated SIG")
    stage.send(signal.SIGTERM)  # the zygote is deaf: no more grace
    assert stage.wait() == 0
    assert not any(alive(pid) for pid in (*family, zygote, stuck.pid))


def test_a_stop_before_the_service_is_ready_stops_it(stage: Stage) -> None:
    stage.start()
    master = stage.master()
    stage.send(signal.SIGTERM)
    assert stage.wait() == 0
    assert "stopped by SIGTERM before it was ready" in stage.log.read_text()
    assert not alive(master.pid)


def test_exit_statuses_come_in_although_sigchld_was_ignored(stage: Stage) -> None:
    """SIG_IGN survives exec, and would lose them."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        stage.start(restore_signals=False)
    finally:
        signal.signal(signal.SIGCHLD, before)
    master = stage.serving()
    os.kill(stage.spawn(master, "zygote:a@1"), signal.SIGKILL)
    assert master.expect("Exited")[0]["status"] == signal.SIGKILL


@pytest.mark.parametrize("abstract", [True, False])
def test_what_the_service_manager_is_told(stage: Stage, abstract: bool) -> None:
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.settimeout(PATIENCE)
    name = f"@rocksyd-test-{os.getpid()}" if abstract else str(stage.folder / "notify")
    manager.bind("\0" + name[1:] if abstract else name)
    with manager:
        stage.start(env={"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "6000000"})

        def told() -> str:
            return re.sub(r"USEC=\d+", "USEC=n", manager.recv(4096).decode())

        old = stage.master()
        assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC"} & set(old.report["env"])
        fields, _ = old.prepare("start")
        assert fields["watchdog"] == 6.0
        old.say("Prepared")
        old.expect("Adopt")
        old.say("Adopted", generation=1, status="serving 2 applications")
        assert told() == f"READY=1\nMAINPID={stage.pid}\nSTATUS=serving 2 applications"
        old.say("Status", text="3 jobs\nREADY=0", alive=True)
        assert told() == "STATUS=3 jobs READY=0"
        assert told() == "WATCHDOG=1"
        old.say("Restart", reason="restart ordered")
        assert told() == "RELOADING=1\nMONOTONIC_USEC=n\nSTATUS=restart ordered"
        new = stage.master()
        new.prepare("restart")
        new.say("PrepareFailed", reason="no module shop")
        assert told() == f"READY=1\nMAINPID={stage.pid}\nSTATUS=restart failed: no module shop"
        old.say("Restart", reason="again")
        assert told().startswith("RELOADING=1\nMONOTONIC_USEC=n")
        new = stage.master()
        new.prepare("restart")
        new.say("Prepared")
        old.expect("RestartFailed")
        old.expect("Freeze")
        old.say("Frozen", fds=["memfd:S"])
        new.expect("Adopt")
        new.say("Adopted", generation=2)
        assert told() == f"READY=1\nMAINPID={stage.pid}\nSTATUS=serving generation 2"
        new.say("Status", text="draining", stopping=True)
        assert told() == "STOPPING=1\nSTATUS=draining"
        new.say("Stopped")
        assert told().startswith("STOPPING=1")
        assert stage.wait() == 0


def restart(stage: Stage, old: Puppet) -> Puppet:
    old.say("Restart")
    new = stage.master()
    new.prepare("restart")
    new.say("Prepared")
    old.expect("Freeze")
    old.say("Frozen", fds=["memfd:S"])
    new.expect("Adopt")
    new.say("Adopted", generation=2)
    old.expect("Retired")
    old.order(exit=0)
    return new


def edit(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def test_the_keeper_replaces_itself_by_new_code(stage: Stage) -> None:
    old = stage.start("--pid-file", str(stage.folder / "pid")).serving()
    old.say("Shelve", names=["listen:a", "conn:1:0"], fds=["memfd:A", "memfd:C"])
    zygote = stage.spawn(old, "zygote:shop@1", "orphan")
    lost = stage.spawn(old, "zygote:shop@0")
    os.kill(lost, signal.SIGKILL)
    old.expect("Exited")
    edit(stage.package / "keeper" / "service.py", "stopping: ", "stopping, by new code: ")
    new = restart(stage, old)
    assert new.expect("Exited")[0]["pid"] == lost
    stage.wait_for_log("the keeper's new code has taken over")
    stage.send(signal.SIGUSR1)
    assert new.expect("Signalled")[0]["number"] == signal.SIGUSR1
    assert Path(f"/proc/{stage.pid}/cmdline").read_text().rstrip("\0") == "rocksyd: keeper"
    # The orphan and the zygote are still its children; an end not acknowledged is still told; the lock is still held.
    os.kill(zygote, signal.SIGKILL)
    assert new.expect("Exited")[0]["name"] == "zygote:shop@1"
    new.kill()
    third = stage.master()
    fields, shelf = third.prepare("crash")
    assert {name: text for name, (_, text) in shelf.items()} == {"listen:a": "A", "conn:1:0": "C"}
    assert fields["children"] == {}
    third.say("Prepared")
    third.expect("Adopt")
    third.say("Adopted")
    assert {third.expect("Exited")[0]["pid"] for _ in range(2)} == {lost, zygote}
    assert int((stage.folder / "pid").read_text()) == stage.pid
    third.say("Stopped")
    assert stage.wait() == 0
    assert "stopping, by new code: " in stage.log.read_text()
    assert not (stage.folder / "pid").exists()


def test_broken_keeper_code_changes_nothing(stage: Stage) -> None:
    old = stage.start().serving()
    old.say("Shelve", names=["listen:a"], fds=["memfd:A"])
    service = stage.package / "keeper" / "service.py"
    good = service.read_text()
    service.write_text(good + "\ndef broken(:\n")
    new = restart(stage, old)
    said = stage.wait_for_log("the keeper's new code does not work, the old goes on")
    assert "SyntaxError" in said
    stage.settled(new)
    # Code that loads, but cannot read the state.
    state = stage.package / "keeper" / "state.py"
    service.write_text(good)
    edit(state, 'state["masters"]', 'state["no such key"]')
    new = restart(stage, new)
    said = stage.wait_for_log("the keeper's new code does not work, the old goes on", 2)
    assert "no such key" in said
    new.kill()
    _, shelf = stage.master().prepare("crash")
    assert set(shelf) == {"listen:a"}


def test_no_signal_is_lost_while_the_keeper_replaces_itself(stage: Stage) -> None:
    master = stage.start().serving()
    for turn in range(3):
        edit(stage.package / "keeper" / "service.py", "No periodic tick", f"{turn * '.'} No periodic tick")
        master = restart(stage, master)
        sent = 0
        while stage.log.read_text().count("has taken over") <= turn:
            stage.send(signal.SIGUSR2)
            assert master.expect("Signalled")[0]["number"] == signal.SIGUSR2
            sent += 1
        stage.send(signal.SIGUSR2)
        master.expect("Signalled")
    wait_for(lambda: descendants(stage.pid) == [master.pid], "the end of the processes that tried the code")
