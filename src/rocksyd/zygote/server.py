"""A loaded application at work: forks on order, kills on order, reaps, and tells.

What must live here: the loop, and everything that touches processes. What this file must not know: how an application is
loaded, and what a worker does.

One thread, no asyncio, no code of the application's: nothing here can be in an undefined state at the moment of a fork.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from rocksyd import messages
from rocksyd.errors import ChannelClosed, DescriptorsLost, MessageError
from rocksyd.posix import signals
from rocksyd.posix.channel import Channel, close_all, pair
from rocksyd.posix.scoreboard import Scoreboard
from rocksyd.worker import output, reset, values
from rocksyd.worker.main import Worker
from rocksyd.worker.seat import Seat
from rocksyd.zygote import processes, templates
from rocksyd.zygote.children import Child, Children, Exit
from rocksyd.zygote.loading import NOTICED, Loaded, LoadFailed, ignore

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
        self._terminated = False
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
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
        self._catch_signals()
        while not self._done():
            self._wait()
            self._reap()
            if self._terminated and self._kill_at is None:
                self._end_everything()
            self._look_at_groups()
        return 0

    def _done(self) -> bool:
        if self._kill_at is not None:
            return not self._children.unreaped
        return self._retiring and self._children.none_left

    # --- waiting ------------------------------------------------------------------------------------------------------
    def _catch_signals(self) -> None:
        """From here on the application has no say in signals: what it installed while it was loaded is replaced."""
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        for number in NOTICED:
            signal.signal(number, ignore)
        signal.signal(signal.SIGTERM, self._on_term)
        # A handler is what makes the wakeup descriptor be written to; SIG_IGN would lose the exit statuses.
        signal.signal(signal.SIGCHLD, ignore)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)

    def _on_term(self, _number: int, _frame: object) -> None:
        self._terminated = True

    def _wait(self) -> None:
        """Sleep until there is something to do, then take what has come."""
        poll = select.poll()
        poll.register(self._wake_read, select.POLLIN)
        if self._kill_at is None:
            poll.register(self._channel, select.POLLIN | (select.POLLOUT if self._channel.pending else 0))
        ready = dict(poll.poll(self._patience()))
        if self._wake_read in ready:
            self._empty_wakeups()
        if self._kill_at is None and self._channel.fileno() in ready:
            self._converse()

    def _patience(self) -> float | None:
        """Milliseconds until something is due; None for ever."""
        due = [at for at in (self._kill_at, self._children.next_look()) if at is not None]
        return max(0.0, min(due) - time.monotonic()) * 1000 + 1 if due else None

    def _empty_wakeups(self) -> None:
        try:
            while len(os.read(self._wake_read, 4096)) == 4096:
                pass
        except BlockingIOError:
            pass

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
            output.write(f"rocksyd: zygote {self._app} could not carry out {message!r}:\n{values.traceback_of(error)}")

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
        # A signal must not meet the child while it still has the zygote's handlers and wakeup pipe.
        before = signals.block_all()
        try:
            pid = os.fork()
            if pid == 0:
                masters.close()
                self._become_worker(order, Channel(workers))
        except OSError as error:
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
        self._say(messages.Forked(order.worker, pid, order.pool, order.slot, (child.channel,)))

    def _become_worker(self, order: messages.Fork, channel: Channel) -> NoReturn:
        """In the child: drop everything of the zygote's, then be a worker until the end."""
        try:
            self._channel.close()
            os.close(self._wake_read)
            os.close(self._wake_write)
            for other in self._children.unreaped:
                if other.channel >= 0:
                    os.close(other.channel)
            seat = Seat(self._board, order, self._generation)
            context = self._pools.get(order.pool, self._context)
            self._groups.join(order.worker, context)
            reset.after_fork(context)
            if order.concurrency > 1:
                from rocksyd.worker.concurrent import SharedWorker  # noqa: PLC0415  (it imports asyncio, which others do without)

                SharedWorker(context, order.worker, channel, seat, order.concurrency).serve()
            self._become_template(Worker(context, order.worker, channel, seat).serve(), order.pool)
        except BaseException as error:  # noqa: BLE001  (nothing may unwind into the zygote's loop in a child)
            output.write(f"rocksyd: a worker of {self._app} could not start:\n{values.traceback_of(error)}")
        finally:
            os._exit(70)

    def _become_template(self, order: messages.Promote, pool: str) -> NoReturn:
        """In a worker that is none any more: be a zygote for workers like it until the end."""
        channel = templates.take_channel(order)
        try:
            loaded = templates.prepare(order, pool, self._loaded, channel)
            channel.send(loaded.ready)
        except LoadFailed as failure:
            with contextlib.suppress(ChannelClosed):
                channel.send(messages.Failed(self._app, self._generation, failure.reason, failure.traceback))
            templates.give_up()
        except ChannelClosed:
            templates.give_up()
        templates.leave(Server(channel, loaded, self._grace, self._board).run())

    # --- orders -------------------------------------------------------------------------------------------------------
    def _promote(self, order: messages.Promote) -> None:
        """Pass it on, over the master's end of the worker's channel, and count it among the workers no longer."""
        child = self._children.get(order.pid)
        try:
            if child is not None and child.channel >= 0 and not self._retiring:
                templates.pass_on(order, child.channel)
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
        if child is not None and signals.caught(child.pid, signals.STACKS):
            os.kill(child.pid, signals.STACKS)

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

    # --- reaping ------------------------------------------------------------------------------------------------------
    def _reap(self) -> None:
        for pid in self._ended():
            child = self._children.get(pid)
            if child is None:
                os.waitpid(pid, 0)  # left behind by the preload
            elif child.killed and processes.others_in_group(pid):
                self._keep_zombie(child)
            else:
                self._bury(child)

    def _ended(self) -> Iterator[int]:
        """PIDs of children that have ended, each to be reaped (or kept as a zombie) before the next is asked for."""
        while not self._children.dead_leaders:
            pid = processes.first_ended()
            if pid is None:
                return
            yield pid
        # A zombie that is kept would be found again and again: ask one by one, while there is one.
        for child in self._children.living:
            if processes.has_ended(child.pid):
                yield child.pid

    def _bury(self, child: Child) -> None:
        """Reap it and tell."""
        _, status, usage = os.wait4(child.pid, 0)
        cpu, max_rss = usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024
        oom = self._groups.out_of_memory(child.worker)
        self._forget(child)
        self._tell(Exit(child.worker, child.pid, status, cpu, max_rss, oom))

    def _keep_zombie(self, child: Child) -> None:
        """Tell of the leader's end now; its PID, which is the group's number, stays taken while others live in the group."""
        status, cpu = processes.zombie_status(child.pid), processes.zombie_cpu(child.pid)
        self._children.keep_dead(child, time.monotonic())
        if child.soft:  # the others have heard nothing yet
            processes.signal_group(child.pid, signal.SIGTERM)
        self._tell(Exit(child.worker, child.pid, status, cpu, child.max_rss, self._groups.out_of_memory(child.worker)))

    def _tell(self, exit_: Exit) -> None:
        self._children.told(exit_)
        pid, status = exit_.pid, exit_.status
        self._say(
            messages.Exited(pid=pid, status=status, worker=exit_.worker, cpu=exit_.cpu, max_rss=exit_.max_rss, oom=exit_.oom)
        )

    def _forget(self, child: Child) -> None:
        self._children.remove(child.pid)
        self._groups.remove(child.worker)
        if child.channel >= 0:
            os.close(child.channel)
            child.channel = -1

    def _look_at_groups(self) -> None:
        now = time.monotonic()
        for child in self._children.dead_leaders:
            if child.look_at > now:
                continue
            assert child.group_deadline is not None
            over = now >= child.group_deadline
            if over:
                self._groups.kill(child.worker)
                processes.signal_group(child.pid, signal.SIGKILL)
            if over or not processes.others_in_group(child.pid):
                os.waitpid(child.pid, 0)
                self._forget(child)
            else:
                self._children.look_later(child, now)
        if self._kill_at is not None and now >= self._kill_at:
            self._kill_at = now + self._grace
            for child in self._children.at_work:  # a template kills its own workers, and then leaves
                processes.signal_group(child.pid, signal.SIGKILL)

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
