"""What is wrong with a loaded application, and what could be better: a report of ``boot.py doctor`` turned into findings.

What must live here: every finding there is, by a name for programs and a sentence for people with what to do.
What this file must not know: how anything was measured, how it is shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from rocksyd.config import AppConfig
from rocksyd.units import format_duration, format_size, rough_duration

BREAKS, WARNS, HINTS = "breaks", "warns", "hints"
"""``breaks``: the daemon would refuse it, or workers would break. ``warns``: it works until the day it does not. ``hints``: it
could be quicker or smaller."""
CODES = (
    "load_failed", "load_died", "load_timeout", "examination_died", "thread", "socket", "after_fork", "run_failed", "library",
    "child_process", "load_warning", "load_slow", "memory", "huge_pages_off", "huge_pages_unused", "fork_slow", "after_fork_slow",
    "no_preload", "no_smoke", "developers_tools", "lazy_imports",
)  # fmt: skip
"""Every ``code`` a finding can have; programs rely on them, so they are only added to."""

SAFE, HOOK, UNSAFE = "safe", "hook", "unsafe"
"""Verdicts on libraries: used before the fork they go on working; they do with a hook; they do not."""

_SLOW_FORK = 5.0
"""Milliseconds above which a fork is worth being taken out of the way of jobs."""
_SLOW_HOOKS = 20.0
_WORTH_COLLAPSING = 0.1
"""Share of the memory in huge pages below which the setting has done nothing."""
_LARGE = 64 << 20
_NOT_FOR_SERVICE = ("pytest", "IPython", "ipdb", "coverage", "mypy", "hypothesis", "debugpy")


class Finding(NamedTuple):
    """One finding."""

    level: str
    code: str
    text: str
    advice: str = ""
    """What to do about it; "" for nothing."""


def findings(
    app: AppConfig, report: Mapping[str, Any], libraries: Mapping[str, Mapping[str, Any]], memory_left: int, load_timeout: float
) -> list[Finding]:
    """What is to be said of one application, the worst first.

    Args:
        app: its settings.
        report: what its examination has said, by the kind of its parts (``loaded``, ``forks`` …); one that died lacks some.
        libraries: the knowledge on libraries, by the name they are imported under.
        memory_left: bytes of memory this machine has left; 0 where that is not known.
        load_timeout: seconds the daemon waits for an application to be loaded.
    """
    found = [
        *_loading(app, report, load_timeout),
        *_left(app, report.get("loaded", {}), libraries),
        *_workers(app, report),
        *_run(report.get("run", {})),
        *_libraries(report.get("loaded", {}), libraries),
        *_memory(app, report, memory_left),
        *_huge_pages(app, report.get("forks", {}), report.get("loaded", {})),
        *_settings(app, report),
    ]
    order = (BREAKS, WARNS, HINTS)
    return sorted(found, key=lambda finding: order.index(finding.level))


# --- it does not come up ----------------------------------------------------------------------------------------------
def _loading(app: AppConfig, report: Mapping[str, Any], load_timeout: float) -> Iterator[Finding]:
    failed, ended = report.get("failed"), report.get("ended")
    if failed:
        yield Finding(BREAKS, "load_failed", failed["reason"], "the daemon would not start, or go on with the code it has")
    elif ended and "loaded" not in report:
        where = f" while {report['step']['name']} was loaded" if report.get("step") else ""
        importing = f" (importing {ended['importing']})" if ended.get("importing") else ""
        if ended.get("timeout"):
            text = f"it was not loaded within {format_duration(load_timeout)}{where}{importing}"
            yield Finding(BREAKS, "load_timeout", text, "raise [restart] prepare_timeout, or find out what it waits for")
        else:
            advice = (
                "a library's C code has crashed, or something has ended the process: run its interpreter with -X faulthandler"
            )
            yield Finding(BREAKS, "load_died", f"its process {ended['how']}{where}{importing}", advice)
    elif ended:
        advice = "a fork of it, or the walk over its objects, has crashed it: jobs will, too"
        yield Finding(BREAKS, "examination_died", f"it was loaded, and then its process {ended['how']}", advice)
    loaded = report.get("loaded", {})
    for warning in loaded.get("warnings", ()):
        code = "child_process" if " left a child process running: " in warning else "load_warning"
        advice = "workers cannot wait for it or end it: start it in a job, or outside" if code == "child_process" else ""
        yield Finding(WARNS, code, warning, advice)
    if loaded.get("seconds", 0.0) > load_timeout / 2:
        text = f"loading took {format_duration(loaded['seconds'])} of the {format_duration(load_timeout)} that the daemon waits"
        yield Finding(WARNS, "load_slow", text, "raise [restart] prepare_timeout: a busy machine may need twice as long")


# --- what does not survive a fork -------------------------------------------------------------------------------------
_CURES = {
    "thread": "a forked worker does not have it, but finds its locks as they were: start it in a function marked"
    " @rocksyd.jobs.after_fork, or stop it in one marked @rocksyd.jobs.before_fork",
    "socket": "all workers would speak on it at once: open it in a function marked @rocksyd.jobs.after_fork or where it is used,"
    " or close it in one marked @rocksyd.jobs.before_fork",
}


def _left(app: AppConfig, loaded: Mapping[str, Any], libraries: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    refused = app.unsafe == "refuse"
    for left in loaded.get("left", ()):
        what = "a thread running" if left["kind"] == "thread" else "a socket open"
        by = f", by {left['origin']}" if left["origin"] else ""
        chain = f", in import {' > '.join(left['imports'])}" if left["imports"] else ""
        text = f"{left['step']} left {what}: {left['name']}{by}{chain}"
        allowed = "" if refused else ' (the daemon only warns, because unsafe = "warn")'
        known = _maker(left, libraries)
        cure = f"{known['name']}: {known['why']}; {known['cure']}" if known else _CURES[left["kind"]]
        yield Finding(BREAKS if refused else WARNS, left["kind"], text, cure + allowed)


def _maker(left: Mapping[str, Any], libraries: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The known library whose code made it: by the line, else by the innermost import."""
    modules = [left["origin"].partition(" ")[0]] if left["origin"] else list(reversed(left["imports"]))
    for module in modules:
        parts = module.split(".")
        for length in range(len(parts), 0, -1):
            known = libraries.get(".".join(parts[:length]))
            if known is not None and known["verdict"] != SAFE:
                return known
    return None


