"""What a job's parameters are, read from the function: names, which must be given, types as JSON Schema.

What must live here: annotations to schemas. What becomes of a value that fits is ``worker.convert``'s: the two belong together.
What this file must not know: what the signature is used for.

Nothing that would have worked may be refused because of what stands here: an annotation that says nothing certain of the
JSON behind it (a class of the application's, a type variable) is no schema at all.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import pathlib
import types
import typing
import uuid
from collections import abc
from typing import Any

from rocksyd.worker.convert import ARRAYS, OBJECTS, UNIONS, evaluated, fields_of, plainly

MOST_CHOICES = 100
"""Members of an enumeration that a schema lists."""
GIVEN = "__rocksyd_signature__"
"""Attribute of a callable that says itself what its parameters are: a signature, or None for one that cannot be told."""
_VARARGS, _VARKEYWORDS = 0x04, 0x08  # CO_VARARGS, CO_VARKEYWORDS
_STRING = {"type": "string"}
_SIMPLE: dict[Any, dict[str, Any]] = {
    str: _STRING,
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    None: {"type": "null"},
    type(None): {"type": "null"},
    datetime.date: {"type": "string", "format": "date"},
    datetime.datetime: {"type": "string", "format": "date-time"},
    datetime.time: {"type": "string", "format": "time"},
    datetime.timedelta: {"anyOf": [{"type": "number"}, _STRING]},
    decimal.Decimal: {"anyOf": [{"type": "string", "format": "decimal"}, {"type": "number"}]},
    uuid.UUID: {"type": "string", "format": "uuid"},
    pathlib.Path: _STRING,
    pathlib.PurePath: _STRING,
}
_UNCERTAIN = (abc.Iterable, abc.Collection, abc.Sequence, abc.Set)
"""What a string or an object is, too."""


def signature(function: Any) -> dict[str, Any] | None:
    """The signature of a function as plain data (its form: ``core.signature``); None for what has none that can be read.

    Of a function behind decorators the innermost is read, and the signature is ``open``: they may have changed it.
    """
    given: dict[str, Any] | None = getattr(function, GIVEN, None)
    if given is not None:
        return given
    inner = function
    while hasattr(inner, "__wrapped__"):
        inner = inner.__wrapped__
    code = getattr(inner, "__code__", None)
    if code is None or "__signature__" in getattr(function, "__dict__", ()):
        return None
    schemas = {name: schema_of(annotation) for name, annotation in evaluated(inner).items()}
    parameters = _parameters(inner, code)
    for parameter in parameters:
        schema = schemas.get(parameter["name"])
        if schema:
            if parameter.pop("none", False):  # x: int = None
                schema = _any_of([schema, _SIMPLE[None]])
            parameter["schema"] = schema
        parameter.pop("none", None)
    found: dict[str, Any] = {"parameters": parameters}
    if inner is not function and not isinstance(function, types.MethodType):
        found["open"] = True
    return found


def _parameters(inner: Any, code: Any) -> list[dict[str, Any]]:
    skip = 1 if isinstance(inner, types.MethodType) else 0
    names = code.co_varnames
    defaults = getattr(inner, "__defaults__", None) or ()
    named = getattr(inner, "__kwdefaults__", None) or {}
    found = []
    for index in range(skip, code.co_argcount):
        parameter: dict[str, Any] = {"name": names[index]}
        if index < code.co_posonlyargcount:
            parameter["kind"] = "positional"
        default = index - (code.co_argcount - len(defaults))
        _optional(parameter, default >= 0, defaults[default] if default >= 0 else None)
        found.append(parameter)
    at = code.co_argcount + code.co_kwonlyargcount
    for name in names[code.co_argcount : at]:
        parameter = {"name": name, "kind": "keyword"}
        _optional(parameter, name in named, named.get(name))
        found.append(parameter)
    if code.co_flags & _VARARGS:
        found.append({"name": names[at], "kind": "rest"})
        at += 1
    if code.co_flags & _VARKEYWORDS:
        found.append({"name": names[at], "kind": "others"})
    return found


def _optional(parameter: dict[str, Any], has_default: bool, default: Any) -> None:
    if not has_default:
        parameter["required"] = True
    elif default is None:
        parameter["none"] = True


def schema_of(annotation: Any, within: tuple[Any, ...] = ()) -> dict[str, Any]:
    """What JSON fits an annotation; ``{}`` when nothing certain can be said. ``within``: classes that are being described."""
    annotation = plainly(annotation)
    origin, members = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in UNIONS:
        return _any_of([schema_of(member, within) for member in members])
    if origin is typing.Literal:
        return _choices(members)
    kind = origin if origin is not None else annotation
    try:
        if kind in _SIMPLE:
            return _SIMPLE[kind]
    except TypeError:
        return {}  # an annotation that cannot be hashed
    if kind in ARRAYS or kind in OBJECTS:
        return _of_members(kind, members, within)
    if not isinstance(kind, type):
        return {}
    return _members(kind) if issubclass(kind, enum.Enum) else _of_fields(kind, within)


def _any_of(schemas: list[dict[str, Any]]) -> dict[str, Any]:
    if not all(schemas):
        return {}
    flat: list[dict[str, Any]] = []
    for schema in schemas:
        flat += [one for one in (schema["anyOf"] if set(schema) == {"anyOf"} else [schema]) if one not in flat]
    return flat[0] if len(flat) == 1 else {"anyOf": flat}


def _choices(values: Any) -> dict[str, Any]:
    plain = all(value is None or type(value) in (str, int, bool) for value in values)
    return {"enum": list(values)} if plain and len(values) <= MOST_CHOICES else {}


def _members(kind: type[enum.Enum]) -> dict[str, Any]:
    """By value or by name, as the conversion takes them."""
    values = [member.value for member in kind]
    names = [member.name for member in kind]
    if issubclass(kind, enum.Flag) or not _choices(values):
        return {}
    return _choices(list(dict.fromkeys([*values, *names])))


def _of_members(kind: Any, members: Any, within: tuple[Any, ...]) -> dict[str, Any]:
    """``list[int]``, ``dict[str, float]``, ``tuple[int, str]``."""
    if kind in OBJECTS:
        # Keys are strings in JSON, whatever the annotation says of them.
        values = schema_of(members[1], within) if len(members) > 1 else {}
        return {"type": "object", **({"additionalProperties": values} if values else {})}
    if kind in _UNCERTAIN:
        return {}
    if kind is tuple and members and members[-1] is not Ellipsis:
        return {"type": "array", "prefixItems": [schema_of(member, within) for member in members], "items": False}
    items = schema_of(members[0], within) if members else {}
    return {"type": "array", **({"items": items} if items else {})}


def _of_fields(kind: type, within: tuple[Any, ...]) -> dict[str, Any]:
    """A dataclass or a ``TypedDict``: an object. Of a class that nothing is known of nothing is said."""
    known = fields_of(kind)
    if known is None or kind in within or issubclass(kind, tuple):
        return {}
    members = {name: schema_of(annotation, (*within, kind)) for name, annotation in known.annotations.items()}
    return {"type": "object", "properties": members, "required": sorted(known.required), "additionalProperties": False}
