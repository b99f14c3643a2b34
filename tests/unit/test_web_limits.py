"""docs/limits.md names the bounds of requests, with the numbers that the code has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("uvicorn")
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT

from rocksyd import bounds
from rocksyd.config.setting import declared
from rocksyd.config.web import BACKLOG, MAX_QUEUE, WebConfig
from rocksyd.units import format_duration
from rocksyd.worker.web import door, life, proxies, slow, wsgi

PAGE = (Path(__file__).parents[2] / "docs" / "limits.md").read_text()
TABLE = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|", PAGE.partition("## Requests")[2].partition("\n## ")[0], re.M))
SET = declared(WebConfig)


def default(name: str) -> str:
    """The value that a setting has where nothing is said, as the manual writes it."""
    value = WebConfig.__dataclass_fields__[name].default
    kib = name.startswith("max_")
    return f"`{name}`, " + (_size(value) if kib else format_duration(value) if isinstance(value, float) else str(value))


def _size(value: int) -> str:
    return f"{value >> 20} MB" if value >= 1 << 20 else f"{value >> 10} KiB"


BOUNDS = {
    "connections that wait to be accepted": ["`max_queue`", str(MAX_QUEUE)],
    "connections that the kernel keeps of them": [str(BACKLOG)],
    "requests that a worker is at": [default("threads"), default("concurrency")],
    "the head of a request": [default("max_head")],
    "the time in which a head has to be whole": [default("head_timeout")],
    "the body of a request": [default("max_body")],
    "what of a body is in memory": [f"{HIGH_WATER_LIMIT >> 10} KiB", f"{wsgi._IN_MEMORY >> 20} MiB"],
    "what of a response is in memory, because its client does not read": [f"{HIGH_WATER_LIMIT >> 10} KiB"],
    "the time until a response has begun": [default("timeout")],
    "a connection between two requests": [default("keep_alive")],
    "streams and WebSockets in code that has been replaced": [default("linger")],
    "a message of a WebSocket": [f"{Config('app:app').ws_max_size >> 20} MiB"],
    "`X-Request-ID` of a proxy": ["128 characters"] if "{1,128}" in proxies._ID.pattern.decode() else [],
    "`X-Forwarded-For`": [f"last {proxies._MOST_HOPS} addresses"],
    "kept connections under way to another worker": ["1 MiB"],
    "entries of `slow.log` from one worker": [
        f"{slow.MOST_AT_ONCE} in {format_duration(slow._LOOK)}",
        f"{bounds.TRACEBACK >> 10} KiB",
    ],
    "the state that `status` shows": [format_duration(life.PATIENCE)],
}
OTHERS = {
    "requests that come to a full worker over kept connections", "the time of what follows: the rest of a response, `finish()`",
    "requests behind another one that is not answered yet, on one connection",
}  # fmt: skip
"""Rows without a number of their own."""


def test_the_page_names_every_bound() -> None:
    assert TABLE.keys() - {"what", "---"} == BOUNDS.keys() | OTHERS
    assert door._RETRY == 0.01
    assert "tried again every 10ms" in PAGE


@pytest.mark.parametrize("what", BOUNDS)
def test_the_page_has_the_number_that_the_code_has(what: str) -> None:
    assert [expected for expected in BOUNDS[what] if expected not in TABLE[what]] == []
    assert BOUNDS[what]


def test_every_setting_that_bounds_something_is_named() -> None:
    bounding = {"threads", "concurrency", "timeout", "keep_alive", "linger", "max_body", "max_head", "head_timeout"}
    assert bounding <= SET.keys()
    assert [name for name in bounding if f"`{name}`" not in PAGE] == []
