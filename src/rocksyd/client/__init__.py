"""The client: talk to a daemon from Python.

Imported name by name (PEP 562): the command line's fast path needs the address and nothing else of this package.
"""

TYPE_CHECKING = False

if TYPE_CHECKING:
    from rocksyd.client.aio import AsyncClient as AsyncClient
    from rocksyd.client.aio import AsyncRun as AsyncRun
    from rocksyd.client.sync import Client as Client
    from rocksyd.client.sync import Run as Run

_HOMES = {
    "AsyncClient": "rocksyd.client.aio",
    "AsyncRun": "rocksyd.client.aio",
    "Client": "rocksyd.client.sync",
    "Run": "rocksyd.client.sync",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'rocksyd.client' has no attribute {name!r}")
    import importlib  # noqa: PLC0415

    return getattr(importlib.import_module(home), name)
