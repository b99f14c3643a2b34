"""rocksyd: your application, loaded once; every job a fork of it; every deploy a restart nobody notices.

PYTEST_DONT_REWRITE: a script of `rocksyd exec` that is pytest finds this package loaded, and nothing in it asserts.
"""

from __future__ import annotations

TYPE_CHECKING = False  # what type checkers take for true; importing ``typing`` would cost every command two milliseconds

if TYPE_CHECKING:
    from rocksyd.client import AsyncClient as AsyncClient
    from rocksyd.client import AsyncRun as AsyncRun
    from rocksyd.client import Client as Client
    from rocksyd.client import Executor as Executor
    from rocksyd.client import Run as Run
    from rocksyd.client import chain as chain
    from rocksyd.client import group as group
    from rocksyd.client import step as step
    from rocksyd.errors import AddressError as AddressError
    from rocksyd.errors import Cancel as Cancel
    from rocksyd.errors import ConfigError as ConfigError
    from rocksyd.errors import InUse as InUse
    from rocksyd.errors import JobError as JobError
    from rocksyd.errors import JobFailed as JobFailed
    from rocksyd.errors import JobTimeout as JobTimeout
    from rocksyd.errors import NoDaemon as NoDaemon
    from rocksyd.errors import NotAllowed as NotAllowed
    from rocksyd.errors import NotFound as NotFound
    from rocksyd.errors import NotNow as NotNow
    from rocksyd.errors import ProtocolError as ProtocolError
    from rocksyd.errors import RequestError as RequestError
    from rocksyd.errors import ResultDropped as ResultDropped
    from rocksyd.errors import Retry as Retry
    from rocksyd.errors import RocksydError as RocksydError
    from rocksyd.errors import TimedOut as TimedOut
    from rocksyd.errors import TooBusy as TooBusy
    from rocksyd.jobs import after_fork as after_fork
    from rocksyd.jobs import after_job as after_job
    from rocksyd.jobs import before_fork as before_fork
    from rocksyd.jobs import before_job as before_job
    from rocksyd.jobs import current as current
    from rocksyd.jobs import gauge as gauge
    from rocksyd.jobs import job as job
    from rocksyd.protocols import Json as Json
    from rocksyd.protocols import LengthPrefixed as LengthPrefixed
    from rocksyd.protocols import Lines as Lines
    from rocksyd.protocols import Protobuf as Protobuf
    from rocksyd.protocols import WebSocket as WebSocket
    from rocksyd.services import Service as Service
    from rocksyd.services import service as service

__version__ = "0.1.0"

_NAMES = {
    "rocksyd.client": "AsyncClient AsyncRun Client Executor Run chain group step",
    "rocksyd.errors": "AddressError Cancel ConfigError InUse JobError JobFailed JobTimeout NoDaemon NotAllowed NotFound NotNow"
    " ProtocolError RequestError ResultDropped Retry RocksydError TimedOut TooBusy",
    "rocksyd.jobs": "after_fork after_job before_fork before_job current gauge job",
    "rocksyd.protocols": "Json LengthPrefixed Lines Protobuf WebSocket",
    "rocksyd.services": "Service service",
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names.split()}


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})


def __getattr__(name: str) -> object:
    """Import the public names when they are first used: ``import rocksyd`` itself loads nothing (PEP 562)."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'rocksyd' has no attribute {name!r}")
    import importlib  # noqa: PLC0415

    return getattr(importlib.import_module(home), name)
