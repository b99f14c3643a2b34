"""What a single value may be: each function turns a TOML value into a setting or says what was expected.

All raise ValueError with "expected ..., got ...", which the caller puts behind file, line and key.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from rocksyd.config.address import Address, parse_address
from rocksyd.config.table import Convert, Table, nearest
from rocksyd.errors import AddressError
from rocksyd.units import parse_duration, parse_size, shown

RLIMITS = (
    "as", "core", "cpu", "data", "fsize", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio", "rttime",
    "sigpending", "stack",
)  # fmt: skip
"""setrlimit(2)."""
_PERCENT = re.compile(r"[0-9]{1,4}(?:\.[0-9]{1,4})?%")
_NAMESPACE = re.compile(r"[a-z][a-z0-9_]{0,63}")
_RESERVED_NAMESPACES = ("rpc", "run", "logs", "schedule", "notify", "cluster", "service")
"""Of the protocol itself, and of companions that are, or are going to be, built in."""
_HOST = re.compile(r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63}){0,20}")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
"""Of an application, a pool, a token, another machine."""
_OCTAL = re.compile(r"[0-7]{1,4}")
_PATTERN = re.compile(r"[A-Za-z_*?0-9]+(?:\.[A-Za-z_*?0-9]+)*")


def text(example: str) -> Convert[str]:
    """A string that is not empty and has no control characters."""

    def convert(value: object) -> str:
        if not isinstance(value, str) or not value or not value.isprintable():
            raise ValueError(f'expected a string such as "{example}", got {shown(value)}')
        return value

    return convert


def host(value: object) -> str:
    """The name of a machine, as it stands in an address of the web, without anything around it."""
    if not isinstance(value, str) or not _HOST.fullmatch(value):
        raise ValueError(
            f'expected the name of a machine such as "jobs.example.com", without scheme and port, got {shown(value)}'
        )
    return value


def address(folder: str) -> Convert[Address]:
    """An address to listen on."""

    def convert(value: object) -> Address:
        if not isinstance(value, str):
            raise ValueError(f'expected an address such as "unix://run/rocksyd.sock", got {shown(value)}')
        try:
            return parse_address(value, folder)
        except AddressError as error:
            raise ValueError(str(error)) from error

    return convert


def elsewhere(value: object) -> str:
    """An address to connect to, from another folder or another machine."""
    found = address("/")(value)
    if found.kind == "tcp" and not found.port:
        raise ValueError(f"{value} names no port; write the one that it listens at, as in tcp://{found.host}:31337")
    if found.kind == "unix" and not str(value).startswith("unix:///"):
        raise ValueError(f"{value} starts from a folder; write the whole path, as in unix:///run/rocksyd.sock")
    return str(found)


def number(low: float, high: float) -> Convert[float]:
    """A number between two others, with or without a fraction."""

    def convert(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise ValueError(f"expected a number from {low:g} to {high:g}, got {shown(value)}")
        return float(value)

    return convert


class Share(float):
    """So many percent of something."""


def share(convert: Convert[float]) -> Convert[float]:
    """A percentage, which becomes a Share, or what ``convert`` takes."""

    def read(value: object) -> float:
        if isinstance(value, str) and value.endswith("%"):
            if not _PERCENT.fullmatch(value):
                raise ValueError(f'expected a percentage such as "20%", got {shown(value)}')
            return Share(value[:-1])
        try:
            return convert(value)
        except ValueError as error:
            raise ValueError(f'{error}; a percentage such as "20%" may stand there, too') from None

    return read


def size_between(parse: Convert[int], low: int, high: int) -> Convert[int]:
    """A size from ``low`` to ``high`` bytes."""

    def convert(value: object) -> int:
        size = parse(value)
        if not low <= size <= high:
            raise ValueError(f"expected a size from {low} to {high} bytes, got {shown(value)}")
        return size

    return convert


def positive_duration(value: object) -> float:
    """A duration above zero."""
    seconds = parse_duration(value)
    if seconds == 0:
        raise ValueError(f'expected a duration above zero such as "10s", got {shown(value)}')
    return seconds


def choice(*words: str) -> Callable[[object], Any]:
    """One of ``words``. (Any, because a literal type cannot be made of arguments.)"""

    def convert(value: object) -> str:
        if isinstance(value, str) and value in words:
            return value
        near = nearest(value, words) if isinstance(value, str) else ""
        known = " or ".join(f'"{word}"' for word in words)
        raise ValueError(f"expected {known}, got {shown(value)}" + (f'; did you mean "{near}"?' if near else ""))

    return convert


def octal(value: object) -> int:
    """Permissions as a string of octal digits. A number is refused: 27 and 0o33 are the same to TOML."""
    if not isinstance(value, str) or not _OCTAL.fullmatch(value) or int(value, 8) > 0o777:
        raise ValueError(f'expected octal digits in quotes such as "027", got {shown(value)}')
    return int(value, 8)


def module(value: object) -> str:
    """A module's dotted name."""
    if not isinstance(value, str) or not _dotted_name(value):
        raise ValueError(f'expected a module such as "shop.jobs", got {shown(value)}')
    return value


