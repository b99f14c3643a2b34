"""Arguments that no daemon takes fail the call that they belong to, with the cause and the cure, and no other."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from rocksyd.client import AsyncClient
from rocksyd.client.daemon_socket import DaemonSocket
from rocksyd.client.protocol import ClientProtocol
from rocksyd.errors import RequestError
from rocksyd.testing import Daemon
from tests.process.test_cli import rocksyd

JOBS = """
import pathlib, time
from rocksyd import job

@job
def size(text):
    return len(text)

@job
def held(path):
    while not pathlib.Path(path).exists():
        time.sleep(0.005)
    return "let go"
"""
TOO_LONG = r"\d+ bytes as a line, and the daemon takes at most 1048576 \(its max_line\): hand over a file's name"
NOT_TEXT = {"in a value": ["a\udcff.csv"], "in a name": [{"\udcff": 1}], "deep inside": [[[["\ud800"]]]]}
NESTED: Any = []
for _ in range(600):
    NESTED = [NESTED]


@pytest.mark.parametrize("size", [2_000_000, 30_000_000])
def test_of_many_calls_of_one_client_only_the_one_that_is_too_long_fails(tmp_path: Path, size: int) -> None:
    async def main(daemon: Daemon) -> None:
        async with AsyncClient(daemon.address) as client:
            waits = [asyncio.create_task(client.call("held", str(tmp_path / "go"))) for _ in range(3)]
            beside = [asyncio.create_task(client.call("size", "x" * number)) for number in (1, 5_000, 1_000_000)]
            with pytest.raises(RequestError, match=TOO_LONG):
                await client.call("size", "x" * size)
            (tmp_path / "go").touch()
            assert await asyncio.gather(*beside) == [1, 5_000, 1_000_000]
            assert await asyncio.gather(*waits) == ["let go"] * 3
            assert await client.call("size", "abc") == 3

    with Daemon(tmp_path, JOBS) as daemon:
        asyncio.run(asyncio.wait_for(main(daemon), 60))
        assert len(daemon.talk().rpc("list", target="held")) == 3


@pytest.mark.parametrize("size", [2_000_000, 30_000_000])
def test_a_blocking_client_is_told_once_and_goes_on(tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    connect = DaemonSocket.__init__
    monkeypatch.setattr(DaemonSocket, "__init__", lambda self, *given: (made.append(self), connect(self, *given))[1])
    with Daemon(tmp_path, JOBS) as daemon, daemon.client() as client:
        with pytest.raises(RequestError, match=TOO_LONG):
            client.call("size", "x" * size)
        assert len(made) == 1
        assert client.call("size", "abc") == 3


def test_map_and_executor_name_the_call_that_is_too_long(tmp_path: Path) -> None:
    from rocksyd import Executor

    with Daemon(tmp_path, JOBS) as daemon, daemon.client() as client:
        results = client.map("size", ["a", "x" * 2_000_000, "ccc"])
        assert next(results) == 1
        with pytest.raises(RequestError, match=TOO_LONG):
            next(results)
        with Executor(address=str(daemon.address)) as executor:
            futures = [executor.submit("size", text) for text in ("a", "x" * 2_000_000, "ccc")]  # type: ignore[arg-type]
            assert [futures[0].result(30), futures[2].result(30)] == [1, 3]
            assert "its max_line" in str(futures[1].exception(30))


def test_the_limit_is_the_daemons_own(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS, parts={"top": 'max_line = "4K"'}) as daemon, daemon.client() as client:
        with pytest.raises(RequestError, match="takes at most 4096"):
            client.call("size", "x" * 5_000)
        assert client.call("size", "x" * 3_000) == 3_000


@pytest.mark.parametrize("params", NOT_TEXT.values(), ids=NOT_TEXT)
def test_what_is_not_text_is_refused_before_it_is_sent(params: list[Any]) -> None:
    with pytest.raises(RequestError, match=r"the parameters of run hold what is not UTF-8 text, .*os\.fsencode"):
        ClientProtocol().call(1, "run", {"target": "x", "params": params})


def test_what_nests_too_deeply_is_refused_before_it_is_sent() -> None:
    with pytest.raises(RequestError, match="the parameters of run nest deeper than 512 levels"):
        ClientProtocol().call(1, "run", {"target": "x", "params": NESTED})


def test_the_command_refuses_the_name_of_a_file_that_is_not_text(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon:
        name = os.fsdecode(b"caf\xe9.csv")
        for words in (["run", "size", f"text={name}"], ["run", "size", "--key", name], ["check", name], ["kill", name]):
            done = rocksyd(daemon.address, *words)
            assert (done.returncode, done.stdout) == (2, ""), words
            assert "is not UTF-8 text" in done.stderr, words
