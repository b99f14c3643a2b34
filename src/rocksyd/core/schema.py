"""Whether a JSON value is what a schema says, and if not, in a sentence, why.

What must live here: the part of JSON Schema that methods' parameters and jobs' signatures are written in.
What this file must not know: whose schema it is.

It goes no deeper into a value than the schema does, so a value may nest as deep as it likes.

Keywords: ``type`` (one or several), ``enum``, ``anyOf``, ``minimum``, ``maximum``, ``minLength``, ``maxLength``, ``items``,
``prefixItems``, ``properties``, ``required``, ``additionalProperties``, ``format``. Any other is for readers and passes
everything. ``integer`` is stricter than the standard's: 3.0 is none, because Python would be given a float.

Source: JSON Schema, draft 2020-12, https://json-schema.org/draft/2020-12/json-schema-validation
"""

from __future__ import annotations

import datetime
import decimal
import json
import uuid
from collections.abc import Callable
from typing import Any

Schema = dict[str, Any]

MOST_SHOWN = 60
"""Characters of a refused value that a sentence shows."""
_WORDS = {
    "string": "a string", "integer": "a whole number", "number": "a number", "boolean": "true or false", "null": "null",
    "array": "an array", "object": "an object",
}  # fmt: skip
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,), "integer": (int,), "null": (type(None),), "array": (list, tuple), "object": (dict,),
}  # fmt: skip


def _moment(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith(("Z", "z")) else text)


FORMATS: dict[str, tuple[Callable[[str], Any], str]] = {
    "date": (datetime.date.fromisoformat, "a date such as 2026-01-31"),
    "date-time": (_moment, "a date and time such as 2026-01-31T12:00:00"),
    "time": (datetime.time.fromisoformat, "a time such as 12:00:00"),
    "uuid": (uuid.UUID, "a UUID"),
    "decimal": (decimal.Decimal, "a decimal number such as 12.50"),
}
"""Formats that are looked at; a string of any other format passes."""


def problem(value: Any, schema: Schema, name: str) -> str:
    """What is wrong with ``value`` as a sentence that begins with ``name``; "" for nothing."""
    if not schema:
        return ""
    if not _is_of_type(value, schema.get("type")):
        return refusal(value, schema, name)
    if "anyOf" in schema:
        found = _none_of(value, schema, name)
        if found:
            return found
    if "enum" in schema and not any(type(value) is type(choice) and value == choice for choice in schema["enum"]):
        return refusal(value, schema, name)
    if isinstance(value, str):
        return "" if _is_text(value, schema) else refusal(value, schema, name)
    if isinstance(value, int | float):
        fits = schema.get("minimum", value) <= value <= schema.get("maximum", value)
        return "" if fits else refusal(value, schema, name)
    if isinstance(value, list | tuple):
        return _in_array(value, schema, name)
    return _in_object(value, schema, name) if isinstance(value, dict) else ""


def refusal(value: Any, schema: Schema, name: str) -> str:
    """The sentence for a value that does not fit."""
    text = json.dumps(value, ensure_ascii=False)
    return f"{name} must be {expected(schema)}, got {text if len(text) <= MOST_SHOWN else text[:MOST_SHOWN] + '...'}"


def expected(schema: Schema) -> str:
    """What a schema asks for, in words: ``a whole number from 1 to 1000``."""
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(expected(one) for one in schema["anyOf"]))
    if "enum" in schema:
        choices = ", ".join(json.dumps(choice, ensure_ascii=False) for choice in schema["enum"])
        return choices if len(schema["enum"]) == 1 else f"one of {choices}"
    if schema.get("format") in FORMATS:
        return FORMATS[schema["format"]][1]
    kinds = schema.get("type", "any value")
    words = " or ".join(_WORDS.get(kind, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds))
    for low, high, unit in (("minimum", "maximum", ""), ("minLength", "maxLength", " characters")):
        if low in schema and high in schema:
            words += f" {'of' if unit else 'from'} {schema[low]} to {schema[high]}{unit}"
        elif low in schema:
            words += f" of at least {schema[low]}{unit}"
    return words


def _is_of_type(value: Any, kinds: Any) -> bool:
    if kinds is None:
        return True
    return any(_is(value, kind) for kind in ((kinds,) if isinstance(kinds, str) else kinds))


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "number":
        return isinstance(value, int | float)
    return isinstance(value, _TYPES.get(kind, ()))


def _none_of(value: Any, schema: Schema, name: str) -> str:
    found = [problem(value, one, name) for one in schema["anyOf"]]
    if "" in found:
        return ""
    # Of the right type, and wrong inside: what is wrong there says more than what all the others would have been.
    inside = [text for text, one in zip(found, schema["anyOf"], strict=True) if text != refusal(value, one, name)]
    return inside[0] if len(inside) == 1 else refusal(value, schema, name)


def _is_text(value: str, schema: Schema) -> bool:
    if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
        return False
    known = FORMATS.get(schema.get("format", ""))
    if known is None:
        return True
    try:
        known[0](value)
    except (ValueError, ArithmeticError):
        return False
    return True


def _in_array(value: Any, schema: Schema, name: str) -> str:
    first = schema.get("prefixItems", ())
    for index, item in enumerate(value):
        one = first[index] if index < len(first) else schema.get("items", {})
        if one is False:
            return f"{name} must have {len(first)} members, got {len(value)}"
        found = problem(item, one, f"{name}[{index}]")
        if found:
            return found
    return f"{name} must have {len(first)} members, got {len(value)}" if len(value) < len(first) else ""


def _in_object(value: dict[str, Any], schema: Schema, name: str) -> str:
    members = schema.get("properties", {})
    for wanted in schema.get("required", ()):
        if wanted not in value:
            return f"{name} needs the member {wanted!r}"
    for member, item in value.items():
        one = members.get(member, schema.get("additionalProperties", {}))
        if one is False:
            return f"{name} has no member {member!r} (there are: {', '.join(members) or 'none'})"
        if isinstance(one, dict):
            found = problem(item, one, f"{name}.{member}")
            if found:
                return found
    return ""
