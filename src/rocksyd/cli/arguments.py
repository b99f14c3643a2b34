"""How words of the command line are read. A word that cannot be read is an error that says what was expected.

What must live here: one function a kind of word, for argparse's ``type=``.
What this file must not know: which command takes what.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Callable
from math import isinf
from typing import Any

from rocksyd.client import Client
from rocksyd.exit_status import SIGNALS
from rocksyd.options import BY_NAME, COUNT, DURATION, FLAG, KEYS, ORDERED, STRINGS, Form, Option, is_traceparent
from rocksyd.shapes import MAX_PARAMS, deeper_than

MAX_SIGNAL = 64
_NUMBER = re.compile(r"-?[0-9]{1,20}")
_DECIMAL = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,20})?")


def client(options: argparse.Namespace) -> Client:
    """The client for the daemon that the options name. Raises NoDaemon, AddressError, ConfigError."""
    return Client(options.address)


def reader(form: Form) -> Callable[[str], Any]:
    """For argparse: what a word means in this form."""

    def read(word: str) -> Any:
        kind = form.schema.get("type")
        pattern, number = {"integer": (_NUMBER, int), "number": (_DECIMAL, float)}.get(str(kind), (_NUMBER, str))
        try:
            return form.convert(number(word) if pattern.fullmatch(word) else word)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


count = reader(COUNT)
duration = reader(DURATION)


def declare_option(parser: argparse.ArgumentParser, option: Option) -> None:
    """``--name VALUE`` for an option of a run. NAME=VALUE without dashes is always a parameter of the job, whatever its name."""
    word = f"--{(option.word or option.name).replace('_', '-')}"
    text = option.text.replace("`", "").replace("%", "%%")
    if option.form is FLAG:
        parser.add_argument(word, dest=option.name, action="store_true", default=None, help=text)
    elif option.form in (STRINGS, KEYS):
        told, read = f"{text}; may be repeated", pair if option.form is STRINGS else str
        parser.add_argument(word, dest=option.name, metavar=option.form.metavar, action="append", type=read, help=told)
    else:
        parser.add_argument(word, dest=option.name, metavar=option.form.metavar, type=reader(option.form), help=text)


def options_of_run(options: argparse.Namespace) -> dict[str, Any]:
    """What the command line says of a run, by the options' names; None for what it does not say."""
    given = {name: getattr(options, name) for name in ORDERED}
    span = os.environ.get("TRACEPARENT", "")
    if given["traceparent"] is None and is_traceparent(span):
        given["traceparent"] = span
    return {name: dict(value) if BY_NAME[name].form is STRINGS and value is not None else value for name, value in given.items()}


def json_value(word: str) -> Any:
    """A JSON array or object."""
    try:
        value = _loads(word)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not JSON ({error}): write it as '[1, \"two\"]' or '{{\"name\": 1}}', quoted") from None
    if not isinstance(value, (list, dict)):
        raise argparse.ArgumentTypeError(f"expected an array or an object, got {word!r}: write '[{word}]' for one argument")
    return value


def meant(text: str, schema: dict[str, Any] | None = None) -> Any:
    """VALUE of ``NAME=VALUE``: what it means as JSON, or else the text itself (``day=2026-01-31``).

    ``schema``: of the parameter it is for. The text is meant where that takes it and not what it would be as JSON (``name=5``).
    """
    try:
        value = _loads(text)
    except ValueError:
        return text
    if schema is None or isinstance(value, str):
        return value
    from rocksyd.core.schema import problem

    return text if problem(value, schema, "it") and not problem(text, schema, "it") else exact(value, schema)


class Written(float):
    """A number that Python would write otherwise (``12.10``): ``text`` is how it was written."""

    text = ""


def has_written(value: Any) -> bool:
    """Whether a Written is in a value."""
    if isinstance(value, list | dict):
        return any(map(has_written, value.values() if isinstance(value, dict) else value))
    return isinstance(value, Written)


def exact(value: Any, schema: dict[str, Any]) -> Any:
    """``value`` with the text of each number that a float loses digits of, where the schema says that a decimal is wanted."""
    from rocksyd.core.schema import problem

    if "anyOf" in schema:
        if isinstance(value, Written) and any(one.get("format") == "decimal" for one in schema["anyOf"]):
            return value.text
        schema = next((one for one in schema["anyOf"] if not problem(value, one, "it")), {})
    if isinstance(value, list):
        first, rest = schema.get("prefixItems", ()), schema.get("items") or {}
        return [exact(item, first[index] if index < len(first) else rest) for index, item in enumerate(value)]
    if isinstance(value, dict):
        members, rest = schema.get("properties", {}), schema.get("additionalProperties") or {}
        return {name: exact(item, members.get(name, rest)) for name, item in value.items()}
    return value


def pair(word: str) -> tuple[str, str]:
    """``NAME=VALUE`` as text."""
    name, equals, value = word.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {word!r}; arguments by position go into --params '[...]'")
    return name, value


def signal_number(word: str) -> int:
    """A signal's number, from its number or its name with or without SIG."""
    numbers = {name: number for number, name in SIGNALS.items()}
    name = word.upper().removeprefix("SIG")
    if name in numbers:
        return numbers[name]
    if word.isascii() and word.isdigit() and 0 < int(word) <= MAX_SIGNAL:
        return int(word)
    raise argparse.ArgumentTypeError(f"expected a signal such as TERM, KILL or 15, got {word!r}")


def _loads(text: str) -> Any:
    """JSON as the daemon reads it: NaN and Infinity are not."""
    try:
        value = json.loads(text, parse_constant=_refuse, parse_float=_number)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if deeper_than(value, MAX_PARAMS):
        raise ValueError(f"nests deeper than {MAX_PARAMS} levels")
    return value


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


def _number(text: str) -> float:
    number = Written(text)
    if isinf(number):
        raise ValueError(f"the number {text} is too large")
    if repr(number) == text:
        return float(number)
    number.text = text
    return number
