"""A loaded application at work: forks on order, kills on order, and tells.

What must live here: the loop, forking, and carrying out the master's orders. What this file must not know: how an application is
loaded, what a worker does, and how ends are waited for (``reaping``).

One thread, no asyncio, no code of the application's: nothing here can be in an undefined state at the moment of a fork.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any, NoReturn

from rocksyd import messages
from rocksyd.errors import ChannelClosed, DescriptorsLost, MessageError
from rocksyd.kinds import STAYING
from rocksyd.posix import signals
from rocksyd.posix.channel import Channel, close_all, pair
from rocksyd.posix.scoreboard import Scoreboard
from rocksyd.worker import output, reset, results
from rocksyd.worker.main import Worker
from rocksyd.worker.seat import Seat
from rocksyd.zygote import processes, promotion
from rocksyd.zygote.children import Child, Children
from rocksyd.zygote.loading import Loaded, LoadFailed
from rocksyd.zygote.reaping import Reaper
from rocksyd.zygote.wakeups import Wakeups

_BATCH = 200
"""Descriptors in one WORKERS message (the kernel takes 253)."""
_ENDING = (signal.SIGTERM, signal.SIGKILL)
"""Signals after which nothing of the group may be left."""


class Server:
    """The zygote after READY."""

    def __init__(self, channel: Channel, loaded: Loaded, grace: float, board: Scoreboard | None = None) -> None:
        self._channel = channel
        self._context = loaded.context
        self._pools = loaded.pools
        self._groups = loaded.groups
        self._loaded = loaded
        self._ready = loaded.ready
        self._app = loaded.ready.app
        self._generation = loaded.ready.generation
        self._board = board
        self._grace = grace
        self._children = Children()
        self._retiring = False
        self._kill_at: float | None = None
        """Set when nobody is at the other end any more: when the workers that are left are killed."""
        self._reaper = Reaper(self._children, self._groups, grace, self._say)
        self._wakeups = Wakeups()
        self._handlers: dict[type[Any], Callable[[Any], None]] = {
            messages.Fork: self._fork,
            messages.Kill: self._kill,
            messages.PrintStacks: self._print_stacks,
            messages.ExitAck: lambda ack: self._children.acknowledge(ack.pids),
            messages.Inventory: self._inventory,
            messages.Retire: self._retire,
            messages.Promote: self._promote,
            messages.Measure: self._measure,
        }

    def run(self) -> int:
        """Serve until retired with nothing left, or until everybody else is gone. The exit status."""
        self._wakeups.begin()
        while not self._done():
            self._wait()
            self._reaper.reap()
            if self._wakeups.terminated and self._kill_at is None:
                self._end_everything()
            now = time.monotonic()
            self._reaper.look_at_groups(now)
            self._groups.removals.on_time(now)
            self._kill_the_rest()
        self._groups.removals.once_more()  # what is left then is the master's to remove
        return 0

    def _done(self) -> bool:
        if self._kill_at is not None:
            return not self._children.unreaped
        return self._retiring and self._children.none_left

    # --- waiting ------------------------------------------------------------------------------------------------------
    def _wait(self) -> None:
        """Sleep until there is something to do, then take what has come."""
        poll = select.poll()
        poll.register(self._wakeups.fd, select.POLLIN)
        if self._kill_at is None:
            poll.register(self._channel, select.POLLIN | (select.POLLOUT if self._channel.pending else 0))
        ready = dict(poll.poll(self._patience()))
        if self._wakeups.fd in ready:
            self._wakeups.empty()
        if self._kill_at is None and self._channel.fileno() in ready:
            self._converse()

    def _patience(self) -> float | None:
        """Milliseconds until something is due; None for ever."""
        due = [at for at in (self._kill_at, self._children.next_look(), self._groups.removals.next_try()) if at is not None]
        return max(0.0, min(due) - time.monotonic()) * 1000 + 1 if due else None

    # --- the channel --------------------------------------------------------------------------------------------------
    def _converse(self) -> None:
        try:
            self._channel.flush()
            # What is carried out may find out that nobody is there any more; then the channel is closed.
            while self._kill_at is None and (message := self._receive()) is not None:
                self._handle(message)
        except ChannelClosed:
            self._end_everything()

    def _receive(self) -> Any:
        while True:
            try:
                return self._channel.receive()
            except (MessageError, DescriptorsLost) as error:
                output.note(f"zygote {self._app} ignores a message: {error}")
            except OSError as error:  # it would come back for ever
                raise ChannelClosed(f"the channel to the master cannot be read: {error.strerror}") from error

    def _handle(self, message: Any) -> None:
        handler = self._handlers.get(type(message))
        if handler is None:
            output.note(f"zygote {self._app} ignores a message that is not for it: {type(message).__name__}")
            return
        try:
            handler(message)
        except ChannelClosed:
            raise
        except Exception as error:  # noqa: BLE001  (the application's memory is worth more than one order)
            output.write(f"rocksyd: zygote {self._app} could not carry out {message!r}:\n{results.traceback_of(error)}")

    def _say(self, message: Any) -> None:
        """Send; that nobody is there is found out by the loop, which then ends everything."""
        if self._kill_at is not None:
            return
        try:
            self._channel.send(message)
        except ChannelClosed:
            self._end_everything()

    # --- forking ------------------------------------------------------------------------------------------------------
    def _fork(self, order: messages.Fork) -> None:
        if self._retiring:
            self._say(messages.ForkFailed(order.worker, order.pool, "this zygote is being retired: newer code is serving"))
            return
        try:
            masters, workers = pair()
        except OSError as error:
            self._say(messages.ForkFailed(order.worker, order.pool, f"no channel for the worker: {error.strerror}"))
            return
        output.flush()
        place = self._reaper.leftovers.take()
        # A signal must not meet the child while it still has the zygote's handlers and wakeup pipe.
        before = signals.block_all()
        try:
            pid = os.fork()
            if pid == 0:
                masters.close()
                self._become_worker(order, Channel(workers, max_body=1 << 62), place)
        except OSError as error:
            self._reaper.leftovers.give_back(place)
            masters.close()
            workers.close()
            self._say(messages.ForkFailed(order.worker, order.pool, f"fork: {error.strerror}"))
            return
        finally:
            signals.restore(before)
        workers.close()
        self._children.add(Child(order.worker, pid, order.pool, order.slot, masters.detach()))
        child = self._children.get(pid)
        assert child is not None
        child.place = place
        self._say(messages.Forked(order.worker, pid, order.pool, order.slot, (child.channel,)))

    def _become_worker(self, order: messages.Fork, channel: Channel, place: int) -> NoReturn:
        """In the child: drop everything of the zygote's, then be a worker until the end."""
        try:
            self._channel.close()
            self._wakeups.close()
            for other in self._children.unreaped:
                if other.channel >= 0:
                    os.close(other.channel)
            seat = Seat(self._board, order, self._generation, (self._reaper.leftovers, place))
            context = self._pools.get(order.pool, self._context)
            self._groups.join(order.worker, context)
            reset.after_fork(context)
            if order.kind:
                import_module(STAYING[order.kind].worker).serve(context, order, channel)
            if order.concurrency > 1:
                from rocksyd.worker.concurrent import SharedWorker  # noqa: PLC0415  (it imports asyncio, which others do without)

                SharedWorker(context, order.worker, channel, seat, order.concurrency).serve()
            self._become_template(Worker(context, order.worker, channel, seat).serve(), order.pool)
        except BaseException as error:  # noqa: BLE001  (nothing may unwind into the zygote's loop in a child)
            output.write(f"rocksyd: a worker of {self._app} could not start:\n{results.traceback_of(error)}")
            if order.kind:  # whoever waits for it wants to know why it does not come
                with contextlib.suppress(ChannelClosed):
                    channel.send(messages.Failed(self._app, reason=f"pool {order.pool}: {error}"))
        finally:
            os._exit(70)

    def _become_template(self, order: messages.Promote, pool: str) -> NoReturn:
        """In a worker that is none any more: be a zygote for workers like it until the end."""
        channel = promotion.take_channel(order)
        try:
            loaded = promotion.prepare(order, pool, self._loaded, channel)
            channel.send(loaded.ready)
        except LoadFailed as failure:
            with contextlib.suppress(ChannelClosed):
                channel.send(messages.Failed(self._app, self._generation, failure.reason, failure.traceback))
            promotion.give_up()
        except ChannelClosed:
            promotion.give_up()
        promotion.leave(Server(channel, loaded, self._grace, self._board).run())

    # --- orders -------------------------------------------------------------------------------------------------------
    def _promote(self, order: messages.Promote) -> None:
        """Pass it on, over the master's end of the worker's channel, and count it among the workers no longer."""
        child = self._children.get(order.pid)
        try:
            if child is not None and child.channel >= 0 and not self._retiring:
                promotion.pass_on(order, child.channel)
                child.channel = -1
                child.promoted = True
        finally:
            close_all(order.fds)  # where nobody has a duplicate, the master sees the end of the channel

    def _measure(self, order: messages.Measure) -> None:
        found = []
        for child in self._children.at_work:
            size = processes.private_memory(child.pid) if child.pool == order.pool else 0
            if size:
                found.append((child.worker, size))
        self._say(messages.Measured(order.pool, tuple(found)))

    def _kill(self, order: messages.Kill) -> None:
        child = self._children.get(order.pid)
        if child is None:
            return  # it has been reaped, and EXITED says so
        if order.number in _ENDING:
            child.killed = True
            child.grace = max(0.0, order.grace)
            child.max_rss = max(child.max_rss, processes.peak_memory(child.pid))
            if child.group_deadline is not None:
                self._children.keep_dead(child, time.monotonic())
        if order.number == signal.SIGKILL:
            self._groups.kill(child.worker)
        if order.soft and signals.caught(child.pid, signals.TIME_UP):
            child.soft = True
            os.kill(child.pid, signals.TIME_UP)
        else:
            processes.signal_group(child.pid, order.number)

    def _print_stacks(self, order: messages.PrintStacks) -> None:
        child = self._children.get(order.pid)
        number = signals.STACK_IN_C if order.in_c else signals.STACKS
        if child is not None and signals.caught(child.pid, number):
            os.kill(child.pid, number)

    def _retire(self, _order: messages.Retire) -> None:
        self._retiring = True

    def _inventory(self, _order: messages.Inventory) -> None:
        """Say everything again: a master that died took with it what it had heard."""
        if not self._retiring:
            self._say(self._ready)
        living = self._children.at_work
        exits = tuple(exit_[:5] for exit_ in self._children.exits)
        oom = tuple(exit_.worker for exit_ in self._children.exits if exit_.oom)
        batches = [living[at : at + _BATCH] for at in range(0, len(living), _BATCH)] or [[]]
        for index, batch in enumerate(batches):
            more = index < len(batches) - 1
            self._say(
                messages.Workers(
                    workers=tuple((child.worker, child.pid, child.pool, child.slot) for child in batch),
                    exits=() if more else exits,
                    oom=() if more else oom,
                    more=more,
                    app=self._app,
                    generation=self._generation,
                    fds=tuple(child.channel for child in batch),
                )
            )

    # --- the end ------------------------------------------------------------------------------------------------------
    def _end_everything(self) -> None:
        """Keeper and master are gone: TERM to every worker's group, KILL after the grace."""
        if self._kill_at is not None:
            return
        now = time.monotonic()
        self._kill_at = now + self._grace
        self._channel.close()
        for child in self._children.living:
            child.killed = True
            child.grace = self._grace
            if child.channel >= 0:
                os.close(child.channel)  # an idle worker leaves by itself when nobody can speak to it any more
                child.channel = -1
            processes.signal_group(child.pid, signal.SIGTERM)

    def _kill_the_rest(self) -> None:
        """Nobody is at the other end any longer: KILL to those that have not ended within the grace."""
        now = time.monotonic()
        if self._kill_at is not None and now >= self._kill_at:
            self._kill_at = now + self._grace
            for child in self._children.at_work:  # a template kills its own workers, and then leaves
                processes.signal_group(child.pid, signal.SIGKILL)
