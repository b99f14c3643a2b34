"""The companion ``history`` at a real daemon: what ended is found, and which outputs are kept."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rocksyd.client import Client
from rocksyd.companions.history import History
from rocksyd.companions.history_index import Index, Text, Wanted
from rocksyd.companions.history_outputs import text_of
from rocksyd.errors import RequestError
from rocksyd.testing.daemon import Daemon, until
from tests.companions.stage import companion
from tests.seeing.stage import CLOCK, on_terminal, rocksyd, staged
from tests.seeing.test_commands import EVIL


def found(client: Client, text: str, **more: Any) -> list[str]:
    return [row["key"] for row in client.request("history.search", {"text": text, **more})]


def comes(question: Callable[[], bool], what: str = "it to be taken in") -> None:
    until(question, what)


def outputs(daemon: Daemon) -> list[str]:
    folder = daemon.folder / "var" / "output"
    return sorted(path.stem for path in folder.glob("*/*.log"))


def test_words_in_what_ended_are_found(tmp_path: Path) -> None:
    with staged(tmp_path, top="[history]\n") as daemon, daemon.client() as client:
        client.run("prints", "the order 4711 of M\x1b[31mü\x1b[0mller\nwas shipped\n", key="a", labels={"tenant": "four"}).wait()
        client.run("bad", "no such table: orders", key="b").wait()
        client.run("prints", "nothing of it\n", key="c").wait()
        comes(lambda: found(client, "nothing") == ["c"])
        assert found(client, "4711") == found(client, "shipped ORDER") == ["a"]
        assert found(client, '"no such table"') == found(client, "tab*") == found(client, "valueerror") == ["b"]
        assert found(client, '"such no table"') == found(client, "tabl") == []
        assert found(client, "four") == ["a"], "labels"
        assert found(client, "of", outcome="ok") == ["c", "a"], "the last comes first"
        assert found(client, "of", after="b") == found(client, "of", until="0s", target="prints", limit=5)[1:] == ["a"]
        assert found(client, "order*", failed=True) == found(client, "order*", outcome="failed") == ["b"]
        assert found(client, "order*", since="1h", target="bad") == ["b"]
        (row,) = client.request("history.search", {"text": "4711"})
        assert row["text"][1::2] == ["4711"]
        assert "".join(row["text"]).count("\x1b") == 0
        client.free("a")
        comes(lambda: found(client, "4711") == [], "what was freed not to be found")
        client.retry("b").wait()
        comes(lambda: len(found(client, "orders")) == 1)
        assert daemon.talk().ask("restart") == {"error_text": "Restarted successfully"}
        client.run("prints", "after the restart\n", key="d").wait()
        comes(lambda: found(client, "restart") == ["d"])
        assert found(client, "orders") == ["b"]


def test_the_command_shows_what_was_found(tmp_path: Path) -> None:
    with staged(tmp_path, top="[history]\n") as daemon, daemon.client() as client:
        client.run("prints", f"{EVIL} the order\n4711 came", key=f"k{EVIL}").wait()
        comes(lambda: found(client, "4711") != [])
        plain = rocksyd(daemon, "search", "order", "4711")
        assert (plain.returncode, plain.stderr) == (0, "")
        assert re.search(rf"^{CLOCK}  k.*  prints  ok\n    .*the order 4711 came\n$", plain.stdout, re.DOTALL)
        assert json.loads(rocksyd(daemon, "search", "4711", "--json").stdout)[0]["key"] == f"k{EVIL}"
        shown = re.sub(r"\x1b\[[0-9;]*m|\r", "", on_terminal(daemon, "search", "4711"))
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", shown)
        nothing = rocksyd(daemon, "search", "nowhere")
        assert (nothing.returncode, nothing.stdout) == (1, "")


def test_without_the_companion_search_says_what_to_add_and_errors_asks_the_master(tmp_path: Path) -> None:
    with staged(tmp_path) as daemon, daemon.client() as client:
        client.run("bad", key="b").wait()
        refused = rocksyd(daemon, "search", "orders")
        assert (refused.returncode, "add a table [history]" in refused.stderr) == (1, True)
        assert [group["key"] for group in json.loads(rocksyd(daemon, "errors", "--json").stdout)] == ["b"]


def test_runs_and_errors_are_those_of_the_master(tmp_path: Path) -> None:
    with staged(tmp_path, top='[history]\nindex_size = "0"\n') as daemon, daemon.client() as client:
        for number in range(3):
            client.run("bad", f"order {number}", key=f"b{number}", labels={"n": str(number % 2)}).wait()
        client.run("good", key="g").wait()
        for filters in ({}, {"failed": True}, {"labels": {"n": "0"}}, {"target": "good"}, {"since": "1h", "limit": 2}):
            records = client.request("history.runs", filters)
            assert records == client.request("list", {"state": "ended", **filters})
        assert [record["key"] for record in client.request("history.runs", {"after": "b2"})] == ["b1", "b0"]
        answer = client.request("history.errors", {"since": "1h"})
        assert [(group["count"], group["key"]) for group in answer["groups"]] == [(3, "b2")]
        assert (answer["looked_at"], answer["complete"]) == (3, True)
        assert client.request("history.errors", {"limit": 2})["complete"] is False
        for wrong in (
            {"text": 1},
            {"limit": 0},
            {"nobody": 1},
            {"since": "yesterday"},
            {"after": "unknown"},
            {"labels": {"a": 1}},
        ):
            with pytest.raises(RequestError):
                client.request("history.runs", wrong)
        with pytest.raises(RequestError, match="there is no index"):
            found(client, "order")


def test_of_a_long_output_the_beginning_and_the_end_are_found(tmp_path: Path) -> None:
    with staged(tmp_path, top='[history]\nindex_each = "1K"\n') as daemon, daemon.client() as client:
        text = "first\n" + "middle\n" * 2000 + "\0\nlast\n"
        half = len(text) // 2
        client.run("prints", params={"text": text[:half], "more": "between " + text[half:]}, key="p").wait()
        comes(lambda: found(client, "first") == ["p"])
        assert (found(client, "last"), found(client, "between")) == (["p"], [])


def test_the_oldest_outputs_go_when_there_are_too_many(tmp_path: Path) -> None:
    with staged(tmp_path, top="[output]\nkeep_runs = 3\n") as daemon, daemon.client() as client:
        going = client.run("prints", "x", str(tmp_path / "go"), key="going")
        until(lambda: client.status("going")["state"] == "running", "it to run")
        for number in range(5):
            client.run("prints", f"output{number}", key=f"p{number}").wait()
        comes(lambda: outputs(daemon) == ["going", "p2", "p3", "p4"], "the oldest to go, and none that is written")
        comes(lambda: found(client, "output*") == ["p4", "p3", "p2"])
        assert len(client.runs()) == 6, "the runs are remembered"
        assert client.request("logs", {"key": "p0"})["text"] == ""
        client.free("p4")
        client.run("prints", "once more", key="q").wait()
        comes(lambda: found(client, "once") == ["q"])
        comes(lambda: outputs(daemon) == ["going", "p2", "p3", "q"], "what others have removed not to count")
        (tmp_path / "go").touch()
        going.wait()
        comes(lambda: outputs(daemon) == ["going", "p3", "q"])


def test_the_oldest_outputs_go_when_they_are_too_large(tmp_path: Path) -> None:
    with staged(tmp_path, top='[output]\nkeep_size = "1M"\n') as daemon, daemon.client() as client:
        for number in range(4):
            client.run("prints", params={"text": "x", "times": 400 << 10}, key=f"p{number}").wait()
        comes(lambda: outputs(daemon) == ["p2", "p3"], "the oldest to go")


def test_one_that_is_killed_is_followed_by_one_that_goes_on(tmp_path: Path) -> None:
    with staged(tmp_path, top="[history]\n") as daemon, daemon.client() as client:
        client.run("prints", "before", key="a").wait()
        comes(lambda: found(client, "before") == ["a"])
        talk = daemon.talk()
        pid = companion(talk, "history")["pid"]
        os.kill(pid, signal.SIGKILL)
        client.run("prints", "after", key="b").wait()
        until(lambda: companion(talk, "history")["pid"] not in (None, 0, pid), "another one")
        until(lambda: companion(talk, "history")["state"] == "ready", "it to be ready")
        comes(lambda: found(client, "after") == ["b"])
        assert found(client, "before") == ["a"]


# --- its parts --------------------------------------------------------------------------------------------------------
def text(key: str, rev: int, output: str) -> Text:
    return Text(key, rev, "app", "job", "ok", float(rev), f"/{key}.log", key, output)


def test_the_index_has_a_size_and_is_made_again_where_it_is_damaged(tmp_path: Path) -> None:
    index = Index(str(tmp_path / "h" / "index.sqlite"))
    index.acquire()
    index.add([text(f"k{number}", number, f"word{number} " * 100) for number in range(10)], 9, 2000)
    assert 0 < index.size <= 2000
    keys = [row["key"] for row in index.search(Wanted("k*"))]
    assert keys == ["k9", "k8", "k7"]
    assert index.position == 9
    index.add([text("k9", 10, "other")], 10, 2000)
    assert (index.search(Wanted("word9")), index.known(["k9", "gone"])) == ([], {"k9": 10})
    index.close()
    (tmp_path / "h" / "index.sqlite").write_bytes(b"no database" * 1000)
    again = Index(index.path)
    again.acquire()
    assert (again.position, again.size, again.search(Wanted("k9"))) == (0, 0, [])
    assert (tmp_path / "h" / "index.sqlite.damaged").exists()
    again.close()


@pytest.mark.parametrize("words", ['"', "* AND (", "a NEAR(", 'x"y"z', "col:a", "\0", "a OR b", "'; DROP TABLE runs", "-a ^b"])
def test_no_words_are_anything_but_words(tmp_path: Path, words: str) -> None:
    index = Index(str(tmp_path / "index.sqlite"))
    index.acquire()
    index.add([text("k", 1, "a b c")], 1, 1000)
    try:
        found = [row["key"] for row in index.search(Wanted(words))]
    except RequestError as error:
        found = [str(error)]
    index.close()
    assert found in ([], ["k"], ["text: expected words to look for"])


def test_what_is_no_file_has_no_text(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.log")
    assert text_of(str(tmp_path / "fifo.log"), 10) == text_of(str(tmp_path / "gone.log"), 10) == ""
    (tmp_path / "a.log").write_bytes(b"\xff\x1b]0;title\x07word\x1b[2J")
    assert text_of(str(tmp_path / "a.log"), 100).split() == ["�", "word"]


def test_what_is_written_and_cannot_be_read_yet_is_looked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk may take longer than the first look waits: SQLite shows a commit when the disk has it, and tells nobody."""
    monkeypatch.setattr("rocksyd.companions.history.LULL", 0.01)
    monkeypatch.setattr("rocksyd.companions.history.SECOND_LOOKS", (0.01, 0.02))
    settings = {"state_dir": str(tmp_path), "index_size": 1 << 20, "index_each": 1 << 10, "keep_runs": 0, "keep_size": 0}
    stub: Any = SimpleNamespace(settings=settings)
    history = History(stub)
    looks: list[None] = []

    def look() -> bool:
        looks.append(None)
        return False

    monkeypatch.setattr(history, "_look", look)
    thread = threading.Thread(target=history.act, daemon=True)
    thread.start()
    try:
        until(lambda: len(looks) == 3, "the first look and two more")
        (tmp_path / "journal.sqlite-wal").write_bytes(b"a commit")
        until(lambda: len(looks) >= 6, "a look at what was written, and two more")
    finally:
        history.leave(thread)
        os.close(history._wake)
