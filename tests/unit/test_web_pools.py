"""What is decided about web workers, without a process."""

from __future__ import annotations

from rocksyd.config import PoolConfig
from rocksyd.core import web_crew
from rocksyd.core.web import WebPool
from rocksyd.core.web_crew import Sample

POLICY = PoolConfig(pm="static", max_workers=2, max_jobs=0)


def serving(pool: WebPool, generation: int = 1) -> list[int]:
    """Have a pool begin, and its workers serve; their numbers."""
    pool.begin(generation, 0.0, hold=False)
    numbers = [effect.number for effect in pool.effects()]
    for number in numbers:
        pool.forked(number, number % 1000 + 1, 0.0)
        pool.serving(number, 0.0, accepting=False, leaving=False)
    pool.effects()
    return numbers


def test_workers_of_two_applications_never_have_the_same_number() -> None:
    taken: list[int] = []
    given: set[int] = set()
    for app in ("shop", "other", "third"):
        taken.append(web_crew.place_of(app, taken))
        given |= set(serving(WebPool(f"{app}/web", POLICY, 1, taken[-1])))
    assert len(given) == 6
    assert all(web_crew.is_web(number) and number < 1 << 63 for number in given)


def test_a_place_that_is_taken_is_given_to_nobody_else_and_every_master_gives_the_same() -> None:
    first = web_crew.place_of("shop", [])
    assert web_crew.place_of("shop", []) == first
    assert web_crew.place_of("shop", [first]) == (first + 1) % web_crew.PLACES


def test_a_number_says_its_generation_whatever_its_application_is() -> None:
    for place in (0, 1, web_crew.PLACES - 1):
        numbers = serving(WebPool("app/web", POLICY, 1, place), 7)
        assert [web_crew.generation_of(number) for number in numbers] == [7, 7]
        assert [web_crew.title(number) for number in numbers] == ["7.1", "7.2"]


def test_one_that_says_that_it_is_spent_is_replaced_and_leaves_when_its_successor_can_serve() -> None:
    pool = WebPool("app/web", POLICY, 1)
    one, two = serving(pool)
    pool.look({one: Sample(0, 5), two: Sample(0, 5, spent=True)}, 0, 1.0)
    (fork,) = pool.effects()
    pool.forked(fork.number, 99, 1.0)
    pool.serving(fork.number, 2.0, accepting=False, leaving=False)
    assert web_crew.Tell(two, "leave") in pool.effects()
    assert pool.recycled == 1
