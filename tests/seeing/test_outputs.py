"""Outputs that are too long, and those of several attempts, at a real daemon."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from rocksyd.errors import RequestError
from rocksyd.testing.daemon import until
from tests.seeing.stage import rocksyd, staged

MIB = 1 << 20


def test_of_a_long_output_the_beginning_and_the_end_are_kept(tmp_path: Path) -> None:
    with staged(tmp_path, top='[output]\nlimit = "4M"\n') as daemon, daemon.client() as client:
        line = "middle é\n"
        params = {"text": line, "times": 24 * MIB // len(line.encode()), "path": str(tmp_path / "go"), "more": "the very last\n"}
        run = client.run("prints", params=params, key="p")
        path = Path(client.status("p")["log"])
        until(lambda: client.request("logs", {"key": "p", "offset": 2**62})["truncated"], "it to be cut")
        (tmp_path / "go").touch()
        run.wait()
        until(lambda: path.stat().st_blocks * 512 <= 4.5 * MIB, "what is between to be given back to the disk")
        assert path.stat().st_size > 24 * MIB, "each byte that is left keeps its place"
        text = "".join(client.logs("p"))
        assert len(text.encode()) < 4.5 * MIB
        head, mark, tail = re.split(r"\n(\[rocksyd: output cut here, \d+ bytes were not kept \(limit 4M\)\]) *\n", text)
        assert int(re.findall(r"\d+", mark)[0]) + len(head.encode()) + len(tail.encode()) == pytest.approx(
            path.stat().st_size, abs=4
        )
        assert set(head.split("\n")[:-1]) == {line.strip()}
        assert tail.endswith("é\nthe very last\n")
        assert set(tail.split("\n")[1:-2]) == {line.strip()}
        assert "\ufffd" not in text[:-1]
        assert "\0" not in text
        assert rocksyd(daemon, "logs", "p", "--tail", "2").stdout == "middle é\nthe very last\n"
        assert rocksyd(daemon, "logs", "p", "--tail", "900000").stdout.count("last") == 1
        within = client.request("logs", {"key": "p", "offset": 12 * MIB})
        assert within["begin"] > 12 * MIB
        assert within["text"][:200].count("middle") > 10


def test_one_who_follows_a_flood_hears_the_beginning_and_the_end(tmp_path: Path) -> None:
    with staged(tmp_path, top='[output]\nlimit = "4M"\n') as daemon, daemon.client() as client:
        params = {"text": "x" * 99 + "\n", "times": 16 * MIB // 100, "path": str(tmp_path / "go"), "more": "the very last\n"}
        run = client.run("prints", params=params, key="p")
        (tmp_path / "go").touch()
        heard = "".join(client.logs("p", follow=True))
        assert heard.startswith("x" * 99 + "\n")
        assert heard.endswith("x\nthe very last\n")
        assert "\0" not in heard
        run.wait()


def test_each_attempt_is_shown_alone(tmp_path: Path) -> None:
    with staged(tmp_path) as daemon, daemon.client() as client:
        for number in (1, 2, 3):
            run = client.retry("p") if number > 1 else client.run("prints", "same words\n", str(tmp_path / "go"), key="p")
            (tmp_path / "go").touch()
            run.wait()
        whole = "".join(client.logs("p"))
        assert whole == "same words\n" * 3
        for number in (1, 2, 3):
            assert rocksyd(daemon, "logs", "p", "--attempt", str(number)).stdout == "same words\n"
        record = client.status("p")
        assert [past.get("log_from", 0) for past in record["attempts"]] == [0, 11]
        third = client.request("logs", {"key": "p", "attempt": 3})
        assert (third["text"], third["offset"], third["ended"]) == ("same words\n", 33, True)
        with pytest.raises(RequestError, match="no attempt 4"):
            client.request("logs", {"key": "p", "attempt": 4})
        missing = rocksyd(daemon, "logs", "p", "--attempt", "7")
        assert (missing.returncode, "there are: 1, 2, 3" in missing.stderr) == (2, True)


def test_what_has_no_holes_is_cut_to_its_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rocksyd.master.records import cutting

    path = str(tmp_path / "a.log")
    Path(path).write_bytes(b"a" * (5 * MIB))
    monkeypatch.setattr(cutting._libc, "fallocate", lambda *_: -1, raising=False)
    assert cutting.cut(path, 4 * MIB, 0) == MIB
    assert 4 * MIB < os.stat(path).st_size < 4 * MIB + 200
