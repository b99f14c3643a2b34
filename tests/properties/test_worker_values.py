"""Results as JSON: whatever a job returns, something that every JSON parser takes comes out."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import json
import pathlib
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocksyd.errors import JobError
from rocksyd.worker.results import described, plain, text

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None, exclude_categories=()))
    | st.binary(max_size=20)
    | st.dates()
    | st.datetimes()
    | st.times()
    | st.timedeltas()
    | st.decimals()
    | st.uuids()
    | st.complex_numbers()
    | st.builds(object)
)
KEYS = st.text() | st.integers() | st.booleans() | st.none() | st.dates() | st.floats() | st.tuples(st.integers())
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(KEYS, inner) | st.frozensets(st.integers() | st.text())
    ),
    max_leaves=20,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(VALUES)
def test_anything_becomes_strict_json(value: Any) -> None:
    converted = plain(value, 1 << 30, lenient=True).value
    encoded = json.dumps(converted, allow_nan=False)
    assert json.loads(encoded) == converted
    encoded.encode()
    json.dumps(converted, ensure_ascii=False).encode()  # no lone surrogates


@given(JSON)
def test_what_is_json_already_stays_what_it_is(value: Any) -> None:
    assert plain(value, 1 << 30) == (value, [], "")


@given(JSON, st.integers(0, 50))
def test_what_is_too_large_is_dropped_and_said(value: Any, limit: int) -> None:
    converted, notes, _ = plain(value, limit)
    size = len(json.dumps(value, separators=(",", ":")))
    if size <= limit or value is None or isinstance(value, bool):
        assert (converted, notes) == (value, [])
    else:
        assert converted is None
        assert str(size) in notes[0]


class Hostile:
    def __repr__(self) -> str:
        raise RuntimeError


class HostileMapping(collections.UserDict[str, int]):
    def items(self) -> Any:
        raise RuntimeError


class Number:
    dtype = "int64"

    def tolist(self) -> int:
        return 7


@dataclasses.dataclass
class Point:
    x: Any
    y: Any


def endless() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    ("value", "expected", "note"),
    [
        (Number(), 7, None),
        (datetime.timedelta(minutes=1), 60.0, None),
        (decimal.Decimal("1.10"), "1.10", None),
        (pathlib.Path("/a/b"), "/a/b", None),
        (uuid.UUID(int=0), "00000000-0000-0000-0000-000000000000", None),
        ({3, 1, 2}, [1, 2, 3], None),
        (b"\xff\x00", "/wA=", None),
        (bytearray(b"abc"), "abc", None),
        (float("inf"), None, "inf has no form in JSON"),
        (10**5000, hex(10**5000), "hexadecimal"),
        (1j, "1j", "builtins.complex has no form in JSON"),
        (HostileMapping(), "{}", "cannot be made JSON (RuntimeError)"),
        (collections.OrderedDict(a=1), {"a": 1}, None),
        ({(1, 2): 3, datetime.date(2026, 1, 31): 4}, {"[1, 2]": 3, "2026-01-31": 4}, None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_kind(value: Any, expected: Any, note: str | None) -> None:
    converted, notes, _ = plain(value, 1 << 30, lenient=True)
    assert converted == expected
    assert [note in said for said in notes] == ([] if note is None else [True])


@given(VALUES)
def test_what_is_kept_is_what_lenient_keeps_without_a_word_and_all_else_is_said(value: Any) -> None:
    lenient = plain(value, 1 << 30, lenient=True)
    strict, failure = None, ""
    try:
        strict = plain(value, 1 << 30, of="job x")
    except JobError as error:
        failure = str(error)
    if strict is None:
        assert failure.startswith("job x returned a")
        assert any("repr was returned" in note for note in lenient.notes)
    elif strict.dropped:
        assert strict.value is None
        assert lenient.notes or "two keys" in strict.dropped
    else:
        assert (strict.value, strict.notes) == (lenient.value, [])
        assert not lenient.notes


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (object(), "job x returned an object, which JSON has no form for: return "),
        ({"a": [1, {}, 2, Hostile()]}, "job x returned a tests.properties.test_worker_values.Hostile at result['a'][3], which"),
        ([Point(1, 1j)], "job x returned a complex at result[0].y, which JSON has no form for"),
        ({"m": HostileMapping()}, "HostileMapping at result['m'], which"),
        ([{object(): 1}], "job x returned an object at result[0], which"),
        ((len,), "builtin_function_or_method at result[0], which"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_type_that_json_does_not_know_is_the_jobs_mistake_and_the_sentence_says_where(value: Any, sentence: str) -> None:
    with pytest.raises(JobError) as raised:
        plain(value, 1 << 30, of="job x")
    assert sentence in str(raised.value)
    assert "0x" not in str(raised.value)
    assert 'results = "lenient"' in str(raised.value)


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (float("nan"), "it holds nan, which JSON has no form for"),
        ({"a": [0.0, float("-inf")]}, "it holds -inf at result['a'][1], which"),
        ([10**5000], "it holds an integer of 16610 bits at result[0], which"),
        ({1: "a", "1": "b"}, "it holds two keys that are both '1' in JSON, which"),
        (endless(), "it holds a list that is nested deeper than 200 levels or contains itself at result[0][0]"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_json_cannot_hold_is_dropped_as_a_whole_and_said(value: Any, what: str) -> None:
    found = plain(value, 1 << 30)
    assert found.value is None
    assert what in found.dropped
    assert found.notes == [found.dropped]
    assert len(found.dropped) < 1000


def test_what_contains_itself_comes_to_an_end() -> None:
    converted, notes, _ = plain(endless(), 1 << 30, lenient=True)
    json.dumps(converted)
    assert "contains itself" in notes[0]


def test_a_repr_that_raises_is_no_error() -> None:
    converted, notes, _ = plain([Hostile(), Hostile()], 1 << 30, lenient=True)
    assert converted[0].startswith("<")
    assert len(notes) == 1


@given(st.text(st.characters(codec=None, exclude_categories=())))
def test_text_can_always_be_encoded(value: str) -> None:
    text(value).encode()


def test_an_exception_whose_text_cannot_be_had() -> None:
    class OddError(Exception):
        def __str__(self) -> str:
            raise ValueError

    found = described(OddError())
    assert found["type"].endswith("OddError")
    assert found["message"] == "(its message cannot be shown)"
    assert "OddError" in found["traceback"]
