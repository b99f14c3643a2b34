"""The pure parts of the command line: phrases, tables, words."""

from __future__ import annotations

import argparse
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocksyd.cli import check, listing, numbers, pool_tables
from rocksyd.cli.arguments import meant, pair, signal_number
from rocksyd.cli.output import clean
from rocksyd.cli.phrases import describe, exit_status
from rocksyd.cli.tables import Cell, Column, Screen, columns_of, cut, render
from rocksyd.units import parse_duration, rough_duration

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def ended(**changes: Any) -> dict[str, Any]:
    return {"key": "nightly", "state": "ended", "outcome": "ok", "retcode": 0, "started_at": 10.0, "ended_at": 11.2, **changes}


@pytest.mark.parametrize(
    ("record", "line"),
    [
        (ended(), "nightly: ended ok, retcode 0, 1.2s"),
        (ended(outcome="failed", retcode=3), "nightly: ended failed, retcode 3, 1.2s"),
        (ended(outcome="failed", retcode=137, signal=9), "nightly: ended failed, signal KILL (9), retcode 137, 1.2s"),
        (
            ended(outcome="timeout", retcode=143, signal=15, reason="timeout"),
            "nightly: ended timeout, signal TERM (15), retcode 143, 1.2s",
        ),
        (ended(outcome="cancelled", retcode=None, started_at=None), "nightly: ended cancelled, exit status None"),
        (
            {
                "key": "1",
                "state": "running",
                "pid": 7,
                "started_at": 17.0,
                "attempt": 2,
                "progress": {"done": 1, "total": 4, "note": "x\ny"},
            },
            "1: running, pid 7, attempt 2, 25 % x\\ny, 3s",
        ),
        ({"key": "1", "state": "waiting", "submitted_at": 10.0}, "1: waiting, 10s"),
        ({"key": "\x1b[31m"}, "\\x1b[31m: None"),
    ],
)
def test_a_run_in_a_line(record: dict[str, Any], line: str) -> None:
    if "cancelled" in line:
        assert describe(record, 20.0).startswith("nightly: ended cancelled, retcode None")
    else:
        assert describe(record, 20.0) == line


@given(
    st.dictionaries(st.sampled_from(["key", "state", "outcome", "retcode", "error", "started_at", "ended_at", "reason"]), JSON)
)
def test_exit_status_is_a_status_whatever_the_record_says(record: dict[str, Any]) -> None:
    status = exit_status(record)
    assert 0 <= status <= 255
    assert (status == 0) == (record.get("outcome") == "ok")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0ms"), (0.0123, "12ms"), (0.0999, "100ms"), (1.24, "1.2s"), (9.96, "10s"), (59.6, "1m"), (192, "3m12s"),
     (7500, "2h5m"), (356400, "4d3h")],
)  # fmt: skip
def test_a_time_that_passes_is_said_in_one_spelling(seconds: float, text: str) -> None:
    assert rough_duration(seconds) == text
    assert parse_duration(text) == pytest.approx(seconds, rel=0.1, abs=0.001)


@given(st.text())
def test_clean_text_is_one_printable_line_and_stays_as_it_is_when_it_was_one(text: str) -> None:
    assert clean(text).isprintable()
    assert clean(clean(text)) == clean(text)
    assert (clean(text) == text) == text.isprintable()


@given(st.text(), st.integers(1, 40))
def test_cut_fits(text: str, width: int) -> None:
    assert columns_of(cut(text, width)) <= width


@given(st.lists(st.tuples(st.text(max_size=60), st.text(max_size=60)), max_size=5), st.integers(20, 100))
def test_a_table_fits_the_terminal_and_is_aligned(rows: list[tuple[str, str]], width: int) -> None:
    text = render([Column("A", gives=True), Column("B", gives=True)], [[Cell(a, "red"), Cell(b)] for a, b in rows], Screen(width))
    lines = text.split("\n")[:-1]
    assert all(columns_of(line) <= width for line in lines)
    assert "\x1b" not in text
    if rows and any(a for a, _ in rows) and any(b for _, b in rows):
        assert len(lines) == len(rows) + 1


@given(st.lists(st.tuples(st.text(max_size=60), st.text(max_size=60)), min_size=1, max_size=5), st.integers(20, 100))
def test_what_hangs_goes_on_in_further_lines_and_loses_nothing(rows: list[tuple[str, str]], width: int) -> None:
    columns = [Column("N"), Column("A", gives=True, hangs=True), Column("B", gives=True, hangs=True)]
    cells = [[Cell("-"), Cell(a, "red"), Cell(b)] for a, b in rows]
    lines = render(columns, cells, Screen(width)).split("\n")[:-1]
    assert all(columns_of(line) <= width for line in lines)
    assert sum(line.startswith("-") for line in lines) >= len(rows)
    assert sorted("".join(lines[1:]).replace(" ", "")) == sorted(clean("-".join(["", *map("".join, rows)])).replace(" ", ""))


