"""For tests of programs that use rocksyd, and for its own. Imported name by name (PEP 562): a test run pays for what it uses."""

TYPE_CHECKING = False

if TYPE_CHECKING:
    from rocksyd.testing.clock import FakeClock as FakeClock
    from rocksyd.testing.daemon import Conversation as Conversation
    from rocksyd.testing.daemon import Daemon as Daemon
    from rocksyd.testing.daemon import DaemonError as DaemonError
    from rocksyd.testing.daemon import until as until
    from rocksyd.testing.eager import Eager as Eager
    from rocksyd.testing.inprocess import EagerError as EagerError

_HOMES = {
    "Conversation": "rocksyd.testing.daemon",
    "Daemon": "rocksyd.testing.daemon",
    "DaemonError": "rocksyd.testing.daemon",
    "Eager": "rocksyd.testing.eager",
    "EagerError": "rocksyd.testing.inprocess",
    "FakeClock": "rocksyd.testing.clock",
    "until": "rocksyd.testing.daemon",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'rocksyd.testing' has no attribute {name!r}")
    import importlib  # noqa: PLC0415

    return getattr(importlib.import_module(home), name)
