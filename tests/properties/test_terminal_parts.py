"""The pure parts of what is drawn on terminals: never wider than the width, never more lines than rows, whatever is in it."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocksyd.cli import health
from rocksyd.cli.completion import Word, _words_of, fitting
from rocksyd.cli.progress import bar, line
from rocksyd.cli.searching import _piece
from rocksyd.cli.tables import Cell, Column, Screen, columns_of, lines_of, wrapped
from rocksyd.cli.top_keys import Keys
from rocksyd.cli.top_state import FOLLOW, RUNS, WHY, KeyAction, Sample, State, rates_between
from rocksyd.cli.top_view import frame, still
from rocksyd.cli.why import shown
from tests.terminal.screen import Screen as Terminal

SGR = re.compile(r"\x1b\[[0-9]*m")
NUMBERS = st.none() | st.integers() | st.floats(allow_nan=True, allow_infinity=True)
TEXT = st.text(max_size=30) | st.text(alphabet="aé漢字\u0301\t\x1b ", max_size=100)
PROGRESS = st.none() | st.fixed_dictionaries({"done": NUMBERS, "total": NUMBERS, "note": TEXT})
TIMES = st.none() | st.floats(0, 2e9)
RECORD = st.fixed_dictionaries(
    {
        "key": st.text(min_size=1, max_size=20),
        "app": TEXT,
        "target": TEXT,
        "state": st.sampled_from(["waiting", "running", "ended"]),
        "outcome": st.sampled_from([None, "ok", "failed"]),
        "retcode": st.none() | st.integers(0, 255),
        "progress": PROGRESS,
        "attempt": st.integers(1, 9),
        "pid": st.none() | st.integers(1, 1 << 22),
        "priority": st.integers(-9, 9),
        "submitted_at": TIMES,
        "started_at": TIMES,
        "ended_at": TIMES,
        "max_rss": st.integers(0, 1 << 50),
        "labels": st.dictionaries(TEXT, TEXT, max_size=2),
    }
)
PROCESS = st.fixed_dictionaries(
    {
        "worker": st.integers(0),
        "pid": st.integers(0),
        "stage": st.sampled_from(["idle", "running", "finishing"]),
        "seconds": TIMES,
        "key": st.none() | TEXT,
        "jobs": st.integers(0, 10**6),
        "rss": st.integers(0, 1 << 45),
        "generation": st.integers(0, 99),
    }
)
POOL = st.fixed_dictionaries(
    {
        "pool": TEXT,
        "app": TEXT,
        "pm": TEXT,
        "generation": st.integers(0, 10**6),
        "ready": st.booleans(),
        "busy": st.integers(0, 10**6),
        "idle": st.integers(0, 10**6),
        "max_workers": st.integers(0, 10**6),
        "waiting": st.integers(0, 10**9),
        "served": st.integers(0, 10**12),
        "processes": st.lists(PROCESS, max_size=4),
    }
)
STATS = st.fixed_dictionaries(
    {
        "version": TEXT,
        "generation": st.integers(0, 10**9),
        "uptime": st.integers(0, 10**9),
        "runs_running": st.integers(0, 10**9),
        "runs_ended_ok": st.integers(0, 10**12),
        "runs_ended_failed": st.integers(0, 10**12),
        "crashes": st.integers(0, 5),
        "restarts": st.lists(
            st.fixed_dictionaries({"at": TIMES, "ok": st.booleans(), "waited_ms": st.none() | st.floats(0, 1e9), "reason": TEXT}),
            max_size=2,
        ),
    }
)
SAMPLE = st.builds(Sample, st.floats(0, 1e6), st.floats(0, 2e9), STATS, st.lists(POOL, max_size=5), st.lists(RECORD, max_size=8))
KEYS = st.lists(
    st.sampled_from(["up", "down", "end", "f", "w", "k", "y", "/", "a", "esc", "enter", "i", "e", "p", "?", "q", "backspace"])
)


def width_of(text: str) -> int:
    return columns_of(SGR.sub("", text))


@given(st.lists(SAMPLE, max_size=2), KEYS, st.integers(1, 220), st.integers(1, 60), st.booleans(), st.booleans(), TEXT)
def test_a_frame_of_top_fits_the_screen_whatever_is_in_it(  # noqa: PLR0917
    samples: list[Sample], keys: list[str], width: int, height: int, coloured: bool, ascii_only: bool, text: str
) -> None:
    state = State(address=text, ascii=ascii_only)
    for sample in samples:
        state.take(sample)
    for key in keys:
        state.press(key)
        state.take_output(state.subject, text, state.record)
        state.reasons = {"reasons": [{"text": text, "advice": text}]}
        drawn = frame(state, (width, height), 1e9, coloured=coloured)
        assert len(drawn) == height
        assert all(width_of(one) <= width for one in drawn)
        assert coloured or not any("\x1b" in one for one in drawn)
        assert all(SGR.sub("", one).isprintable() for one in drawn)
    assert "\x1b" not in still(state, Screen(), 1e9)


@given(RECORD, st.integers(1, 220), st.sampled_from(["█░", "#."]))
def test_a_line_of_progress_fits_and_is_one_line(record: dict[str, Any], width: int, signs: str) -> None:
    text = line(record, width, 2e9, signs=signs)
    assert columns_of(text) <= width
    assert text.isprintable()


@given(st.floats(0, 1), st.integers(1, 100))
def test_a_bar_is_as_wide_as_it_was_to_be_and_full_only_at_the_end(share: float, width: int) -> None:
    drawn = bar(share, 1, width, "#", ".")
    assert len(drawn) == width
    assert (drawn == "#" * width) == (share == 1)


def test_a_line_of_progress_says_what_is_known() -> None:
    half = {"state": "running", "progress": {"done": 500, "total": 1000, "note": "orders"}, "started_at": 90.0}
    assert line(half, 79, 100.0, signs="#.").split() == ["50", "%", "#" * 20 + "." * 20, "500/1,000", "10s", "left", "orders"]
    assert line({"state": "running", "progress": {"done": 7, "total": None, "note": "rows"}}, 79, 100.0) == "7 rows"
    assert line({"state": "waiting", "attempt": 2}, 79, 100.0) == "waiting for attempt 2"
    assert line({"state": "running"}, 79, 100.0) == ""


@given(TEXT, st.integers(1, 60))
def test_wrapped_text_fits_and_loses_nothing_but_spaces(text: str, width: int) -> None:
    lines = wrapped(text, width)
    assert all(columns_of(one) <= max(width, 2) for one in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


@given(st.lists(st.tuples(TEXT, TEXT, TEXT), max_size=4), st.integers(1, 120), st.booleans())
def test_a_table_is_never_wider_than_the_screen(rows: list[tuple[str, str, str]], width: int, coloured: bool) -> None:
    columns = [Column("KEY"), Column("TARGET", gives=True), Column("PID", right=True, rank=1)]
    found = lines_of(columns, [[Cell(a, "red"), Cell(b), Cell(c, "dim")] for a, b, c in rows], Screen(width, coloured))
    assert len(found) == len(rows) + 1
    assert all(width_of(one) <= width for one in found)


@given(TEXT, TEXT, st.integers(1, 80))
def test_reasons_fit_the_screen(key: str, text: str, width: int) -> None:
    found = {"key": key, "target": text, "state": "waiting", "reasons": [{"text": text, "advice": text}]}
    wide = 2 if any(unicodedata.east_asian_width(character) in "WF" for character in key + text) else 1
    assert all(width_of(one) <= max(width, wide) for one in shown(found, Screen(width, True)).splitlines())


# --- keys and states --------------------------------------------------------------------------------------------------
@given(st.binary(max_size=40), st.integers(0, 40))
def test_keys_can_be_read_from_any_bytes(data: bytes, at: int) -> None:
    keys = Keys()
    for key in keys.read(data[:at]) + keys.read(data[at:]):
        assert key.isprintable()


@pytest.mark.parametrize(
    ("data", "keys"),
    [
        (b"\x1b", ["esc"]), (b"\x1b[A\x1b[B", ["up", "down"]), (b"\x1bOA", ["up"]), (b"q", ["q"]), (b"\r", ["enter"]),
        (b"\x1b[6~x", ["page-down", "x"]), ("ключ".encode(), list("ключ")), (b"\x1b[1;5C", []),
        (b"\x7f ", ["backspace", "space"]),
    ],
)  # fmt: skip
def test_keys_by_their_bytes(data: bytes, keys: list[str]) -> None:
    assert Keys().read(data) == keys


def sample(mono: float = 0.0, ended: int = 0, **states: str) -> Sample:
    runs = [{"key": key, "target": "t", "state": state} for key, state in states.items()]
    return Sample(
        mono, mono, {"runs_ended_ok": ended, "requests": ended}, [{"pool": "p", "served": ended, "processes": []}], runs
    )


def test_the_chosen_run_stays_chosen_when_others_come_and_go() -> None:
    state = State()
    state.take(sample(a="running", b="running", c="waiting"))
    state.press("down")
    assert state.chosen == "b"
    state.take(sample(z="running", b="running", c="waiting"))
    assert state.press("f") == KeyAction(FOLLOW, "b")
    assert state.press("w") == KeyAction(WHY, "b")
    assert state.press("q") == KeyAction("forget")
    assert state.mode == RUNS
    assert state.press("k") is None
    state.take(sample(c="waiting"))
    assert state.press("y") == KeyAction("kill", "b")
    assert state.press("q") == KeyAction("quit")


def test_letters_of_a_filter_are_no_orders() -> None:
    state = State()
    state.take(sample(quick="running", slow="running"))
    for key in ("/", "q", "u"):
        assert state.press(key) is None
    assert [row.id for row in state.rows()] == ["quick"]
    state.press("enter")
    assert state.press("q") == KeyAction("quit")


def test_what_has_ended_cannot_be_killed_and_a_pause_stops_the_screen() -> None:
    state = State(show_ended=True)
    state.take(sample(a="ended"))
    state.press("k")
    assert (state.killing, state.message) == ("", "that run has ended")
    state.press("p")
    state.take(sample(b="running"))
    assert [row.id for row in state.rows()] == ["a"]


def test_rates_are_per_second_and_unknown_after_a_new_start() -> None:
    rates = rates_between(sample(10.0, 100), sample(12.0, 140))
    assert rates is not None
    assert (rates.ended, rates.requests, rates.pools) == (20.0, 20.0, {"p": 20.0})
    assert rates_between(sample(10.0, 100), sample(12.0, 0)) is None
    assert rates_between(sample(0.0, 0), sample(5e-324, 140)) is None, "no rate is infinite"


# --- health -----------------------------------------------------------------------------------------------------------
HEALTH: dict[str, Any] = {
    "ok": False,
    "problems": [
        "application shop is not loaded, which is tried again and again: ImportError: no module orders",
        "draining",
    ],
    "advice": ["correct it and run `rocksyd restart`", "no more runs are taken"],
    "generation": 7,
    "version": "0.1.0",
    "listen": ["unix:///srv/shop/run/rocksyd.sock", "tcp://127.0.0.1:31337"],
    "exec": ["unix:///srv/shop/run/rocksyd.sock.exec"],
    "zygotes": {"shop@7": {"state": "loading", "pid": 4711, "memory": 0, "huge": 0}},
    "companions": [
        {"name": "metrics", "state": "ready", "pid": 4712, "restarts": 0, "reason": ""},
        {"name": "gateway", "state": "failed", "pid": None, "restarts": 3, "reason": "address already in use: 127.0.0.1:8080"},
    ],
    "faults": {"clients": 2, "workers": 0},
}


def test_health_says_the_problems_first_each_with_its_cure() -> None:
    lines = health.shown(HEALTH, Screen()).splitlines()
    assert lines[0] == "not healthy, rocksyd 0.1.0, generation 7"
    assert lines[1].startswith("- application shop is not loaded")
    assert lines[2:5] == ["  correct it and run `rocksyd restart`", "- draining", "  no more runs are taken"]
    text = "\n".join(lines)
    assert re.search(r"gateway +failed +3 +address already in use", text)
    assert re.search(r"metrics +ready +4712", text)
    assert re.search(r"clients +2", text)
    assert "workers" not in text.partition("FROM")[2], "nothing was at fault there"


def test_health_of_a_daemon_that_says_only_what_it_must() -> None:
    assert health.shown({"ok": True}, Screen()) == "healthy\n"


@given(st.integers(1, 220), st.booleans(), st.text(max_size=300))
def test_health_fits_any_screen(width: int, colours: bool, reason: str) -> None:
    found = {**HEALTH, "problems": [reason, *HEALTH["problems"]]}
    for said in health.shown(found, Screen(width, colours)).splitlines():
        assert width_of(said) <= max(width, 2)


# --- completion -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("before", "current", "found"),
    [
        ([], "res", ["restarts", "restart"]), (["stop"], "--no", ["--no-wait"]),
        (["ps", "--state"], "", ["waiting", "running", "ended"]),
        (["ps"], "--state=w", ["--state=waiting"]), (["completion"], "z", ["zsh"]), (["completion", "zsh"], "", []),
        (["serve", "--pid-file"], "", [":files"]), (["nonsense"], "", []), (["stack", "k"], "", []),
        (["kill", "k", "--signal"], "QU", ["QUIT"]), (["stop", "--"], "-", []),
    ],
)  # fmt: skip
def test_what_fits_a_place(before: list[str], current: str, found: list[str]) -> None:
    assert [word.text for word in fitting(before, current)] == found


def test_every_option_is_offered_with_what_it_means_and_only_once() -> None:
    words = fitting(["run", "t", "--wait"], "--")
    assert all(isinstance(word, Word) and word.meaning for word in words)
    assert "--wait" not in [word.text for word in words]


@given(st.text(max_size=30), st.sampled_from(["", ":=", " \t\n\"'><=;|&(:"]))
def test_any_line_is_cut_into_words_or_refused(text: str, breaks: str) -> None:
    try:
        before, current, kept = _words_of(f"rocksyd {text}", breaks)
    except ValueError:
        return
    assert kept <= len(current)
    assert all(isinstance(word, str) for word in before)


# --- the tests' own terminal --------------------------------------------------------------------------------------------
@given(st.lists(st.binary(max_size=10), max_size=10))
def test_the_screen_of_the_tests_takes_any_bytes_in_any_pieces(pieces: list[bytes]) -> None:
    whole, cut = Terminal(20, 5), Terminal(20, 5)
    whole.feed(b"".join(pieces))
    for piece in pieces:
        cut.feed(piece)
    assert cut.lines == whole.lines


@given(
    st.lists(st.text(alphabet="ab漢é ", max_size=40), min_size=1, max_size=7).filter(lambda pieces: len(pieces) % 2),
    st.integers(1, 80),
)
def test_what_a_search_found_fits_and_what_is_left_out_of_it_is_an_ellipsis(pieces: list[str], width: int) -> None:
    whole, line = _piece(pieces, None, Screen()), _piece(pieces, width, Screen(width))
    assert columns_of(line) <= width
    assert (line == whole) == (columns_of(whole) <= width)
    for part in line.split("…"):
        assert part in whole
    assert _piece(pieces, width, Screen(width, coloured=True)).replace("\x1b[1;35m", "").replace("\x1b[0m", "") == line
