"""The client: talk to a daemon from Python.

Imported name by name (PEP 562): the command line's fast path needs the address and nothing else of this package.
"""

TYPE_CHECKING = False

if TYPE_CHECKING:
    from rocksyd.client.aio import AsyncClient as AsyncClient
    from rocksyd.client.aio import AsyncRun as AsyncRun
    from rocksyd.client.aio_asking import AsyncSubscription as AsyncSubscription
    from rocksyd.client.asking import Subscription as Subscription
    from rocksyd.client.executor import Executor as Executor
    from rocksyd.client.inside import Generation as Generation
    from rocksyd.client.inside import predecessors as predecessors
    from rocksyd.client.news import Event as Event
    from rocksyd.client.plans import Plan as Plan
    from rocksyd.client.plans import chain as chain
    from rocksyd.client.plans import group as group
    from rocksyd.client.plans import step as step
    from rocksyd.client.sync import Client as Client
    from rocksyd.client.sync import Run as Run

_HOMES = {
    "AsyncClient": "rocksyd.client.aio",
    "AsyncRun": "rocksyd.client.aio",
    "AsyncSubscription": "rocksyd.client.aio_asking",
    "Client": "rocksyd.client.sync",
    "Event": "rocksyd.client.news",
    "Executor": "rocksyd.client.executor",
    "Generation": "rocksyd.client.inside",
    "Plan": "rocksyd.client.plans",
    "Run": "rocksyd.client.sync",
    "Subscription": "rocksyd.client.asking",
    "chain": "rocksyd.client.plans",
    "group": "rocksyd.client.plans",
    "predecessors": "rocksyd.client.inside",
    "step": "rocksyd.client.plans",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'rocksyd.client' has no attribute {name!r}")
    import importlib  # noqa: PLC0415

    return getattr(importlib.import_module(home), name)
