"""A keeper that may have no more files open drops what it cannot keep, says so, and lets everybody live."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.process.keeper_stage import Puppet, Stage, alive


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()


@contextmanager
def room_for(stage: Stage, files: int) -> Iterator[None]:
    """The keeper may open so many more."""
    before = resource.prlimit(stage.pid, resource.RLIMIT_NOFILE)
    limit = max(int(name) for name in os.listdir(f"/proc/{stage.pid}/fd")) + 1 + files
    resource.prlimit(stage.pid, resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        resource.prlimit(stage.pid, resource.RLIMIT_NOFILE, before)


def shelve(master: Puppet, *names: str) -> None:
    master.say("Shelve", names=list(names), fds=[f"memfd:{name}" for name in names])


def test_what_there_is_no_room_for_is_not_kept_and_the_serving_master_is_told(stage: Stage) -> None:
    master = stage.start().serving()
    shelve(master, "listen:a", "conn:1:0")
    stage.settled(master)
    with room_for(stage, 2):
        shelve(master, *(f"conn:{number}:{number}" for number in range(2, 40)))
        fields, _ = master.expect("Unshelved")
        assert fields["names"] == [f"conn:{number}:{number}" for number in range(2, 40)]
        stage.wait_for_log("no room for the descriptors of a message")
        stage.settled(master)
    shelve(master, "conn:2:2")
    stage.settled(master)
    master.kill()
    _, shelf = stage.master().prepare("crash")
    assert set(shelf) == {"listen:a", "conn:1:0", "conn:2:2"}


def test_a_child_that_cannot_be_given_its_descriptors_is_refused(stage: Stage) -> None:
    master = stage.start().serving()
    with room_for(stage, 0):
        master.say("Spawn", name="zygote:shop@1", argv=["/bin/true"], fds=["memfd:x"] * 20)
        fields, _ = master.expect("Spawned")
    assert (fields["name"], fields["pid"]) == ("zygote:shop@1", 0)
    assert "raise the limit of open files" in fields["reason"]


def test_a_frozen_master_goes_on_when_there_is_no_room_for_its_snapshot(stage: Stage) -> None:
    old = stage.start().serving()
    old.say("Restart", reason="a test")
    new = stage.master()
    new.prepare("restart")
    new.say("Prepared")
    old.expect("Freeze")
    with room_for(stage, 0):
        old.say("Frozen", names=[f"conn:{number}:{number}" for number in range(40)], fds=["memfd:snapshot", *["memfd:x"] * 40])
        fields, _ = old.expect("Thaw")
    assert "raise the limit of open files" in fields["reason"]
    new.gone()
    assert alive(old.pid)
    stage.settled(old)


def test_a_preparing_master_that_cannot_shelve_fails_with_that_reason(stage: Stage) -> None:
    old = stage.start().serving()
    old.say("Restart", reason="a test")
    new = stage.master()
    new.prepare("restart")
    with room_for(stage, 0):
        shelve(new, *(f"listen:{number}" for number in range(20)))
        fields, _ = old.expect("RestartFailed")
    assert "raise the limit of open files" in fields["reason"]
    stage.settled(old)
