"""Messages between rocksyd's processes: what is said is what is heard, by this version and by others."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocksyd import messages
from rocksyd.errors import MessageError

TYPES = sorted(messages._TYPES.values(), key=lambda cls: cls.__name__)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def like(name: str, default: Any) -> st.SearchStrategy[Any]:
    """Values of the kind that a field's default shows."""
    match default:
        case () if name == "fds":
            return st.lists(st.integers(0, 1000), max_size=3).map(tuple)
        case ():
            return st.lists(st.text(max_size=5) | st.integers() | st.tuples(st.integers(), st.text(max_size=3)), max_size=3).map(
                tuple
            )
        case bool():
            return st.booleans()
        case int():
            return st.integers()
        case float():
            return st.floats(allow_nan=False)
        case str():
            return st.text(max_size=20)
        case dict():
            return st.dictionaries(st.text(max_size=5), json_values, max_size=3)
    return json_values


def made(cls: type[Any]) -> st.SearchStrategy[Any]:
    fields = {name: like(name, getattr(cls, name)) for name in cls._fields}
    return st.fixed_dictionaries({}, optional=fields).map(lambda given: cls(**given))


@given(st.sampled_from(TYPES).flatmap(made))
def test_what_is_said_is_what_is_heard(message: Any) -> None:
    data, fds = messages.encode(message)
    assert messages.decode(data, fds) == message
    assert type(messages.decode(data, fds)) is type(message)


@given(st.sampled_from(TYPES).flatmap(made), st.data())
def test_p6_fields_added_later_are_passed_over_and_missing_ones_have_their_default(message: Any, data: st.DataObject) -> None:
    name, fields = json.loads(messages.encode(message)[0])
    gone = data.draw(st.sets(st.sampled_from(sorted(fields)))) if fields else set()
    sent = {**{field: value for field, value in fields.items() if field not in gone}, "added_later": {"x": [1]}}
    heard = messages.decode(json.dumps([name, sent]).encode(), tuple(getattr(message, "fds", ())))
    assert heard == message._replace(**{field: getattr(type(message), field) for field in gone})


@pytest.mark.parametrize("cls", TYPES)
def test_p6_every_field_has_a_default(cls: type[Any]) -> None:
    assert messages.decode(json.dumps([cls.__name__, {}]).encode()) == cls()


def test_p6_a_message_of_a_newer_version_is_none() -> None:
    assert messages.decode(b'["AddedLater",{"x":1}]') is None


GARBAGE = [
    b"", b"M", b"{", b"[]", b"5", b"null", b'"Hello"', b"[1,2,3]", b'["Hello"]', b'["Hello",5]', b'["Hello",null]',
    b'["Hello",["pid"]]',
    b'["Hello","pid"]', b'[["Hello"],{}]', b'[{},{}]', b"\xff\xfe", b'["Hello",{}]x', b"[" * 100_000, b"\x00" * 10,
]  # fmt: skip


@pytest.mark.parametrize("data", GARBAGE)
def test_p12_what_is_no_message_is_a_message_error(data: bytes) -> None:
    with pytest.raises(MessageError, match="not a message between rocksyd's processes"):
        messages.decode(data)


@given(st.binary(max_size=60) | json_values.map(lambda value: json.dumps(value).encode()))
def test_p12_any_bytes_are_a_message_none_or_a_message_error(data: bytes) -> None:
    try:
        messages.decode(data)
    except MessageError:
        return
