"""What the keeper keeps: descriptors by name, children and their ends, the way out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rocksyd
from rocksyd.exit_status import describe, signal_name
from rocksyd.keeper.children import Children
from rocksyd.keeper.effects import Stop
from rocksyd.keeper.options import UsageError, parse, passed_descriptors
from rocksyd.keeper.reexec import fingerprint
from rocksyd.keeper.shelf import Shelf
from rocksyd.keeper.shutdown import Shutdown
from rocksyd.posix.processes import Command, Ended, failure

NAMES = st.sampled_from(["listen:a", "conn:1:1", "conn:2:2", "config"])
STEPS = st.lists(st.tuples(st.sampled_from(["put", "drop", "put in drawer", "drop in drawer"]), NAMES), max_size=20)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@given(STEPS, st.booleans())
def test_the_shelf_is_what_was_put_on_it_and_leaks_nothing(steps: list[tuple[str, str]], serves: bool) -> None:
    before = descriptors()
    shelf, expected, drawer = Shelf(), set(), dict[str, bool]()
    for word, name in steps:
        if word == "put":
            assert shelf.put([name], [os.open(os.devnull, os.O_RDONLY)]) == [name]
            expected.add(name)
        elif word == "drop":
            assert shelf.drop([name]) == [name] * (name in expected)
            expected.discard(name)
        elif word == "put in drawer":
            shelf.put_in_drawer(7, [name], [os.open(os.devnull, os.O_RDONLY)])
            drawer[name] = True
        else:
            shelf.drop_in_drawer(7, [name])
            drawer[name] = False
        assert set(shelf) == expected
    if serves:
        shelf.empty_drawer_onto_shelf(7)
        expected |= {name for name, there in drawer.items() if there}
        expected -= {name for name, there in drawer.items() if not there}
    else:
        shelf.throw_drawer_away(7)
    assert set(shelf) == expected
    assert descriptors() == before + len(expected)
    assert shelf.drop_busy_connections() == 0, "without the page nobody knows of one that was busy"
    page = os.memfd_create("busy")
    os.pwrite(page, bytes([0, 2, 3]), 0)
    shelf.put(["busy"], [page])
    assert shelf.drop_busy_connections() == ("conn:2:2" in expected), "the first of these is quiet"
    assert set(shelf) == expected - {"conn:2:2"} | {"busy"}
    shelf.clear()
    assert descriptors() == before


def test_descriptors_without_a_name_are_closed() -> None:
    before = descriptors()
    shelf = Shelf()
    shelf.put(["a"], [os.open(os.devnull, os.O_RDONLY), os.open(os.devnull, os.O_RDONLY)])
    shelf.put_in_drawer(1, ["a"], [os.open(os.devnull, os.O_RDONLY), os.open(os.devnull, os.O_RDONLY)])
    shelf.clear()
    assert descriptors() == before


def ended(pid: int) -> Ended:
    return Ended(pid, 9, 0.5, 1000)


def test_an_end_is_told_every_master_until_it_is_acknowledged() -> None:
    children = Children()
    children.add(10, "zygote:a@1", 0)
    children.ended(ended(10))
    children.ended(ended(11))
    assert [(one.pid, one.name) for one in children.untold(1, serving=True)] == [(10, "zygote:a@1"), (11, "")]
    assert children.untold(1, serving=True) == []
    children.acknowledged([10])
    assert [one.pid for one in children.untold(2, serving=True)] == [11]


def test_a_number_used_twice_is_two_ends() -> None:
    children = Children()
    children.ended(ended(10))
    children.untold(1, serving=True)
    children.ended(ended(10))
    children.acknowledged([10])
    assert len(children.untold(1, serving=True)) == 1


def test_an_end_nobody_was_told_cannot_be_acknowledged() -> None:
    children = Children()
    children.ended(ended(10))
    children.acknowledged([10])
    assert len(children.untold(1, serving=True)) == 1


def test_children_of_a_failed_master_are_nobodys_news() -> None:
    children = Children()
    children.add(10, "zygote:a@2", 2)
    children.add(11, "zygote:b@2", 2)
    children.ended(ended(11))
    assert children.untold(1, serving=True) == []
    assert [one.pid for one in children.untold(2, serving=False)] == [11]
    assert children.doom(2) == [10]
    assert children.pid_of("zygote:a@2") == 0
    children.ended(ended(10))
    assert children.untold(3, serving=True) == []


def test_children_of_a_master_that_serves_are_the_services() -> None:
    children = Children()
    children.add(10, "zygote:a@2", 2)
    assert children.names(1) == {}
    assert children.names(2) == {"zygote:a@2": 10}
    children.promote(2)
    assert children.names() == {"zygote:a@2": 10}
    assert Children.load(children.dump()).dump() == children.dump()


def test_ending_asks_then_kills_then_goes() -> None:
    ending = Shutdown(Stop(0, ""), 100.0)
    assert ending.step(100.0, [1, 2], lambda: [1, 2, 3]) == [(1, signal.SIGTERM), (2, signal.SIGTERM)]
    assert ending.step(101.0, [2, 3], lambda: [2, 3]) == [(3, signal.SIGTERM)]
    assert ending.step(ending.deadline, [2, 3], lambda: [2, 3, 4]) == [(pid, signal.SIGKILL) for pid in (2, 3, 4)]
    assert not ending.over
    ending.step(ending.deadline, [4], lambda: [4])
    assert ending.over


def test_ending_is_over_when_nobody_is_left() -> None:
    ending = Shutdown(Stop(0, "", now=True), 100.0)
    ending.insist(100.0)
    assert ending.step(100.0, [1], lambda: [1]) == [(1, signal.SIGKILL)]
    assert ending.step(100.0, [], list) == []
    assert ending.over


def test_how_a_process_ended() -> None:
    assert describe(0) == "exited with status 0"
    assert describe(3 << 8) == "exited with status 3"
    assert describe(9) == "was killed by SIGKILL"
    assert signal_name(40) == "signal 40"


def test_why_it_did_not_start() -> None:
    command = Command(["/bin/x"], {}, "/d")
    assert failure(command, b"exec 13").startswith("cannot execute /bin/x: Permission denied; check")
    assert failure(command, b"chdir 2").startswith("cannot start /bin/x in /d: No such file")
    assert failure(command, b"prepare 0 ValueError()") == "cannot start /bin/x: ValueError()"


def test_arguments() -> None:
    options = parse(["--config", "a", "--ready-fd", "5", "--python", "/opt/current/bin/python", "--subreaper"])
    assert options.config == os.path.join(os.getcwd(), "a")
    assert (options.ready_fd, options.python, options.subreaper) == (5, "/opt/current/bin/python", True)
    for wrong in (["--config"], [], ["--ready-fd", "x", "--config", "a"], ["a"]):
        with pytest.raises(UsageError):
            parse(wrong)


def test_descriptors_for_another_process_are_not_ours() -> None:
    environment = {"LISTEN_PID": "1", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "a:b", "KEPT": ""}
    assert passed_descriptors(environment, os.getpid()) == {}
    assert environment == {"KEPT": ""}


def test_the_fingerprint_of_its_code_has_every_file_that_it_imports() -> None:
    package = os.path.dirname(rocksyd.__file__)
    text = "import sys, rocksyd.keeper.main; print(*[m.__file__ for n, m in sys.modules.items() if n.split('.')[0] == 'rocksyd'])"
    said = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True).stdout
    known = {os.path.join(package, name) for name, size, _ in fingerprint(os.path.join(package, "boot.py")) if size >= 0}
    assert set(said.split()) <= known
