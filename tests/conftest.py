"""What holds for every test: the environment is known, a green run that leaks is red, hypothesis never judges by the clock."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests import leaks

_PATIENT = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow], "print_blob": True}
# The same examples each time: a change is judged by what it changes. Whoever looks for counterexamples has other ones each time.
settings.register_profile("dev", max_examples=50, derandomize=True, **_PATIENT)
settings.register_profile("ci", max_examples=200, derandomize=True, **_PATIENT)
settings.register_profile("thorough", max_examples=5000, **_PATIENT)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))

_folder = pytest.StashKey[Path]()

_KEPT = frozenset({"PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "TMPDIR", "LD_LIBRARY_PATH", "CI", leaks.SESSION})
_KEPT_PREFIXES = ("PYTEST_", "HYPOTHESIS_", "COVERAGE_", "COV_CORE_")
"""What of the caller's environment reaches the tests and what they start. The rest (PYTHONUNBUFFERED, NO_COLOR, ROCKSYD_ADDRESS,
a locale) would make a test of one person pass and of another fail; a test that is about such a variable sets it."""


def pytest_configure(config: pytest.Config) -> None:
    """Give this process of the run a temporary folder and a mark of its own; the folder's name is short, for unix sockets.

    So what a test leaves behind is told from what other tests and other runs on the same machine do at the same time.
    pytest's own ``tmp_path`` stays where it always is: it is kept on purpose, to look into after a failure.
    """
    if _only_distributes(config):
        os.environ[leaks.SESSION] = str(os.getpid())
        return  # its processes would inherit the folder and the mark
    for name in [name for name in os.environ if name not in _KEPT and not name.startswith(_KEPT_PREFIXES)]:
        del os.environ[name]
    os.environ["LANG"] = "C.UTF-8"
    # Tests write a module twice within one second, and Python's cache tells a file's versions by second and length.
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    # Ignored signals are inherited: by what `nohup` or a script's `&` has started, and by all that this starts in turn.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
    folder = Path(tempfile.mkdtemp(prefix="rocksyd-"))
    config.stash[_folder] = folder
    os.environ["TMPDIR"] = str(folder)
    tempfile.tempdir = None
    os.environ[leaks.MARK] = str(os.getpid())


def _only_distributes(config: pytest.Config) -> bool:
    """Whether this process runs no test itself but hands them out to others (pytest-xdist's ``-n``)."""
    return not hasattr(config, "workerinput") and config.getoption("dist", "no") != "no"


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object, error: object) -> None:
    """One of the processes that share the tests has gone: with what it has started, if it died."""
    if error:
        for said in leaks.end_abandoned():
            print(said)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the run's temporary folder."""
    folder = config.stash.get(_folder, None)
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


LONG = 300
"""Seconds after which a test that takes long hangs."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones first, each before a short one: processes that share the tests get them in this order, two at first.

    One that began last would go on alone while the others have nothing left to do.
    """
    first, rest = [], []
    for item in items:
        long = item.get_closest_marker("slow") or item.get_closest_marker("long")
        (first if long else rest).append(item)
        if long and not item.get_closest_marker("timeout"):  # on a machine that does much else they are not to hang, but to end
            item.add_marker(pytest.mark.timeout(LONG))
    first.sort(key=lambda item: item.get_closest_marker("slow") is None)
    pairs = [item for pair in zip(first, rest, strict=False) for item in pair]
    items[:] = [*pairs, *first[len(rest) :], *rest[len(first) :]]


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves descriptors, threads, processes or temporary files behind.

    It is set up before the test's own fixtures and torn down after them, so what they clean up is no leak; what fixtures of a
    wider scope hold open was there before.
    """
    watch = leaks.Watch(request.config.stash[_folder])
    yield
    found = watch.found()
    if found:
        pytest.fail("the test left behind: " + "; ".join(found), pytrace=False)
