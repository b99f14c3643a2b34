"""A name on the shelf is read as what it was made of, and is the same as in every version before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rocksyd import shelf_names

NUMBERS = st.integers(1, 2**40)
NAMES = st.from_regex(r"\A[a-z][a-z0-9_-]{0,20}\Z")


@given(NAMES, NUMBERS, NUMBERS, st.integers(0, 100))
def test_every_name_is_read_as_what_it_was_made_of(name: str, number: int, generation: int, index: int) -> None:
    assert shelf_names.connection_of(shelf_names.connection(number, index)) == (number, index)
    assert shelf_names.worker_of(shelf_names.worker(number)) == number
    assert shelf_names.zygote_of(shelf_names.zygote(name, generation, index)) == (name, generation, index)
    assert shelf_names.generation_of(shelf_names.zygote(name, generation, index)) == generation
    assert shelf_names.companion_of(shelf_names.companion(name, generation)) == name
    assert shelf_names.generation_of(shelf_names.companion(name, generation)) == generation
    assert shelf_names.companion_listener_of(shelf_names.listener("http://[::1]:80/a=b", name)) == (name, "http://[::1]:80/a=b")
    assert [shelf_names.caller_of(one) for one in shelf_names.caller(f"{name}:x", 3)] == [(f"{name}:x", at) for at in range(3)]


def test_names_are_those_of_the_versions_before() -> None:
    assert shelf_names.connection(3, 0) == "conn:3:0"
    assert shelf_names.worker(7) == "worker:7"
    assert (shelf_names.zygote("a", 2), shelf_names.zygote("a", 2, 5)) == ("zygote:a@2", "zygote:a#5@2")
    assert shelf_names.listener("unix:/s") == "listen:unix:/s"
    assert (shelf_names.CONFIG, shelf_names.LOCK, shelf_names.SCOREBOARD, shelf_names.BUSY_PAGE) == (
        "config", "lock", "scoreboard", "busy",
    )  # fmt: skip
    assert (shelf_names.caller("k", 2), shelf_names.passed(0)) == (("exec:k:0", "exec:k:1"), "sd:0")


def test_one_kind_is_found_among_the_others() -> None:
    names = ["worker:1", "worker:x", "sd:0", "sd:web", "listen:a", "workers"]
    assert shelf_names.of(shelf_names.WORKER, names) == ["worker:1", "worker:x"]
    assert shelf_names.passed_by_place(names) == ["sd:0"]
    assert [shelf_names.worker_of(name) for name in names] == [1, 0, 0, 0, 0, 0]
