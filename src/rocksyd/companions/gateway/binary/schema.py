"""The messages of ``rocksyd.proto``: read from its text, written as its text, and as classes.

What must live here: the part of the language of .proto files that ours is written in.
What this file must not know: which messages there are. They are made from what JSON-RPC's methods say of themselves
(``docs/binary_schema.py``).

Source: Protocol Buffers language specification, proto3.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

PACKAGE = "rocksyd"
SCALARS = {"string": 9, "bool": 8, "double": 1, "int64": 3, "uint64": 4, "sint64": 18, "int32": 5}
"""Types that are no messages, as ``FieldDescriptorProto.Type`` counts them."""
_MESSAGE, _OPTIONAL, _REPEATED = 11, 1, 3
_TOKEN = re.compile(r'//[^\n]*|"[^"]*"|[A-Za-z_]\w*|\d+|[{}<>=;,]')


@dataclass(frozen=True)
class Field:
    """A field of a message. ``label``: ``optional``, ``repeated``, ``map`` (from text to ``type``) or the name of a oneof."""

    name: str
    type: str
    label: str = ""
    number: int = 0
    text: str = ""


@dataclass
class Message:
    """A message; ``reserved`` are numbers of fields that there were."""

    name: str
    fields: list[Field] = field(default_factory=list)
    reserved: list[int] = field(default_factory=list)
    text: str = ""


def read(text: str) -> dict[str, Message]:
    """The messages of a file, without their comments.

    Raises:
        ValueError: it is not written as ours is.
    """
    words = [word for word in _TOKEN.findall(text) if not word.startswith("//")]
    place = words.index("message") if "message" in words else len(words)
    found: dict[str, Message] = {}
    while place < len(words):
        message = Message(words[place + 1])
        place = _read_body(words, place + 3, message, "")
        found[message.name] = message
    return found


def _read_body(words: list[str], place: int, message: Message, oneof: str) -> int:
    """The fields up to the brace that ends them, and the place behind it."""
    while words[place] != "}":
        if words[place] == "oneof":
            place = _read_body(words, place + 3, message, words[place + 1])
            continue
        end = words.index(";", place)
        line = words[place:end]
        place = end + 1
        if line[0] == "reserved":
            message.reserved += [int(word) for word in line[1:] if word != ","]
            continue
        label = oneof or (line[0] if line[0] in ("optional", "repeated", "map") else "")
        if line[-2] != "=" or (label == "map" and line[1:4] != ["<", "string", ","]):
            raise ValueError(f"not a field of a .proto file as ours is: {' '.join(line)}")
        kind = line[4] if label == "map" else line[-4]
        message.fields.append(Field(line[-3], kind, label, int(line[-1])))
    return place + 1


def written(messages: dict[str, Message], head: str) -> str:
    """The text of the file; ``head`` is the comment that it begins with."""
    parts = ["".join(f"// {line}".rstrip() + "\n" for line in head.splitlines()) + f'syntax = "proto3";\n\npackage {PACKAGE};\n']
    for message in messages.values():
        lines = [f"// {message.text}"] if message.text else []
        lines.append(f"message {message.name} {{")
        if message.reserved:
            lines.append(f"  reserved {', '.join(map(str, message.reserved))};")
        within = ""
        for one in message.fields:
            oneof = one.label if one.label not in ("", "optional", "repeated", "map") else ""
            if oneof != within:
                lines += ["  }"] * bool(within) + [f"  oneof {oneof} {{"] * bool(oneof)
                within = oneof
            indent = "    " if oneof else "  "
            lines += [f"{indent}// {one.text}"] if one.text else []
            kind = {"map": f"map<string, {one.type}>", "optional": f"optional {one.type}", "repeated": f"repeated {one.type}"}
            lines.append(f"{indent}{kind.get(one.label, one.type)} {one.name} = {one.number};")
        lines += ["  }"] * bool(within) + ["}"]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def classes(messages: dict[str, Message]) -> dict[str, Any]:
    """A class for each message, by name."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # noqa: PLC0415 - an address asks for it

    file = descriptor_pb2.FileDescriptorProto(name="rocksyd.proto", package=PACKAGE, syntax="proto3")
    for message in messages.values():
        _describe(file.message_type.add(name=message.name), message)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in messages}


def _describe(described: Any, message: Message) -> None:
    oneofs = [one.label for one in message.fields if one.label not in ("", "optional", "repeated", "map")]
    for name in dict.fromkeys(oneofs):
        described.oneof_decl.add(name=name)
    for one in message.fields:
        label = _REPEATED if one.label in ("repeated", "map") else _OPTIONAL
        made = described.field.add(name=one.name, number=one.number, label=label)
        kind = one.type
        if one.label == "map":
            kind = "".join(part.capitalize() for part in one.name.split("_")) + "Entry"
            entry = described.nested_type.add(name=kind)
            entry.options.map_entry = True
            entry.field.add(name="key", number=1, label=_OPTIONAL, type=SCALARS["string"])
            _set_type(entry.field.add(name="value", number=2, label=_OPTIONAL), one.type, "")
        elif one.label in oneofs:
            made.oneof_index = list(dict.fromkeys(oneofs)).index(one.label)
        elif one.label == "optional" and kind in SCALARS:
            made.proto3_optional = True
            made.oneof_index = len(described.oneof_decl)
            described.oneof_decl.add(name=f"_{one.name}")
        _set_type(made, kind, f"{message.name}." if one.label == "map" else "")


def _set_type(made: Any, kind: str, within: str) -> None:
    if kind in SCALARS:
        made.type = SCALARS[kind]
    else:
        made.type, made.type_name = _MESSAGE, f".{PACKAGE}.{within}{kind}"
