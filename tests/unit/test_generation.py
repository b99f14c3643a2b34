"""Generations without processes: what is ordered, what is kept, which ticks wait for which, and what configurations may say."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocksyd import config, ticks
from rocksyd.client import Client
from rocksyd.companions import generation_store
from rocksyd.companions.generation_course import Course, Shared
from rocksyd.companions.generation_store import RESULT_MOST, Full, GenerationStore
from rocksyd.companions.generations import Generations
from rocksyd.companions.schedule_store import Store
from rocksyd.companions.ticking import Ticking
from rocksyd.errors import ConfigError
from rocksyd.journal import store as journal_store
from rocksyd.journal.store import Journal
from rocksyd.schedule import depends, generation
from rocksyd.schedule.script import Script, define, depending

TIME = "2026-01-31T03:00:00Z"
DAY = 86_400


def script(name: str = "s", **said: Any) -> Script:
    return define(name, {"target": "m:one", **said}, "UTC")


def begun(**said: Any) -> generation.Generation:
    return generation.of(script(**said), f"s@{TIME}", TIME, [])


# --- orders -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("params", "data", "given"),
    [([], "a", ["a"]), ([], [1, 2], [1, 2]), ([], {"x": 1}, {"x": 1}), ([], None, []), (["p"], "a", ["p"]),
     ({"k": 1}, 7, {"k": 1})],
)  # fmt: skip
def test_the_data_of_a_job_are_its_arguments_unless_the_script_has_some(params: Any, data: Any, given: Any) -> None:
    one = begun(jobs={"from": "m:list"}, params=params)
    one.total = 9
    order = generation.job_order(one, 3, data)
    assert (order["params"], order["key"], order["target"]) == (given, f"s@{TIME}.3", "m:one")
    tick = ticks.read(order["tick"])
    assert (tick["n"], tick["total"], tick.get("job")) == (3, 9, data)
    assert ticks.is_key_of(order["key"], tick)
    assert ticks.generation_of(order["key"], tick) == one.key
    assert order["labels"] == {"script": "s", "generation": one.key}
    assert "concurrency_key" not in order, "the jobs of a list don't wait for each other"


def test_hooks_have_the_scripts_limits_and_keys_that_the_daemon_knows_as_its_ticks() -> None:
    one = begun(jobs={"from": "init_jobs"}, finish="finish_jobs", retries=2, params=["p"])
    for name, target in (("init", "m:one.init_jobs"), ("finish", "m:one.finish_jobs")):
        order = generation.hook_order(one, name)
        assert (order["target"], order["params"], order["retries"]) == (target, [], 2)
        assert ticks.is_key_of(order["key"], ticks.read(order["tick"]))
        assert ticks.generation_of(order["key"], order["tick"]) == one.key
    assert ticks.generation_of(f"s@{TIME}", {"script": "s", "time": TIME}) == ""


def test_a_script_that_only_depends_on_others_is_one_run_under_the_ticks_own_key() -> None:
    one = begun(depends_on=["other"], params=["p"])
    assert generation.listed(one) == [None]
    order = generation.job_order(one, 0, None)
    assert (order["key"], order["params"], order["tick"]) == (f"s@{TIME}", ["p"], {"script": "s", "time": TIME})


def test_how_a_generation_has_ended() -> None:
    one = begun(jobs={"instances": 3})
    assert generation.verdict(one, "") == ("ok", "")
    assert generation.verdict(one, "failed") == ("failed", f"s@{TIME}.finish ended as failed")
    one.total, one.failed = 3000, 2
    assert generation.verdict(one, "ok") == ("failed", "2 of 3,000 jobs did not end well")
    one.killed = "by me"
    assert generation.verdict(one, "ok") == ("cancelled", "ended by me")
    assert (generation.window(one, 4), generation.window(begun(jobs={"instances": 3}, instances=5), 4)) == (8, 5)


json = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3))


@given(a=json, b=json, n=st.integers(0, 9), m=st.integers(0, 9))
def test_jobs_have_the_same_digest_exactly_when_they_have_the_same_data(a: Any, b: Any, n: int, m: int) -> None:
    same = generation.digest(n, a) == generation.digest(m, b)
    alike = (type(a), repr(a)) == (type(b), repr(b))
    assert same == (alike and (a is not None or n == m))


# --- what is kept -----------------------------------------------------------------------------------------------------
@pytest.fixture
def store(tmp_path: Path) -> Any:
    found = Store(str(tmp_path / "schedule.sqlite"))
    found.acquire()
    yield found
    found.close()


@pytest.fixture
def kept(store: Store) -> Any:
    found = GenerationStore(store.path)
    yield found
    found.close()


def test_no_data_is_in_a_list_twice_and_ends_count_once(kept: GenerationStore, monkeypatch: pytest.MonkeyPatch) -> None:
    one = begun(jobs={"from": "m:list"})
    assert kept.put(one)
    assert not kept.put(one), "one of a key"
    added = [kept.add(one, some) for some in (["a", "b", "a"], ["b", {"c": 1, "d": 2}], [{"d": 2, "c": 1}])]
    assert added == [2, 1, 0]
    assert [(job.n, job.data) for job in kept.to_do(one.key, -1, 10)] == [(0, "a"), (1, "b"), (2, {"c": 1, "d": 2})]
    kept.ended(one, [(0, "ok", '"r"'), (1, "failed", None)])
    kept.ended(one, [(0, "ok", '"again"'), (1, "ok", None)])
    assert (one.total, one.ended, one.failed) == (3, 2, 1)
    assert [job.n for job in kept.to_do(one.key, -1, 10)] == [2]
    found = kept.get(one.key)
    assert found is not None
    assert (found.total, found.ended, found.failed) == (3, 2, 1)
    kept.ended(one, [(2, "ok", "9" * (RESULT_MOST + 1))])
    jobs, following = kept.page(one.key, -1, 2)
    assert ([(job.n, job.outcome, job.result) for job in jobs], following) == ([(0, "ok", '"r"'), (1, "failed", "")], 1)
    jobs, following = kept.page(one.key, 1, 2)
    assert ([(job.n, job.result) for job in jobs], following) == ([(2, "")], None)
    monkeypatch.setattr("rocksyd.companions.generation_store.JOBS_MOST", 4)
    with pytest.raises(Full):
        kept.add(one, ["x", "y"])
    assert one.total == 3, "all of them or none"
    assert kept.add(one, ["x"]) == 1


def test_old_generations_go_and_what_has_not_ended_stays(kept: GenerationStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rocksyd.companions.generation_store.KEPT", 4)
    monkeypatch.setattr("rocksyd.companions.generation_store.KEPT_JOBS", 2)
    monkeypatch.setattr("rocksyd.companions.generation_store._ERASED_AT_ONCE", 2)
    going = generation.of(script(jobs={"instances": 2}), "s@0", TIME, [])
    kept.put(going)
    kept.add(going, [None, None])
    for number in range(1, 7):
        one = generation.of(script(jobs={"instances": 3}), f"s@{number}", TIME, [])
        kept.put(one)
        kept.add(one, [None] * 3)
        one.stage = generation.ENDED
        kept.end(one)
    assert [kept.get(f"s@{n}") is not None for n in range(7)] == [True, False, False, True, True, True, True]
    assert [len(kept.page(f"s@{n}", -1, 9)[0]) for n in range(7)] == [2, 0, 0, 0, 0, 3, 3]
    assert [one.key for _, one in kept.going()] == ["s@0"]
    assert [one.key for one in kept.going_of("s")] == ["s@0"]


WAITING = 500


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Each generation that is read from the store."""
    found: list[str] = []
    read = generation_store._read

    def counted(data: str) -> generation.Generation:
        found.append(read(data).key)
        return read(data)

    monkeypatch.setattr(generation_store, "_read", counted)
    return found


