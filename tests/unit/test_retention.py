"""How long ended runs are remembered: by target and outcome, walked through a piece at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocksyd import config
from rocksyd.core.retention import Kept, Retention, retention
from rocksyd.core.targets import Application
from rocksyd.errors import ConfigError
from rocksyd.journal import ageing
from rocksyd.journal.store import Journal
from rocksyd.master.records import forgetting
from rocksyd.model import ENDED, OUTCOMES, Run
from tests.unit.runs import run_of

TEXT = """
[journal]
keep = "7d"
keep_failed = "30d"
[journal.targets]
nightly = {{ keep = "90d" }}
"shop.jobs:noise" = {{ keep = "1h", keep_failed = "2h" }}
failures = {{ keep_failed = "365d" }}
{more}
[apps.app]
path = "."
jobs = ["jobs"]
"""
DAY = 86_400.0


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with closing(Journal(str(tmp_path / "j"), sync="normal")) as journal:
        yield journal


def rules(more: str = "") -> Retention:
    app = Application("app")
    app.jobs = {"nightly": {"target": "shop.jobs:nightly"}, "noise": {"target": "shop.jobs:noise"}}
    return retention(config.parse(TEXT.format(more=more), "/srv/rocksyd.toml"), {"app": app})


def test_the_rule_of_a_target_holds_by_every_name_that_callers_write() -> None:
    found = rules()
    assert found.usual == Kept(7 * DAY, 30 * DAY)
    assert found.kept("nightly") == found.kept("shop.jobs:nightly") == Kept(90 * DAY, 90 * DAY)
    assert found.kept("noise") == found.kept("shop.jobs:noise") == Kept(3600.0, 7200.0)
    assert found.kept("failures") == Kept(7 * DAY, 365 * DAY)
    assert found.kept("another") == found.usual
    assert not found.plain
    assert Retention(Kept(1.0, 1.0)).plain


def test_what_is_wrong_with_it_has_its_line() -> None:
    with pytest.raises(ConfigError, match=r"rocksyd.toml:9: journal.targets.a.keeep: unknown key; did you mean keep"):
        rules('a = { keeep = "1d" }')


def test_so_many_of_the_latest_are_counted_a_part_at_a_time(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    journal.commit([run_of(f"k{n}", state=ENDED, outcome="ok", ended_at=float(n), sequence=n) for n in range(20)], [])
    monkeypatch.setattr(forgetting, "COUNTED_AT_ONCE", 4)
    monkeypatch.setattr(forgetting, "AT_ONCE", 3)
    writing, outputs = SimpleNamespace(journal=journal), SimpleNamespace(remove=lambda runs: None, expire=lambda *words: [])
    engine = SimpleNamespace(applications={}, ended={"k3": "in memory"})
    one = forgetting.Forgetting(writing, outputs, engine)  # type: ignore[arg-type]
    settings = config.parse('[journal]\nkeep_runs = 11\nkeep = "365d"\n[apps.a]\npath = "."\njobs = ["j"]', "/srv/rocksyd.toml")
    for _ in range(20):
        one.look(5.0, 30.0, settings)
        if one.next_deadline() == 5.0 + forgetting.FORGET_INTERVAL:
            break
    assert [row[0] for row in journal.query("SELECT key FROM runs ORDER BY sequence")] == [f"k{n}" for n in range(9, 20)]
    assert engine.ended == {}


ends = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c"]), st.sampled_from(OUTCOMES), st.integers(0, 20)), max_size=40
)  # fmt: skip
kept = st.builds(Kept, st.integers(0, 25).map(float), st.integers(0, 25).map(float))


@given(ends, kept, st.dictionaries(st.sampled_from(["a", "b"]), kept), st.integers(1, 7))
def test_the_walk_meets_each_run_that_is_over_and_no_other(
    tmp_path_factory: pytest.TempPathFactory, found: list[tuple[str, str, int]], usual: Kept, of: dict[str, Kept], most: int
) -> None:
    how, now = Retention(usual, of), 20.0
    with closing(Journal(str(tmp_path_factory.mktemp("j") / "j"), sync="normal")) as journal:
        runs: list[Run] = [
            run_of(f"k{n}", name=name, state=ENDED, outcome=outcome, ended_at=float(at), sequence=n)
            for n, (name, outcome, at) in enumerate(found)
        ]
        journal.commit([*runs, run_of("live", name="a", sequence=99)], [])
        target: str | None = ""
        while (target := ageing.next_target(journal, target)) is not None:
            behind = ageing.START
            while aged := ageing.aged(journal, target, behind, now - min(how.kept(target)), most):
                behind = (aged[-1].ended_at, aged[-1].row)
                ageing.forget(journal, [one.key for one in aged if how.over(target, one.outcome, now - one.ended_at)])
        left = {f"k{n}" for n, (name, outcome, at) in enumerate(found) if not how.over(name, outcome, now - at)}
        assert {row[0] for row in journal.query("SELECT key FROM runs")} == left | {"live"}
