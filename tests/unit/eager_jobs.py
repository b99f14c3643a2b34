"""Jobs for the tests of eager mode."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from datetime import date

from rocksyd import AsyncClient, Client, JobTimeout, current, job

calls: list[object] = []


@job
def shift(day: date, *, by: int = 1) -> str:
    assert isinstance(day, date)
    print(f"shifting by {by}")
    os.write(1, b"and by descriptor\n")
    current().progress(1, 2, "half")
    return f"{day}+{by} {current().key} {current().attempt}"


@job
async def later(word: str) -> str:
    return word.upper()


class Plain:
    def run(self, params: object) -> object:
        return {"params": params}


@job(retries=3)
def flaky() -> int:
    calls.append((time.monotonic(), current().attempt))
    if current().attempt < 3:
        raise ValueError(f"attempt {current().attempt}")
    return current().attempt


@job
def leave(status: int) -> None:
    sys.exit(status)


@job
def inner(word: str) -> str:
    return word + "!"


@job(max_running=1)
def outer(word: str) -> str:
    mine = current().key
    with Client() as client:
        said = client.call("inner", word=word)
    assert current().key == mine
    os.environ["LEFT_BY_A_JOB"] = "1"
    os.chdir("/")
    return str(said)


@job(max_running=1)
def for_ever() -> None:
    Client().call("for_ever")


@job
async def gathers(words: list[str]) -> list[object]:
    return await asyncio.gather(*(from_asyncio(word) for word in words))


async def from_asyncio(word: str) -> object:
    async with AsyncClient() as client:
        run = await client.run("later", word)
        assert "".join([text async for text in client.logs(run.key, follow=True)]) == ""
        return await run.result()


@job(timeout="10s", grace="5s")
def sleeper(seconds: float, *, polite: bool = False) -> str:
    begin = time.monotonic()
    calls.append(current().deadline - begin)
    for _ in range(int(seconds)):  # a real one would be ended by real seconds
        if polite and current().stopping:
            return f"stopped after {time.monotonic() - begin:g} s"
        time.sleep(1)
    return "slept"


@job(timeout="10s", grace="5s")
def tidy(linger: float) -> str:
    try:
        time.sleep(60)
    except JobTimeout:
        calls.append("tidying")
        time.sleep(linger)
        return "tidied"
    return "slept"


@job(timeout="10ms")
def busy() -> None:
    end = time.monotonic() + 0.02
    while time.monotonic() < end:
        pass


@job
def variable(name: str) -> str | None:
    return os.environ.get(name)


@job
def joined(*results: str) -> list[object]:
    return [*results, list(current().results())]
