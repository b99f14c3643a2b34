"""Messages as the values of JSON, and back.

What must live here: what of JSON is which field, and what has no message of its own (``Value``).
What this file must not know: methods, connections.

A member that is null is a field that is not there; so is an empty array or object that stands in a field of its own.
"""

from __future__ import annotations

import json
from math import isfinite
from typing import Any

from rocksyd import jsontext
from rocksyd.shapes import deeper_than

DEEPEST = 30
"""How deep a value may nest as messages: readers of Protocol Buffers take a hundred, and a level is two. Else it is text."""
_LEAST, _MOST = -(1 << 63), (1 << 63) - 1


def fill(message: Any, data: dict[str, Any]) -> None:
    """Set the fields of ``message`` that ``data`` has; others are left out.

    Raises:
        TypeError, ValueError: a member is not of its field's type.
    """
    fields = message.DESCRIPTOR.fields_by_name
    for name, item in data.items():
        field = fields.get(name)
        if field is None or item is None:
            continue
        if _is_map(field):
            _fill_map(getattr(message, name), field.message_type.fields_by_name["value"], item)
        elif field.is_repeated:
            there = getattr(message, name)
            if field.message_type is None:
                there.extend(item)
            else:
                for one in item:
                    set_message(there.add(), one)
        elif field.message_type is None:
            setattr(message, name, item)
        else:
            set_message(getattr(message, name), item)


def set_message(message: Any, item: Any) -> None:
    """Make ``message`` say ``item``: any value if it is a ``Value``; else an object, or an array in its field ``items``."""
    message.SetInParent()
    if message.DESCRIPTOR.name == "Value":
        set_value(message, item)
    else:
        fill(message, {"items": item} if isinstance(item, list) else item)


def set_value(message: Any, item: Any) -> None:
    """Make a ``Value`` say ``item``."""
    if deeper_than(item, DEEPEST):
        message.json = _text(item)
    else:
        _set_value(message, item)


def _set_value(message: Any, item: Any) -> None:
    if item is None:
        message.null = True
    elif isinstance(item, bool):
        message.boolean = item
    elif isinstance(item, int) and _LEAST <= item <= _MOST:
        message.integer = item
    elif isinstance(item, float):
        message.number = item
    elif isinstance(item, str):
        message.text = item
    elif isinstance(item, list):
        message.list.SetInParent()
        for one in item:
            _set_value(message.list.items.add(), one)
    elif isinstance(item, dict):
        message.object.SetInParent()
        for name, one in item.items():
            _set_value(message.object.members[name], one)
    else:
        message.json = _text(item)  # a whole number beyond 64 bits


def value(message: Any) -> Any:
    """What a ``Value`` says.

    Raises:
        ValueError: it is nothing that JSON has.
    """
    kind = message.WhichOneof("kind")
    if kind is None or kind == "null":
        return None
    said = getattr(message, kind)
    if kind == "list":
        return [value(one) for one in said.items]
    if kind == "object":
        return {name: value(one) for name, one in said.members.items()}
    if kind == "json":
        return jsontext.loads(said)
    if kind == "number" and not isfinite(said):
        raise ValueError(f"{said} is no number of JSON")
    return said


def members(message: Any) -> dict[str, Any]:
    """The fields of ``message`` that are there, as an object of JSON.

    Raises:
        ValueError: one is nothing that JSON has.
    """
    found: dict[str, Any] = {}
    for field, there in message.ListFields():
        if _is_map(field):
            of = field.message_type.fields_by_name["value"]
            found[field.name] = {name: _item(of, one) for name, one in there.items()}
        elif field.is_repeated:
            found[field.name] = [_item(field, one) for one in there]
        else:
            found[field.name] = _item(field, there)
    return found


def _item(field: Any, there: Any) -> Any:
    if field.message_type is None:
        if isinstance(there, float) and not isfinite(there):
            raise ValueError(f"{field.name}: {there} is no number of JSON")
        return there
    return value(there) if field.message_type.name == "Value" else members(there)


def _fill_map(there: Any, of: Any, item: dict[str, Any]) -> None:
    for name, one in item.items():
        if of.message_type is None:
            there[name] = one
        else:
            set_message(there[name], one)


def _is_map(field: Any) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _text(item: Any) -> str:
    return json.dumps(item, ensure_ascii=False, separators=(",", ":"))