def test_a_look_reads_what_is_new_and_wakes_nobody_however_many_wait(
    kept: GenerationStore, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    woken: list[str] = []
    monkeypatch.setattr(Course, "change", lambda course: woken.append(course.one.key))
    for number in range(WAITING):
        kept.put(generation.of(script(jobs={"instances": 2}), f"s@{number}", TIME, []))
    generations = Generations(kept.path, "unix:///nowhere", "", lambda name: True)
    generations.start()
    try:
        assert len(reads) == WAITING
        reads.clear()
        for number in (WAITING, WAITING + 1):
            kept.put(generation.of(script(jobs={"instances": 2}), f"s@{number}", TIME, []))
            generations.look()
            generations._within(asyncio.sleep(0))
            assert reads == [f"s@{number}"]
            reads.clear()
        assert (woken, len(generations._shared.courses)) == ([], WAITING + 2)
    finally:
        generations.stop()


@pytest.mark.parametrize(("overlap", "most"), [("allow", 0), ("buffer_all", 0), ("skip", 2), ("buffer_one", 2)])
def test_a_tick_of_one_script_reads_nothing_of_others_and_nothing_where_all_are_run(
    store: Store, kept: GenerationStore, reads: list[str], overlap: str, most: int
) -> None:
    for number in range(WAITING):
        kept.put(generation.of(script("other", jobs={"instances": 2}), f"other@{number}", TIME, []))
    for number in range(most or WAITING):
        kept.put(generation.of(script(jobs={"instances": 2}), f"s@{number}", TIME, []))
    now = [1.7e9]
    generations = Generations(kept.path, "unix:///nowhere", "", lambda name: True)
    generations.start()
    try:
        ticking = Ticking(store, Client("unix:///nowhere"), lambda: now[0])
        ticking.generations = generations
        ticking.begin({"s": script(jobs={"instances": 2}, every=60, overlap=overlap)}, {})
        ticking.look()
        reads.clear()
        now[0] += 60.0
        ticking.look()
        generations._within(asyncio.sleep(0))
        assert len(store.accounts("s", 10)) == 1
        assert len(reads) == (most or 1), "those of the script that decide, or the new one as it begins"
    finally:
        generations.stop()


def test_the_store_finds_what_is_new_and_what_is_a_scripts_by_an_index(kept: GenerationStore) -> None:
    for query, how in (
        (generation_store.GOING_OF, "generations_script (script=? AND over=?)"),
        (generation_store.NEW, "INTEGER PRIMARY KEY (rowid>?)"),
    ):
        plan = [line for *_, line in kept._db.execute(f"EXPLAIN QUERY PLAN {query}", ("s",))]
        assert plan == [f"SEARCH generations USING {'INDEX ' * ('_' in how)}{how}"]


def test_an_end_wakes_the_next_of_its_script_and_who_waits_for_it() -> None:
    async def main() -> set[str]:
        shared = Shared(None, lambda: 0.0, lambda work: None, store=None)  # type: ignore[arg-type]
        shared.store = object()  # type: ignore[assignment]
        courses = {}
        for name in ("a", "b"):
            for number in range(WAITING):
                one = generation.of(script(name, jobs={"instances": 2}), f"{name}@{number}", TIME, [])
                courses[one.key] = Course(one, shared)
                shared.add(courses[one.key])
        shared.waiting["a@0"] = {courses["b@7"]}
        shared.drop(courses["a@0"])
        shared.drop(courses["b@400"])
        return {key for key, course in courses.items() if course._changed.is_set()}

    assert asyncio.run(main()) == {"a@1", "b@7", "b@0"}


# --- who depends on whom ----------------------------------------------------------------------------------------------
def came(position: int, last: int | None, *, paused: bool = False, key: str = "") -> depends.Came:
    return depends.Came(position, last, key, paused)


def test_a_tick_waits_for_the_others_tick_of_the_same_time_or_the_latest_before_it() -> None:
    daily, hourly = script("daily", every=DAY), script("hourly", every=3600)
    asked = script("asked")
    report = script("report", every=DAY, depends_on=["daily", "hourly", "asked"])
    scripts = {one.name: one for one in (daily, hourly, asked, report)}
    tick = 1_769_817_600  # midnight
    everything = {"daily": came(tick, tick), "hourly": came(tick, tick), "asked": came(0, None, key="asked!1")}
    time = "2026-01-31T00:00:00Z"
    assert depends.needs(report, tick, scripts, everything).keys == (f"daily@{time}", f"hourly@{time}", "asked!1")
    assert depends.needs(report, tick, scripts, everything | {"daily": came(tick - 1, tick - DAY)}).early == "daily"
    left = depends.needs(report, tick, scripts, everything | {"daily": came(tick, tick - DAY)})
    assert left.reason == f"daily@{time} was left out, and it depends on that"
    paused = depends.needs(report, tick, scripts, everything | {"daily": came(tick - 1, tick - DAY, paused=True)})
    assert "is paused" in paused.reason
    never = depends.needs(report, tick, scripts, everything | {"asked": came(0, None)})
    assert never.reason == "asked has never been run, and it depends on that"
    assert "there is no script 'daily'" in depends.needs(report, tick, {"report": report}, {}).reason
    later = script("later", every=3600, depends_on=["daily"])
    assert depends.needs(later, tick + 7200, {**scripts, "later": later}, everything).keys == (f"daily@{time}",)


def test_a_script_without_times_has_those_of_the_first_that_it_depends_on_and_circles_are_told() -> None:
    found, wrong = depending({
        "a": script("a", every=60, jitter=50), "b": script("b", depends_on=["a"]), "c": script("c", depends_on=["b", "gone"]),
        "x": script("x", depends_on=["y"]), "y": script("y", depends_on=["x"]), "z": script("z", depends_on=["z"]),
    })  # fmt: skip
    assert found["c"].timetable is found["b"].timetable is found["a"].timetable
    assert (found["c"].when, found["c"].delay) == ("after b", found["a"].delay)
    assert set(wrong) & {"x", "y"}
    assert wrong["z"] == "scripts that wait for each other never begin: z -> z"
    assert depending(found)[0] == found, "found again in what was found"


# --- configuration ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ("jobs = 8", "expected { instances = 8 }, { range = [0, 63] } or { from ="),
        ("jobs = { instances = 0 }", "up to 100,000 jobs"),
        ("jobs = { range = [5, 1] }", "{ range = [0, 63] }"),
        ('jobs = { from = "" }', "{ from ="),
        ("jobs = { instances = 2, range = [0, 1] }", "expected { instances"),
        ("instances = 4", "instances says something only with jobs"),
        ('finish = "x"', "finish says something only with jobs"),
    ],
)
def test_what_is_wrong_with_a_list_is_named(tmp_path: Path, settings: str, sentence: str) -> None:
    (tmp_path / "rocksyd.toml").write_text(f'[apps.a]\npath = "."\njobs = ["j"]\n[scripts.s]\ntarget = "t"\n{settings}\n')
    with pytest.raises(ConfigError) as caught:
        config.load(str(tmp_path / "rocksyd.toml"))
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("tick", "sentence"),
    [
        ({"total": -1}, "expected a whole number from 0 for total"),
        ({"job": "x" * ticks.JOB_MOST}, "let it read from a file"),
        ({"other": 1}, "expected a tick such as"),
    ],
)
def test_what_a_tick_may_say_of_a_job_is_bounded(tick: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        ticks.read({"script": "s", "time": TIME, **tick})


def test_ticks_of_a_long_list_are_forgotten_some_at_a_time_and_none_is_new_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_store, "TICKS_KEPT", 20)
    monkeypatch.setattr(journal_store, "TICKS_AT_ONCE", 10)
    monkeypatch.setattr(journal_store, "TICKS_ERASED", 15)
    journal = Journal(str(tmp_path / "journal"))
    journal.own()
    days = [f"2026-01-{day:02}T00:00:00Z" for day in range(1, 4)]
    for day in days:
        for n in range(50):
            journal.commit((), (), {("ticks", f"s@{day}.{n}"): ["s", day]})
            for earlier in days[: days.index(day)]:
                for old in (0, 14, 15, 49):
                    known, _, forgotten = journal.tick(f"s@{earlier}.{old}", "s")
                    assert known or earlier < forgotten, "known, or older than what is remembered"
    known, latest, forgotten = journal.tick(f"s@{days[2]}.0", "s")
    assert (known, latest) == (True, days[2])
    assert days[1] < forgotten <= days[2]
    journal.close()
