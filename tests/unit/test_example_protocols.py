"""The example protocols: what one writes oneself holds what ours hold."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocksyd import ProtocolError
from rocksyd.protocols import Protocol, protocol_of
from tests.unit.test_protocols import Told, read


def example(name: str) -> ModuleType:
    path = Path(__file__).parents[2] / "examples" / "protocols" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"example_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


uri, xml, amf = example("uri"), example("xml_documents"), example("amf")
PROTOCOLS: dict[str, Protocol] = {
    "uri": uri.Uris(),
    "xml": protocol_of(xml.XmlDocuments()),
    "amf": amf.Amf0(),
}
words = st.text(max_size=10)
amf_values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)
MESSAGES: dict[str, st.SearchStrategy[Any]] = {
    "uri": st.builds(uri.Uri, words.map(lambda word: f"/{word}"), st.dictionaries(words, words, max_size=3)),
    "xml": st.builds(lambda a: ElementTree.Element("move", x=a), st.text(st.characters(min_codepoint=32, max_codepoint=0xD7FF))),
    "amf": amf_values,
}


def plain(told: Told) -> Told:
    """Elements of XML do not compare: their text does."""
    messages, error = told
    return [ElementTree.tostring(one) if isinstance(one, ElementTree.Element) else one for one in messages], error


@pytest.mark.parametrize("name", PROTOCOLS)
def test_messages_come_back_however_their_bytes_are_cut_and_whoever_goes_on_with_them(name: str) -> None:
    protocol = PROTOCOLS[name]

    @given(st.lists(MESSAGES[name], max_size=4), st.binary(max_size=20), st.data())
    def holds(messages: list[Any], behind: bytes, data: st.DataObject) -> None:
        stream = b"".join(protocol.encode(one) for one in messages)
        assert plain(read(protocol, [stream])[0]) == plain((messages, None))
        stream += behind
        places = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
        pieces = [stream[start:end] for start, end in zip([0, *places], [*places, len(stream)], strict=True)]
        assert plain(read(protocol, pieces, [True] * len(pieces))[0]) == plain(read(protocol, [stream])[0])

    holds()


@pytest.mark.parametrize("name", PROTOCOLS)
def test_whatever_comes_only_a_protocol_error_comes_out(name: str) -> None:
    @given(st.binary(max_size=60))
    def holds(data: bytes) -> None:
        framed = {"uri": data + b"\n", "xml": data + b"\0", "amf": len(data).to_bytes(4, "big") + data}[name]
        read(PROTOCOLS[name], [framed])

    holds()


@pytest.mark.parametrize(
    ("name", "sent", "says"),
    [
        ("uri", b"/move?x\n", "such as /move"),
        ("uri", b"/%ff\n", "such as /move"),
        ("uri", b"//[\n", "such as /move"),
        ("xml", b'<!DOCTYPE a [<!ENTITY b "b">]><a>&b;</a>\0', "DOCTYPE"),
        ("xml", b"<a>\0", "not XML"),
        ("xml", b'<?xml version="1.0" encoding="no-such"?><a/>\0', "not XML"),
        ("xml", b"x" * 65537, "longer than"),
        ("amf", b"\0\0\0\1\x11", "type 17"),
        ("amf", b"\0\0\0\5\x0a\xff\xff\xff\xff", "not a value"),
        ("amf", b"\0\0\0\2\x05\x05", "behind its value"),
        ("amf", (500).to_bytes(4, "big") + b"\x0a\0\0\0\1" * 100, "deeper"),
    ],
)
def test_what_is_no_message_is_named(name: str, sent: bytes, says: str) -> None:
    with pytest.raises(ProtocolError, match=says):
        PROTOCOLS[name].parser().feed(sent)


def test_amf_is_as_its_specification_has_it() -> None:
    thirty = b"\x00\x40\x3e\x00\x00\x00\x00\x00\x00"
    sent = b"\x03\x00\x04name\x02\x00\x04Mike\x00\x03age" + thirty + b"\x00\x05alias\x02\x00\x04Mike\x00\x00\x09"
    assert PROTOCOLS["amf"].parser().feed(len(sent).to_bytes(4, "big") + sent) == [{"name": "Mike", "age": 30.0, "alias": "Mike"}]
    assert PROTOCOLS["amf"].encode({"name": "Mike", "age": 30, "alias": "Mike"}) == len(sent).to_bytes(4, "big") + sent
