"""Restart, as the keeper sees it: every step, and every way a step can go wrong."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.process.keeper_stage import Stage, alive, descendants, wait_for


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()


def ask(old, **timeouts):
    old.say("Restart", reason="a test", **timeouts)


def test_a_restart_hands_everything_over(stage: Stage) -> None:
    old = stage.start().serving()
    old.say("Shelve", names=["listen:a", "conn:1:0"], fds=["memfd:A", "memfd:C"])
    ask(old)
    new = stage.master()
    fields, shelf = new.prepare("restart")
    assert fields["config"] == str(stage.config)
    assert {name: text for name, (_, text) in shelf.items()} == {"listen:a": "A", "conn:1:0": "C"}
    # What the serving one shelves meanwhile is passed on.
    old.say("Shelve", names=["conn:2:1"], fds=["memfd:D"])
    assert new.shelf(1)["conn:2:1"][1] == "D"
    old.say("Unshelve", names=["conn:1:0"])
    assert new.expect("Unshelved")[0]["names"] == ["conn:1:0"]
    new.say("Shelve", names=["listen:b"], fds=["memfd:B"])
    new.say("Prepared")
    old.expect("Freeze")
    old.say("Frozen", names=["conn:3:2"], fds=["memfd:the snapshot", "memfd:E"])
    assert new.shelf(1)["conn:3:2"][1] == "E"
    _, fds = new.expect("Adopt")
    assert [text for _, text in fds] == ["the snapshot"]
    new.say("Adopted", generation=2)
    old.expect("Retired")
    old.order(exit=0)
    old.gone()
    stage.settled(new)
    new.kill()
    third = stage.master()
    _, shelf = third.prepare("crash")
    assert {name: text for name, (_, text) in shelf.items()} == {
        "listen:a": "A",
        "conn:2:1": "D",
        "listen:b": "B",
        "conn:3:2": "E",
    }


def test_a_serving_master_survives_nothing_but_knows_of_its_children(stage: Stage) -> None:
    """Children outlive the master that had them spawned, and the next one is told who they are."""
    old = stage.start().serving()
    pid = stage.spawn(old, "zygote:shop@1")
    old.kill()
    new = stage.master()
    fields, _ = new.prepare("crash")
    assert fields["children"] == {"zygote:shop@1": pid}
    assert "was killed by SIGKILL" in fields["reason"]
    assert fields["crashes"] == 1


def fails(stage: Stage, old, reason: str, *, thawed: bool) -> None:
    """The old master is told ``reason`` and goes on: it can restart again, successfully."""
    word = "Thaw" if thawed else "RestartFailed"
    fields, _ = old.expect(word)
    assert reason in fields["reason"]
    ask(old)
    new = stage.master()
    _, shelf = new.prepare("restart")
    assert set(shelf) == {"listen:a"}
    new.say("Prepared")
    old.expect("Freeze")
    old.say("Frozen", fds=["memfd:second"])
    assert new.expect("Adopt")[1][0][1] == "second"
    new.say("Adopted", generation=3)
    old.expect("Retired")


def started(stage: Stage):
    old = stage.start().serving()
    old.say("Shelve", names=["listen:a"], fds=["memfd:A"])
    return old


def test_new_master_dies_before_hello(stage: Stage) -> None:
    old = started(stage)
    ask(old)
    stage.master().order(exit=3)
    fails(stage, old, "the new master exited with status 3 before it said HELLO", thawed=False)


def test_new_master_hangs_before_hello(stage: Stage) -> None:
    old = started(stage)
    ask(old, hello_timeout=0.2)  # whether or not the new one's process has come up by then
    fails(stage, old, "did not say HELLO", thawed=False)
    assert set(descendants(stage.pid)) <= {puppet.pid for puppet in stage.puppets}


def test_new_master_dies_after_hello_and_its_zygotes_go_with_it(stage: Stage) -> None:
    old = started(stage)
    ask(old)
    new = stage.master()
    new.prepare("restart")
    zygote = stage.spawn(new, "zygote:shop@2")
    new.say("Shelve", names=["listen:b", "listen:a"], fds=["memfd:B", "memfd:A2"])
    new.kill()
    fails(stage, old, "was killed by SIGKILL before it said PREPARED", thawed=False)
    wait_for(lambda: not os.path.exists(f"/proc/{zygote}"), "the end of the zygote")


def test_new_master_hangs_after_hello(stage: Stage) -> None:
    old = started(stage)
    ask(old)
    new = stage.master()
    new.prepare("restart", prepare_timeout=2.0)
    fails(stage, old, "did not say PREPARED", thawed=False)


def test_new_master_cannot_prepare(stage: Stage) -> None:
    old = started(stage)
    ask(old)
    new = stage.master()
    new.prepare("restart")
    new.say("PrepareFailed", reason="no such module: shop")
    fails(stage, old, "no such module: shop", thawed=False)


def test_new_masters_code_cannot_be_imported(stage: Stage) -> None:
    old = started(stage)
    main = stage.package / "master" / "main.py"
    good = main.read_text()
    main.write_text("import nothing_of_this_name\n")
    ask(old)
    fields, _ = old.expect("RestartFailed")
    assert "nothing_of_this_name" in fields["reason"]
    main.write_text(good)
    ask(old)
    stage.master().prepare("restart")


def test_new_masters_program_cannot_be_executed(stage: Stage) -> None:
    """The interpreter vanished in a deploy."""
    interpreter = stage.folder / "python"
    interpreter.symlink_to(os.path.realpath("/proc/self/exe"))
    stage.start("--python", str(interpreter))
    old = stage.serving()
    interpreter.unlink()
    ask(old)
    fields, _ = old.expect("RestartFailed")
    assert f"cannot execute {interpreter}: No such file or directory" in fields["reason"]


def to_freeze(stage: Stage, old, **timeouts):
    ask(old)
    new = stage.master()
    new.prepare("restart", **timeouts)
    new.say("Prepared")
    old.expect("Freeze")
    return new


def test_new_master_dies_while_the_old_one_freezes(stage: Stage) -> None:
    old = started(stage)
    new = to_freeze(stage, old)
    new.kill()
    fields, _ = old.expect("Thaw")
    assert "was killed by SIGKILL" in fields["reason"]
    old.say("Frozen", names=["conn:1:1"], fds=["memfd:too late", "memfd:kept"])
    stage.settled(old)
    ask(old)
    _, shelf = stage.master().prepare("restart")
    assert {name: text for name, (_, text) in shelf.items()} == {"listen:a": "A", "conn:1:1": "kept"}


def test_new_master_dies_after_adopt(stage: Stage) -> None:
    old = started(stage)
    new = to_freeze(stage, old)
    old.say("Frozen", fds=["memfd:S"])
    new.expect("Adopt")
    new.kill()
    fails(stage, old, "before it said ADOPTED", thawed=True)


def test_new_master_hangs_after_adopt(stage: Stage) -> None:
    old = started(stage)
    new = to_freeze(stage, old, adopt_timeout=5.0)
    old.say("Frozen", fds=["memfd:S"])  # in time
    new.expect("Adopt")
    fails(stage, old, "did not say ADOPTED", thawed=True)
    assert not alive(new.pid)


def test_new_master_refuses(stage: Stage) -> None:
    old = started(stage)
    new = to_freeze(stage, old)
    old.say("Frozen", fds=["memfd:S"])
    new.expect("Adopt")
    new.say("Refused", reason="conn:3:2 is not the socket it should be")
    fails(stage, old, "conn:3:2 is not the socket", thawed=True)


def test_adopted_in_a_dead_masters_channel_is_no_roll_back(stage: Stage) -> None:
    """It had begun to serve: the old one must not speak again."""
    old = started(stage)
    new = to_freeze(stage, old)
    old.say("Frozen", fds=["memfd:S"])
    new.expect("Adopt")
    os.kill(stage.pid, 19)
    new.say("Adopted", generation=2)
    new.order(exit=9)
    new.gone()
    os.kill(stage.pid, 18)
    old.expect("Retired")
    fields, _ = stage.master().prepare("crash")
    assert "exited with status 9" in fields["reason"]


def test_old_master_dies_in_freeze(stage: Stage) -> None:
    old = started(stage)
    new = to_freeze(stage, old)
    old.kill()
    assert new.expect("Adopt")[1] == []
    new.say("Adopted", generation=2)
    stage.settled(new)
    assert alive(new.pid)


def test_old_master_hangs_in_freeze(stage: Stage) -> None:
    old = started(stage)
    new = to_freeze(stage, old, adopt_timeout=3.0)
    assert new.expect("Adopt")[1] == []
    assert not alive(old.pid)
    new.say("Adopted", generation=2)
    stage.settled(new)


def test_old_master_dies_while_the_new_one_prepares(stage: Stage) -> None:
    """Nobody waits until it can take over: it is ended, and another one takes over what there is."""
    old = started(stage)
    ask(old)
    new = stage.master()
    new.prepare("restart")
    zygote = stage.spawn(new, "zygote:shop@2")
    new.say("Shelve", names=["listen:b"], fds=["memfd:B"])
    old.kill()
    third = stage.master()
    fields, shelf = third.prepare("crash")
    assert fields["reason"] == "the master was killed by SIGKILL while a restart was under way"
    assert (fields["crashes"], fields["children"], set(shelf)) == (1, {}, {"listen:a"})
    new.gone()
    wait_for(lambda: not os.path.exists(f"/proc/{zygote}"), "the end of the zygote")
    third.say("Prepared")
    assert third.expect("Adopt")[1] == []
    third.say("Adopted", generation=1)
    stage.settled(third)


def test_new_master_hangs_before_it_has_read_its_configuration(stage: Stage) -> None:
    """The time that was ordered for HELLO holds, not the default of a timeout that nobody has told yet."""
    old = started(stage)
    ask(old, hello_timeout=6)
    stage.master().prepare("restart", more=True)
    fails(stage, old, "did not say that it has read its configuration within the hello timeout", thawed=False)


def test_new_master_loses_what_it_prepared_while_the_old_one_freezes(stage: Stage) -> None:
    old = started(stage)
    new = to_freeze(stage, old)
    new.say("PrepareFailed", reason="the zygote of shop ended")
    fails(stage, old, "the zygote of shop ended", thawed=True)


def test_both_masters_die(stage: Stage) -> None:
    old = started(stage)
    new = to_freeze(stage, old)
    old.say("Frozen", fds=["memfd:S"])
    new.expect("Adopt")
    old.kill()
    stage.wait_for_log("the serving master was killed by SIGKILL")
    new.kill()
    _, shelf = stage.master().prepare("crash")
    assert set(shelf) == {"listen:a"}


def test_a_retired_master_that_stays_does_not_disturb(stage: Stage) -> None:
    old = started(stage)
    new = to_freeze(stage, old)
    old.say("Frozen", fds=["memfd:S"])
    new.expect("Adopt")
    new.say("Adopted", generation=2)
    old.expect("Retired")
    old.say("Shelve", names=["listen:a"], fds=["memfd:stolen"])
    old.say("Stopped", status=5)
    stage.settled(new)
    ask(new)
    _, shelf = stage.master().prepare("restart")
    assert shelf["listen:a"][1] == "A"


def test_a_second_order_during_a_restart_changes_nothing(stage: Stage) -> None:
    old = started(stage)
    ask(old)
    new = stage.master()
    new.prepare("restart")
    ask(old)
    stage.settled(old)
    new.say("PrepareFailed", reason="broken")
    old.expect("RestartFailed")
    stage.settled(old)
    assert old.silent()


def test_a_master_that_talks_nonsense_is_replaced(stage: Stage) -> None:
    old = started(stage)
    old.order(raw="\x00nonsense")
    _, shelf = stage.master().prepare("crash")
    assert set(shelf) == {"listen:a"}
    stage.wait_for_log("cannot be understood")


def test_a_master_that_closes_its_channel_is_replaced(stage: Stage) -> None:
    old = started(stage)
    old.order(close=True)
    stage.master().prepare("crash")
    assert not alive(old.pid)
