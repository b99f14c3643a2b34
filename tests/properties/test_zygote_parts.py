"""The zygote's parts that need no process: bookkeeping of children, the map of the heap, conversion of parameters."""

from __future__ import annotations

import datetime
import enum
from decimal import Decimal
from typing import Annotated, Any, Optional, Union

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rocksyd.errors import JobError
from rocksyd.worker.convert import conversion
from rocksyd.zygote import hugepages
from rocksyd.zygote.children import FIRST_LOOK, Child, Children, Exit
from rocksyd.zygote.hugepages import HUGE, Mapping


# --- children ---------------------------------------------------------------------------------------------------------
class Bookkeeping(RuleBasedStateMachine):
    """Invented PIDs, few enough that they are used again, against a model that is two lists."""

    def __init__(self) -> None:
        super().__init__()
        self.children = Children()
        self.alive: dict[int, Child] = {}
        self.untold: list[Exit] = []
        self.number = 0

    @rule(pid=st.integers(2, 9))
    def fork(self, pid: int) -> None:
        if pid not in self.alive:
            self.number += 1
            self.alive[pid] = Child(self.number, pid, "main", -1, -1)
            self.children.add(self.alive[pid])

    @precondition(lambda self: self.alive)
    @rule(data=st.data(), kept=st.booleans())
    def end(self, data: st.DataObject, kept: bool) -> None:
        pid = data.draw(st.sampled_from(sorted(self.alive)))
        child = self.alive[pid]
        if child.group_deadline is None:
            exit_ = Exit(child.worker, pid, 0, 0.0, 0)
            self.children.told(exit_)
            self.untold.append(exit_)
            if kept:
                child.grace = 5.0
                self.children.keep_dead(child, 100.0)
                return
        self.children.remove(pid)
        del self.alive[pid]

    @rule(pids=st.lists(st.integers(2, 9), max_size=4))
    def acknowledge(self, pids: list[int]) -> None:
        self.children.acknowledge(tuple(pids))
        for pid in pids:
            first = next((exit_ for exit_ in self.untold if exit_.pid == pid), None)
            if first is not None:
                self.untold.remove(first)

    @invariant()
    def both_agree(self) -> None:
        assert {child.pid for child in self.children.unreaped} == set(self.alive)
        assert self.children.exits == self.untold
        assert self.children.none_left == (not self.alive and not self.untold)
        assert len(self.children.living) + len(self.children.dead_leaders) == len(self.alive)
        assert (self.children.next_look() is None) == (not self.children.dead_leaders)


TestBookkeeping = Bookkeeping.TestCase


@given(st.floats(0, 60))
def test_a_killed_group_is_looked_at_less_and_less_often_until_its_grace_is_over(grace: float) -> None:
    children, child = Children(), Child(1, 2, "main", -1, -1)
    children.add(child)
    child.grace = grace
    children.keep_dead(child, 0.0)
    looks = 0
    while (now := child.look_at) < grace:
        children.look_later(child, now)
        looks += 1
    assert now == grace
    assert looks <= (int(grace / FIRST_LOOK) + 1).bit_length()


# --- huge pages -------------------------------------------------------------------------------------------------------
SMAPS = """\
55d0c0000000-55d0c0400000 r-xp 00000000 fe:00 123 /usr/bin/python3.11
Size:               4096 kB
Rss:                4096 kB
VmFlags: rd ex mr mw me
55d0c1000000-55d0c9000000 rw-p 00000000 00:00 0 [heap]
Size:             131072 kB
Rss:              131000 kB
7f0000000000-7f0000800000 rw-p 00000000 00:00 0
Size:               8192 kB
Rss:                  12 kB
7f0001000000-7f0001800000 rw-p 00000000 00:00 0 [anon:cpython:pymalloc]
Rss:                8192 kB
7f0002000000-7f0002800000 rw-s 00000000 00:01 77 /memfd:rocksyd (deleted)
Rss:                8192 kB
7ffc00000000-7ffc00800000 rw-p 00000000 00:00 0 [stack]
Rss:                8192 kB
"""


def test_only_private_anonymous_writable_memory_is_the_heap() -> None:
    assert list(hugepages.parse(SMAPS.splitlines())) == [
        Mapping(0x55D0C1000000, 0x55D0C9000000, 131000 * 1024),
        Mapping(0x7F0000000000, 0x7F0000800000, 12 * 1024),
        Mapping(0x7F0001000000, 0x7F0001800000, 8192 * 1024),
    ]


@given(st.integers(0, 1 << 40), st.integers(0, 1 << 30), st.floats(0, 1))
def test_a_range_is_inside_aligned_and_of_memory_in_use(start: int, length: int, share: float) -> None:
    mapping = Mapping(start, start + length, int(length * share))
    low, high = hugepages.inner_range(mapping)
    assert start <= low <= high <= start + length
    if low < high:
        assert low % HUGE == high % HUGE == 0
        assert share > 0.7


def test_the_heap_of_this_process_can_be_read() -> None:
    assert sum(mapping.resident for mapping in hugepages.heap()) > 1 << 20
    assert hugepages.memory().resident > 1 << 20


# --- parameters -------------------------------------------------------------------------------------------------------
class Colour(enum.Enum):
    RED = "red"


def annotated(
    day: datetime.date,
    *rest: Decimal,
    maybe: Optional[datetime.date] = None,  # noqa: UP045
    either: Union[datetime.date, str, None] = None,  # noqa: UP007
    noted: Annotated[datetime.date, "a note"] | None = None,
    colour: Colour | None = None,
    unknown: NotThere | None = None,  # type: ignore[name-defined]  # noqa: F821
    plain: Any = None,
) -> datetime.date:
    return day


def test_annotations_are_followed_by_name_and_by_position() -> None:
    follow = conversion("m:annotated", annotated)
    day = datetime.date(2026, 1, 31)
    assert follow.list(["2026-01-31", "1.5", "2"]) == [day, Decimal("1.5"), Decimal(2)]
    given_ = {
        "day": "2026-01-31",
        "maybe": "2026-01-31",
        "either": "2026-01-31",
        "unknown": "x",
        "colour": "RED",
        "plain": "2026",
    }
    assert follow.object(given_) == {**given_, "day": day, "maybe": day, "colour": Colour.RED}
    assert follow.object({"day": None, "colour": "red", "other": 1}) == {"day": None, "colour": Colour.RED, "other": 1}


@given(st.lists(st.none() | st.integers() | st.lists(st.integers())))
def test_only_strings_are_converted(values: list[Any]) -> None:
    assert conversion("m:annotated", annotated).list(values) == values


@given(st.text())
def test_a_string_is_converted_or_named(value: str) -> None:
    try:
        [converted] = conversion("m:annotated", annotated).list([value])
    except JobError as error:
        converted = str(error)
    assert isinstance(converted, datetime.date) or converted.startswith("parameter 'day' of m:annotated")


@pytest.mark.parametrize("function", [len, object(), type, print, str.upper, lambda *args: args])
def test_what_has_no_annotations_gets_what_was_given(function: Any) -> None:
    assert conversion("m:f", function).list(["2026-01-31"]) == ["2026-01-31"]