def target(value: object) -> str:
    """``module:callable``."""
    if not isinstance(value, str) or value.count(":") != 1 or not all(map(_dotted_name, value.split(":"))):
        raise ValueError(f'expected a callable such as "shop.smoke:check", got {shown(value)}')
    return value


def module_or_target(value: object) -> str:
    """``module`` or ``module:callable``."""
    if not isinstance(value, str) or value.count(":") > 1 or not all(map(_dotted_name, value.split(":"))):
        raise ValueError(f'expected a module or callable such as "shop.urls" or "django:setup", got {shown(value)}')
    return value


def pattern(value: object) -> str:
    """``module:name`` with wildcards, the first part of the module without: ``*:*`` would allow ``os:system``."""
    given = value if isinstance(value, str) else ""
    module_part, _, name = given.partition(":")
    if not _PATTERN.fullmatch(module_part) or not _PATTERN.fullmatch(name):
        raise ValueError(f'expected targets such as "shop.reports:Daily" or "shop.reports:*", got {shown(value)}')
    if not module_part.split(".")[0].isidentifier():
        raise ValueError(
            f'expected the module to begin with a package\'s name as in "shop.*:*", got {shown(value)}, '
            "which would let clients run anything that Python can import"
        )
    return given


def _dotted_name(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))


# --- tables of single values ---------------------------------------------------------------------------------------------
def environment(table: Table) -> dict[str, str]:
    """Variables by name."""
    env = {}
    for name in table.values:
        if not name or "=" in name or "\0" in name:
            table.problem("expected the name of an environment variable, without = and not empty", name)
        env[name] = table.get(name, "", _variable)
    return env


def _variable(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f'expected a string such as "1", got {shown(value)}')
    if "\0" in value:
        raise ValueError(f"expected a string without a zero byte, got {shown(value)}")
    return value


def limits(table: Table) -> dict[str, Any]:
    """Limits of setrlimit(2): numbers, or ``unlimited``."""
    for name in table.values:
        if name not in RLIMITS:
            table.problem(f"there is no such limit; known: {', '.join(RLIMITS)}", name)
    return {name: table.get(name, "unlimited", _limit) for name in RLIMITS if table.given(name)}


def _limit(value: object) -> Any:
    if value == "unlimited":
        return value
    try:
        return parse_size(value)
    except ValueError:
        raise ValueError(f'expected a number, a size such as "512M" or "unlimited", got {shown(value)}') from None


def namespace(value: object) -> str:
    """What methods of a companion begin with."""
    if not isinstance(value, str) or not _NAMESPACE.fullmatch(value):
        raise ValueError(f'expected small letters, digits and _ such as "bell", got {shown(value)}')
    if value in _RESERVED_NAMESPACES:
        raise ValueError(f"{value} is the protocol's own; choose another one")
    return value


def not_json(value: object) -> object:
    """What in a value of the file JSON cannot carry (a date), else None."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return next((wrong for item in value if (wrong := not_json(item)) is not None), None)
    return None if isinstance(value, str | int | float | bool) else value
