"""Parameters as the function wants them: JSON has no dates, so a string for a parameter annotated ``date`` becomes one.

What must live here: annotations to converters, once per function, and their application to the given parameters.
What this file must not know: where the parameters come from.

Annotations are followed to any depth: ``list[date]``, ``dict[str, Decimal]``, dataclasses, ``TypedDict``, unions. Only what a
value can mean without a doubt is converted. In a union, a value that is of one of its types already stays what it is (a string,
for ``date | str``); otherwise the first type that can be made of it counts. A value for any other annotation passes as it is.
Annotations that cannot be evaluated (names imported for type checkers only) count as none.
"""

from __future__ import annotations

import collections
import datetime
import decimal
import enum
import pathlib
import sys
import types
import typing
import uuid
from collections import abc
from collections.abc import Callable
from typing import Any, NamedTuple

from rocksyd.errors import JobError
from rocksyd.units import parse_duration

_REST, _OTHERS = 0x04, 0x08  # CO_VARARGS, CO_VARKEYWORDS: the function takes *args, **kwargs
UNIONS = (typing.Union, getattr(types, "UnionType", typing.Union))
"""What ``typing.get_origin`` gives for ``Union[X, Y]`` and ``X | Y``."""
ARRAYS: dict[Any, type] = {
    list: list, tuple: tuple, set: set, frozenset: frozenset, collections.deque: collections.deque,
    abc.Sequence: list, abc.MutableSequence: list, abc.Iterable: list, abc.Collection: list, abc.Set: set, abc.MutableSet: set,
}  # fmt: skip
"""What is made of an array for each annotation."""
OBJECTS = (dict, abc.Mapping, abc.MutableMapping, collections.OrderedDict, collections.defaultdict)


class Misfit(ValueError):
    """A value is not what the annotation says; the message says what was expected."""


class Converter(NamedTuple):
    """What becomes of a value."""

    convert: Callable[[Any], Any]
    """Returns the value as the annotation says. Raises Misfit."""
    expected: str
    """What was expected, in words."""


def _moment(text: str) -> datetime.datetime:
    # Python 3.10 and older do not take the Z that everybody else writes.
    return datetime.datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith(("Z", "z")) else text)


def _span(given: Any) -> datetime.timedelta:
    return datetime.timedelta(seconds=parse_duration(given) if isinstance(given, str) else given)


def _exact(given: Any) -> decimal.Decimal:
    return decimal.Decimal(given if isinstance(given, str) else repr(given))


_TEXT, _NUMBERS = (str,), (str, int, float)
_SIMPLE: dict[Any, tuple[Callable[[Any], Any], tuple[type, ...], str]] = {
    datetime.datetime: (_moment, _TEXT, "a date and time such as 2026-01-31T12:00:00"),
    datetime.date: (datetime.date.fromisoformat, _TEXT, "a date such as 2026-01-31"),
    datetime.time: (datetime.time.fromisoformat, _TEXT, "a time such as 12:00:00"),
    datetime.timedelta: (_span, _NUMBERS, 'a number of seconds, or a duration such as "10m"'),
    decimal.Decimal: (_exact, _NUMBERS, "a decimal number such as 12.50"),
    uuid.UUID: (uuid.UUID, _TEXT, "a UUID"),
    pathlib.Path: (pathlib.Path, _TEXT, "a path"),
    pathlib.PurePath: (pathlib.PurePath, _TEXT, "a path"),
}
"""Type -> how it is made, of what, and what that looks like."""
_PLAIN: dict[Any, tuple[type, ...]] = {
    str: (str,), int: (int,), float: (int, float), bool: (bool,), list: (list,), dict: (dict,), None: (type(None),),
    type(None): (type(None),),
}  # fmt: skip
"""What JSON has itself: such a value stays what it is."""
_KEYS: dict[Any, Callable[[str], Any]] = {int: int, float: float}
"""Keys of an object are strings in JSON, whatever the annotation says of them."""


class Conversion:
    """What happens to the parameters of one function before it is called."""

    __slots__ = ("_by_name", "_others", "_positional", "_rest", "_target")

    def __init__(
        self, target: str, positional: tuple[str, ...], rest: str, others: str, by_name: dict[str, Converter | None]
    ) -> None:
        self._target = target
        self._positional = positional
        self._rest = rest
        """Name of the ``*`` parameter, "" for none."""
        self._others = by_name.get(others)
        """What is done with a value for the ``**`` parameter."""
        self._by_name = by_name
        """Every parameter's name, if any is to be converted."""

    def list(self, values: list[Any]) -> list[Any]:
        """Positional parameters, converted. Raises JobError."""
        if not self._by_name:
            return values
        converted = []
        for index, value in enumerate(values):
            name = self._positional[index] if index < len(self._positional) else self._rest
            converted.append(self._one(name, value, self._by_name.get(name)))
        return converted

    def object(self, values: dict[str, Any]) -> dict[str, Any]:
        """Keyword parameters, converted. Raises JobError."""
        if not self._by_name:
            return values
        return {name: self._one(name, value, self._by_name.get(name, self._others)) for name, value in values.items()}

    def _one(self, name: str, value: Any, found: Converter | None) -> Any:
        if found is None:
            return value
        try:
            return found.convert(value)
        except Misfit as error:
            raise JobError(f"parameter {name!r} of {self._target}: {error}") from error


