"""The scoreboard: what is written is read, whole or not at all, also while somebody else writes."""

from __future__ import annotations

import os
import signal
import time

from hypothesis import given
from hypothesis import strategies as st

from rocksyd.posix.scoreboard import SLOTS, STAGES, Entry, Scoreboard, create

ENTRIES = st.builds(
    Entry,
    pid=st.integers(0, 2**32 - 1),
    worker=st.integers(0, 2**64 - 1),
    generation=st.integers(0, 2**32 - 1),
    stage=st.sampled_from(STAGES),
    since=st.floats(0, 1e12),
    born=st.floats(0, 1e12),
    jobs=st.integers(0, 2**64 - 1),
    cpu=st.floats(0, 1e9),
    memory=st.integers(0, 2**64 - 1),
    pool=st.text(st.characters(codec="ascii", min_codepoint=33), max_size=48),
    key=st.text(st.characters(codec="ascii", min_codepoint=33), max_size=128),
)


def board() -> Scoreboard:
    fd = create()
    try:
        return Scoreboard(fd)
    finally:
        os.close(fd)


@given(st.lists(st.tuples(st.integers(0, 5), ENTRIES), max_size=10))
def test_what_is_written_is_read(writes: list[tuple[int, Entry]]) -> None:
    shown = board()
    latest: dict[int, Entry] = {}
    for number, entry in writes:
        shown.slot(number).write(entry)
        latest[number] = entry._replace(slot=number)
    for number in range(6):
        assert shown.read(number) == latest.get(number)
        assert shown.untouched(number) == (number not in latest)


@given(st.text(max_size=400), st.text(max_size=100))
def test_a_long_text_is_cut_between_characters(key: str, pool: str) -> None:
    shown = board()
    shown.slot(0).write(Entry(key=key, pool=pool))
    entry = shown.read(0)
    assert entry is not None
    assert key.encode("utf-8", "replace").decode().rstrip("\0").startswith(entry.key.rstrip("\0"))


def test_slots_that_do_not_exist_are_neither_written_nor_read() -> None:
    shown = board()
    shown.slot(SLOTS).write(Entry(pid=1))
    shown.slot(-1).write(Entry(pid=1))
    assert shown.read(SLOTS) is None
    assert shown.read(-1) is None
    assert shown.read(SLOTS - 1) is None


def test_the_mapping_keeps_no_descriptor() -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    shown = board()
    assert sorted(os.listdir("/proc/self/fd")) == before
    shown.slot(3).write(Entry(pid=7))
    assert shown.read(3) == Entry(slot=3, pid=7)


def test_a_reader_never_sees_half_of_what_another_process_writes() -> None:
    shown = board()
    ready, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        slot = shown.slot(0)
        number = 0
        while True:
            number += 1
            slot.write(Entry(pid=number, worker=number, jobs=number, key=f"k{number}", stage="running"))
            if number == 1:
                os.write(write, b"x")
    try:
        os.read(ready, 1)
        seen = []
        until = time.monotonic() + 30.0  # the writer needs a processor, too, and others may have it
        while (len(seen) < 3000 or seen[0].pid == seen[-1].pid) and time.monotonic() < until:
            entry = shown.read(0)
            if entry is not None:
                seen.append(entry)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(ready)
        os.close(write)
    assert len({entry.pid for entry in seen}) > 1
    for entry in seen:
        assert entry.pid == entry.worker == entry.jobs
        assert entry.key == f"k{entry.pid}"


def test_a_writer_that_died_in_the_middle_is_overwritten_by_the_next() -> None:
    shown = board()
    slot = shown.slot(0)
    slot.write(Entry(pid=1))
    slot._memory[0] |= 1  # what SIGKILL between the two halves of the lock leaves
    assert shown.read(0) is None
    slot.write(Entry(pid=2))
    assert shown.read(0) == Entry(pid=2)
