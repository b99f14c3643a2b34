"""What passes between the master and a worker that has one run at a time: orders come in, results go out.

What must live here: the channel, and what is done when nobody is at its other end.
What this file must not know: what an order means, how a run ended.

The channel's descriptor is the only one of the daemon's in this process. A job that closes everything it finds
(``os.closerange``) closes it too; no duplicate is kept elsewhere, because none would survive that either. The worker sees the
loss by the socket's inode, before it writes into whatever has the number now, and leaves with the run's own exit status,
so that the status still tells.
"""

from __future__ import annotations

import os
import select
from collections import deque
from typing import Any

from rocksyd import messages
from rocksyd.errors import ChannelClosed, DescriptorsLost, MessageError
from rocksyd.posix.channel import Channel
from rocksyd.worker import output
from rocksyd.worker.report import Report

Order = messages.Job | messages.Promote


class Conversation:
    """One worker's end of its channel."""

    def __init__(self, channel: Channel, worker: int) -> None:
        self._channel = channel
        self._report = Report(worker, self.send)
        self._file = output.identity(channel.fileno())
        self._pid = os.getpid()
        self._waiting: deque[Order] = deque()
        """What came in place of an acknowledgement: it is sent when the journal holds the result before it."""
        self._draining = False
        self.status = 0
        """The exit status to leave with when there is no next order."""

    @property
    def expected(self) -> bool:
        """Whether something has come already."""
        return self._channel.readable

    @property
    def open(self) -> bool:
        """Whether this process may speak for the run (a fork of a job's may not), and has not closed its channel."""
        return os.getpid() == self._pid and output.identity(self._channel.fileno()) == self._file

    def close(self) -> None:
        """Speak to nobody as a worker from now on."""
        self._channel.close()

    def stop(self) -> None:
        """Take no further order. One that came meanwhile is given to another worker, because nothing of it has begun."""
        self._draining = True
        self._waiting.clear()

    # --- waiting ------------------------------------------------------------------------------------------------------
    def next(self) -> Order | None:
        """Block until there is a job, or the order to be a template; None when it is time to leave."""
        if self._waiting:
            return self._waiting.popleft()
        while not self._draining:
            message = self._receive()
            if isinstance(message, Order):
                return message
            if message is None:
                self.status = messages.NOTHING_RUN
            if message is None or isinstance(message, messages.Drain):
                return None
            if isinstance(message, messages.Inventory):
                try:
                    self._report.answer(message.epoch)
                except ChannelClosed:
                    continue  # and nothing more is received
        return None

    def _receive(self) -> Any:
        """The next message, whatever it is; None when nobody is at the other end."""
        while True:
            try:
                return self._channel.wait()
            except MessageError as error:
                output.note(f"a worker ignores a message: {error}")
            except (ChannelClosed, DescriptorsLost, OSError):
                return None

    # --- telling ------------------------------------------------------------------------------------------------------
    def send(self, message: Any) -> None:
        """Send, however long it takes. Raises ChannelClosed."""
        self._channel.send(message)
        while not self._channel.flush():
            poll = select.poll()
            poll.register(self._channel, select.POLLOUT)
            poll.poll()

    def mention(self, message: Any) -> None:
        """Send it if that is possible at once; it is not worth waiting for."""
        if not self.open or (self._channel.pending and not self._channel.flush()):
            return
        try:
            self._channel.send(message)
        except ChannelClosed:
            return

    def say(self, result: messages.Result) -> None:
        """Say RESULT. If nobody is listening, exit with the run's own status, which somebody will see."""
        if not self.open:
            os._exit(result.retcode)
        try:
            self._report.say(result)
        except ChannelClosed:
            os._exit(result.retcode)

    def await_ack(self, result: messages.Result) -> None:
        """Wait until RESULT has been heard, and say it again to whoever asks."""
        try:
            while self._report:
                message = self._receive()
                if message is None:
                    os._exit(result.retcode)
                if isinstance(message, messages.JobAck):
                    self._report.heard(message.key)
                elif isinstance(message, messages.Inventory):
                    self._report.answer(message.epoch)
                elif isinstance(message, messages.Drain):
                    self._draining = True
                elif isinstance(message, Order):
                    self._waiting.append(message)
                    self._report.all_heard()
        except ChannelClosed:
            os._exit(result.retcode)
