"""The forms of an entry in the log, and which of them a descriptor gets."""

from __future__ import annotations

import json
import os
import pty
import re
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocksyd.master.records.failed import AT_ONCE, FailedRuns
from rocksyd.model import ENDED, FAILED, OK, Attempt, Now, Order, Run
from rocksyd.posix import log

CLEAN = re.compile(r"[^\x00-\x08\x0b-\x1f\x7f-\x9f]*")


def read(fd: int) -> str:
    return os.read(fd, 1 << 16).decode()


@pytest.fixture(autouse=True)
def nobody_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(log.FORM, raising=False)
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)


def test_a_terminal_gets_text_and_a_pipe_json_with_the_fields() -> None:
    master, slave = pty.openpty()
    log.log("master", "run k failed: \x1b[2J\nno orders", fd=slave, event="run.failed", key="k")
    shown = read(master)
    for fd in (master, slave):
        os.close(fd)
    assert re.fullmatch(r"\S+Z master\[\d+\] run k failed: \\x1b\[2J\r\n    no orders\r\n", shown)
    out, into = os.pipe()
    log.log("master", "run k failed: \x1b[2J\nno orders", fd=into, level=log.WARNING, event="run.failed", key="k", unsaid=None)
    entry = json.loads(read(out))
    for fd in (out, into):
        os.close(fd)
    assert entry.pop("at").endswith("Z")
    assert entry == {
        "process": "master", "pid": os.getpid(), "level": "warning", "text": "run k failed: \x1b[2J\nno orders",
        "event": "run.failed", "key": "k",
    }  # fmt: skip


def test_systemds_journal_gets_the_fields_as_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(tmp_path / "j"))
        monkeypatch.setattr(log, "SOCKET", str(tmp_path / "j"))
        out, into = os.pipe()
        there = os.fstat(into)
        monkeypatch.setenv("JOURNAL_STREAM", f"{there.st_dev}:{there.st_ino}")
        log.log("master", "one\ntwo", fd=into, level=log.ERROR, key="k", generation=7)
        data, fields = journal.recv(1 << 16), {}
    while data:
        name, _, data = data.partition(b"\n")
        size = int.from_bytes(data[:8], "little")
        fields[name.decode()], data = data[8 : 8 + size].decode(), data[9 + size :]
    assert fields == {
        "MESSAGE": "one\ntwo", "PRIORITY": "3", "SYSLOG_IDENTIFIER": "rocksyd", "ROCKSYD_PROCESS": "master",
        "ROCKSYD_LEVEL": "error",
        "ROCKSYD_KEY": "k", "ROCKSYD_GENERATION": "7",
    }  # fmt: skip
    log.log("master", "nobody takes it: it goes where it would have gone", fd=into)
    assert "it goes where it would have gone\n" in read(out)
    for fd in (out, into):
        os.close(fd)


@given(st.text(max_size=6000), st.sampled_from((log.TEXT, log.JSON)))
def test_whatever_is_said_an_entry_is_written_at_once_or_not_at_all_and_steers_nobody(text: str, form: str) -> None:
    out, into = os.pipe()
    os.environ[log.FORM] = form
    try:
        log.log("master", text, fd=into, key="k")
        data = os.read(out, 1 << 16)
    finally:
        del os.environ[log.FORM]
        for fd in (out, into):
            os.close(fd)
    assert len(data) <= log.PIPE_BUF
    assert data.endswith(b"\n")
    shown = data.decode()
    assert CLEAN.fullmatch(shown)
    if form == log.JSON:
        assert shown.count("\n") == 1
        said = json.loads(shown)["text"]
        assert said == text or text.startswith(said[:100])


def failed(key: str, outcome: str = FAILED) -> Run:
    error = {"type": "ValueError", "message": "no orders\nat all", "traceback": ""}
    return Run(key, Order(name="jobs:daily", app="shop"), Attempt(outcome=outcome, error=error, generation=7), state=ENDED)


def test_failed_runs_are_said_with_key_and_cause_and_not_more_than_somebody_reads(capfd: pytest.CaptureFixture[str]) -> None:
    told = FailedRuns()
    told.ended(failed("good", OK), Now(0.0, 0.0))
    for number in range(AT_ONCE + 5):
        told.ended(failed(f"k{number}"), Now(1000.0, 0.0))
    told.ended(failed("late"), Now(1001.0, 0.0))
    entries = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert [entry["key"] for entry in entries] == [*(f"k{number}" for number in range(AT_ONCE)), "late"]
    assert entries[0]["text"] == "run k0 (jobs:daily) failed: ValueError: no orders"
    assert (entries[0]["target"], entries[0]["generation"], entries[0]["level"]) == ("jobs:daily", 7, "warning")
    assert entries[-1]["unsaid"] == 5
    assert "(5 more have failed since the last one here: rocksyd errors)" in entries[-1]["text"]


def test_of_a_long_entry_the_beginning_and_the_end_are_kept() -> None:
    ours, theirs = os.pipe()
    try:
        log.log("master", "the fault\n" + "  File of a traceback\n" * 1000 + "ZeroDivisionError: of whom", theirs)
        said = read(ours)
    finally:
        os.close(ours)
        os.close(theirs)
    assert said.count("\n") == 1, "one entry"
    assert "the fault" in said
    assert "characters cut]" in said
    assert "ZeroDivisionError: of whom" in said
