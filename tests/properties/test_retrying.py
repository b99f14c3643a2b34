"""The wait before an attempt, which failures are worth one, and how often runs begin: by their properties."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rocksyd import retrying
from rocksyd.options import BY_NAME

DURATIONS = st.floats(0, 10_000) | st.integers(0, 10_000) | st.sampled_from(["250ms", "10s", "5m", "1h"])
LADDERS = st.lists(DURATIONS, min_size=1, max_size=8)
POLICIES = st.fixed_dictionaries(
    {},
    optional={
        "after": LADDERS.map(retrying.ladder),
        "factor": st.floats(1, 1000), "most": st.floats(0, 100_000), "jitter": st.floats(0, 10),
    },
)  # fmt: skip
NAMES = st.sampled_from(["OSError", "ValueError", "shop.errors.Busy", "Busy", "lost", "timeout"])
KINDS = st.lists(NAMES | NAMES.map("not {}".format) | st.integers(1, 255), max_size=5)


@given(LADDERS)
def test_what_was_read_can_be_read_again_and_a_text_says_the_same(said: list[Any]) -> None:
    once = retrying.ladder(said)
    assert retrying.ladder(once) == once
    assert retrying.ladder([f"{one:f}s" for one in once]) == retrying.ladder(", ".join(f"{one:f}s" for one in once))


@given(POLICIES, st.text(), st.integers(1, 10_000))
def test_a_wait_is_the_ladders_step_then_grows_up_to_its_most_and_is_the_same_when_asked_again(
    said: dict[str, Any], key: str, failed: int
) -> None:
    found = retrying.wait(said, key, failed)
    steps, most = said.get("after", [1.0]), said.get("most", 300.0)
    assert found == retrying.wait(said, key, failed)
    plain = retrying.wait({**said, "jitter": 0.0}, key, failed)
    assert plain <= found <= plain * (1 + said.get("jitter", 0.0)) + 1e-6
    if failed <= len(steps):
        assert plain == steps[failed - 1]
    else:
        assert plain <= max(most, steps[-1]) + 1e-9
        assert plain >= min(steps[-1], max(most, steps[-1]))
        assert plain >= retrying.wait({**said, "jitter": 0.0}, key, failed - 1)


def test_where_nothing_is_said_it_is_a_second_doubled_up_to_five_minutes() -> None:
    assert [retrying.wait({}, "k", failed) for failed in range(1, 12)] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    assert [retrying.wait({"after": [1, 60], "factor": 1}, "k", failed) for failed in range(1, 5)] == [1, 60, 60, 60]


@given(st.lists(st.text(), min_size=2, max_size=20, unique=True))
def test_the_jitter_is_another_for_each_run(keys: list[str]) -> None:
    assert len({retrying.wait({"jitter": 1.0}, key, 1) for key in keys}) == len(keys)


@given(KINDS, st.integers(1, 255), st.sampled_from(["failed", "killed", "timeout", "lost"]), st.lists(NAMES, max_size=3))
def test_what_is_not_meant_is_never_worth_it_and_what_is_meant_always(
    said: list[Any], status: int, outcome: str, lineage: list[str]
) -> None:
    said = retrying.kinds(said)
    found = retrying.worth_it(said, outcome, status, lineage)
    assert retrying.kinds(said) == said
    assert retrying.worth_it([*said, f"not {outcome}"], outcome, status, lineage) is False
    assert found in (True, False)
    if not any(str(one).startswith("not ") for one in said):
        assert retrying.worth_it([*said, outcome], outcome, status, lineage) is True
        assert retrying.worth_it([], outcome, status, lineage) is True
    assert retrying.worth_it([status], "failed", status, lineage) is (not lineage), "an exception is meant by its name alone"


def test_an_exception_is_meant_by_its_name_with_and_without_its_module_and_by_what_it_is_derived_from() -> None:
    lineage = ("shop.errors.Busy", "ConnectionError", "OSError", "Exception", "BaseException")
    for said in ("Busy", "shop.errors.Busy", "OSError", OSError, [ValueError, "ConnectionError"]):
        assert retrying.worth_it(retrying.kinds(said), "failed", 1, lineage), said
    for said in ("errors.Busy", "ValueError", "not OSError", ["OSError", "not Busy"], 1):
        assert not retrying.worth_it(retrying.kinds(said), "failed", 1, lineage), said


@given(st.integers(1, 10_000), st.sampled_from(["s", "m", "h", "d", "90s", "5m"]))
def test_a_rate_is_read_as_it_is_written(number: int, period: str) -> None:
    found = retrying.rate(f"{number}/{period}")
    assert found[0] == number
    assert retrying.rate(found) == found == BY_NAME["rate"].form.convert(f" {number} / {period} ")
