"""A job's parameters arrive as its annotations say, at every depth."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import enum
import pathlib
import typing
import uuid
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest

from rocksyd.core.signature import problem
from rocksyd.errors import JobError
from rocksyd.worker.target import Plan
from rocksyd.zygote.signatures import signature


class Colour(enum.Enum):
    RED = "red"
    BLUE = 2


@dataclasses.dataclass
class Point:
    x: int
    at: date
    price: Decimal = Decimal(0)
    hidden: int = dataclasses.field(default=7, init=False)


@dataclasses.dataclass
class Tree:
    day: date
    below: list[Tree] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Positive:
    number: int

    def __post_init__(self) -> None:
        if self.number < 0:
            raise ValueError("a negative number")


class Order(typing.TypedDict):
    due: date
    lines: typing.NotRequired[list[Point]]


class Pair(typing.NamedTuple):
    one: date
    other: Decimal = Decimal(1)


UserId = typing.NewType("UserId", uuid.UUID)
DAY, ID = date(2026, 1, 31), uuid.UUID(int=1)

ARRIVES: list[tuple[Any, Any, Any]] = [
    (list[date], ["2026-01-31"], [DAY]),
    (list[list[date]], [["2026-01-31"], []], [[DAY], []]),
    (typing.Sequence[date], ["2026-01-31"], [DAY]),
    (tuple[date, str], ["2026-01-31", "2026-01-31"], (DAY, "2026-01-31")),
    (tuple[date, ...], ["2026-01-31"], (DAY,)),
    (tuple, [1, 2], (1, 2)),
    (set[Colour], ["red", 2], {Colour.RED, Colour.BLUE}),
    (frozenset[int], [1, 1], frozenset({1})),
    (collections.deque[int], [1, 2], collections.deque([1, 2])),
    (list[Colour], ["RED", "red", 2], [Colour.RED, Colour.RED, Colour.BLUE]),
    (dict[str, Decimal], {"a": "1.10", "b": 1, "c": 0.1}, {"a": Decimal("1.10"), "b": Decimal(1), "c": Decimal("0.1")}),
    (dict[date, list[timedelta]], {"2026-01-31": [1.5, "10m"]}, {DAY: [timedelta(seconds=1.5), timedelta(minutes=10)]}),
    (dict[int, str], {"5": "a"}, {5: "a"}),
    (timedelta, 90, timedelta(seconds=90)),
    (timedelta, "1h", timedelta(hours=1)),
    (datetime.datetime, "2026-01-31T12:00:00Z", datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.UTC)),
    (date | None, "2026-01-31", DAY),
    (date | None, None, None),
    (date | str, "2026-01-31", "2026-01-31"),
    (date | int, 5, 5),
    (date | int, "2026-01-31", DAY),
    (date | uuid.UUID, str(ID), ID),
    (int | list[date], ["2026-01-31"], [DAY]),
    (Point | Order, {"due": "2026-01-31"}, {"due": DAY}),
    (typing.Optional[dict[str, date | None]], {"a": None, "b": "2026-01-31"}, {"a": None, "b": DAY}),  # noqa: UP045
    (Point, {"x": 1, "at": "2026-01-31", "price": "2.50"}, Point(1, DAY, Decimal("2.50"))),
    (list[Point], [{"x": 1, "at": "2026-01-31"}], [Point(1, DAY)]),
    (Tree, {"day": "2026-01-31", "below": [{"day": "2026-01-31"}]}, Tree(DAY, [Tree(DAY)])),
    (Order, {"due": "2026-01-31", "lines": [{"x": 1, "at": "2026-01-31"}]}, {"due": DAY, "lines": [Point(1, DAY)]}),
    (Pair, ["2026-01-31"], Pair(DAY)),
    (Pair, {"one": "2026-01-31", "other": "2"}, Pair(DAY, Decimal(2))),
    (typing.Annotated[list[date], "note"], ["2026-01-31"], [DAY]),
    (UserId, str(ID), ID),
    (list[pathlib.Path], ["/tmp"], [pathlib.Path("/tmp")]),
    (typing.Any, {"a": ["2026-01-31"]}, {"a": ["2026-01-31"]}),
    (list[object], ["2026-01-31"], ["2026-01-31"]),
]


def _plan(annotation: Any) -> tuple[Plan, Any]:
    def function(it: Any) -> Any:
        return it

    function.__annotations__["it"] = annotation
    return Plan("m:function", function), signature(function)


@pytest.mark.parametrize(("annotation", "given", "wanted"), ARRIVES, ids=[f"{row[0]} {row[1]}" for row in ARRIVES])
def test_a_value_arrives_as_its_annotation_says(annotation: Any, given: Any, wanted: Any) -> None:
    plan, known = _plan(annotation)
    assert problem(known, {"it": given}) == ("", "")
    for found in (plan.call({"it": given}), plan.call([given])):
        assert found == wanted
        assert type(found) is type(wanted)


@pytest.mark.parametrize(
    ("annotation", "given", "where"),
    [
        (list[date], ["2026-01-31", "soon"], "[1]: 'soon' is not a date"),
        (dict[str, Decimal], {"a": "ten"}, "['a']: 'ten' is not a decimal"),
        (list[Point], [{"x": 1, "at": "soon"}], "[0].at: 'soon' is not a date"),
        (Point, {"x": 1}, "Point needs 'at'"),
        (Point, {"x": 1, "at": "2026-01-31", "z": 1}, "Point has no 'z'"),
        (date | uuid.UUID, "soon", "'soon' is not a date such as 2026-01-31 or a UUID"),
        (Positive, {"number": -1}, "Positive cannot be made of it: a negative number"),
        (list[Colour], ["green"], "[0]: 'green' is not one of RED, BLUE"),
        (timedelta, "soon", "'soon' is not a number of seconds"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_named_with_its_place(annotation: Any, given: Any, where: str) -> None:
    plan, _ = _plan(annotation)
    with pytest.raises(JobError) as error:
        plan.call({"it": given})
    assert f"parameter 'it' of m:function: {where}" in str(error.value)


@pytest.mark.parametrize(
    ("annotation", "given"),
    [(Point, {"x": 1}), (Point, {"x": 1, "at": "2026-01-31", "z": 1}), (list[Point], [1]), (Order, {}), (timedelta, None)],
    ids=str,
)
def test_the_signature_refuses_it_before_it_runs(annotation: Any, given: Any) -> None:
    _, known = _plan(annotation)
    assert problem(known, {"it": given})[0] == "it"
