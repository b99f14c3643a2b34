"""Jobs' signatures: read from functions as they are, and held against parameters as Python would."""

from __future__ import annotations

import datetime
import decimal
import enum
import functools
import inspect
import pathlib
import typing
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocksyd.core import schema
from rocksyd.core.signature import problem, shown
from rocksyd.worker.target import Plan
from rocksyd.zygote.signatures import schema_of, signature


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Anything:
    """A class of the application's: nothing certain can be said of its JSON."""


UserId = typing.NewType("UserId", int)
Number = typing.TypeVar("Number")

FITS: list[tuple[Any, list[Any], list[Any]]] = [
    (int, [0, -5, 2**70], ["1", 1.0, True, None, [], {}]),
    (float, [1, 1.5], ["1", True, None]),
    (str, ["", "a"], [1, None, ["a"]]),
    (bool, [True, False], [0, 1, "true"]),
    (None, [None], [0, ""]),
    (list, [[], [1]], ["a", {}, None]),
    (list[int], [[], [1, 2]], [["a"], [1, None], "12"]),
    (list[list[str]], [[["a"], []]], [["a"], [[1]]]),
    (tuple[int, str], [[1, "a"]], [[1], [1, "a", 2], ["a", 1]]),
    (tuple[int, ...], [[], [1, 2, 3]], [["a"]]),
    (dict[str, float], [{}, {"a": 1}], [{"a": "b"}, [], 1]),
    (Mapping[str, list[int]], [{"a": [1]}], [{"a": 1}]),
    (int | None, [1, None], ["a", 1.5]),
    (typing.Optional[list[int]], [None, [1]], [["a"], 1]),  # noqa: UP045  (what older code has)
    (int | str, [1, "a"], [1.5, None]),
    (typing.Literal["a", 1, None], ["a", 1, None], ["b", 2, True]),
    (typing.Annotated[int, "a note"], [1], ["a"]),
    (UserId, [1], ["a"]),
    (Colour, ["red", "BLUE"], ["green", 1]),
    (Level, [1, 2, "LOW"], [3, "low", True]),
    (datetime.date, ["2026-01-31"], ["yesterday", "2026-02-30", 5]),
    (datetime.datetime, ["2026-01-31T12:00:00Z", "2026-01-31 12:00+02:00"], ["noon", 1.5]),
    (datetime.time, ["12:00"], ["25:00"]),
    (datetime.date | None, ["2026-01-31", None], ["x"]),
    (decimal.Decimal, ["12.50", 12, 1.5], ["twelve", None]),
    (uuid.UUID, ["12345678123456781234567812345678"], ["x"]),
    (pathlib.Path, ["/tmp"], [5]),
    (typing.Any, [1, "a", None], []),
    (object, [1, "a", None], []),
    (Anything, [1, "a", None], []),
    (list[Anything], [[1]], [1]),
    (Anything | None, [1, None], []),
    (Number, [1, "a"], []),
    (Callable[[], int], [1], []),
    (set[int], [[1]], ["a", ["a"]]),
    ("not evaluated", [1], []),
]


@pytest.mark.parametrize(("annotation", "good", "bad"), FITS, ids=[str(row[0]) for row in FITS])
def test_a_value_fits_its_annotation_or_the_parameter_is_named(annotation: Any, good: list[Any], bad: list[Any]) -> None:
    def function(it: Any) -> None: ...

    function.__annotations__["it"] = annotation
    found = signature(function)
    assert found is not None
    for value in good:
        assert problem(found, [value]) == problem(found, {"it": value}) == ("", "")
    for value in bad:
        name, text = problem(found, {"it": value})
        assert name == "it"
        assert text.startswith("parameter 'it")
        assert problem(found, [value]) == (name, text)


@pytest.mark.parametrize("annotation", [row[0] for row in FITS if row[1]], ids=[str(row[0]) for row in FITS if row[1]])
def test_what_fits_is_what_the_worker_converts(annotation: Any) -> None:
    """The signature and the conversion belong together: no string passes here that is refused there."""

    def function(it: Any) -> Any:
        return it

    function.__annotations__["it"] = annotation
    plan = Plan("m:function", function)
    for value in next(row[1] for row in FITS if row[0] is annotation):
        plan.call({"it": value})


# --- names ------------------------------------------------------------------------------------------------------------
def plain(a, b=1): ...  # type: ignore[no-untyped-def]


def every_kind(a, /, b, c=1, *rest, d, e=2, **others): ...  # type: ignore[no-untyped-def]


