"""What is said of an application: each finding from the report that calls for it, and a page that fits every screen."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocksyd.cli.doctor_view import shown
from rocksyd.cli.tables import Screen, columns_of
from rocksyd.config import AppConfig, PoolConfig
from rocksyd.doctor.findings import BREAKS, CODES, HINTS, HOOK, SAFE, UNSAFE, WARNS, Finding, findings
from rocksyd.doctor.libraries import libraries

APP = AppConfig("shop", "/srv/shop", preload=("shop",), jobs=("shop.jobs",), smoke="shop:smoke", pool=PoolConfig("static"))
REPORT: dict[str, Any] = {
    "begin": {"python": "3.11.7", "executable": "/srv/shop/.venv/bin/python", "pid": 1},
    "step": {"name": "jobs module 'shop.jobs'"},
    "loaded": {
        "seconds": 1.25, "memory": 200 << 20, "memory_before": 20 << 20, "huge": 150 << 20, "jobs": ["nightly"], "allowed": 0,
        "modules": 900, "left": [], "warnings": [], "libraries": {},
    },
    "imports": {"steps": [{"name": "preload entry 'shop'", "ms": 1000.0, "bytes": 9 << 20, "imports": [
        {"name": "shop", "ms": 990.0, "bytes": 9 << 20, "imports": [{"name": "pandas", "ms": 600.0, "bytes": 5 << 20}]},
    ]}]},
    "forks": {
        "huge_pages": True, "system": "madvise", "huge": 150 << 20, "ms": 1.2, "whole_ms": 3.0, "scattered_ms": 5.0,
        "scattered_whole_ms": 10.0,
    },
    "sharing": {
        "start": {"bytes": 400_000, "ms": 1.0, "error": ""}, "collection": {"bytes": 900_000, "error": ""},
        "packages": [{"package": "pandas", "loaded": 30 << 20, "objects": 50_000, "copied": 20 << 20}],
    },
    "done": {},
}  # fmt: skip


def known(name: str, verdict: str, why: str, cure: str, *objects: str, when: str = "used") -> dict[str, Any]:
    return {"name": name, "verdict": verdict, "why": why, "cure": cure, "when": when, "objects": list(objects)}


KNOWN: dict[str, Any] = {
    "redis": known("redis", HOOK, "it connects", "close it"),
    "polars": known("polars", UNSAFE, "it waits", "import it later", when="loaded"),
    "zmq": known("pyzmq", UNSAFE, "it has threads", "later", "zmq:Context", when="made"),
    "yaml": known("pyyaml", SAFE, "", ""),
}
STEP = "preload entry 'shop'"
THREAD = {"kind": "thread", "step": STEP, "name": "'poller'", "origin": "shop.poller (p.py:3)", "imports": ["shop"]}
TOOLS = {"name": STEP, "ms": 1.0, "bytes": 0, "imports": [{"name": "IPython", "ms": 1.0, "bytes": 0}]}


def changed(**parts: Any) -> dict[str, Any]:
    """The report with these fields of its parts; None takes a part away."""
    report = copy.deepcopy(REPORT)
    for name, fields in parts.items():
        if fields is None:
            del report[name]
        else:
            report[name] = {**report.get(name, {}), **fields}
    return report


def judged(report: dict[str, Any], memory_left: int = 64 << 30, **settings: Any) -> list[Finding]:
    app = AppConfig(**{**{name: getattr(APP, name) for name in APP.__dataclass_fields__}, **settings})
    return findings(app, report, KNOWN, memory_left, 120.0)


def test_of_a_healthy_application_nothing_is_said() -> None:
    assert judged(REPORT) == []


DIED = {"how": "was killed by SIGSEGV", "timeout": False, "importing": "shop > shop.native"}
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any], str]] = {
    "load_failed": (BREAKS, changed(failed={"reason": "no module 'x'", "traceback": ""}, loaded=None), {}, "no module 'x'"),
    "load_died": (BREAKS, changed(ended=DIED, loaded=None), {}, "was killed by SIGSEGV while jobs module 'shop.jobs' was loaded"),
    "load_timeout": (BREAKS, changed(ended={**DIED, "timeout": True}, loaded=None), {}, "not loaded within 2m"),
    "examination_died": (BREAKS, changed(ended=DIED), {}, "it was loaded, and then its process was killed by SIGSEGV"),
    "thread": (BREAKS, changed(loaded={"left": [THREAD]}), {}, "'poller', by shop.poller (p.py:3), in import shop"),
    "socket": (WARNS, changed(loaded={"left": [{**THREAD, "kind": "socket"}]}), {"unsafe": "warn"}, "left a socket open"),
    "after_fork": (BREAKS, changed(sharing={"start": {"error": "OSError: no"}}), {}, "cannot start: OSError: no"),
    "run_failed": (WARNS, changed(run={"target": "shop:daily", "error": "OSError"}), {}, "the run of shop:daily failed: OSError"),
    "library": (WARNS, changed(loaded={"libraries": {"polars": {"version": "2", "kept": []}}}), {}, "polars 2 is loaded"),
    "child_process": (WARNS, changed(loaded={"warnings": ["x left a child process running: 7"]}), {}, "child process running: 7"),
    "load_warning": (WARNS, changed(loaded={"warnings": ["jobs names 'x'"]}), {}, "jobs names 'x'"),
    "load_slow": (WARNS, changed(loaded={"seconds": 70.0}), {}, "loading took 1m10s of the 2m"),
    "memory": (WARNS, REPORT, {"pool": PoolConfig("static", max_workers=10_000)}, "10000 workers that use all of it"),
    "huge_pages_off": (HINTS, changed(forks={"system": "never"}), {}, "huge pages"),
    "huge_pages_unused": (HINTS, changed(forks={"huge": 0}), {}, "hardly any of its memory"),
    "fork_slow": (HINTS, changed(forks={"ms": 20.0}), {"pool": PoolConfig("ondemand")}, "each job waits for a fork of 20ms"),
    "after_fork_slow": (HINTS, changed(sharing={"start": {"ms": 80.0}}), {}, "each worker takes 80ms to begin"),
    "no_preload": (HINTS, REPORT, {"preload": (), "jobs": (), "allow": ("shop:*",)}, "nothing is preloaded"),
    "no_smoke": (HINTS, REPORT, {"smoke": ""}, "no smoke check"),
    "developers_tools": (HINTS, changed(imports={"steps": [TOOLS]}), {}, "IPython is loaded"),
    "lazy_imports": (HINTS, changed(loaded={"lazy": [["shop", "json"], ["shop", "csv"]]}), {}, "shop imports lazily: csv, json"),
}  # fmt: skip


def test_the_manual_has_every_code() -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "doctor.md").read_text()
    assert all(f"`{code}`" in page for code in CODES)


def test_every_code_has_a_case() -> None:
    assert CASES.keys() == set(CODES)


@pytest.mark.parametrize("code", CASES)
def test_each_finding_says_what_it_is_and_what_to_do(code: str) -> None:
    level, report, settings, text = CASES[code]
    [finding] = judged(report, **settings)
    assert (finding.code, finding.level) == (code, level)
    assert text in finding.text
    assert finding.advice or code == "load_warning"


def test_a_thread_or_socket_of_a_known_library_is_cured_as_that_library_wants_it() -> None:
    by_line = {**THREAD, "origin": "redis.connection (c.py:7)"}
    by_import = {**THREAD, "origin": "", "imports": ["shop", "redis._parsers", "yaml"]}
    for left in (by_line, by_import):
        [finding] = judged(changed(loaded={"left": [left]}))
        assert finding.advice.startswith("redis: it connects; close it")
    [finding] = judged(changed(loaded={"left": [THREAD]}))
    assert "@rocksyd.jobs.after_fork" in finding.advice


def test_an_object_of_a_known_library_is_named_where_it_is_held() -> None:
    kept = [{"at": "shop.bus:context", "class": "zmq.Context"}]
    [finding] = judged(changed(loaded={"libraries": {"zmq": {"version": "27", "kept": kept}}}))
    assert (finding.level, finding.code) == (BREAKS, "library")
    assert finding.text.startswith("shop.bus:context holds a zmq.Context (pyzmq 27) from before the fork: it has threads")
    assert judged(changed(loaded={"libraries": {"zmq": {"version": "27", "kept": []}}})) == []
    assert judged(changed(loaded={"libraries": {"redis": {"version": "8", "kept": []}}})) == []


def test_what_breaks_comes_first() -> None:
    report = changed(loaded={"left": [THREAD], "warnings": ["w"]})
    assert [finding.level for finding in judged(report, smoke="")] == [BREAKS, WARNS, HINTS]


# --- the page ---------------------------------------------------------------------------------------------------------
NAMES = st.text(min_size=1, max_size=60)
NODES: st.SearchStrategy[dict[str, Any]] = st.recursive(
    st.fixed_dictionaries({"name": NAMES, "ms": st.floats(0, 1e5), "bytes": st.integers(-(1 << 20), 1 << 30)}),
    lambda inner: st.fixed_dictionaries(
        {"name": NAMES, "ms": st.floats(0, 1e5), "bytes": st.integers(0, 1 << 30), "imports": st.lists(inner, max_size=3)}
    ),
    max_leaves=20,
)
FOUND = st.lists(st.builds(Finding, st.sampled_from([BREAKS, WARNS, HINTS]), st.just("thread"), st.text(max_size=200), NAMES))


@given(steps=st.lists(NODES, max_size=4), found=FOUND, width=st.integers(30, 220), everything=st.booleans())
def test_no_line_is_wider_than_the_screen(
    steps: list[dict[str, Any]], found: list[Finding], width: int, everything: bool
) -> None:
    known = {name: {"version": "1.0", "kept": []} for name in libraries()}
    report = changed(imports={"steps": steps}, loaded={"libraries": known})
    text = shown(APP, report, found, Screen(width), everything=everything)
    assert max(columns_of(line) for line in text.split("\n")) <= width
    assert "\x1b" not in text


def test_a_page_shows_each_part() -> None:
    found = [Finding(BREAKS, "thread", "a thread", "start it later")]
    text = shown(APP, REPORT, found, Screen(80), everything=False)
    for word in ("✗ a thread", "start it later", "preload entry 'shop'", "    pandas", "COPIED MB", "before huge pages"):
        assert word in text
    run = {"target": "shop.jobs:nightly", "ms": 115.2, "bytes": 9 << 20, "copied": {"pandas": 6 << 20}, "error": ""}
    text = shown(APP, changed(run=run), [], Screen(80), everything=False)
    assert "6.0 MB by one run of shop.jobs:nightly (115ms), and 3.0 MB" in text
    assert "BY RUN MB" in text
    assert "\x1b[31m✗\x1b[0m" in shown(APP, REPORT, found, Screen(80, coloured=True), everything=False)
