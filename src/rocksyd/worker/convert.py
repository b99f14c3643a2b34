"""Parameters as the function wants them: JSON has no dates, so a string for a parameter annotated ``date`` becomes one.

What must live here: annotations to converters, once per function, and their application to the given parameters.
What this file must not know: where the parameters come from.

Only what a string can mean without a doubt is converted, and only strings are; a value for any other annotation passes as it
is. Annotations that cannot be evaluated (names imported for type checkers only) count as none.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import functools
import pathlib
import types
import typing
import uuid
from collections.abc import Callable
from typing import Any

from rocksyd.errors import JobError

Converter = Callable[[str], Any]

_POSITIONAL_FLAGS = 0x04  # CO_VARARGS: the function takes *args


def _moment(text: str) -> datetime.datetime:
    # Python 3.10 and older do not take the Z that everybody else writes.
    return datetime.datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith(("Z", "z")) else text)


_SIMPLE: dict[Any, tuple[Converter, str]] = {
    datetime.datetime: (_moment, "a date and time such as 2026-01-31T12:00:00"),
    datetime.date: (datetime.date.fromisoformat, "a date such as 2026-01-31"),
    datetime.time: (datetime.time.fromisoformat, "a time such as 12:00:00"),
    decimal.Decimal: (decimal.Decimal, "a decimal number such as 12.50"),
    uuid.UUID: (uuid.UUID, "a UUID"),
    pathlib.Path: (pathlib.Path, "a path"),
    pathlib.PurePath: (pathlib.PurePath, "a path"),
}


class Conversion:
    """What happens to the parameters of one function before it is called."""

    __slots__ = ("_by_name", "_positional", "_rest", "_target")

    def __init__(self, target: str, positional: tuple[str, ...], rest: str, by_name: dict[str, tuple[Converter, str]]) -> None:
        self._target = target
        self._positional = positional
        self._rest = rest
        """Name of the ``*`` parameter, "" for none."""
        self._by_name = by_name

    def list(self, values: list[Any]) -> list[Any]:
        """Positional parameters, converted. Raises JobError."""
        if not self._by_name:
            return values
        converted = []
        for index, value in enumerate(values):
            name = self._positional[index] if index < len(self._positional) else self._rest
            converted.append(self._one(name, value))
        return converted

    def object(self, values: dict[str, Any]) -> dict[str, Any]:
        """Keyword parameters, converted. Raises JobError."""
        if not self._by_name:
            return values
        return {name: self._one(name, value) for name, value in values.items()}

    def _one(self, name: str, value: Any) -> Any:
        found = self._by_name.get(name)
        if found is None or not isinstance(value, str):
            return value
        convert, expected = found
        try:
            return convert(value)
        except (ValueError, ArithmeticError, KeyError) as error:
            raise JobError(f"parameter {name!r} of {self._target}: {value!r} is not {expected}") from error


def conversion(target: str, function: Any) -> Conversion:
    """The Conversion for ``function``: decorators that keep ``__wrapped__`` are looked through, anything odd has none."""
    inner = function
    while hasattr(inner, "__wrapped__"):
        inner = inner.__wrapped__
    code = getattr(inner, "__code__", None)
    if code is None:
        return Conversion(target, (), "", {})
    skip = 1 if isinstance(inner, types.MethodType) else 0
    positional = code.co_varnames[skip : code.co_argcount]
    by_name = {}
    for name, annotation in evaluated(inner).items():
        converter = _converter(annotation)
        if converter is not None and name != "return":
            by_name[name] = converter
    rest = code.co_varnames[code.co_argcount + code.co_kwonlyargcount] if code.co_flags & _POSITIONAL_FLAGS else ""
    return Conversion(target, positional, rest, by_name)


def evaluated(function: Any) -> dict[str, Any]:
    """A function's annotations, evaluated; those that cannot be are left out."""
    try:
        given = dict(getattr(function, "__annotations__", None) or {})
    except Exception:  # noqa: BLE001  (Python 3.14 evaluates them here, and they are anybody's code)
        return {}
    found = {}
    for name, annotation in given.items():
        if isinstance(annotation, str):
            try:
                annotation = eval(annotation, getattr(function, "__globals__", {}))
            except Exception:  # noqa: BLE001  (anybody's code; what cannot be evaluated is no annotation)
                continue
        found[name] = annotation
    return found


def _converter(annotation: Any) -> tuple[Converter, str] | None:
    if typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    members = typing.get_args(annotation)
    if typing.get_origin(annotation) in UNIONS:
        # X | None is X for a string; X | str leaves the string alone; X | Y would be a guess.
        others = [member for member in members if member is not type(None)]
        return _converter(others[0]) if len(others) == 1 else None
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        # An enumeration whose members are strings or have other values: by value first, then by name.
        choices = ", ".join(member.name for member in annotation)
        return functools.partial(_member, annotation), f"one of {choices}"
    try:
        return _SIMPLE.get(annotation)
    except TypeError:
        return None  # an annotation that cannot be hashed


UNIONS = (typing.Union, getattr(types, "UnionType", typing.Union))
"""What ``typing.get_origin`` gives for ``Union[X, Y]`` and ``X | Y``."""


def _member(kind: type[enum.Enum], text: str) -> enum.Enum:
    try:
        return kind(text)
    except ValueError:
        return kind[text]
