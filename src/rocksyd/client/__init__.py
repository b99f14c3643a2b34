"""The client: talk to a daemon from Python.

Imported name by name (PEP 562): the command line's fast path needs the address and nothing else of this package.
"""

TYPE_CHECKING = False

if TYPE_CHECKING:
    from rocksyd.client.aio import AsyncClient as AsyncClient
    from rocksyd.client.aio_runs import AsyncRun as AsyncRun
    from rocksyd.client.aio_runs import AsyncSubscription as AsyncSubscription
    from rocksyd.client.executor import Executor as Executor
    from rocksyd.client.news import Event as Event
    from rocksyd.client.runs import Run as Run
    from rocksyd.client.subscription import Subscription as Subscription
    from rocksyd.client.sync import Client as Client

_HOMES = {
    "AsyncClient": "rocksyd.client.aio",
    "AsyncRun": "rocksyd.client.aio_runs",
    "AsyncSubscription": "rocksyd.client.aio_runs",
    "Client": "rocksyd.client.sync",
    "Event": "rocksyd.client.news",
    "Executor": "rocksyd.client.executor",
    "Run": "rocksyd.client.runs",
    "Subscription": "rocksyd.client.subscription",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'rocksyd.client' has no attribute {name!r}")
    import importlib  # noqa: PLC0415

    return getattr(importlib.import_module(home), name)
