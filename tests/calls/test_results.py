"""What JSON cannot say is never altered without a word: the run fails with a sentence, or its result is dropped and says so."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rocksyd import Executor
from rocksyd.errors import RocksydError
from rocksyd.testing import Daemon, Eager

JOBS = """
from rocksyd import current, job

class Foo:
    pass

KINDS = {
    "object": lambda: {"a": [1, 2, 3, Foo()]},
    "nan": lambda: [1.5, float("nan")],
    "fine": lambda: {"a": [1.5, None]},
}

@job
def strict(kind):
    return KINDS[kind]()

@job(results="lenient")
def lenient(kind):
    return KINDS[kind]()

@job
def early(kind):
    current().finish(KINDS[kind]())
    return "later"

@job
def by_default(kind):
    return KINDS[kind]()
"""
MODULE = "result_jobs"
OBJECT = f"job {MODULE}:{{}} returned a {MODULE}.Foo at result['a'][3], which JSON has no form for: return numbers, "


def all_is_said(status: Callable[[str, str], dict[str, Any]], call: Callable[[str, str], Any]) -> None:
    for name in ("strict", "early"):
        record = status(name, "object")
        assert (record["outcome"], record["result"], record["result_dropped"]) == ("failed", None, None)
        assert record["error"]["message"].startswith(OBJECT.format(name))
        record = status(name, "nan")
        assert (record["outcome"], record["result"]) == ("ok", None)
        assert "the result was dropped: it holds nan at result[1], which JSON has no form for" in record["result_dropped"]
        assert status(name, "fine")["result"] == {"a": [1.5, None]}
        with pytest.raises(RocksydError, match=r"result\['a'\]\[3\]"):
            call(name, "object")
        with pytest.raises(RocksydError, match="nan at result"):
            call(name, "nan")
        assert call(name, "fine") == {"a": [1.5, None]}
    assert call("lenient", "nan") == [1.5, None]
    assert call("lenient", "object")["a"][:3] == [1, 2, 3]
    assert "Foo object" in call("lenient", "object")["a"][3]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / f"{MODULE}.py").write_text(JOBS)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop(MODULE, None)


def test_in_a_daemon_and_through_the_executor(tmp_path: Path) -> None:
    folder = tmp_path / "daemon"
    folder.mkdir()
    app = '[apps.app.pools.easy]\nresults = "lenient"\n[apps.app.jobs_settings.by_default]\npool = "easy"'
    with Daemon(folder, JOBS, parts={"app": app}) as daemon, daemon.client() as client:
        module = client.targets()[0]["target"].partition(":")[0]

        def status(name: str, kind: str) -> dict[str, Any]:
            record = client.run(name, kind).wait()
            if record["error"]:
                record["error"]["message"] = record["error"]["message"].replace(module, MODULE)
            return dict(record)

        all_is_said(status, client.call)
        assert client.call("by_default", "nan") == [1.5, None]
        with Executor(address=str(daemon.address)) as executor:
            all_is_said(status, lambda name, kind: executor.submit(name, kind).result(30))  # type: ignore[arg-type]


def test_in_eager_mode(module: None) -> None:
    with Eager(jobs=[MODULE], echo=False) as client:
        all_is_said(lambda name, kind: dict(client.run(name, kind).wait()), client.call)
