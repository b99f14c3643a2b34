"""What is decided about web workers: of whom, and when. Without a process."""

from __future__ import annotations

from typing import Any

from rocksyd.config import PoolConfig
from rocksyd.core.web import WebPool
from rocksyd.core.web_crew import Fork, Tell

TWO = PoolConfig(pm="static", max_workers=2)


class Staff:
    """A pool, and what it has decided so far."""

    def __init__(self) -> None:
        self.pool = WebPool("app/web", TWO, 8)
        self.now = 0.0

    def decided(self) -> list[Any]:
        self.now += 1.0
        return self.pool.effects()

    def forked(self, *numbers: int) -> None:
        for number in numbers:
            self.pool.forked(number, number % 1000 + 100, self.now)

    def ready(self, *numbers: int) -> None:
        for number in numbers:
            self.pool.serving(number, self.now, accepting=False, leaving=False)


def served(staff: Staff, generation: int) -> list[int]:
    """Let a generation serve; its workers."""
    staff.pool.begin(generation, staff.now, hold=False)
    numbers = [order.number for order in staff.decided() if isinstance(order, Fork)]
    staff.forked(*numbers)
    staff.ready(*numbers)
    return numbers


def told(decided: list[Any], what: str) -> list[int]:
    return [order.number for order in decided if isinstance(order, Tell) and order.what == what]


def test_a_new_generation_accepts_when_all_of_it_can_serve_and_then_the_old_one_leaves() -> None:
    staff = Staff()
    old = served(staff, 1)
    assert told(staff.decided(), "accept") == old
    staff.pool.begin(2, staff.now, hold=False)
    new = [order.number for order in staff.decided()]
    staff.forked(*new)
    staff.ready(new[0])
    assert staff.decided() == []
    staff.ready(new[1])
    decided = staff.decided()
    assert told(decided, "accept") == new
    assert told(decided, "leave") == old
    assert decided.index(Tell(new[1], "accept")) < decided.index(Tell(old[0], "leave"))


def test_a_worker_that_is_forked_after_it_was_decided_that_it_leaves_is_told_so() -> None:
    staff = Staff()
    served(staff, 1)
    staff.pool.begin(2, staff.now, hold=True)
    late = [order.number for order in staff.decided() if isinstance(order, Fork)]
    staff.pool.forget(2, staff.now)
    staff.decided()
    staff.forked(*late)
    assert told(staff.decided(), "leave") == late


def test_a_worker_ordered_by_the_master_before_is_taken_in_or_told_to_leave() -> None:
    staff = Staff()
    served(staff, 2)
    staff.decided()
    other = Staff()
    late, _ = (order.number for order in _begun(other, 1))
    staff.forked(late)
    assert told(staff.decided(), "leave") == [late]
    further = max(staff.pool.workers) + 1
    staff.forked(further)
    staff.ready(further)
    assert told(staff.decided(), "accept") == [further]


def _begun(staff: Staff, generation: int) -> list[Fork]:
    staff.pool.begin(generation, staff.now, hold=False)
    return [order for order in staff.decided() if isinstance(order, Fork)]


def test_a_worker_that_is_forked_while_the_daemon_stops_leaves() -> None:
    staff = Staff()
    staff.pool.begin(1, staff.now, hold=False)
    numbers = [order.number for order in staff.decided()]
    staff.pool.stop(staff.now)
    staff.decided()
    staff.forked(*numbers)
    assert [order for order in staff.decided() if order.alone] == [Tell(number, "leave", alone=True) for number in numbers]


def test_numbers_of_workers_that_are_found_are_not_given_again() -> None:
    staff = Staff()
    first, second = (order.number for order in _begun(Staff(), 3))
    staff.pool.found(first, 11, staff.now)
    staff.pool.begin(3, staff.now, hold=False)
    (order,) = staff.decided()
    assert order.number == second