def _workers(app: AppConfig, report: Mapping[str, Any]) -> Iterator[Finding]:
    start = report.get("sharing", {}).get("start", {})
    if start.get("error"):
        text = f"a forked worker cannot start: {start['error']}"
        yield Finding(BREAKS, "after_fork", text, "a function marked @rocksyd.jobs.after_fork has failed; no worker would live")
    elif start.get("ms", 0.0) > _SLOW_HOOKS and any(pool.max_jobs == 1 for pool in app.every_pool().values()):
        takes = rough_duration(start["ms"] / 1000)
        text = f"each worker takes {takes} to begin, most of it in functions marked @rocksyd.jobs.after_fork"
        yield Finding(
            HINTS, "after_fork_slow", text, "min_spare takes it out of the way of jobs, max_jobs shares it among several"
        )


def _run(run: Mapping[str, Any]) -> Iterator[Finding]:
    if run.get("error"):
        text = f"the run of {run['target']} failed: {run['error']}"
        yield Finding(WARNS, "run_failed", text, "what it copied up to there is shown below; give other --params")


def _libraries(loaded: Mapping[str, Any], libraries: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    for name, seen in loaded.get("libraries", {}).items():
        known = libraries.get(name)
        if known is None or known["verdict"] == SAFE:
            continue
        title = f"{known['name']} {seen['version']}".strip()
        for kept in seen["kept"]:
            text = f"{kept['at']} holds a {kept['class']} ({title}) from before the fork: {known['why']}"
            yield Finding(BREAKS if known["verdict"] == UNSAFE else WARNS, "library", text, known["cure"])
        if known["when"] == "loaded":
            yield Finding(WARNS, "library", f"{title} is loaded: {known['why']}", known["cure"])


# --- what it costs ----------------------------------------------------------------------------------------------------
def _memory(app: AppConfig, report: Mapping[str, Any], memory_left: int) -> Iterator[Finding]:
    sharing, workers = report.get("sharing", {}), sum(pool.max_workers for pool in app.every_pool().values())
    copied = sum(row["copied"] for row in sharing.get("packages", ())) + sharing.get("start", {}).get("bytes", 0)
    if memory_left and copied * workers > memory_left:
        text = (
            f"{workers} workers that use all of it need up to {format_size(_rounded(copied * workers))} beside what they share"
            f" ({format_size(_rounded(copied))} each), and this machine has {format_size(_rounded(memory_left))} left"
        )
        yield Finding(WARNS, "memory", text, "lower max_workers, or preload less of what jobs hardly use")


def _rounded(size: int) -> int:
    return max(size >> 20, 1) << 20


def _huge_pages(app: AppConfig, forks: Mapping[str, Any], loaded: Mapping[str, Any]) -> Iterator[Finding]:
    if not forks or loaded.get("memory", 0) < _LARGE:
        return
    takes = format_duration(forks["ms"] / 1000)
    if forks["system"] in ("", "never"):
        text = f"a fork takes {takes}, and huge pages, with which it would be several times cheaper, are off"
        advice = "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled, at each start of the machine"
        yield Finding(HINTS, "huge_pages_off", text, advice if forks["system"] else "this kernel is built without them")
    elif not app.huge_pages:
        text = f"huge_pages = false: a fork takes {takes}, and would take a fraction of that with them"
        yield Finding(HINTS, "huge_pages_off", text, "remove the line")
    elif forks["huge"] < _WORTH_COLLAPSING * loaded["memory"]:
        text = "hardly any of its memory could be put into huge pages: the kernel is older than 6.1, or memory is in fragments"
        yield Finding(HINTS, "huge_pages_unused", text, "nothing needs to be done; a fork only costs more than it could")


def _settings(app: AppConfig, report: Mapping[str, Any]) -> Iterator[Finding]:
    loaded, forks = report.get("loaded"), report.get("forks")
    if forks and forks["ms"] > _SLOW_FORK and any(pool.pm == "ondemand" for pool in app.every_pool().values()):
        text = f'pm = "ondemand": each job waits for a fork of {rough_duration(forks["ms"] / 1000)}'
        yield Finding(HINTS, "fork_slow", text, 'pm = "dynamic" with min_spare = 1 forks ahead')
    if loaded is None:
        return
    if not app.preload and not app.jobs and not loaded["allowed"]:
        text = "nothing is preloaded: each job imports what it needs by itself"
        yield Finding(HINTS, "no_preload", text, "name the modules that jobs use in preload")
    if not app.smoke:
        text = "no smoke check: code that can be imported but does not work takes over at a restart"
        yield Finding(HINTS, "no_smoke", text, 'smoke = "module:callable", which must return in a fork before new code serves')
    lazy = loaded.get("lazy") or ()
    if lazy:
        modules = sorted({module for module, _ in lazy})
        text = (
            f"{_some(modules)} {'import' if len(modules) > 1 else 'imports'} lazily: {_some(sorted({name for _, name in lazy}))}"
        )
        advice = "nothing to do: all are imported with the application, so that no worker has to; `lazy` saves nothing here"
        yield Finding(HINTS, "lazy_imports", text, advice)
    tops = {child["name"].partition(".")[0] for step in report.get("imports", {}).get("steps", ()) for child in _below(step)}
    for name in _NOT_FOR_SERVICE:
        if name in tops:
            text = f"{name} is loaded, which is for developing"
            yield Finding(HINTS, "developers_tools", text, f"`rocksyd doctor --all` shows who imports {name}")


def _some(names: list[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _below(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for child in node.get("imports", ()):
        if not child.get("failed"):
            yield child
        yield from _below(child)
