"""Values and messages that are nearly right: what is valid is changed by its structure, and spelt in unusual ways.

What must live here: changes of JSON values, and their text. What this file must not know: what the daemon makes of them.
"""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Callable, Iterator
from typing import Any

Path = tuple[str | int, ...]

_MARK = "\x01raw"
_RAW = re.compile(r'"\\u0001raw(\d{1,3})"')
RAW = [
    *(
        "1e999",
        "-1e999",
        "NaN",
        "Infinity",
        "-Infinity",
        "9" * 400,
        "9" * 5000,
        "-" + "9" * 25,
        "-0",
        "-0.0",
        "1e-400",
        "01",
        "1.0",
    ),
    *("1e3", "0x1", '"\\ud800"', '"\\udc00\\ud800"', '"\\u0000"', '"\\u202e"', '"\\ud83d\\ude00"', "tru", "'a'", "", "[" * 5000),
    *("[" * depth + "]" * depth for depth in (199, 201, 600)),
    *('{"a":' * depth + "1" + "}" * depth for depth in (150, 600)),
    *('"' + "x" * 70_000 + '"', "[" + "0," * 20_000 + "0]", '{"a":1,"a":2}'),
]
"""Pieces of text in the place of a value: JSON that few write, and what is none."""
EDGES: list[Any] = [
    *(None, True, False, 0, -1, 1, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, -(2**63) - 1, 10**18, 0.0, -0.0, 0.5),
    *(
        1e308,
        5e-324,
        "",
        " ",
        "0",
        "-1",
        "1",
        "true",
        "null",
        "\x00",
        "a\nb",
        "\r",
        "\t",
        "ж",
        "\U0001f600",
        "é",
        "..",
        "/",
        "a/b",
    ),
    *("../../etc/passwd", "%s", "{}", "1s", "-1s", "1e9h", "100y", "\x7f", "x" * 129, "x" * 128, "x" * 4000),
    *([], {}, [[]], [None], {"": None}, {"a": {"b": []}}, [1, "2", 3.0]),
]


MOST = 2000
"""Characters that are still multiplied."""


def odd(chance: random.Random) -> Any:
    """A value that is seldom there."""
    kind = chance.randrange(8)
    if kind < 4:
        return copy.deepcopy(chance.choice(EDGES))  # it is changed in its place
    if kind == 4:
        return _MARK + str(chance.randrange(len(RAW)))
    if kind == 5:
        return "".join(
            chr(chance.choice([chance.randrange(128), chance.randrange(0xD800), 0x1F600])) for _ in range(chance.randrange(12))
        )
    if kind == 6:
        return [odd(chance) for _ in range(chance.randrange(4))]
    return {chance.choice(["", "a", "key", "type", "id"]): odd(chance) for _ in range(chance.randrange(3))}


def changed(chance: random.Random, value: Any, *, keep: tuple[str, ...] = ()) -> Any:
    """A copy of ``value`` in which some places are changed; members of the outermost object called ``keep`` are not."""
    for _ in range(chance.choice([1, 1, 1, 2, 3])):
        value = json.loads(json.dumps(value))  # nothing of it is in two places
        places = [path for path in _places(value) if not path or path[0] not in keep]
        if places := [path for path in places if path or not isinstance(value, dict)]:
            value = _change(chance, value, chance.choice(places))
    return value


def _places(value: Any, here: Path = ()) -> Iterator[Path]:
    yield here
    if isinstance(value, dict):
        for name in value:
            yield from _places(value[name], (*here, name))
    elif isinstance(value, list):
        for index in range(len(value)):
            yield from _places(value[index], (*here, index))


def _change(chance: random.Random, value: Any, path: Path) -> Any:
    if not path:
        return _one(chance, value)
    holder = value
    for step in path[:-1]:
        holder = holder[step]
    last = path[-1]
    kind = chance.randrange(6)
    if kind == 0:
        del holder[last]
    elif kind == 1 and isinstance(holder, dict):
        holder[chance.choice([str(last).upper(), f"{last}s", "", "__proto__", f"{last}\x00"])] = holder.pop(last)
    elif kind == 2 and isinstance(holder, dict):
        holder[chance.choice(["unknown", "jsonrpc", "result", "error", "__class__"])] = odd(chance)
    elif kind == 2 and isinstance(holder, list) and len(json.dumps(holder)) < MOST:
        holder[:] = holder * chance.choice([2, 3, 50])
    else:
        holder[last] = _one(chance, holder[last])
    return value


def _one(chance: random.Random, value: Any) -> Any:
    """Another value in the place of this: of another type, wrapped, grown, at a limit, or anything."""
    changes: list[Callable[[], Any]] = [
        lambda: odd(chance),
        lambda: str(value),
        lambda: [value],
        lambda: {"value": value},
        lambda: None,
    ]
    if isinstance(value, bool | int | float):
        changes += [lambda: -value, lambda: value + 1, lambda: value * 10**9, lambda: float(value), lambda: value + 0.5]
    elif isinstance(value, str) and len(value) < MOST:
        changes += [lambda: value * 2, lambda: value[:-1], lambda: value + "\x00", value.upper, lambda: value * 300]
    return chance.choice(changes)()


def spelt(chance: random.Random, value: Any) -> bytes:
    """The text of ``value`` in one of the ways in which JSON can be written; one line."""
    text = json.dumps(
        value,
        ensure_ascii=chance.random() < 0.5,
        separators=chance.choice([(",", ":"), (", ", ": "), (" ,\t", " : ")]),
    )
    text = _RAW.sub(lambda found: RAW[int(found[1])] if int(found[1]) < len(RAW) else found[0], text)
    return text.encode("utf-8", "surrogatepass")


def cut(chance: random.Random, data: bytes) -> Iterator[bytes]:
    """``data`` in pieces of very different lengths."""
    while data:
        size = chance.choice([1, 2, 7, 100, 4096, 65536, len(data)])
        yield data[:size]
        data = data[size:]


def broken(chance: random.Random, data: bytes) -> bytes:
    """Some bytes lost, doubled or changed, without a line's end among them."""
    text = bytearray(data)
    for _ in range(chance.randrange(1, 4)):
        at, end = sorted((chance.randrange(len(text) + 1), chance.randrange(len(text) + 1)))
        kind = chance.randrange(4)
        if kind == 0:
            del text[at : min(end, at + 9)]
        elif kind == 1:
            text[at:at] = text[at:end][:2000]
        elif kind == 2:
            text[at : at + 1] = bytes([chance.randrange(32, 127)])
        else:
            text[at:at] = chance.choice(
                [b"{", b"}", b"[", b"]", b'"', b",", b":", b"\\", b"\x00", b"\r", b"\t", b"null", b"9" * 30]
            )
    return (
        bytes(text.replace(b"\n", b" ")).decode(errors="ignore").encode()
    )  # what is no UTF-8 ends a connection, and is said last
