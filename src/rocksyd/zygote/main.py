"""The zygote's program: ``boot.py zygote``, with the channel as descriptor 3.

What must live here: LOAD to READY or FAILED, then the loop, then the end. What this file must not know: how each is done.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

from rocksyd import messages
from rocksyd.errors import ChannelClosed, MessageError
from rocksyd.posix import libc, titles
from rocksyd.posix.channel import Channel
from rocksyd.posix.scoreboard import Scoreboard
from rocksyd.posix.titles import set_title
from rocksyd.worker import output
from rocksyd.zygote.loading import Loaded, LoadFailed, load_application
from rocksyd.zygote.promotion import leave
from rocksyd.zygote.server import Server

CHANNEL = 3
_GRACE = 10.0


def main(argv: list[str]) -> int:
    """Be a zygote until it is over. Returns only when it was started wrongly; ends by ``os._exit`` otherwise.

    The interpreter is not finalised: the application's threads and destructors could hold that up for ever.
    """
    if argv:
        print("rocksyd: a zygote takes no arguments", file=sys.stderr)
        return 2
    try:
        os.set_inheritable(CHANNEL, False)
        channel = Channel.from_fd(CHANNEL)
    except OSError as error:
        print(f"rocksyd: a zygote is started by the keeper, with a channel as descriptor 3 ({error.strerror})", file=sys.stderr)
        return 2
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # SIG_IGN is inherited through exec, and loses exit statuses
    order = _first_order(channel)
    if order is None:
        return 0
    return _serve(channel, order)


def _first_order(channel: Channel) -> messages.Load | None:
    """LOAD; None when nobody is at the other end any more."""
    while True:
        try:
            message = channel.wait()
        except MessageError:
            continue
        except ChannelClosed:
            return None
        if isinstance(message, messages.Load):
            return message


def _serve(channel: Channel, order: messages.Load) -> NoReturn:
    titles.write_directly(libc.memory_at)
    set_title(f"rocksyd: zygote {order.app}@{order.generation} (loading)")
    board = _scoreboard(order)
    try:
        loaded = load_application(order)
    except LoadFailed as failure:
        _say_failed(channel, order, failure)
        leave(1)
    set_title(f"rocksyd: zygote {order.app}@{order.generation}")
    leave(_run(channel, order, loaded, board))


def _run(channel: Channel, order: messages.Load, loaded: Loaded, board: Scoreboard | None) -> int:
    server = Server(channel, loaded, float(order.settings.get("grace", _GRACE)), board)
    try:
        channel.send(loaded.ready)
    except ChannelClosed:
        return 0
    return server.run()


def _scoreboard(order: messages.Load) -> Scoreboard | None:
    """Map it and close the descriptors: a job is not to find them."""
    try:
        return Scoreboard(order.fds[0]) if order.fds else None
    except OSError as error:
        output.note(f"application {order.app}: the scoreboard cannot be mapped ({error.strerror}); its workers will not be on it")
        return None
    finally:
        for fd in order.fds:
            os.close(fd)


def _say_failed(channel: Channel, order: messages.Load, failure: LoadFailed) -> None:
    try:
        channel.send(messages.Failed(order.app, order.generation, failure.reason, failure.traceback))
    except ChannelClosed:
        output.note(f"application {order.app} could not be loaded, and nobody is there to be told: {failure.reason}")
