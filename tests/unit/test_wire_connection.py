from __future__ import annotations

import ast
import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rocksyd.wire
from rocksyd.wire import Answer, Bye, Call, Check, Connection, Quit, Version, classic
from tests.unit.wire_drive import only, requests_of

_LINES = [
    b'check {"hash":1}', b'check {"hash": 12}', b'run {"hash":2,"class":"A","params":[1]}', b'free {"hash":"3"}', b"restart",
    b"stop x", b'{"jsonrpc":"2.0","method":"status","id":1}', b'[{"jsonrpc":"2.0","method":"a"},1]', b"{", b"[[", b"stats",
    b"stats items", b"version", b"quit now", b"", b"  ", b"\r", b"foo bar", b"\x00", "проверка {}".encode(),
]  # fmt: skip
_ENDINGS = [b"bye", b"quit", b"\xff\xfe", b"x" * 200]
_conversations = st.builds(
    lambda lines, ends: b"".join(line + end for line, end in zip(lines, ends, strict=False)),
    st.lists(st.sampled_from(_LINES) | st.sampled_from(_ENDINGS) | st.binary(max_size=20), max_size=12),
    st.lists(st.sampled_from([b"\n", b"\r\n", b"\n\n"]), min_size=12, max_size=12),
)


def _cut(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut for cut in cuts if cut <= len(data))})
    return [data[start:end] for start, end in itertools.pairwise(edges)]


@given(data=_conversations, cuts=st.lists(st.integers(0, 400)))
def test_any_cutting_gives_the_same_requests(data: bytes, cuts: list[int]) -> None:
    whole = requests_of([data], max_line=100)
    assert requests_of(_cut(data, cuts), max_line=100) == whole
    assert requests_of([bytes([byte]) for byte in data], max_line=100) == whole


@given(data=_conversations, taken=st.integers(0, 12))
def test_a_connection_goes_on_where_another_process_left_it(data: bytes, taken: int) -> None:
    connection = Connection(max_line=100)
    connection.receive_data(data)
    found = []
    for _ in range(taken):
        request = connection.next_request()
        if request is not None:
            found.append((type(request).__name__, request))
    restored = Connection.restore(connection.buffered, max_line=100, closed=connection.closed)
    while (request := restored.next_request()) is not None:
        found.append((type(request).__name__, request))
    assert found == requests_of([data], max_line=100)


@given(pieces=st.lists(st.binary(max_size=60), max_size=20))
def test_garbage_never_raises_and_memory_is_bounded(pieces: list[bytes]) -> None:
    connection = Connection(max_line=50)
    for piece in pieces:
        connection.receive_data(piece)
        while connection.next_request() is not None:
            pass
        assert len(connection.buffered) <= 51
        assert not connection.has_line


@given(st.text(max_size=60), st.sampled_from(["", "check ", "run ", "{", "[", "stats ", '{"jsonrpc":"2.0","method":']))
def test_any_text_is_one_request_or_none(text: str, start: str) -> None:
    found = requests_of([(start + text).replace("\n", " ").encode(errors="replace") + b"\n"])
    assert len(found) <= 1


def test_the_first_bytes_of_the_line_choose_the_dialect() -> None:
    data = b'check {"hash":7}\n{"jsonrpc":"2.0","method":"m","id":1}\nversion\r\n[]\n{\n'
    assert [name for name, _ in requests_of([data])] == ["Check", "Call", "Version", "Answer", "Answer"]


def test_has_line_is_about_complete_lines() -> None:
    connection = Connection()
    connection.receive_data(b'check {"hash":1}')
    seen = [connection.has_line]
    connection.receive_data(b'\r\ncheck {"ha')
    seen.append(connection.has_line)
    assert connection.next_request() == Check("1")
    seen.append(connection.has_line)
    assert seen == [False, True, False]
    assert connection.buffered == b'check {"ha'


@pytest.mark.parametrize(("last", "request_type"), [(b"bye", Bye), (b"quit", Quit), (b"bye {}", Bye)])
def test_nothing_is_read_behind_the_end(last: bytes, request_type: type) -> None:
    connection = Connection()
    connection.receive_data(b"version\n" + last + b"\nversion\n")
    assert isinstance(connection.next_request(), Version)
    seen = [connection.closed]
    assert isinstance(connection.next_request(), request_type)
    seen.append(connection.closed)
    assert seen == [False, True]
    connection.receive_data(b"version\n")
    assert connection.next_request() is None
    assert connection.buffered == b""
    assert not connection.has_line


@pytest.mark.parametrize(
    ("start", "reply"),
    [
        (b'check {"hash":', b'{"error_text":"a line is '),
        (b"\x00", b'{"error_text":"a line is '),
        (b'{"jsonrpc":', b'{"jsonrpc":"2.0","error":{"code":-32700,"message":"Parse error","data":"a line is '),
        (b"[[", b'{"jsonrpc":"2.0","error":{"code":-32700,"message":"Parse error","data":"a line is '),
        (b"stats ", b"CLIENT_ERROR a line is "),
        (b"quit ", b"CLIENT_ERROR a line is "),
    ],
)
@pytest.mark.parametrize("rest", [b"\xff\n", b"1" * 200, b"1" * 200 + b"\n"])
def test_what_is_no_text_is_refused_in_its_dialect_and_the_connection_ends(start: bytes, reply: bytes, rest: bytes) -> None:
    found = requests_of([b'check {"hash":1}\n' + start + rest + b'\ncheck {"hash":2}\n'], max_line=100)
    (_, check), (_, answer) = found
    assert check == Check("1")
    assert isinstance(answer, Answer)
    assert answer.close
    assert answer.data.startswith(reply)
    assert answer.data.count(b"\n") == 1


@given(st.integers(0, 10**20), st.booleans())
def test_the_short_way_and_the_long_way_agree(number: int, space: bool) -> None:
    line = f'check {{"hash":{" " if space else ""}{number}}}'
    assert only(line.encode()) == classic.parse(line)


def test_one_connection_does_not_see_another_ones_bytes() -> None:
    first, second = Connection(), Connection()
    first.receive_data(b"ver")
    second.receive_data(b'{"jsonrpc":"2.0","method":"m"}\n')
    first.receive_data(b"sion\n")
    assert isinstance(first.next_request(), Version)
    assert second.next_request() == Call(None, "m", {}, notify=True)


def test_after_the_end_nothing_more_is_read() -> None:
    connection = Connection()
    connection.receive_data(b"version\nversion\nver")
    assert connection.next_request() == Version()
    connection.end()
    connection.receive_data(b"sion\nversion\n")
    assert (connection.next_request(), connection.has_line, connection.buffered, connection.closed) == (None, False, b"", True)


def test_the_wire_is_pure() -> None:
    forbidden = {"os", "socket", "select", "signal", "subprocess", "threading", "asyncio", "time", "random", "logging"}
    for path in Path(rocksyd.wire.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name.split(".")[0] not in forbidden, path
                below = ("rocksyd.wire", "rocksyd.errors", "rocksyd.model", "rocksyd.options", "rocksyd.shapes")
                assert not name.startswith("rocksyd.") or name.startswith(below), path
