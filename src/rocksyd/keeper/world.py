"""Everything the keeper holds, and what can be done with it: the system's side of the choreography.

What must live here: the shelf, the children, the links, the log, the service manager's socket - and acting on them.
What this file must not know: when any of it is to happen.
"""

from __future__ import annotations

import errno
import os
import signal

from rocksyd import messages
from rocksyd.keeper import pidfile
from rocksyd.keeper.children import Children
from rocksyd.keeper.effects import SendPrepare
from rocksyd.keeper.links import Link
from rocksyd.keeper.log import Log, write_text
from rocksyd.keeper.options import Options
from rocksyd.keeper.shelf import Shelf
from rocksyd.keeper.spawning import Attempt, Spawner
from rocksyd.posix.channel import Channel, pair
from rocksyd.posix.notify import Notifier
from rocksyd.posix.processes import Command, parent_of


class Starter:
    """Whoever started the service, and waits to hear whether it serves: told once."""

    def __init__(self, ready_fd: int) -> None:
        self._ready_fd = ready_fd
        self.console = -1
        """What descriptor 2 was before the log file took its place; kept until the service is ready."""

    def report_ready(self) -> None:
        """Tell that the service serves (a line, so that s6's readiness notification works as well)."""
        self._report("ready\n")

    def report_failure(self, reason: str) -> None:
        """Tell why it does not serve."""
        text = f"rocksyd: cannot start: {reason}\n"
        write_text(2, text)
        if self.console >= 0:
            write_text(self.console, text)
        self._report("failed " + " ".join(reason.split("\n")))

    def _report(self, text: str) -> None:
        if self._ready_fd >= 0:
            write_text(self._ready_fd, text)
            os.close(self._ready_fd)
            self._ready_fd = -1
        if self.console >= 0:
            os.close(self.console)
            self.console = -1


