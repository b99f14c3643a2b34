from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocksyd.wire import LineBuffer, LineTooLong

# Few different bytes, so that line ends meet each other and the limit.
_texts = st.lists(st.sampled_from([b"\n", b"\r\n", b"\r", b"a", b"bcd", b"\x00"]), max_size=40).map(b"".join)
_limits = st.integers(1, 12)


def _lines(pieces: list[bytes], max_line: int) -> list[bytes | None]:
    """The lines; a None at the end for one that is too long."""
    buffer = LineBuffer(max_line)
    found: list[bytes | None] = []
    for piece in pieces:
        buffer.append(piece)
        try:
            while (line := buffer.next_line()) is not None:
                found.append(line)
        except LineTooLong:
            return [*found, None]
    return found


def _expected(data: bytes, max_line: int) -> list[bytes | None]:
    *complete, rest = data.split(b"\n")
    found: list[bytes | None] = []
    for line in complete:
        if len(line.removesuffix(b"\r")) > max_line:
            return [*found, None]
        found.append(line.removesuffix(b"\r"))
    return [*found, None] if len(rest.removesuffix(b"\r")) > max_line else found


@given(data=_texts, max_line=_limits, cuts=st.lists(st.integers(0, 120)))
def test_any_cutting_gives_the_same_lines(data: bytes, max_line: int, cuts: list[int]) -> None:
    edges = sorted({0, len(data), *(cut for cut in cuts if cut <= len(data))})
    pieces = [data[start:end] for start, end in itertools.pairwise(edges)]
    expected = _expected(data, max_line)
    assert _lines(pieces, max_line) == expected
    assert _lines([data[at : at + 1] for at in range(len(data))], max_line) == expected
    assert _lines([data], max_line) == expected


@given(data=_texts, taken=st.integers(0, 5), max_line=_limits)
def test_what_remains_goes_on_in_another_buffer(data: bytes, taken: int, max_line: int) -> None:
    buffer = LineBuffer(max_line)
    buffer.append(data)
    found: list[bytes | None] = []
    try:
        for _ in range(taken):
            line = buffer.next_line()
            if line is None:
                break
            found.append(line)
    except LineTooLong:
        pass
    assert found + _lines([buffer.remaining()], max_line) == _expected(data, max_line)


def test_a_line_may_be_exactly_as_long_as_allowed() -> None:
    assert _lines([b"12345\n12345\r\n123456\n1\n"], 5) == [b"12345", b"12345", None]


def test_too_long_is_said_again_and_shows_the_beginning() -> None:
    buffer = LineBuffer(10)
    buffer.append(b"stats items, and much more")
    for _ in range(2):
        assert buffer
        with pytest.raises(LineTooLong, match="10 bytes") as caught:
            buffer.next_line()
        assert caught.value.start == b"stats items,"


def test_memory_is_bounded_by_the_limit() -> None:
    buffer = LineBuffer(1000)
    for _ in range(1000):
        buffer.append(b"x" * 900)
        assert len(buffer.remaining()) <= 1000 + 900
    for line in range(3):
        buffer.append(b"\n" * 50)
        assert len(buffer.remaining()) <= 1002, line


def test_a_buffer_is_true_when_there_is_something_to_take() -> None:
    buffer = LineBuffer(100)
    assert not buffer
    buffer.append(b"half")
    assert not buffer
    buffer.append(b" and half\nrest")
    assert buffer
    assert buffer.next_line() == b"half and half"
    assert not buffer
    assert buffer.remaining() == b"rest"
    buffer.clear()
    assert buffer.remaining() == b""


def test_a_megabyte_in_single_bytes_and_many_lines_in_one_chunk() -> None:
    # Quadratic code would be stopped by the time limit of the test: 10**12 steps for the first, 10**10 for the second.
    buffer = LineBuffer(1 << 20)
    for _ in range(1 << 20):
        buffer.append(b"x")
        assert buffer.next_line() is None
    buffer.append(b"\n" + b"ab\n" * 100_000)
    assert buffer.next_line() == b"x" * (1 << 20)
    for _ in range(100_000):
        assert buffer.next_line() == b"ab"
    assert buffer.next_line() is None
