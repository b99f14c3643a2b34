"""Durations and sizes."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocksyd.units import MAX_DURATION, MAX_SIZE, format_duration, format_size, parse_duration, parse_size

anything = st.one_of(
    st.text(), st.integers(), st.floats(), st.booleans(), st.none(), st.lists(st.integers(), max_size=2), st.just(10**5000)
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25), ("10s", 10), ("5m", 300), ("1h", 3600), ("1d", 86400), ("1h30m", 5400), ("1.5h", 5400), ("0s", 0),
        ("0", 0), ("10", 10), ("2.5", 2.5), (10, 10), (0.5, 0.5),
    ],
)  # fmt: skip
def test_durations(text: object, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "s", "10 s", " 10s", "10s\n", "-1s", "1e3", "10S", "10sec", "1w", "ten", "1..5s", "٣s", "1,5s", True, None, -1, [], {},
     math.nan, math.inf, "9" * 400, "40000d", 10**400],
)  # fmt: skip
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match=r'(?s)expected a duration .*"10s".*, got '):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512M", 512 * 1024**2), ("512MiB", 512 * 1024**2), ("4k", 4096), ("1G", 1024**3), ("2T", 2 * 1024**4),
        ("1.5G", 3 * 2**29), ("0", 0), ("4096", 4096), ("10B", 10), (7, 7),
    ],
)  # fmt: skip
def test_sizes(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    ["", "M", "1MB", "1 M", "1M\n", "-1M", "1P", "1iB", "1\u212a", "0x10",
     1.5, True, None, -1, [], "9" * 41, "9" * 39 + "T", 2**63],
)  # fmt: skip
def test_what_is_no_size(text: object) -> None:
    with pytest.raises(ValueError, match=r'(?s)expected a size .*"512M".*, got '):
        parse_size(text)


@given(anything)
def test_anything_is_a_duration_or_a_sentence(value: object) -> None:
    sentence = ""
    try:
        assert 0 <= parse_duration(value) <= MAX_DURATION
    except ValueError as error:
        sentence = str(error)
    assert len(sentence) < 250


@given(anything)
def test_anything_is_a_size_or_a_sentence(value: object) -> None:
    sentence = ""
    try:
        assert 0 <= parse_size(value) <= MAX_SIZE
    except ValueError as error:
        sentence = str(error)
    assert len(sentence) < 250


@given(st.floats(0, MAX_DURATION))
def test_a_formatted_duration_reads_back_as_what_it_shows(seconds: float) -> None:
    error = 0.5 if seconds >= 60 else 0.0005
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, abs=60 if seconds >= 86400 else error + 1e-9)


@given(st.integers(0, 59_999))
def test_milliseconds_below_a_minute_are_exact(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds / 1000)) == milliseconds / 1000


@given(st.integers(0, MAX_SIZE // 2))
def test_a_formatted_size_reads_back_to_its_decimal(size: int) -> None:
    assert parse_size(format_size(size)) == pytest.approx(size, rel=0.05)


@given(st.integers(1, 1023), st.sampled_from("KMGT"))
def test_whole_sizes_are_exact(count: int, unit: str) -> None:
    assert format_size(parse_size(f"{count}{unit}")) == f"{count}{unit}"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0ms"), (0.0004, "0.4ms"), (0.25, "250ms"), (0.9999, "1s"), (1, "1s"), (1.5, "1.5s"), (59.9999, "1m"), (60, "1m"),
        (90, "1m30s"), (3600, "1h"), (5400.2, "1h30m"), (100000, "1d3h46m"), (-5, "-5s"),
    ],
)  # fmt: skip
def test_durations_for_people(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0"), (1023, "1023"), (1024, "1K"), (1536, "1.5K"), (1024**2 - 1, "1M"), (3 * 2**29, "1.5G"),
     (-1024, "-1K"), (5000 * 2**40, "5000T")],
)  # fmt: skip
def test_sizes_for_people(size: int, text: str) -> None:
    assert format_size(size) == text
