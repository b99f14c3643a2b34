"""Fixtures for pytest: a real daemon, an eager client, a fake clock. Found by pytest itself where rocksyd is installed.

What must live here: the fixtures and their settings. What this file must not know: how daemons and eager runs work.

It costs a test run that does not use it nothing but its own import: everything else is imported by the fixtures.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from rocksyd.testing import Daemon, Eager, FakeClock

_daemons = pytest.StashKey[list[Any]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The settings in pytest's own configuration."""
    parser.addini("rocksyd_config", "the rocksyd.toml that test daemons and eager clients take their applications from", "string")
    parser.addini("rocksyd_scope", "scope of the fixture rocksyd_daemon: function, module or session", "string", "function")


def _scope(fixture_name: str, config: pytest.Config) -> Any:
    return config.getini("rocksyd_scope")


def _config(config: pytest.Config) -> str:
    """The project's ``rocksyd.toml``: as set, else the nearest one from pytest's root folder up."""
    import os  # noqa: PLC0415

    given = config.getini("rocksyd_config")
    if given:
        return os.path.join(config.inipath.parent if config.inipath else config.rootpath, given)
    from rocksyd.client.endpoint import find_config  # noqa: PLC0415

    found = find_config(str(config.rootpath)) or find_config()
    if not found:
        raise pytest.UsageError(
            f"no rocksyd.toml in {config.rootpath} or above: name it with rocksyd_config in pytest's settings"
        )
    return found


@pytest.fixture(scope=_scope)
def rocksyd_daemon_options() -> dict[str, Any]:
    """Override it to start ``rocksyd_daemon`` otherwise: arguments of ``rocksyd.testing.Daemon``, such as ``environment``."""
    return {}


@pytest.fixture(scope=_scope)
def rocksyd_daemon_factory(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Daemon]]:
    """Starts daemons, each in a folder of its own and on a temporary socket; all are stopped, with an assertion, at the end.

    ``start()`` has the applications of the project's ``rocksyd.toml``, ``start("text of jobs.py")`` has one of those jobs;
    further arguments are those of ``rocksyd.testing.Daemon``.
    """
    from contextlib import ExitStack  # noqa: PLC0415

    from rocksyd.testing.daemon import Daemon  # noqa: PLC0415
    from rocksyd.testing.project import for_tests  # noqa: PLC0415

    started = request.config.stash.setdefault(_daemons, [])
    before = len(started)
    with ExitStack() as stack:

        def start(jobs: str = "", **options: Any) -> Daemon:
            if not jobs and "config" not in options and "parts" not in options:
                options["config"] = for_tests(_config(request.config))
            daemon = stack.enter_context(Daemon(tmp_path_factory.mktemp("rocksyd"), jobs, **options))
            started.append(daemon)
            return daemon

        yield start
        del started[before:]


@pytest.fixture(scope=_scope)
def rocksyd_daemon(rocksyd_daemon_factory: Callable[..., Daemon], rocksyd_daemon_options: dict[str, Any]) -> Daemon:
    """A real daemon with the applications of the project's ``rocksyd.toml``: ``rocksyd_daemon.client()`` asks it."""
    return rocksyd_daemon_factory(**rocksyd_daemon_options)


@pytest.fixture(scope=_scope)
def daemon(rocksyd_daemon: Daemon) -> Daemon:
    """The same as ``rocksyd_daemon``; a fixture of this name of the project's own takes its place."""
    return rocksyd_daemon


@pytest.fixture
def rocksyd_eager_options() -> dict[str, Any]:
    """Override it to make ``rocksyd_eager`` otherwise: arguments of ``rocksyd.testing.Eager``, such as ``jobs``."""
    return {}


@pytest.fixture
def rocksyd_eager(request: pytest.FixtureRequest, rocksyd_eager_options: dict[str, Any]) -> Iterator[Eager]:
    """A client whose runs happen at once, in this process; while the test runs every other client asks it, too.

    With ``rocksyd_clock`` in the same test its time is that clock's.
    """
    from rocksyd.testing.eager import Eager  # noqa: PLC0415

    options = dict(rocksyd_eager_options)
    if "rocksyd_clock" in request.fixturenames:
        options["clock"] = request.getfixturevalue("rocksyd_clock")
    if not options.keys() & {"jobs", "allow", "config"}:
        options["config"] = _config(request.config)
    with Eager(**options) as client, client.everywhere():
        yield client


@pytest.fixture
def rocksyd_clock() -> Iterator[FakeClock]:
    """Time that stands still until ``rocksyd_clock.advance("10m")`` or ``time.sleep``."""
    from rocksyd.testing.clock import FakeClock  # noqa: PLC0415

    with FakeClock() as clock:
        yield clock


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that failed shows what its daemons have logged."""
    report = yield
    if report.failed:
        for daemon in item.config.stash.get(_daemons, ()):
            report.sections.append((f"log of the daemon in {daemon.folder}", daemon.log()))
    return report
