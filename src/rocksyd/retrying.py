"""When a run is tried again, when it may begin, and how often: what is said of it in words, and what follows from that.

What must live here: how ladders, kinds of failures, moments and rates are written and read; the wait before an attempt; whether
a failure is worth one.
What this file must not know: runs, the queue, clocks.

Every value that is read can be read again as it is: settings of jobs travel between processes as plain data.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Final

STEPS, KINDS, STARTS = 100, 100, 10_000
"""Steps of a ladder, kinds of failures, and starts in the period of a rate, at most."""
LONGEST: Final = 366 * 86_400.0
"""Seconds of a wait, and of the period of a rate, at most."""
NOT: Final = "not "
OUTCOMES: Final = ("killed", "timeout", "memory", "lost")
"""Kinds of failures that are no exception and no exit status."""
DEFAULT: Final[dict[str, Any]] = {"after": [1.0], "factor": 2.0, "most": 300.0, "jitter": 0.0, "on": []}
"""The policy where nobody says anything: 1 s, 2 s, 4 s ... at most 5 minutes, after every failure."""
_POLICY = tuple((f"retry_{name}", name, usual) for name, usual in DEFAULT.items())
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


# --- how it is written --------------------------------------------------------------------------------------------------
def ladder(value: object) -> list[float]:
    """A duration, or several: the wait before the second attempt, the third ... Raises ValueError."""
    from rocksyd.units import parse_duration, shown  # noqa: PLC0415  (every application imports ``options``; few say this)

    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    steps = list(value) if isinstance(value, list | tuple) else [value]
    if not 1 <= len(steps) <= STEPS:
        raise ValueError(f'expected 1 to {STEPS} durations such as ["1s", "10s", "5m"], got {shown(value)}')
    found = [parse_duration(step) for step in steps]
    if max(found) > LONGEST:
        raise ValueError(f"expected durations of a year at most, got {shown(value)}")
    return found


def kinds(value: object) -> list[str | int]:
    """Names of exceptions, exit statuses, outcomes; with ``not`` before one that is not meant. Raises ValueError."""
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    named = [_kind(one) for one in (value if isinstance(value, list | tuple) else [value])]
    if len(named) > KINDS:
        raise ValueError(f"expected {KINDS} kinds of failures at most, got {len(named)}")
    return named


def _kind(value: object) -> str | int:
    from rocksyd.units import shown  # noqa: PLC0415  (as above)

    if isinstance(value, type) and issubclass(value, BaseException):
        return value.__qualname__ if value.__module__ == "builtins" else f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, str) and value.isdecimal() and value.isascii() and len(value) < 4:
        value = int(value)
    if type(value) is int and 1 <= value <= 255:
        return value
    if isinstance(value, str) and len(value) <= 200:
        name = value.removeprefix(NOT).strip()
        if name and (name.isdecimal() or all(part.isidentifier() for part in name.split("."))):
            return f"{NOT}{name}" if value.startswith(NOT) else name
    raise ValueError(
        f'expected the name of an exception such as "OSError", an exit status from 1 to 255, or one of {", ".join(OUTCOMES)}; '
        f'"not OSError" for one that is not meant; got {shown(value)}'
    )


LATEST = 99_999_999_999
"""Unix seconds of a moment at most: the year 5138."""


def moment(value: object) -> float:
    """A time with its offset, as RFC 3339 has it, or Unix seconds: the latter. Raises ValueError."""
    from datetime import datetime  # noqa: PLC0415  (as above)

    from rocksyd.units import shown  # noqa: PLC0415

    if type(value) in (int, float) and 1 <= value <= LATEST:  # type: ignore[operator]
        return float(value)  # type: ignore[arg-type]
    try:
        found = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
        seconds = found.timestamp() if found.tzinfo is not None else 0.0
    except (ValueError, OverflowError):
        seconds = 0.0
    if seconds <= 0:
        example = "2026-01-31T03:00:00+01:00"
        raise ValueError(f'expected a time with its offset such as "{example}", or Unix seconds, got {shown(value)}')
    return seconds


def rate(value: object) -> list[float]:
    """``"20/m"``, ``"100/5m"``: how many, and in how many seconds; [] for no limit. Raises ValueError."""
    from rocksyd.units import parse_duration, shown  # noqa: PLC0415  (as above)

    if value in ([], "", 0):
        return []
    number, period = 0, 0.0
    if isinstance(value, str):
        first, _, rest = value.partition("/")
        try:
            number, period = int(first), _UNITS.get(rest.strip()) or parse_duration(rest.strip())
        except ValueError:
            number = 0
    elif isinstance(value, list) and len(value) == 2 and all(type(one) in (int, float) for one in value):
        number, period = int(value[0]), float(value[1])
    if not (1 <= number <= STARTS and 0 < period <= LONGEST):
        raise ValueError(f'expected 1 to {STARTS} in a time such as "20/m", "5/s" or "100/5m", got {shown(value)}')
    return [number, period]


# --- what follows -------------------------------------------------------------------------------------------------------
def policy(settings: dict[str, Any]) -> dict[str, Any]:
    """What of a run's settings is another policy than the usual one."""
    found = {}
    for option, name, usual in _POLICY:
        said = settings[option]
        if said is not usual and said != usual:  # the usual is the same object: this is done for every order
            found[name] = said
    return found


def wait(said: dict[str, Any], key: str, failed: int) -> float:
    """Seconds between an attempt, the ``failed``-th that did not end well, and the next one.

    The steps of the ladder as they are written; behind its end the last one goes on by the factor. The jitter is another for each
    run and attempt, and the same whenever it is asked for: what waits is not decided anew after a crash.
    """
    steps, factor, most, jitter = (said.get(name, DEFAULT[name]) for name in ("after", "factor", "most", "jitter"))
    found = steps[min(failed, len(steps)) - 1]
    for _ in range(failed - len(steps)):
        found *= factor
        if found >= most or factor == 1:
            found = max(most, steps[-1]) if factor != 1 else found
            break
    return float(found * (1.0 + jitter * _chance(f"{key}\0{failed}"))) if jitter else float(found)


def _chance(seed: str) -> float:
    from hashlib import sha256  # noqa: PLC0415  (as above)

    return int.from_bytes(sha256(seed.encode("utf-8", "surrogatepass")).digest()[:6]) / 2**48


def worth_it(said: Sequence[str | int], outcome: str, retcode: int, lineage: Sequence[str]) -> bool:
    """Whether a failure is one of those that are tried again.

    Args:
        said: kinds of failures, as ``kinds`` has them; none: every failure.
        outcome, retcode: how the attempt ended.
        lineage: the classes of its exception by name, its own first; () for one that raised nothing.
    """
    names = {outcome, *lineage, *(name.rpartition(".")[2] for name in lineage)}
    if not lineage:
        names.add(str(retcode))
    denied = [one.removeprefix(NOT) for one in said if isinstance(one, str) and one.startswith(NOT)]
    if any(one in names for one in denied):
        return False
    meant = [str(one) for one in said if not (isinstance(one, str) and one.startswith(NOT))]
    return not meant or any(one in names for one in meant)
