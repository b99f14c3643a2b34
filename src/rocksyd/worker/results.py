"""What a job returned, as JSON, and what becomes of what JSON cannot say: it is never altered without a word.

What must live here: Python values to plain data, and where in a value what has no form is.
What this file must not know: processes, messages.
"""

from __future__ import annotations

import base64
import datetime
import decimal
import enum
import json
import math
import os
import traceback
import uuid
from collections.abc import Mapping
from typing import Any, NamedTuple

from rocksyd import bounds
from rocksyd.errors import JobError

MAX_DEPTH = 200
"""Levels of nesting that a result may have; deeper is shown by ``repr``. Far below what JSON parsers take."""
_REPR_LIMIT = 2000


class _Unfit(Exception):
    """A part of a value cannot be said; ``steps`` from the part to the whole are added on the way out."""

    def __init__(self, what: str, *, of_type: bool) -> None:
        super().__init__(what)
        self.what = what
        self.of_type = of_type
        """Whether JSON has no form for anything of its type, which is a mistake of the job; if not, for just this value."""
        self.steps: list[str] = []

    @property
    def where(self) -> str:
        """``result['a'][3]``."""
        return "result" + "".join(reversed(self.steps))


class Plain:
    """Turns one value into plain data. ``lenient``: what has no form in JSON is said as text, and ``notes`` say so."""

    def __init__(self, *, lenient: bool) -> None:
        self.lenient = lenient
        self.notes: list[str] = []

    def convert(self, value: Any, depth: int = 0) -> Any:
        """Plain data (None, bool, int, float, str, list, dict with str keys) for ``value``. Raises _Unfit, unless lenient."""
        kind = type(value)
        if value is None or kind is bool:
            return value
        if kind is str:
            return text(value)
        if kind is int:
            return self._integer(value)
        try:
            if depth >= MAX_DEPTH and not isinstance(value, (float, str, int)):
                why = f"is nested deeper than {MAX_DEPTH} levels or contains itself"
                return self._shown(value, why) if self.lenient else self._unfit(f"{_a(value)} that {why}", of_type=False)
            return self._other(value, depth)
        except _Unfit:
            raise
        except Exception as error:  # noqa: BLE001  (the value's own methods are anybody's code)
            return self._shown(value, f"cannot be made JSON ({type(error).__name__})")

    def _other(self, value: Any, depth: int) -> Any:
        if isinstance(value, enum.Enum):
            return self.convert(value.value, depth + 1)
        if isinstance(value, float):
            return self._float(value)
        if isinstance(value, str):
            return text(str(value))
        if isinstance(value, int):
            return self._integer(int(value))
        if isinstance(value, (list, tuple)):
            return self._list(value, depth)
        if isinstance(value, (set, frozenset)):
            return self._list(_in_order(value), depth)
        # Last, because an abstract class looks through all its subclasses the first time it is asked about a type.
        if isinstance(value, (dict, Mapping)):
            return self._dict(value, depth)
        return self._of_type(value, depth)

    def _list(self, values: Any, depth: int) -> list[Any]:
        found: list[Any] = []
        try:
            for item in values:
                found.append(self.convert(item, depth + 1))
        except _Unfit as unfit:
            unfit.steps.append(f"[{len(found)}]")
            raise
        return found

    def _dict(self, value: Any, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, item in value.items():
            name = self._key(key)
            if name in found and not self.lenient:
                self._unfit(f"two keys that are both {bounds.cut(name, 60)!r} in JSON", of_type=False)
            try:
                found[name] = self.convert(item, depth + 1)
            except _Unfit as unfit:
                unfit.steps.append(f"[{bounds.cut(repr(key), 60)}]")
                raise
        return found

    def _fields(self, value: Any, names: Any, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name in names:
            if hasattr(value, name):
                try:
                    found[name] = self.convert(getattr(value, name), depth + 1)
                except _Unfit as unfit:
                    unfit.steps.append(f".{name}")
                    raise
        return found

    def _unfit(self, what: str, *, of_type: bool) -> Any:
        raise _Unfit(what, of_type=of_type)

    def _of_type(self, value: Any, depth: int) -> Any:
        if isinstance(value, (datetime.date, datetime.time)):
            return value.isoformat()
        if isinstance(value, datetime.timedelta):
            return value.total_seconds()
        if isinstance(value, (decimal.Decimal, uuid.UUID)):
            return str(value)
        if isinstance(value, os.PathLike):
            return self.convert(os.fspath(value), depth + 1)
        if isinstance(value, (bytes, bytearray, memoryview)):
            return _bytes(bytes(value))
        fields = getattr(value, "__dataclass_fields__", None)
        if fields is not None and not isinstance(value, type):
            return self._fields(value, fields, depth)
        if callable(getattr(value, "tolist", None)) and hasattr(value, "dtype"):
            return self.convert(value.tolist(), depth + 1)  # numpy's scalars and arrays, without importing numpy
        return self._shown(value, "has no form in JSON")

    def _integer(self, value: int) -> Any:
        # Python refuses to write integers beyond a limit of digits, and json with it; the limit can be set down to 640.
        if value.bit_length() < 2000:
            return value
        if not self.lenient:
            self._unfit(f"an integer of {value.bit_length()} bits", of_type=False)
        self.notes.append(f"an integer of {value.bit_length()} bits was returned as hexadecimal text")
        return hex(value)

    def _float(self, value: float) -> Any:
        if math.isfinite(value):
            return float(value)
        if not self.lenient:
            self._unfit(repr(float(value)), of_type=False)
        self.notes.append(f"{value!r} has no form in JSON and was returned as null")
        return None

    def _key(self, key: Any) -> str:
        if isinstance(key, enum.Enum):
            key = key.value
        if isinstance(key, str):
            return text(str(key))
        if key is None or isinstance(key, (bool, int, float)):
            return json.dumps(key)
        plain = self.convert(key)
        return plain if isinstance(plain, str) else json.dumps(plain)

    def _shown(self, value: Any, why: str) -> Any:
        if not self.lenient:
            return self._unfit(_a(value), of_type=True)
        try:
            shown = text(repr(value))
        except Exception:  # noqa: BLE001  (a repr is anybody's code)
            shown = object.__repr__(value)
        note = f"a value of type {type(value).__module__}.{type(value).__qualname__} {why}; its repr was returned"
        if note not in self.notes:
            self.notes.append(note)
        return shown if len(shown) <= _REPR_LIMIT else shown[:_REPR_LIMIT] + "..."


class Said(NamedTuple):
    """A value as it can be told."""

    value: Any
    """Plain data."""
    notes: list[str]
    """What was lost."""
    dropped: str = ""
    """Why ``value`` is None although there was one; "" otherwise."""


def plain(value: Any, limit: int, *, lenient: bool = False, of: str = "the job") -> Said:
    """``value`` as plain data; dropped when it has more than ``limit`` bytes, or holds a value that JSON has no form for: NaN,
    infinity, what is too deep. If ``lenient`` such is said as null or as text, and ``notes`` say so.

    Raises JobError, which names ``of``, for what is of a type that JSON does not know; nothing if lenient.
    """
    if value is None or value is True or value is False:
        return Said(value, [])
    converter = Plain(lenient=lenient)
    try:
        converted = converter.convert(value)
    except _Unfit as unfit:
        where = f" at {bounds.cut(unfit.where, 400)}" if unfit.steps else ""
        if unfit.of_type:
            raise JobError(f"{of} returned {unfit.what}{where}, which JSON has no form for: {_CURE}") from None
        why = f"the result was dropped: it holds {unfit.what}{where}, which JSON has no form for ({_LENIENT})"
        return Said(None, [why], why)
    size = len(json.dumps(converted, separators=(",", ":")))
    if size > limit:
        why = f"the result was dropped: it is {size} bytes of JSON, and result_limit is {limit}"
        return Said(None, [why], why)
    return Said(converted, converter.notes)


_LENIENT = 'results = "lenient" keeps it as null or as text'
_CURE = 'return numbers, texts, lists and dicts of such, dates or dataclasses, or set results = "lenient" to have its repr'


def _a(value: Any) -> str:
    kind = type(value)
    name = kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
    name = bounds.cut(name, bounds.NAME)
    return f"{'an' if name[:1] in 'aeiouAEIOU' else 'a'} {name}"


def text(value: str) -> str:
    """``value`` without lone surrogates (undecodable file names), which no UTF-8 reader takes."""
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-8", "backslashreplace").decode()
    return value


def number(value: Any) -> float | None:
    """``value`` as a number that JSON can carry; None for none, and for infinity and NaN."""
    if value is None:
        return None
    found = float(value)
    return found if found - found == 0 else None


def _in_order(values: Any) -> list[Any]:
    try:
        return sorted(values)
    except TypeError:
        return list(values)


def _bytes(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return base64.b64encode(value).decode("ascii")


def described(error: BaseException) -> dict[str, Any]:
    """``{"type", "message", "traceback"}`` of an exception, with rocksyd's own frames left out. Never raises.

    With ``args`` where it cannot be made again from its message (``OSError``, ``KeyError``), and they are numbers and strings.
    """
    name = _name_of(type(error))
    try:
        message = text(str(error))
    except Exception:  # noqa: BLE001  (a __str__ is anybody's code)
        message = "(its message cannot be shown)"
    found: dict[str, Any] = {
        "type": bounds.cut(name, bounds.NAME),
        "message": bounds.cut(message, bounds.MESSAGE),
        "traceback": bounds.cut(traceback_of(error), bounds.TRACEBACK),
    }
    args = _arguments(error, message)
    if args is not None:
        found["args"] = args
    return found


def _name_of(kind: type) -> str:
    of_ours = kind.__module__ in ("builtins", "__main__", "rocksyd.errors")
    return kind.__qualname__ if of_ours else f"{kind.__module__}.{kind.__qualname__}"


def lineage(error: BaseException) -> tuple[str, ...]:
    """The names of its class and of those that it is derived from, without ``object``."""
    return tuple(_name_of(kind)[: bounds.NAME] for kind in type(error).__mro__[:-1][: bounds.MOST_ARGS])


def _arguments(error: BaseException, message: str) -> list[Any] | None:
    """What an exception can be made from again, where its message is not enough for that; None for nothing of use."""
    try:
        args = error.args
        if isinstance(error, OSError) and isinstance(error.filename, str) and len(args) == 2:
            args = (*args, error.filename)
        if args == (message,) or not all(item is None or type(item) in (str, int, float, bool) for item in args):
            return None
        found: list[Any] | None = plain(list(args), bounds.ARGS).value
    except Exception:  # noqa: BLE001  (args can be anybody's property)
        return None
    return found


def traceback_of(error: BaseException) -> str:
    """The traceback as Python prints it, with rocksyd's own frames at its head left out. Never raises."""
    try:
        return text("".join(traceback.format_exception(type(error), error, _without_ours(error.__traceback__))))
    except Exception:  # noqa: BLE001  (formatting calls anybody's __repr__ and __str__, or memory is out)
        return f"{type(error).__name__} (its traceback cannot be shown)\n"


def _without_ours(entry: Any) -> Any:
    while entry is not None and str(entry.tb_frame.f_globals.get("__name__", "")).startswith(_OURS):
        entry = entry.tb_next
    return entry


_OURS = ("rocksyd.worker.", "rocksyd.zygote.", "rocksyd.testing.")