def conversion(target: str, function: Any) -> Conversion:
    """The Conversion for ``function``: decorators that keep ``__wrapped__`` are looked through, anything odd has none."""
    inner = function
    while hasattr(inner, "__wrapped__"):
        inner = inner.__wrapped__
    code = getattr(inner, "__code__", None)
    if code is None:
        return Conversion(target, (), "", "", {})
    skip = 1 if isinstance(inner, types.MethodType) else 0
    positional = code.co_varnames[skip : code.co_argcount]
    by_name: dict[str, Converter | None] = {}
    for name, annotation in evaluated(inner).items():
        converter = converter_for(annotation)
        if converter is not None and name != "return":
            by_name[name] = converter
    own = code.co_argcount + code.co_kwonlyargcount
    rest, others = bool(code.co_flags & _REST), bool(code.co_flags & _OTHERS)
    extra = code.co_varnames[own : own + rest + others]
    if by_name:
        by_name = {**dict.fromkeys(code.co_varnames[skip:own]), **by_name}
    return Conversion(target, positional, extra[0] if rest else "", extra[-1] if others else "", by_name)


def evaluated(function: Any) -> dict[str, Any]:
    """A function's or a class's annotations, evaluated; those that cannot be are left out."""
    try:
        given = dict(getattr(function, "__annotations__", None) or {})
    except Exception:  # noqa: BLE001  (Python 3.14 evaluates them here, and they are anybody's code)
        return {}
    module = sys.modules.get(str(getattr(function, "__module__", None)))
    names = getattr(function, "__globals__", None) or (vars(module) if module is not None else {})
    found = {}
    for name, annotation in given.items():
        annotation = getattr(annotation, "__forward_arg__", annotation)
        if isinstance(annotation, str):
            try:
                annotation = eval(annotation, names)
            except Exception:  # noqa: BLE001  (anybody's code; what cannot be evaluated is no annotation)
                continue
        found[name] = annotation
    return found


def members_of(kind: type) -> dict[str, Any]:
    """The annotations of a class and of those it inherits from, evaluated; the nearest wins."""
    found: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        found.update(evaluated(base) if base is not object else {})
    return found


def plainly(annotation: Any) -> Any:
    """An annotation without ``Annotated``, ``NewType``, ``Required`` and aliases around it."""
    while True:
        origin = typing.get_origin(annotation)
        if origin is typing.Annotated or (origin is not None and origin in _AROUND):
            annotation = typing.get_args(annotation)[0]
        elif hasattr(annotation, "__supertype__"):  # NewType
            annotation = annotation.__supertype__
        elif type(annotation).__name__ == "TypeAliasType":  # type X = ...; Python 3.12
            annotation = annotation.__value__
        else:
            return annotation


_NOT_REQUIRED = getattr(typing, "NotRequired", object)
_AROUND = (_NOT_REQUIRED, *(getattr(typing, name, None) for name in ("Required", "ReadOnly", "Final")))


def converter_for(annotation: Any) -> Converter | None:
    """How a value is made what ``annotation`` says; None for one that passes as it is."""
    annotation = plainly(annotation)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in UNIONS:
        return _union(arguments)
    kind = origin if origin is not None else annotation
    try:
        simple, array = _SIMPLE.get(kind), ARRAYS.get(kind)
    except TypeError:
        return None  # an annotation that cannot be hashed
    if simple is not None:
        return _simple(*simple)
    if array is not None:
        return _array(array, arguments)
    if kind in OBJECTS:
        return _object(arguments)
    if not isinstance(kind, type):
        return None
    if issubclass(kind, enum.Enum):
        return _enumeration(kind)
    if kind not in _records:
        _record(kind)
    return _records[kind]


def _simple(make: Callable[[Any], Any], of: tuple[type, ...], expected: str) -> Converter:
    def convert(value: Any) -> Any:
        if not isinstance(value, of) or isinstance(value, bool):
            return value
        try:
            return make(value)
        except (ValueError, ArithmeticError) as error:
            raise Misfit(f"{value!r} is not {expected}") from error

    return Converter(convert, expected)


def _enumeration(kind: type[enum.Enum]) -> Converter:
    """An enumeration whose members are strings or have other values: by value first, then by name."""
    expected = f"one of {', '.join(member.name for member in kind)}"

    def convert(value: Any) -> Any:
        try:
            return kind(value)
        except (ValueError, TypeError):
            if isinstance(value, str) and value in kind.__members__:
                return kind[value]
        if value is None or isinstance(value, list | dict):
            return value
        raise Misfit(f"{value!r} is not {expected}")

    return Converter(convert, expected)


