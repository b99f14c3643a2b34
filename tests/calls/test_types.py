"""A parameter arrives as what its annotation says, at every depth, in a daemon, in eager mode, by Executor and by the command."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from typing import Any

import pytest

from rocksyd import Executor
from rocksyd.testing import Daemon, Eager
from tests.process.test_cli import rocksyd

JOBS = """
from __future__ import annotations
from collections import deque
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from typing import NamedTuple, TypedDict
from rocksyd import job

class Colour(Enum):
    RED = "r"
    BLUE = 2

class Level(IntEnum):
    LOW = 1

@dataclass
class Line:
    article: str
    price: Decimal
    days: list[date] = field(default_factory=list)
    total: Decimal = field(init=False, default=Decimal(0))

@dataclass
class Order:
    lines: list[Line]
    within: timedelta | None = None

class Place(NamedTuple):
    day: date
    path: Path

class Parcel(TypedDict, total=False):
    weight: Decimal
    sent: date

@job
def dates(value: list[date]): return repr(value)
@job
def colours(value: list[Colour]): return repr(value)
@job
def levels(value: dict[str, Level]): return repr(value)
@job
def prices(value: dict[str, Decimal]): return repr(value)
@job
def deep(value: dict[str, list[tuple[date, Decimal]]]): return repr(value)
@job
def span(value: timedelta): return repr(value)
@job
def order(value: Order): return repr(value)
@job
def place(value: Place): return repr(value)
@job
def parcel(value: Parcel): return repr(value)
@job
def either(value: date | int | None): return repr(value)
@job
def many(value: set[date]): return repr(sorted(value))
@job
def line(value: deque[Decimal]): return repr(value)
@job
def price(value: Decimal): return repr(value)
@job
def all_prices(*values: Decimal, plain="", **more: Decimal): return repr((values, more))
"""


@dataclass
class Line:
    article: str
    price: Decimal
    days: list[date] = field(default_factory=list)
    total: Decimal = field(init=False, default=Decimal(0))


@dataclass
class Order:
    lines: list[Line]
    within: timedelta | None = None


class Colour(Enum):
    RED = "r"
    BLUE = 2


class Level(IntEnum):
    LOW = 1


DAY = date(2026, 1, 31)
LONG = Decimal("0.123456789012345678901234567890")
VALUES: list[tuple[str, Any]] = [
    ("dates", [DAY]),
    ("colours", [Colour.RED, Colour.BLUE]),
    ("levels", {"a": Level.LOW}),
    ("prices", {"lamp": Decimal("12.10"), "desk": LONG}),
    ("deep", {"x": [(DAY, LONG)]}),
    ("span", timedelta(days=1, microseconds=5)),
    ("order", Order([Line("lamp", Decimal("12.10"), [DAY])], timedelta(minutes=1))),
    ("place", None),
    ("parcel", {"weight": Decimal("1.50"), "sent": DAY}),
    ("either", DAY),
    ("either", 5),
    ("either", None),
    ("many", {DAY}),
    ("line", None),
    ("price", LONG),
]


def expected(name: str, value: Any, jobs: Any) -> tuple[Any, str]:
    """What is sent and what the job has to see."""
    if name == "place":
        value = jobs.Place(DAY, Path("/srv/x"))
    if name == "line":
        value = jobs.deque([LONG, Decimal("1.0")])
    return value, repr(sorted(value) if name == "many" else value)


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "typed_jobs.py").write_text(JOBS)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("typed_jobs")
    sys.modules.pop("typed_jobs")


def all_arrive(call: Callable[[str, Any], Any], jobs: Any) -> None:
    for name, given in VALUES:
        value, seen = expected(name, given, jobs)
        assert call(name, value) == seen, name


def test_in_a_daemon_and_through_the_executor(tmp_path: Path, jobs: Any) -> None:
    with Daemon(tmp_path, JOBS) as daemon, daemon.client() as client, Executor(address=str(daemon.address)) as executor:
        all_arrive(client.call, jobs)
        all_arrive(lambda name, value: client.call(name, value=value), jobs)
        all_arrive(lambda name, value: executor.submit(name, value).result(30), jobs)  # type: ignore[arg-type]


def test_in_eager_mode(jobs: Any) -> None:
    with Eager(jobs=["typed_jobs"], echo=False) as client:
        all_arrive(client.call, jobs)
        all_arrive(lambda name, value: client.call(name, value=value), jobs)


def test_a_decimal_on_the_command_line_has_every_digit_that_was_typed(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon:
        for words, seen in (
            (["price", "value=12.10"], "Decimal('12.10')"),
            (["price", f"value={LONG}"], repr(LONG)),
            (["price", "--params", f"[{LONG}]"], repr(LONG)),
            (["price", "--params", f'{{"value": {LONG}}}'], repr(LONG)),
            (["prices", f'value={{"a": {LONG}}}'], f"{{'a': {LONG!r}}}"),
            (["all_prices", "--params", "[1.50, 2.50]"], "((Decimal('1.50'), Decimal('2.50')), {})"),
            (["all_prices", "lamp=1.50"], "((), {'lamp': Decimal('1.50')})"),
            (["price", "--each", "--params", "[[1.50], [2.50]]"], ["Decimal('1.50')", "Decimal('2.50')"]),
            (["order", f'value={{"lines": [{{"article": "x", "price": {LONG}}}], "within": 60}}'],
             f"Order(lines=[Line(article='x', price={LONG!r}, days=[], total=Decimal('0'))], "
             "within=datetime.timedelta(seconds=60))"),
        ):  # fmt: skip
            done = rocksyd(daemon.address, "run", *words, "--wait")
            assert done.returncode == 0, done.stderr
            assert json.loads(done.stdout.split("\n")[1]) == seen, words
