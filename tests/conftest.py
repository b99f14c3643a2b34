"""What holds for every test: a green run that leaks is red, and hypothesis never judges by the clock."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests import leaks

_PATIENT = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow], "print_blob": True}
settings.register_profile("dev", max_examples=50, **_PATIENT)
settings.register_profile("ci", max_examples=200, **_PATIENT)
settings.register_profile("thorough", max_examples=5000, **_PATIENT)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))

_folder = pytest.StashKey[Path]()


def pytest_configure(config: pytest.Config) -> None:
    """Give this run a temporary folder of its own, short enough for the paths of unix sockets.

    So what a test leaves behind is told from what other runs on the same machine do at the same time. pytest's own ``tmp_path``
    stays where it always is: it is kept on purpose, to look into after a failure.
    """
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
    folder = Path(tempfile.mkdtemp(prefix="rocksyd-"))
    config.stash[_folder] = folder
    os.environ["TMPDIR"] = str(folder)
    tempfile.tempdir = None
    os.environ[leaks.MARK] = str(os.getpid())


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the run's temporary folder."""
    folder = config.stash.get(_folder, None)
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


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
