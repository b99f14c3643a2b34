"""A tick of a schedule: which script, its nominal time, which job of a list; and the run's key, which follows from it.

What must live here: how a tick is written, and which key is its.
What this file must not know: when a script has ticks (``rocksyd.schedule``), who remembers them (``rocksyd.journal``).

A tick is plain data, ``{"script": "nightly", "time": "2026-01-31T03:00:00Z"}``, with ``n`` for a job of a list. Times are UTC and
whole seconds, so that texts sort as times do.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import datetime
    from typing import Any

NAME_MOST = 64
"""Characters of a script's name."""
FORMAT = "%Y-%m-%dT%H:%M:%SZ"
EXPECTED = 'a tick such as {"script": "nightly", "time": "2026-01-31T03:00:00Z", "n": 0}, n for a job of a list'
_COMMAND = "command:"
HOOKS = (".init", ".finish")
"""Ends of the keys of the runs before and after the jobs of a generation."""
JOB_MOST = 16 << 10
"""Bytes of JSON that the data of a job of a list may have."""
_MEMBERS = {"script", "time", "n", "fill", "total", "job"}


def read(value: object) -> dict[str, Any]:
    """The tick that ``value`` says, an object or the key of its run. Raises ValueError."""
    import re  # noqa: PLC0415  (every application imports ``options``, and few have anything to do with ticks)
    from datetime import datetime  # noqa: PLC0415

    if isinstance(value, str):
        found = re.fullmatch(r"([^@]*)@([^.]*)(?:\.([0-9]{1,9}))?", value)
        value = found and {"script": found[1], "time": found[2], **({"n": int(found[3])} if found[3] else {})}
    if not isinstance(value, dict) or not value.keys() <= _MEMBERS:
        raise ValueError(f"expected {EXPECTED}")
    script, time, n, fill = (value.get(name) for name in ("script", "time", "n", "fill"))
    if not isinstance(script, str) or not re.fullmatch(rf"[a-z0-9_-]{{1,{NAME_MOST}}}", script):
        raise ValueError(f"expected a script's name of 1 to {NAME_MOST} of a-z 0-9 _ - in a tick")
    try:
        right = isinstance(time, str) and datetime.strptime(time, FORMAT).strftime(FORMAT) == time
    except ValueError:
        right = False
    if not right:
        raise ValueError('expected the time of a tick in UTC and whole seconds, such as "2026-01-31T03:00:00Z"')
    if n is not None and (type(n) is not int or not 0 <= n < 10**9):
        raise ValueError("expected a whole number from 0 for n of a tick")
    if fill not in (None, True, False):
        raise ValueError("expected true or false for fill of a tick")
    read = {"script": script, "time": time, **({} if n is None else {"n": n}), **({"fill": True} if fill else {})}
    return {**read, **_of_list(value)} if "total" in value or "job" in value else read


def _of_list(value: dict[str, Any]) -> dict[str, Any]:
    """What a job of a list is told beside its number. Raises ValueError."""
    import json  # noqa: PLC0415  (as above)

    total = value.get("total", 0)
    if type(total) is not int or not 0 <= total <= 10**9:
        raise ValueError("expected a whole number from 0 for total of a tick")
    found: dict[str, Any] = {name: value[name] for name in ("total", "job") if name in value}
    if "job" in found and len(json.dumps(found["job"])) > JOB_MOST:
        raise ValueError(f"expected at most {JOB_MOST} bytes of JSON for job of a tick; let it read from a file what is larger")
    return found


def generation_of(key: str, tick: dict[str, Any] | None) -> str:
    """The key of the generation whose job, or hook, this run is; "" for none."""
    return key.rpartition(".")[0] if tick and ("n" in tick or key.endswith(HOOKS)) else ""


def key_of(tick: dict[str, Any]) -> str:
    """The key of the tick's run."""
    return f"{tick['script']}@{tick['time']}" + (f".{tick['n']}" if "n" in tick else "")


def is_key_of(key: str, tick: dict[str, Any]) -> bool:
    """Whether a run may have this key and this tick: its own key, that of a hook around its jobs, or one ordered by hand."""
    own = key_of({"script": tick["script"], "time": tick["time"]})
    return key in (key_of(tick), f"{own}.init", f"{own}.finish") or by_hand(key, tick)


def by_hand(key: str, tick: dict[str, Any]) -> bool:
    """Whether somebody has ordered the run of a script by hand: it is no tick of the script's schedule."""
    return key.startswith(f"{tick['script']}!")


def command_target(script: str) -> str:
    """What a run's target is called that is the command line of a script."""
    return f"{_COMMAND}{script}"


def script_of_command(target: str) -> str:
    """The script whose command line the target means; "" for every other target."""
    return target.removeprefix(_COMMAND) if target.startswith(_COMMAND) else ""


def moment(tick: dict[str, Any]) -> datetime:
    """The tick's nominal time, in UTC."""
    from datetime import UTC, datetime  # noqa: PLC0415  (as above)

    return datetime.strptime(tick["time"], FORMAT).replace(tzinfo=UTC)
