"""``logging``: what handlers have gathered at the fork is written once, and their threads and connections are each process's own.

The locks of loggers and handlers need nothing: the standard library takes them before a fork and makes them anew in the child.
"""

from __future__ import annotations

import sys
from typing import Any

from rocksyd.worker.integrations.instances import instances

LIBRARY = "logging"

_stopped: list[Any] = []
"""Queue listeners whose thread was stopped for the fork."""


def before_fork() -> None:
    """Stop the threads of queue listeners, write what handlers hold, drop their connections (they make new ones as needed)."""
    handlers: Any = sys.modules.get("logging.handlers")
    if handlers is not None:
        _stopped[:] = [listener for listener in instances(handlers.QueueListener) if listener._thread is not None]
        for listener in _stopped:
            listener.stop()
    for reference in list(sys.modules[LIBRARY]._handlerList):
        handler = reference()
        if handler is not None:
            _put_in_order(handler, handlers)


def after_fork() -> None:
    """A listener's thread in every worker: what is logged to its queue is written there."""
    for listener in _stopped:
        listener.start()


def take_back() -> None:
    """At the zygote's end: an ``atexit`` handler of the application's may stop its listener, and fails when it does not run."""
    after_fork()


def _put_in_order(handler: Any, handlers: Any) -> None:
    handler.acquire()
    try:
        handler.flush()  # else every worker would write the same again
        if handlers is None:
            return
        if isinstance(handler, handlers.SocketHandler) and handler.sock is not None:
            sock, handler.sock = handler.sock, None
            sock.close()
        elif isinstance(handler, handlers.SysLogHandler) and handler.socktype == _STREAM and handler.socket is not None:
            sock, handler.socket = handler.socket, None
            sock.close()
    except (OSError, ValueError):
        pass  # a stream that is closed already, as at the end of every program (logging.shutdown)
    finally:
        handler.release()


_STREAM = 1  # socket.SOCK_STREAM on Linux
