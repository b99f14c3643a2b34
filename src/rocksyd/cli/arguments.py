"""How words of the command line are read. A word that cannot be read is an error that says what was expected.

What must live here: one function a kind of word, for argparse's ``type=``.
What this file must not know: which command takes what.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from rocksyd.client import Client
from rocksyd.client.records import SIGNALS
from rocksyd.units import parse_duration

MAX_SIGNAL = 64


def client(options: argparse.Namespace) -> Client:
    """The client for the daemon that the options name. Raises NoDaemon, AddressError, ConfigError."""
    return Client(options.address)


def duration(word: str) -> float:
    """Seconds of ``10s``, ``5m`` ..."""
    try:
        return parse_duration(word)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def count(word: str) -> int:
    """A number from 0 on."""
    if not (word.isascii() and word.isdigit()):
        raise argparse.ArgumentTypeError(f"expected a number such as 3, got {word!r}")
    return int(word)


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

    return text if problem(value, schema, "it") and not problem(text, schema, "it") else value


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
        return json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is not JSON")