def positional(a, b=2, /): ...  # type: ignore[no-untyped-def]


def named(*, a, b=2): ...  # type: ignore[no-untyped-def]


def nothing() -> None: ...


class Methods:
    def bound(self, a, b=1): ...  # type: ignore[no-untyped-def]


FUNCTIONS = [plain, every_kind, positional, named, nothing, Methods().bound]


@given(
    st.sampled_from(FUNCTIONS),
    st.lists(st.integers(), max_size=6) | st.dictionaries(st.sampled_from("abcdez"), st.integers(), max_size=7),
)
def test_parameters_are_refused_if_and_only_if_python_refuses_them(function: Any, params: Any) -> None:
    found = signature(function)
    assert found is not None
    bound = inspect.signature(function)
    try:
        bound.bind(*params) if isinstance(params, list) else bound.bind(**params)
        fits = True
    except TypeError:
        fits = False
    assert (problem(found, params) == ("", "")) == fits
    assert shown(found).startswith("parameters: ")


@pytest.mark.parametrize(
    ("params", "name", "text"),
    [
        ({}, "a", "parameter 'a' is missing"),
        ([], "a", "parameter 'a' is missing"),
        (None, "a", "parameter 'a' is missing"),
        ({"a": 1, "z": 2}, "z", "there is no parameter 'z'"),
        ([1, 2, 3], "", "3 parameters by position, and it takes at most 2"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(params: Any, name: str, text: str) -> None:
    found = signature(plain)
    assert found is not None
    assert problem(found, params) == (name, text)


def test_a_parameter_whose_default_is_none_may_be_null() -> None:
    def function(day: datetime.date = None, count: int = 1) -> None: ...  # type: ignore[assignment]  # noqa: RUF013

    found = signature(function)
    assert found is not None
    assert problem(found, {"day": None}) == ("", "")
    assert problem(found, {"count": None})[0] == "count"


def test_behind_a_decorator_only_types_by_name_are_looked_at() -> None:
    """It may give the function what callers do not: refusing that would break jobs that work."""

    def with_connection(function: Any) -> Any:
        @functools.wraps(function)
        def inner(*args: Any, **kwargs: Any) -> Any:
            return function("connection", *args, **kwargs)

        return inner

    @with_connection
    def function(connection: str, number: int, other: int = 0) -> Any:
        return connection, number, other

    found = signature(function)
    assert found is not None
    assert function(1) == ("connection", 1, 0)
    assert problem(found, [1]) == problem(found, {"number": 1}) == problem(found, {"anything": 1}) == ("", "")
    assert problem(found, {"number": "1"})[0] == "number"


@pytest.mark.parametrize(
    "function", [len, print, functools.partial(plain, 1), Anything(), object], ids=lambda one: type(one).__name__
)
def test_what_has_no_signature_is_not_refused_anything(function: Any) -> None:
    assert signature(function) is None


def test_a_signature_can_be_said_in_json() -> None:
    import json

    for annotation, _, _ in FITS:
        assert json.loads(json.dumps(schema_of(annotation))) == schema_of(annotation)


# --- schemas ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("value", "one", "sentence"),
    [
        (5000, {"type": "integer", "minimum": 1, "maximum": 1000}, "it must be a whole number from 1 to 1000, got 5000"),
        ("", {"type": "string", "minLength": 1, "maxLength": 128}, 'it must be a string of 1 to 128 characters, got ""'),
        (-1, {"type": "integer", "minimum": 0}, "it must be a whole number of at least 0, got -1"),
        (5, {"enum": ["a", "b"]}, 'it must be one of "a", "b", got 5'),
        ([1], {"type": "array", "items": {"type": "string"}}, "it[0] must be a string, got 1"),
        ({"a": 1}, {"type": "object", "additionalProperties": {"type": "string"}}, "it.a must be a string, got 1"),
        ({}, {"type": "object", "required": ["a"]}, "it needs the member 'a'"),
        ({"b": 1}, {"properties": {"a": {}}, "additionalProperties": False}, "it has no member 'b' (there are: a)"),
        ([1], {"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}]}, "it[0] must be a string, got 1"),
        ("x" * 99, {"type": "integer"}, 'it must be a whole number, got "' + "x" * 59 + "..."),
    ],
)
def test_a_value_that_does_not_fit_is_shown_with_what_would(value: Any, one: dict[str, Any], sentence: str) -> None:
    assert schema.problem(value, one, "it") == sentence
