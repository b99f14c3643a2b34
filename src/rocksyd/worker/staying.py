"""The life of a worker that takes its work itself from sockets: its loop, its channel to the master, its page, its title.

What must live here: what every such worker is to the master, whatever it serves.
What this file must not know: what is served (``web.life``, ``service.life``).
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import Any, NoReturn

from rocksyd import messages
from rocksyd.errors import ChannelClosed, DescriptorsLost, MessageError
from rocksyd.posix import webpage
from rocksyd.posix.channel import Channel
from rocksyd.posix.titles import set_title
from rocksyd.worker import output, results
from rocksyd.worker.context import Context


class Staying:
    """One worker, from its fork to ``os._exit``."""

    called = "worker"
    """What people call one."""

    def __init__(self, context: Context, number: int, channel: Channel) -> None:
        self._context = context
        self._number = number
        self._channel = channel
        self._loop = new_loop()
        self._page_fd, self._page = webpage.create()
        self._page["pid"] = os.getpid()
        self._page["born"] = int(time.monotonic() * 1000)
        self._state = "starting"
        self._over = asyncio.Event()

    def serve(self) -> NoReturn:
        """From here to ``os._exit``. Never raises."""
        status = 70
        try:
            asyncio.set_event_loop(self._loop)
            self._loop.add_signal_handler(signal.SIGTERM, self._leave_alone)
            self._loop.add_reader(self._channel.fileno(), self._listen)
            self._loop.run_until_complete(self._over.wait())
            status = 0
            self._finish()
        except BaseException as error:  # noqa: BLE001  (nothing may unwind into the zygote's code below this frame)
            output.write(f"rocksyd: a {self.called} failed, please report this:\n" + results.traceback_of(error))
        os._exit(status)

    def _finish(self) -> None:
        """The last things of all."""
        raise NotImplementedError

    def _leave_alone(self) -> None:
        """Leave: nobody else serves."""
        raise NotImplementedError

    def _heard(self, message: Any) -> None:
        """The master has said this."""
        raise NotImplementedError

    # --- the channel --------------------------------------------------------------------------------------------------
    def _listen(self) -> None:
        try:
            self._channel.flush()
            while (message := self._channel.receive()) is not None:
                self._heard(message)
        except (ChannelClosed, DescriptorsLost, OSError):  # nobody is at the other end: the service is over
            self._loop.remove_reader(self._channel.fileno())
            self._leave_alone()
        except MessageError as error:
            output.note(f"a {self.called} ignores a message: {error}")

    def _say(self, message: Any) -> None:
        try:
            self._channel.send(message)
        except ChannelClosed:
            return
        if self._channel.pending:
            self._loop.call_later(0.01, self._flush)

    def _flush(self) -> None:
        try:
            if not self._channel.flush():
                self._loop.call_later(0.01, self._flush)
        except ChannelClosed:
            return

    def _say_serving(self) -> None:
        accepting, going = self._state == "accepting", self._state == "leaving"
        self._say(messages.Serving(self._number, os.getpid(), accepting, going, self._context.app, (self._page_fd,)))

    def _enter(self, state: str) -> None:
        self._state = state
        self._page["stage"] = webpage.STAGES.index(state)
        set_title(f"rocksyd: worker {self._context.pool} ({state})")


def new_loop() -> asyncio.AbstractEventLoop:
    """uvloop's where the application has it, else asyncio's own."""
    try:
        import uvloop  # noqa: PLC0415  (the application's, if it has it)
    except ImportError:
        return asyncio.new_event_loop()
    made: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return made
