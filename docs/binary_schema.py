"""``rocksyd.proto``, made from what the methods of JSON-RPC say of themselves.

What must live here: which type of JSON Schema is which of Protocol Buffers, and that a field never changes its number: those in
the file that there is stay, a new field gets the next one, and that of a field that is gone, or of another type now, is reserved.
What this file must not know: how a .proto file is written (``rocksyd.companions.gateway.binary.schema``).
"""

from __future__ import annotations

import re
from typing import Any

from rocksyd.companions.gateway.binary.schema import SCALARS, Field, Message, read, written

HEAD = """The daemon's methods as Protocol Buffers, for the addresses protobuf:// of the gateway.
Made from docs/schema/openrpc.json by docs/reference.py; do not edit.

Over the connection go messages with their length in front, in four bytes, the most significant first: Request to the gateway,
Reply back. A field that JSON-RPC has as null is not there."""
LEFT_OUT = ("subscribe",)
"""Methods that make no sense in one request and its answer."""
_FIRST_METHOD = 16
"""Numbers below are for what is of no method."""
_SIMPLE = {"string": "string", "boolean": "bool", "number": "double"}


def proto(document: dict[str, Any], old: str) -> str:
    """The text of the file, from an OpenRPC document and the text that there is."""
    made = _Made(document["components"]["schemas"], read(old))
    methods = [one for one in document["methods"] if one["name"] not in LEFT_OUT and "." not in one["name"]]
    made.fixed()
    asked = [Field(one["name"], made.params(one), "method", text=one["summary"]) for one in methods]
    told = [Field(one["name"], made.result(one), "result") for one in methods]
    made.message("Request", [
        Field("id", "uint64", number=1, text="Comes back in the reply. Replies come in the order in which they are ready."),
        Field("other", "Other", "method", 2, "Any method by its name, such as those of companions."),
        *asked,
    ], text="What a client asks.", first=_FIRST_METHOD)  # fmt: skip
    made.message("Reply", [
        Field("id", "uint64", number=1, text="Of the request; 0 where what came is none."),
        Field("leaving", "bool", number=2, text="This gateway is being replaced: ask over a new connection from here on."),
        Field("error", "Error", "result", 3),
        Field("other", "Value", "result", 4),
        *told,
    ], text="What it is answered.", first=_FIRST_METHOD)  # fmt: skip
    return written(dict(sorted(made.messages.items(), key=lambda one: _ORDER.get(one[0], 9))), HEAD)


_ORDER = {"Request": 0, "Reply": 1, "Error": 2, "Other": 3, "Value": 4, "List": 5, "Object": 6}


class _Made:
    """The messages so far."""

    def __init__(self, named: dict[str, Any], old: dict[str, Message]) -> None:
        self.messages: dict[str, Message] = {}
        self._named = named
        self._old = old

    def message(self, name: str, fields: list[Field], text: str = "", first: int = 1) -> str:
        """Add a message, whose fields keep the numbers that they have; its name."""
        old = self._old.get(name, Message(name))
        had = {(one.name, one.type, one.label): one.number for one in old.fields}
        taken = {*old.reserved, *had.values(), *(one.number for one in fields)}
        numbered = []
        for one in fields:
            number = one.number or had.get((one.name, one.type, one.label)) or max([first - 1, *taken]) + 1
            taken.add(number)
            numbered.append(Field(one.name, one.type, one.label, number, one.text))
        gone = {*old.reserved, *had.values()} - {one.number for one in numbered}
        self.messages[name] = Message(name, numbered, sorted(gone), text)
        return name

    def fixed(self) -> None:
        """What is there whatever the methods are."""
        self.message("Value", [
            Field("null", "bool", "kind"),
            Field("boolean", "bool", "kind"),
            Field("integer", "sint64", "kind"),
            Field("number", "double", "kind"),
            Field("text", "string", "kind"),
            Field("list", "List", "kind"),
            Field("object", "Object", "kind"),
            Field("json", "string", "kind", text="As JSON, which any value may be: what nests deep (30), or is beyond 64 bits."),
        ], text="Any value that JSON has; without any of these it is null.")  # fmt: skip
        self.message("List", [Field("items", "Value", "repeated")])
        self.message("Object", [Field("members", "Value", "map")])
        self.message("Error", [
            Field("code", "int32", text="As in JSON-RPC."), Field("message", "string"), Field("data", "Value"),
        ])  # fmt: skip
        self.message("Other", [Field("method", "string"), Field("params", "Value", "map")])

    def params(self, method: dict[str, Any]) -> str:
        """The message of a method's parameters."""
        name = f"{_camel(method['name'])}Params"
        fields = [self._field(name, one["name"], one["schema"], one.get("summary", "")) for one in method["params"]]
        return self.message(name, fields)

    def result(self, method: dict[str, Any]) -> str:
        """The message of a method's result."""
        return self._type(method["result"]["schema"], f"{_camel(method['name'])}Result")

    def _type(self, schema: dict[str, Any], name: str) -> str:
        """A type for values of ``schema``; ``name`` is for a message, if it is to be one."""
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            schema, name = self._named[name], _camel(name)
            if name in self.messages:
                return name
        kind = schema.get("type")
        if kind == "object" and schema.get("properties"):
            required = schema["properties"]
            return self.message(name, [self._field(name, one, of, of.get("description", "")) for one, of in required.items()])
        if kind == "array" and isinstance(schema.get("items"), dict) and name.endswith("Result"):
            return self.message(name, [Field("items", self._type(schema["items"], f"{name}Item"), "repeated")])
        if kind == "integer":
            return "uint64" if schema.get("minimum", -1) >= 0 else "int64"
        if "enum" in schema and all(isinstance(one, str) for one in schema["enum"]):
            return "string"
        return _SIMPLE.get(str(kind), "Value")

    def _field(self, within: str, name: str, schema: dict[str, Any], text: str) -> Field:
        schema = _without_null(schema)
        inner = f"{within}{_camel(name)}"
        items, others = schema.get("items"), schema.get("additionalProperties")
        if schema.get("type") == "array" and isinstance(items, dict) and "prefixItems" not in items:
            return Field(name, self._type(_without_null(items), inner), "repeated", text=_line(text))
        if schema.get("type") == "object" and isinstance(others, dict) and not schema.get("properties"):
            return Field(name, "string" if others.get("type") == "string" else "Value", "map", text=_line(text))
        found = self._type(schema, inner)
        return Field(name, found, "optional" if found in SCALARS else "", text=_line(text))


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of what it is where it is not null, if that is one type."""
    if len(others := [one for one in schema.get("anyOf", ()) if one != {"type": "null"}]) == 1:
        return {**others[0], **{name: text for name, text in schema.items() if name == "description"}}
    if isinstance(kinds := schema.get("type"), list):
        left = [one for one in kinds if one != "null"]
        return {**schema, "type": left[0] if len(left) == 1 else left}
    if None in schema.get("enum", ()):
        return {**schema, "enum": [one for one in schema["enum"] if one is not None]}
    return schema


def _camel(name: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in re.split(r"[^a-z0-9A-Z]+", name))


def _line(text: str) -> str:
    return " ".join(text.replace("`", "").split())
