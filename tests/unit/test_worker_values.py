"""Results as JSON: whatever a job returns, something that every JSON parser takes comes out."""

from __future__ import annotations

import collections
import datetime
import decimal
import json
import pathlib
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocksyd.worker.values import described, plain, text

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
    converted = plain(value, 1 << 30).value
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
    converted, notes, _ = plain(value, 1 << 30)
    assert converted == expected
    assert [note in said for said in notes] == ([] if note is None else [True])


def test_what_contains_itself_comes_to_an_end() -> None:
    converted, notes, _ = plain(endless(), 1 << 30)
    json.dumps(converted)
    assert "contains itself" in notes[0]


def test_a_repr_that_raises_is_no_error() -> None:
    converted, notes, _ = plain([Hostile(), Hostile()], 1 << 30)
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
