"""rocksyd: your application, loaded once; every job a fork of it; every deploy a restart nobody notices.

PYTEST_DONT_REWRITE: a script of `rocksyd exec` that is pytest finds this package loaded, and nothing in it asserts.
"""

from __future__ import annotations

TYPE_CHECKING = False  # what type checkers take for true; importing ``typing`` would cost every command two milliseconds

if TYPE_CHECKING:
    from rocksyd.client import AsyncClient as AsyncClient
    from rocksyd.client import Client as Client
    from rocksyd.client import Executor as Executor
    from rocksyd.errors import JobTimeout as JobTimeout
    from rocksyd.jobs import current as current
    from rocksyd.jobs import job as job

__version__ = "0.1.0"

_HOMES = {
    "job": "rocksyd.jobs",
    "current": "rocksyd.jobs",
    "JobTimeout": "rocksyd.errors",
    "Client": "rocksyd.client",
    "AsyncClient": "rocksyd.client",
    "Executor": "rocksyd.client",
}


def __getattr__(name: str) -> object:
    """Import the public names when they are first used: ``import rocksyd`` itself loads nothing (PEP 562)."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'rocksyd' has no attribute {name!r}")
    import importlib  # noqa: PLC0415

    return getattr(importlib.import_module(home), name)
