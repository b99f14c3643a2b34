"""The queue against a list that is sorted every time."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from rocksyd.core.queue import Queue
from rocksyd.model import Run
from tests.unit.runs import run_of

LIMITS = [0, 0, 1, 2]
KEYS = ["", "", "x", "y"]
PER_KEY = 2
steps = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.integers(-2, 2), st.sampled_from("abc"), st.sampled_from(LIMITS), st.sampled_from(KEYS)),
        st.tuples(st.just("pop")),
        st.tuples(st.just("discard"), st.integers(0, 30)),
        st.tuples(st.just("end"), st.integers(0, 30)),
        st.tuples(st.just("back"), st.integers(0, 30)),
    ),
    max_size=80,
)


def startable(waiting: list[Run], running: Counter[str], keyed: Counter[tuple[str, str]]) -> list[Run]:
    def may(run: Run) -> bool:
        within = not run.order.max_running or running[run.order.target] < run.order.max_running
        return within and (not run.order.concurrency_key or keyed[run.order.target, run.order.concurrency_key] < PER_KEY)

    return [run for run in waiting if may(run)]


@given(steps)
def test_the_next_is_the_one_of_highest_priority_that_came_first_and_may_run(steps: list[tuple]) -> None:
    queue, waiting, going, sequence = Queue(), [], [], 0
    running: Counter[str] = Counter()
    keyed: Counter[tuple[str, str]] = Counter()
    for step, *arguments in steps:
        match step:
            case "push":
                sequence += 1
                priority, target, limit, key = arguments
                run = run_of(
                    f"k{sequence}", target=target, priority=priority, sequence=sequence, max_running=limit,
                    concurrency_key=key, max_running_per_key=PER_KEY if key else 0,
                )  # fmt: skip
                queue.push(run)
                waiting.append(run)
            case "pop":
                expected = min(
                    startable(waiting, running, keyed), key=lambda run: (-run.order.priority, run.sequence), default=None
                )
                assert queue.pop() is expected
                if expected is not None:
                    waiting.remove(expected)
                    queue.begin(expected)
                    running[expected.order.target] += 1
                    keyed[expected.order.target, expected.order.concurrency_key] += bool(expected.order.concurrency_key)
                    going.append(expected)
            case "discard" if waiting:
                run = waiting.pop(arguments[0] % len(waiting))
                queue.discard(run)
                queue.discard(run)
            case "end" | "back" if going:
                run = going.pop(arguments[0] % len(going))
                queue.end(run)
                running[run.order.target] -= 1
                keyed[run.order.target, run.order.concurrency_key] -= bool(run.order.concurrency_key)
                if step == "back":
                    queue.push(run)
                    waiting.append(run)
        assert len(queue) == len(waiting)
        assert {run.key for run in queue} == {run.key for run in waiting}
        assert all(run.key in queue for run in waiting)
        assert queue.running == +running
        possible = startable(waiting, running, keyed)
        assert bool(queue.startable) == bool(possible)
        assert queue.running_keys == +keyed
        if len({run.order.max_running for run in waiting}) < 2 and not any(
            run.order.concurrency_key for run in waiting
        ):  # how many workers could be given something to do at once
            target_room = Counter(run.order.target for run in possible)
            room = {t: min(n, (possible[0].order.max_running or n + running[t]) - running[t]) for t, n in target_room.items()}
            assert queue.startable == sum(room.values())


def test_a_run_that_is_taken_out_does_not_keep_the_next_of_its_target_from_starting() -> None:
    queue = Queue()
    first, second, third = (run_of(f"k{n}", target="t", sequence=n, max_running=1) for n in (1, 2, 3))
    for run in (first, second, third):
        queue.push(run)
    assert queue.pop() is first
    queue.begin(first)
    assert queue.pop() is None
    queue.end(first)
    queue.discard(second)
    assert queue.pop() is third


def test_one_limit_asks_for_one_worker_however_many_wait() -> None:
    queue = Queue()
    for number in range(100):
        queue.push(run_of(f"k{number}", target="t", sequence=number, max_running=2))
    assert queue.startable == 2


def test_runs_that_come_and_go_while_nobody_is_free_leave_nothing_behind() -> None:
    queue = Queue()
    queue.push(run_of("stays", target="t", sequence=0, priority=9))
    for number in range(1, 5000):
        run = run_of(f"k{number}", target="t", sequence=number)
        queue.push(run)
        queue.discard(run)
    assert len(next(iter(queue._groups[""].values())).entries) < 200


def test_keys_that_share_a_target_s_limit_ask_for_no_more_workers_than_that() -> None:
    queue = Queue()
    for number in range(50):
        queue.push(
            run_of(f"k{number}", target="t", sequence=number, max_running=3, concurrency_key=str(number), max_running_per_key=1)
        )
    assert queue.startable == 3
    run = queue.pop()
    assert run is not None
    queue.begin(run)
    assert queue.startable == 2
