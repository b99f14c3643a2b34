"""Messages between rocksyd's processes: what is said is what is heard, by this version and by others."""

from __future__ import annotations

import json
import types
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocksyd import messages, shapes
from rocksyd.errors import MessageError

TYPES = sorted(messages._TYPES.values(), key=lambda cls: cls.__name__)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


failures = st.fixed_dictionaries(
    dict.fromkeys(("type", "message", "traceback"), st.text(max_size=9)), optional={"args": json_values}
)
NAMES: dict[str, Any] = {"Any": object, "Json": object, "Failure": shapes.Failure}
PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    object: json_values, shapes.Failure: failures, type(None): st.none(), bool: st.booleans(), str: st.text(max_size=20),
    int: st.integers(-(2**63), 2**63 - 1), float: st.floats(allow_nan=False, allow_infinity=False) | st.integers(-9, 2**63 - 1),
}  # fmt: skip


def like(kind: Any) -> st.SearchStrategy[Any]:
    """Values that an annotation allows."""
    if kind in PLAIN:
        return PLAIN[kind]
    if isinstance(kind, types.UnionType):
        return st.one_of(*map(like, kind.__args__))
    if kind.__origin__ is dict:
        return st.dictionaries(st.text(max_size=5), like(kind.__args__[1]), max_size=3)
    if kind.__args__[-1] is ...:
        return st.lists(like(kind.__args__[0]), max_size=3).map(tuple)
    return st.tuples(*map(like, kind.__args__))


def annotations(cls: type[Any]) -> dict[str, Any]:
    return {name: eval(kind, NAMES) for name, kind in cls._fields.items()}


def made(cls: type[Any]) -> st.SearchStrategy[Any]:
    fields = {name: like(kind) for name, kind in annotations(cls).items()}
    if "fds" in fields:
        fields["fds"] = st.lists(st.integers(0, 1000), max_size=messages._most_fds.get(cls, 3)).map(tuple)
    return st.fixed_dictionaries({}, optional=fields).map(lambda given: cls(**given))


@given(st.sampled_from(TYPES).flatmap(made))
def test_what_is_said_is_what_is_heard(message: Any) -> None:
    data, fds = messages.encode(message)
    assert messages.decode(data, fds) == messages.decode(data, fds, typed=True) == message
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


WRONG: dict[Any, list[Any]] = {
    str: [5, None, {}, [], True], bool: [0, 1, "true", None, []], int: [1.0, True, "1", None, 2**63, -(2**63) - 1, 10**400],
    float: ["1", None, True, 2**63, float("inf"), float("nan")], dict: [[], 5, "{}"], list: [{}, 5, "[]", None],
    type(None): [{}, "x"],
}  # fmt: skip
TYPED = [(cls, name, kind) for cls in TYPES for name, kind in annotations(cls).items() if name != "fds" and kind is not object]


def wrong_for(kind: Any) -> list[Any]:
    """Values that an annotation does not allow, at its own level and inside."""
    if kind is shapes.Failure:
        return [5, "x", [], {}, {"type": 1, "message": "", "traceback": ""}, {"type": "", "message": ""}]
    if isinstance(kind, types.UnionType):
        return [value for one in kind.__args__ if one is not type(None) for value in wrong_for(one) if value is not None]
    origin = getattr(kind, "__origin__", kind)
    inside = [one for one in getattr(kind, "__args__", ())[-1 if origin is dict else 0 :] if one not in (object, ...)]
    found = list(WRONG[list if origin is tuple else origin])
    for one in inside[:1]:
        found += [{"x": value} if origin is dict else [value] for value in wrong_for(one)]
    return found


@pytest.mark.parametrize(("cls", "name", "kind"), TYPED, ids=lambda value: getattr(value, "__name__", None) or str(value))
def test_p12_a_field_that_is_not_of_its_type_is_a_message_error_that_names_it(cls: type[Any], name: str, kind: Any) -> None:
    for value in wrong_for(kind):
        with pytest.raises(MessageError, match=rf"not a message .*: {name} of {cls.__name__} is .*, and not of type "):
            messages.decode(json.dumps([cls.__name__, {name: value}]).encode(), typed=True)


@pytest.mark.parametrize("opening", ["[", '{"a":'])
@pytest.mark.parametrize("depth", [shapes.MAX_INSIDE, 800, 5000, 200_000])
@pytest.mark.parametrize(
    "where", ['["Result",{"value":%s}]', '["Result",{"added_later":%s}]', '["Result",{"key":%s}]', "[%s,{}]"]
)
def test_p12_however_deep_something_nests_it_is_a_message_error(opening: str, depth: int, where: str) -> None:
    value = opening * depth + "1" + {"[": "]", "{": "}"}[opening[0]] * depth
    try:
        heard = messages.decode((where % value).encode(), typed=True)
    except MessageError as error:
        said = str(error)
    else:
        assert "added_later" in where, "what is not looked at may nest as it likes, as far as it can be read"
        said = "" if heard == messages.Result() else repr(heard)
    assert said.startswith("not a message between rocksyd's processes") or "added_later" in where
    assert len(said) < 300


def test_what_nests_as_deep_as_a_client_or_a_job_may_say_it_is_heard() -> None:
    deep: Any = 1
    for _ in range(shapes.MAX_DEPTH):
        deep = [deep]
    assert messages.decode(messages.encode(messages.Result(value=deep))[0]).value == deep
    assert not shapes.deeper_than(deep, shapes.MAX_DEPTH)
    assert shapes.deeper_than(deep, shapes.MAX_DEPTH - 1)


def test_p12_more_descriptors_than_a_message_may_carry_are_not_in_it() -> None:
    assert messages.decode(b'["Forked",{}]', (7, 8, 9)).fds == (7,)
    assert messages.decode(b'["Promote",{}]', (7, 8, 9)).fds == (7, 8)
    assert messages.decode(b'["Job",{}]', (7, 8, 9)).fds == (7, 8, 9)
    assert not hasattr(messages.decode(b'["Progress",{}]', (7, 8, 9)), "fds")


@given(st.data())
def test_a_value_takes_its_fields_and_nothing_else(data: st.DataObject) -> None:
    cls = data.draw(st.sampled_from(TYPES))
    fields = list(cls._fields)
    count = data.draw(st.integers(0, len(fields)))
    rest = dict.fromkeys(data.draw(st.sets(st.sampled_from(fields[count:]))) if fields[count:] else (), -1)
    made = cls(*range(count), **rest)
    assert made.__dict__ == {**dict(zip(fields, range(count), strict=False)), **rest}
    with pytest.raises(TypeError, match=f"{cls.__name__} has no field keey"):
        cls(*range(count), keey=1)
    with pytest.raises(TypeError, match="more values than fields"):
        cls(*range(len(fields) + 1))
    if count:
        with pytest.raises(TypeError, match="or one of them twice"):
            cls(*range(count), **{fields[0]: 1})
