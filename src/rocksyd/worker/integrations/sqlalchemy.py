"""SQLAlchemy: the pools of engines that were made while the application was loaded are empty at the fork.

SQLAlchemy asks every child process to replace the pools it inherits (``Engine.dispose(close=False)``). Done before the fork,
in the one process that owns the connections, it costs no worker anything, and the other end sees a proper goodbye.

Source: https://docs.sqlalchemy.org/en/20/core/pooling.html ("Using Connection Pools with Multiprocessing or os.fork()").
"""

from __future__ import annotations

import sys
from typing import Any

from rocksyd.worker.integrations.instances import instances

LIBRARY = "sqlalchemy.engine"


def before_fork() -> None:
    """Let go of all sessions' connections, then close those in the pools; every engine goes on with a new pool."""
    orm: Any = sys.modules.get("sqlalchemy.orm")
    if orm is not None:
        orm.close_all_sessions()
    engines: Any = sys.modules[LIBRARY]
    for engine in instances(engines.Engine):
        try:
            engine.dispose()
        except Exception:  # noqa: BLE001  (an asynchronous driver cannot say goodbye here, nor can who is cut off)
            engine.dispose(close=False)
