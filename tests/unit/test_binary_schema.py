"""rocksyd.proto: what it is made of, that a field keeps its number, and JSON's values as messages."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocksyd.companions.gateway.binary import schema, values
from rocksyd.companions.gateway.binary.requests import messages
from rocksyd.master.desk import openrpc
from tests.gateway import binary_client

sys.path.insert(0, str(Path(__file__).parents[2] / "docs"))
import binary_schema

TEXT = binary_client.PROTO.read_text(encoding="utf-8")
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def document(*methods: dict[str, Any]) -> dict[str, Any]:
    return {"components": {"schemas": {}}, "methods": list(methods)}


def method(name: str, **params: Any) -> dict[str, Any]:
    return {
        "name": name,
        "summary": f"Does {name}.",
        "params": [{"name": one, "schema": of} for one, of in params.items()],
        "result": {"name": "result", "schema": {"type": "object", "properties": {"done": {"type": "boolean"}}}},
    }


def numbers(text: str, message: str) -> dict[str, int]:
    return {one.name: one.number for one in schema.read(text)[message].fields}


TEXTUAL, WHOLE = {"type": "string"}, {"type": "integer"}


def test_the_published_file_is_made_from_the_methods_and_made_again_it_is_the_same() -> None:
    assert binary_schema.proto(openrpc.document(), TEXT) == TEXT


def test_a_field_keeps_its_number_and_nobody_gets_that_of_one_that_is_gone() -> None:
    first = binary_schema.proto(document(method("a", x=TEXTUAL, y=WHOLE), method("b")), "")
    assert numbers(first, "AParams") == {"x": 1, "y": 2}
    second = binary_schema.proto(document(method("c"), method("a", z=TEXTUAL, y=WHOLE)), first)
    assert numbers(second, "AParams") == {"z": 3, "y": 2}
    assert "  reserved 1;\n" in second
    assert {name: numbers(second, "Request")[name] for name in "ac"} == {"a": 16, "c": 18}
    third = binary_schema.proto(document(method("a", x=WHOLE, y=TEXTUAL)), second)
    assert numbers(third, "AParams") == {"x": 4, "y": 5}  # of another type is another field
    assert schema.read(third)["AParams"].reserved == [1, 2, 3]


def test_what_is_written_is_what_protoc_reads() -> None:
    ours = {name: one.DESCRIPTOR for name, one in messages().items()}
    theirs = {name: one.DESCRIPTOR for name, one in binary_client.classes().items()}

    def fields(of: Any) -> dict[str, Any]:
        return {
            one.name: (one.number, one.type, one.is_repeated, one.has_presence, one.message_type and one.message_type.full_name)
            for one in of.fields
        }

    assert ours.keys() == theirs.keys()
    for name, own in ours.items():
        assert fields(own) == fields(theirs[name])
        assert [one.name for one in own.oneofs] == [one.name for one in theirs[name].oneofs]


def test_what_is_no_field_of_ours_is_refused_by_line() -> None:
    with pytest.raises(ValueError, match=r"not a field of a .proto file as ours is: map < int32 , string > x = 1"):
        schema.read("message A { map<int32, string> x = 1; }")


@given(json_values)
def test_every_value_of_json_comes_back_as_it_was(item: Any) -> None:
    made = messages()["Value"]()
    values.set_value(made, item)
    back = values.value(messages()["Value"].FromString(made.SerializeToString()))
    assert back == item
    assert json.dumps(back, sort_keys=True) == json.dumps(item, sort_keys=True)  # 1 is not 1.0, nor True


def test_what_nests_deep_or_is_beyond_64_bits_is_json_within() -> None:
    deep: Any = 1
    for _ in range(150):
        deep = [deep]
    for item, kind in ((deep, "json"), (2**63, "json"), (2**63 - 1, "integer"), (-(2**63), "integer")):
        made = messages()["Value"]()
        values.set_value(made, item)
        assert made.WhichOneof("kind") == kind
        assert values.value(messages()["Value"].FromString(made.SerializeToString())) == item


@pytest.mark.parametrize("said", [{"number": float("nan")}, {"number": float("inf")}, {"json": "nope"}, {"json": "NaN"}])
def test_what_json_has_not_is_refused(said: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"JSON|value"):
        values.value(messages()["Value"](**said))
