from __future__ import annotations

import pytest

from rocksyd.wire import Answer, Quit, Request, Stats, Version
from tests.unit.wire_drive import only


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("stats", Stats()),
        ("stats ", Stats()),
        ("stats items", Stats(("items",))),
        ("stats  detail on", Stats(("detail", "on"))),
        ("stats items\r", Stats(("items",))),
        ("version", Version()),
        ("quit", Quit()),
    ],
)
def test_what_is_understood(line: str, expected: Request) -> None:
    request = only(line.encode())
    assert type(request) is type(expected)
    assert request == expected


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("version 2", b"CLIENT_ERROR version takes no arguments\r\n"),
        ("quit now", b"CLIENT_ERROR quit takes no arguments\r\n"),
        ("stats a\x00b", b"CLIENT_ERROR bad command line format: control characters are not allowed\r\n"),
    ],
)
def test_errors(line: str, error: bytes) -> None:
    assert only(line.encode()) == Answer(error)


@pytest.mark.parametrize(
    "line", ["stats {}", 'stats {"a":1}', "version []", 'quit "x"', "quit  {}", "stat", "statss", "STATS", "stats\titems"]
)
def test_what_looks_alike_but_is_classic(line: str) -> None:
    request = only(line.encode())
    assert isinstance(request, Answer)
    assert request.data.startswith(b'{"error_text":"UNKNOWN REQUEST \'request_')