class World:
    """One per keeper."""

    def __init__(self, options: Options, nofile: int, log: Log, notifier: Notifier) -> None:
        self.options = options
        self.nofile = nofile
        """The soft limit of open files the keeper was started with: what zygotes get."""
        self.log = log
        self.notifier = notifier
        self.shelf = Shelf()
        self.children = Children()
        self.links: dict[int, Link] = {}
        self.spawner = Spawner()
        self.snapshot = -1
        """What FROZEN brought; -1 for nothing."""
        self.pid_fd = -1
        self.starter = Starter(options.ready_fd)
        self.refusals: dict[int, str] = {}
        """PID -> why its exec did not come about, until it is reaped."""

    # --- masters ----------------------------------------------------------------------------------------------------
    def start_master(self, number: int) -> None:
        """Spawn a master with a channel as its descriptor 3. Raises OSError."""
        ours, theirs = pair()
        options = self.options
        env = dict(os.environ)
        if options.log_file:
            env["ROCKSYD_LOG_FILE"] = options.log_file
        command = Command([options.python, "-I", "-S", options.boot, "master"], env, fds=(theirs.fileno(),))
        try:
            attempt = self.spawner.start(command, "", number)
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self.links[number] = Link(number, attempt.pid, Channel(ours))

    def link_of(self, pid: int) -> Link | None:
        """The link of the master with this PID."""
        return next((link for link in self.links.values() if link.pid == pid), None)

    def say(self, number: int, message: object) -> None:
        """Queue a message for a master, if it is still there."""
        link = self.links.get(number)
        if link is not None:
            link.say(message)

    def prepare(self, order: SendPrepare) -> None:
        """Send PREPARE and the shelf."""
        link = self.links.get(order.master)
        if link is None:
            return
        names = tuple(self.shelf)
        watchdog, children = self.notifier.watchdog, self.children.names(order.master)
        config = self.options.config
        link.say(messages.Prepare(order.cause, order.reason, config, names, order.crashes, watchdog, children, order.stopping))
        link.say_shelved(names)
        link.announced = True

    def adopt(self, number: int, *, with_snapshot: bool) -> None:
        """Send ADOPT."""
        link = self.links.get(number)
        if link is None:
            return
        if with_snapshot and self.snapshot >= 0:
            copy = os.dup(self.snapshot)
            link.say(messages.Adopt((copy,)), owned=copy)
        else:
            link.say(messages.Adopt())

    def forget_snapshot(self) -> None:
        """Close what FROZEN brought."""
        if self.snapshot >= 0:
            os.close(self.snapshot)
            self.snapshot = -1

    def kill_master(self, number: int) -> None:
        """SIGKILL, if it has not been reaped."""
        link = self.links.get(number)
        if link is not None:
            send_signal(link.pid, signal.SIGKILL)

    def close_link(self, number: int) -> None:
        """The master is dead."""
        link = self.links.pop(number, None)
        if link is not None:
            link.close()

    def promote(self, number: int) -> None:
        """What this master shelved and spawned is the service's."""
        self.children.promote(number)
        self.shelf.empty_drawer_onto_shelf(number)
        self.forget_snapshot()

    def discard(self, number: int) -> None:
        """What this master shelved and spawned goes with it."""
        for pid in self.children.doom(number):
            send_signal(pid, signal.SIGKILL)
        self.shelf.throw_drawer_away(number)
        self.forget_snapshot()

    # --- children ---------------------------------------------------------------------------------------------------
    def spawn(self, link: Link, order: messages.Spawn, owner: int) -> None:
        """Carry out SPAWN; the answer follows when the exec came about, or not."""
        try:
            reason = self._spawn(link.number, order, owner)
        except OSError as error:
            cure = "; raise the limit of processes or end some" if error.errno == errno.EAGAIN else ""
            reason = f"cannot start {order.argv[0]}: {error.strerror}{cure}"
        finally:
            close_all(order.fds)
        if reason:
            link.say(messages.Spawned(order.name, 0, reason))

    def _spawn(self, number: int, order: messages.Spawn, owner: int) -> str:
        if not order.argv:
            return "SPAWN names no program"
        holder = self.children.pid_of(order.name)
        if holder:
            return f"a child called {order.name} lives already (PID {holder}); end it first"
        env = os.environ if order.env is None else order.env
        attempt = self.spawner.start(Command(order.argv, env, order.cwd, order.fds, self.nofile), order.name, number)
        self.children.add(attempt.pid, order.name, owner)
        return ""

    def spawn_ended(self, attempt: Attempt, reason: str) -> None:
        """It is known whether the exec came about."""
        if not attempt.name:
            if reason:
                self.refusals[attempt.pid] = reason
            return
        if reason:
            self.children.forget(attempt.pid)
        self.say(attempt.master, messages.Spawned(attempt.name, 0 if reason else attempt.pid, reason))

    def signal_child(self, order: messages.Signal) -> None:
        """Carry out SIGNAL: only to a child that has not been reaped, so that its number cannot mean anyone else."""
        if self.link_of(order.pid) is not None or order.pid <= 0:
            return
        if order.pid in self.children.living or parent_of(order.pid) == os.getpid():
            send_signal(order.pid, order.number, group=order.group)

    def tell_exits(self, number: int, *, serving: bool) -> None:
        """Tell a master the ends it has not been told."""
        link = self.links.get(number)
        if link is not None:
            for message in self.children.untold(number, serving=serving):
                link.say(message)

    # --- the way out ------------------------------------------------------------------------------------------------
    def let_go(self, *, kill_masters: bool) -> None:
        """Close every channel and every descriptor on the shelf, so that whoever waits on the other end sees the end."""
        for number in list(self.links):
            if kill_masters:
                self.kill_master(number)
            self.children.forget(self.links[number].pid)
            self.close_link(number)
        self.shelf.clear()
        self.forget_snapshot()

    def give_pid_file_back(self) -> None:
        """Remove and unlock the PID file."""
        if self.pid_fd >= 0:
            pidfile.give_back(self.options.pid_file, self.pid_fd)
            self.pid_fd = -1


def send_signal(pid: int, number: int, *, group: bool = False) -> None:
    """Send a signal to a process of ours that may have ended meanwhile; to its group where it leads one."""
    try:
        if group:
            try:
                os.killpg(pid, number)
                return
            except ProcessLookupError:
                pass  # it leads no group
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError, OverflowError):
        return
    except OSError:
        return  # no such signal


def close_all(fds: tuple[int, ...]) -> None:
    """Close descriptors that came with a message."""
    for fd in fds:
        os.close(fd)
