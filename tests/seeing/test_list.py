"""`list` by every filter, at a real daemon."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rocksyd.client import Client
from rocksyd.errors import RequestError
from rocksyd.testing.daemon import until
from tests.seeing.stage import staged


@pytest.fixture
def client(tmp_path: Path) -> Any:
    with staged(tmp_path, workers=1) as daemon, daemon.client() as client:
        yield client


def keys(client: Client, **filters: Any) -> list[str]:
    return [record["key"] for record in client.runs(**filters)]


def test_list_takes_every_filter_and_says_what_a_run_waits_for(client: Client, tmp_path: Path) -> None:
    client.run("good", key="g1", labels={"tenant": "4"}).wait()
    client.run("bad", key="b1", labels={"tenant": "4", "day": "mon"}).wait()
    client.run("bad", key="b2").wait()
    holder = client.run("holds", str(tmp_path / "go"), key="h", labels={"tenant": "4"})
    until(lambda: holder.status()["state"] == "running", "the pool to be full")
    waiting = client.run("good", key="w")
    delayed = client.run("good", key="later", delay="1h", labels={"tenant": "4"})
    assert keys(client, failed=True) == ["b2", "b1"]
    assert keys(client, failed=True, labels={"tenant": "4"}) == keys(client, labels={"day": "mon"}) == ["b1"]
    assert keys(client, labels={"tenant": "4"}) == ["later", "h", "b1", "g1"]
    assert keys(client, outcome="ok") == ["g1"]
    assert keys(client, outcome="ok", failed=True) == keys(client, labels={"tenant": "none"}) == []
    ends = {record["key"]: record["ended_at"] for record in client.runs(state="ended")}
    assert keys(client, state="ended", since=ends["b1"]) == keys(client, failed=True, since="1h") == ["b2", "b1"]
    assert keys(client, state="ended", until=ends["b1"]) == ["b1", "g1"]
    assert keys(client, target="bad", since=ends["b1"], until=ends["b1"]) == ["b1"]
    assert keys(client, since="1h", limit=2) == ["later", "w"]
    assert keys(client, since="1h", limit=2, after="w") == ["h", "b2"]
    assert keys(client, since="1h", after="b2") == ["b1", "g1"]
    with pytest.raises(RequestError, match="since: expected a duration"):
        client.runs(since="yesterday")
    found = {record["key"]: record.get("waits_for") for record in client.runs()}
    assert (found["h"], found["g1"]) == (None, None)
    assert found["w"]["code"] == "pool_full"
    assert "max_workers = 1" in found["w"]["text"]
    assert found["later"]["code"] == "delay"
    assert client.status("w")["waits_for"] == found["w"]
    assert client.why("w")["reasons"][0]["text"] == found["w"]["text"]
    delayed.terminate()
    (tmp_path / "go").touch()
    holder.wait()
    waiting.wait()