def test_columns_of_the_highest_rank_are_left_out_before_text_becomes_unreadable() -> None:
    columns = [Column("KEY"), Column("APP", rank=1), Column("CPU", right=True, rank=2), Column("NOTE", gives=True)]
    row = [[Cell("a"), Cell("shop"), Cell("3 ms"), Cell("x" * 60)]]
    titles = {width: render(columns, row, Screen(width)).split("\n")[0].split() for width in (60, 40, 34, 20)}
    assert titles[60] == ["KEY", "APP", "CPU", "NOTE"]
    assert titles[40] == ["KEY", "APP", "NOTE"]
    assert titles[34] == titles[20] == ["KEY", "NOTE"]
    assert render(columns, row, Screen(20)).split("\n")[1] == "a    " + "x" * 14 + "…"
    assert render(columns, row, Screen()).split("\n")[1].endswith("x" * 60)


def test_colours_only_where_wanted() -> None:
    row = [[Cell("x", "red")]]
    assert render([Column("A")], row, Screen(80, True)) == "\x1b[1mA\x1b[0m\n\x1b[31mx\x1b[0m\n"
    assert render([Column("A")], row, Screen()) == "A\nx\n"


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["key", "app", "target", "state", "outcome", "pid", "progress", "attempt"]),
            st.none() | st.text(max_size=5),
        ),
        max_size=3,
    )
)
def test_ps_shows_any_record(records: list[dict[str, Any]]) -> None:
    for record in records:
        record.pop("attempt", None)
    assert listing.table(records, 0.0, Screen()).count("\n") == len(records) + 1


@given(st.dictionaries(st.text(), JSON))
def test_stats_shows_any_numbers(values: dict[str, Any]) -> None:
    numbers.shown_stats(values, Screen())
    pool_tables.shown_pools(values, Screen(80, True))
    pool_tables.shown_workers(values, Screen(80, True))


@given(JSON)
def test_the_fast_path_reads_json_as_json_does(value: Any) -> None:
    assert check._decoded(json.dumps({"value": value})) == {"value": value}
    assert check._decoded(json.dumps({"value": value}, ensure_ascii=False)) == {"value": value}


@given(st.text())
def test_the_fast_path_writes_json_as_json_does(text: str) -> None:
    assert json.loads(check._quoted(text)) == text


@given(st.text(alphabet="abc_", min_size=1), JSON)
def test_a_value_that_is_json_is_what_it_says(name: str, value: Any) -> None:
    given, text = pair(f"{name}={json.dumps(value)}")
    assert (given, meant(text)) == (name, value)


@pytest.mark.parametrize(
    ("word", "value"), [("a=b=c", "b=c"), ("a=", ""), ("a=NaN", "NaN"), ("a=007", "007"), ("a=" + "[" * 100_000, "[" * 100_000)]
)
def test_a_value_that_is_no_json_is_text(word: str, value: str) -> None:
    name, text = pair(word)
    assert (name, meant(text)) == ("a", value)


@pytest.mark.parametrize(
    ("text", "schema", "value"),
    [
        ("5", {"type": "string"}, "5"),
        ("null", {"type": "string"}, "null"),
        ("null", {"anyOf": [{"type": "string"}, {"type": "null"}]}, None),
        ("5", {"type": "integer"}, 5),
        ("5", {"anyOf": [{"type": "integer"}, {"type": "string"}]}, 5),
        ("5", {}, 5),
        ("[1]", {"enum": ["[1]", "[2]"]}, "[1]"),
        ('"5"', {"type": "string"}, "5"),
        ("2026", {"type": "string", "format": "date"}, 2026),
        ("5", {"type": "boolean"}, 5),
        ("1e400", {"type": "string"}, "1e400"),
    ],
)
def test_what_was_typed_is_text_where_the_parameter_takes_only_that(text: str, schema: dict[str, Any], value: Any) -> None:
    assert meant(text, schema) == value


DECIMAL: dict[str, Any] = {"anyOf": [{"type": "string", "format": "decimal"}, {"type": "number"}]}


@pytest.mark.parametrize(
    ("text", "schema", "value"),
    [
        ("12.10", DECIMAL, "12.10"),
        ("12.1", DECIMAL, 12.1),
        ("0.123456789012345678901234567890", DECIMAL, "0.123456789012345678901234567890"),
        ("123456789012345678901234567890", DECIMAL, 123456789012345678901234567890),
        ("12.10", {"anyOf": [*DECIMAL["anyOf"], {"type": "null"}]}, "12.10"),
        ("[12.10, 1]", {"type": "array", "items": DECIMAL}, ["12.10", 1]),
        ("[1.0, 2.50]", {"type": "array", "prefixItems": [{"type": "number"}, DECIMAL]}, [1.0, "2.50"]),
        ('{"a": 1.10}', {"type": "object", "additionalProperties": DECIMAL}, {"a": "1.10"}),
        ('{"a": 1.10, "b": 1.10}', {"type": "object", "properties": {"a": DECIMAL}}, {"a": "1.10", "b": 1.1}),
        ("12.10", {"type": "number"}, 12.1),
        ("12.10", {}, 12.1),
        ("12.10", {"anyOf": [{"type": "string"}, {"type": "number"}]}, 12.1),
    ],
)
def test_a_decimal_keeps_all_digits_that_were_typed(text: str, schema: dict[str, Any], value: Any) -> None:
    found = meant(text, schema)
    assert json.loads(json.dumps(found)) == value


@pytest.mark.parametrize(("word", "number"), [("TERM", 15), ("sigkill", 9), ("34", 34)])
def test_signals(word: str, number: int) -> None:
    assert signal_number(word) == number


@pytest.mark.parametrize("word", ["", "0", "65", "-9", "SIG"])
def test_no_signals(word: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        signal_number(word)