def _array(make: type, arguments: tuple[Any, ...]) -> Converter | None:
    each = [converter_for(argument) for argument in arguments if argument is not Ellipsis]
    same = make is not tuple or arguments[1:] == (Ellipsis,)
    if make is list and not any(each):
        return None

    def convert(value: Any) -> Any:
        if not isinstance(value, list):
            return value
        if not any(each):
            return make(value)
        if same:
            return make(_inside(each[0], item, f"[{index}]") for index, item in enumerate(value))
        pairs = zip(each, value, strict=False)
        found = [_inside(one, item, f"[{index}]") for index, (one, item) in enumerate(pairs)]
        return make([*found, *value[len(found) :]])

    return Converter(convert, "an array")


def _object(arguments: tuple[Any, ...]) -> Converter | None:
    names, values = (*arguments, None, None)[:2]
    key = _key(names)
    one = converter_for(values)
    if key is None and one is None:
        return None

    def convert(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        found = {}
        for name, item in value.items():
            where = f"[{name!r}]"
            found[_inside(key, name, where)] = _inside(one, item, where)
        return found

    return Converter(convert, "an object")


def _key(annotation: Any) -> Converter | None:
    annotation = plainly(annotation)
    if annotation in (int, float):
        return _simple(_KEYS[annotation], _TEXT, "a number")
    return converter_for(annotation)


def _union(members: tuple[Any, ...]) -> Converter | None:
    plain = tuple(kind for member in members for kind in _PLAIN.get(_hashable(plainly(member)), ()))
    made = [found for member in members if (found := converter_for(member)) is not None]
    if not made:
        return None
    expected = " or ".join(dict.fromkeys(one.expected for one in made))

    def convert(value: Any) -> Any:
        if type(value) in plain:
            return value
        tried = []
        for one in made:
            try:
                found = one.convert(value)
            except Misfit as error:
                tried.append(str(error))
                continue
            if found is not value:
                return found
        if tried:
            raise Misfit(tried[0] if len(made) == 1 else f"{value!r} is not {expected}")
        return value

    return Converter(convert, expected)


def _hashable(annotation: Any) -> Any:
    return annotation if isinstance(annotation, type) or annotation is None else object


class Fields(NamedTuple):
    """The fields of a dataclass, a ``NamedTuple`` or a ``TypedDict``."""

    annotations: dict[str, Any]
    required: frozenset[str]
    make: Callable[..., Any]


def fields_of(kind: type) -> Fields | None:
    """What an object must have to become ``kind``; None for a class that nothing is known of."""
    declared = getattr(kind, "__dataclass_fields__", None)
    annotations = members_of(kind)
    if declared is not None:
        given = {name: field for name, field in declared.items() if field.init and field._field_type.name == "_FIELD"}
        required = [name for name, field in given.items() if _is_missing(field.default) and _is_missing(field.default_factory)]
        return Fields({name: annotations.get(name, Any) for name in given}, frozenset(required), kind)
    if issubclass(kind, tuple) and hasattr(kind, "_field_defaults"):
        names: tuple[str, ...] = kind._fields  # type: ignore[attr-defined]
        return Fields({name: annotations.get(name, Any) for name in names}, frozenset({*names} - {*kind._field_defaults}), kind)
    if issubclass(kind, dict) and hasattr(kind, "__required_keys__"):
        # Where annotations are strings, the class itself does not know of ``NotRequired``.
        optional = {name for name, annotation in annotations.items() if typing.get_origin(annotation) is _NOT_REQUIRED}
        return Fields(annotations, frozenset(kind.__required_keys__ - optional), dict)
    return None


def _is_missing(default: Any) -> bool:
    return type(default).__name__ == "_MISSING_TYPE"  # dataclasses.MISSING, without an import that most applications do not need


_records: dict[type, Converter | None] = {}


def _record(kind: type) -> None:
    known = fields_of(kind)
    if known is None:
        _records[kind] = None
        return
    expected = f"an object with {', '.join(known.annotations) or 'nothing in it'} ({kind.__name__})"
    _records[kind] = Converter(lambda value: _inside(_records[kind], value, ""), expected)  # it may have fields of its own kind
    converters = {name: converter_for(annotation) for name, annotation in known.annotations.items()}

    def convert(value: Any) -> Any:
        if isinstance(value, list) and known.make is not dict and issubclass(kind, tuple):
            value = dict(zip(known.annotations, value, strict=False)) if len(value) <= len(known.annotations) else value
        if not isinstance(value, dict):
            return value
        unknown, missing = value.keys() - known.annotations.keys(), known.required - value.keys()
        if unknown or missing:
            what = f"has no {sorted(unknown)[0]!r}" if unknown else f"needs {sorted(missing)[0]!r}"
            raise Misfit(f"{kind.__name__} {what}: expected {expected}")
        found = {name: _inside(converters[name], item, f".{name}") for name, item in value.items()}
        try:
            return known.make(**found)
        except (TypeError, ValueError) as error:  # its own checks
            raise Misfit(f"{kind.__name__} cannot be made of it: {error}") from error

    _records[kind] = Converter(convert, expected)


def _inside(converter: Converter | None, value: Any, where: str) -> Any:
    if converter is None:
        return value
    try:
        return converter.convert(value)
    except Misfit as error:
        text = str(error)
        raise Misfit(f"{where}{text}" if not where or text.startswith(("[", ".")) else f"{where}: {text}") from error
