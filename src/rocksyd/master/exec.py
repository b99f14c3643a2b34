"""``rocksyd exec``: runs of scripts for callers who stay, and whose descriptors the worker gets.

What must live here: the socket beside each unix address, what is said over it, a caller's descriptors while its run waits.
What this file must not know: how a script is run (``worker.script``).

A caller sends one datagram, ``exec 1``, with descriptors: its surroundings (a memfd), its folder, its end of a line to the
worker, and those of 0, 1 and 2 that it has open. It is answered ``accepted``, or ``refused STATUS SENTENCE``; then, when the run
has ended, ``ended RETCODE SIGNAL SENTENCE``, for what only the daemon knows of an end. Worker and caller speak over the line; a
restart or a crash of the master is nothing to them. A caller that lost its connection sends the same order again, with the same
key, or asks ``ended KEY``.

The descriptors are on the shelf before the journal holds the run, and until the worker has them: so no restart and no crash can
leave a run without its caller. While the run waits the line tells whether the caller is still there.
"""

from __future__ import annotations

import _socket
import os
import select
import stat
from typing import TYPE_CHECKING

from rocksyd import messages as m
from rocksyd import surroundings
from rocksyd.core import events as ev
from rocksyd.errors import RequestError
from rocksyd.master.clients import Listener, is_own
from rocksyd.model import ENDED, REASONS, SCRIPT, WAITING, Run
from rocksyd.posix.channel import close_all, descriptors_in
from rocksyd.posix.log import log
from rocksyd.surroundings import Surroundings

if TYPE_CHECKING:
    from rocksyd.master.server import Server

SHELF = "exec:"
REFUSED, USAGE, TOO_BUSY = 1, 2, 75
_ORDER = b"exec 1"
_QUESTION = b"ended "
_FEWEST, _MOST = 3, 6
"""Descriptors of an order: surroundings, folder and line; with standard input, output and error."""
_LINE = 2
_NAME_MOST, _KEY_MOST = 200, 128
_BUSY_CODE = -32004


class Caller:
    """One connection: an order and then its end, or a question for the end of a run."""

    __slots__ = ("fd", "key", "owner", "socket")

    def __init__(self, owner: Execs, socket: _socket.socket) -> None:
        self.owner = owner
        self.socket = socket
        self.fd = socket.fileno()
        self.key = ""
        """The run whose end it waits for."""

    def handle(self, events: int) -> None:
        """What epoll says."""
        self.owner.on_caller(self, events)

    def say(self, text: str) -> None:
        """Send a datagram. One that cannot be sent is to somebody who has gone."""
        try:
            self.socket.send(text.encode("utf-8", "replace"), _socket.MSG_NOSIGNAL | _socket.MSG_DONTWAIT)
        except OSError:
            return


class Line:
    """The line of a caller whose run waits: its other end closes when the caller goes."""

    __slots__ = ("key", "owner")

    def __init__(self, owner: Execs, key: str) -> None:
        self.owner = owner
        self.key = key

    def handle(self, events: int) -> None:
        """What epoll says: the caller has gone."""
        self.owner.caller_gone(self.key)


class Execs:
    """Every caller of ``rocksyd exec``."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._callers: dict[int, Caller] = {}
        self._waiting: dict[str, list[Caller]] = {}
        """Who waits for the end of a run."""
        self._held: dict[str, tuple[int, ...]] = {}
        """Descriptors of callers whose run has not been given to a worker."""
        self._watched: set[str] = set()

    # --- coming and going ---------------------------------------------------------------------------------------------
    def accept(self, listener: Listener) -> None:
        """Take in who waits; nobody but the daemon's own user and root."""
        while True:
            if self._server.clients.is_full():
                return
            try:
                fd, _ = listener.socket._accept()  # type: ignore[attr-defined]
            except BlockingIOError:
                return
            except OSError as error:
                if self._server.clients.has_no_room(error):
                    return
                continue
            os.set_inheritable(fd, False)
            socket = _socket.socket(fileno=fd)
            socket.setblocking(False)
            caller = Caller(self, socket)
            if not is_own(socket):
                caller.say(
                    f"refused {REFUSED} exec is for the daemon's own user and root: a script runs with the daemon's rights"
                )
                socket.close()
                continue
            self._callers[caller.fd] = caller
            self._count()
            self._server.loop.register(caller.fd, caller, select.EPOLLIN)

    def on_caller(self, caller: Caller, events: int) -> None:
        """An order, a question, or the end of a connection (which is nothing to the run)."""
        fds: tuple[int, ...] = ()
        try:
            data, ancillary, flags, _ = caller.socket.recvmsg(4096, _socket.CMSG_SPACE(_MOST * 4), _socket.MSG_CMSG_CLOEXEC)
            fds = descriptors_in(ancillary)
        except BlockingIOError:
            return
        except OSError:
            data, flags = b"", 0
        if data == _ORDER and not flags & _socket.MSG_CTRUNC and not caller.key:
            self._order(caller, fds)
            return
        close_all(fds)
        if data.startswith(_QUESTION) and not caller.key:
            self._question(caller, data.removeprefix(_QUESTION).decode("utf-8", "replace"))
        else:
            if data:
                caller.say(f"refused {USAGE} that is nothing that a caller of exec says")
            self._dismiss(caller)

    def _dismiss(self, caller: Caller) -> None:
        if self._callers.pop(caller.fd, None) is None:
            return
        others = self._waiting.get(caller.key)
        if others is not None:
            others.remove(caller)
            if not others:
                del self._waiting[caller.key]
        self._server.loop.unregister(caller.fd)
        caller.socket.close()
        self._count()

    # --- orders -------------------------------------------------------------------------------------------------------
    def _order(self, caller: Caller, fds: tuple[int, ...]) -> None:
        try:
            if not _FEWEST <= len(fds) <= _MOST:
                raise ValueError("descriptors are missing, or too many")
            around = _read(fds[0])
            if len(around.opened) != len(fds) - _FEWEST or not 0 < len(around.key) <= _KEY_MOST:
                raise ValueError("descriptors are missing, or the key is")
            app = self._choose(around)
        except (ValueError, OSError, RequestError) as error:
            close_all(fds)
            caller.say(f"refused {USAGE} {error}")
            self._dismiss(caller)
            return
        key = around.key
        self._server.lookup(key)
        known = key in self._held or self._server.engine.find(key) is not None
        if known:
            close_all(fds)  # the order again, of a caller that lost its connection: its descriptors are here or have been given
        else:
            self._hold(key, fds)
        words = [word.decode("utf-8", "replace") for word in around.argv]
        name = " ".join(["exec", *(word if word.isprintable() and " " not in word else repr(word) for word in words)])
        options = {"timeout": 0, "retries": 0, "priority": int(around.priority)}
        event = ev.Submit(0, key, name[:_NAME_MOST], words, app, options, kind=SCRIPT)
        self._server.order(event, lambda answer: self._answer(caller, key, answer, first=not known))

    def _choose(self, around: Surroundings) -> str:
        """The application: the one that is named, the only one, or the one whose folder the caller is in."""
        apps = self._server.config.apps
        if around.app:
            if around.app not in apps:
                raise ValueError(f"no application is called {around.app!r} (there are: {', '.join(sorted(apps))})")
            return around.app
        if len(apps) == 1:
            return next(iter(apps))
        here = os.path.realpath(around.cwd or "/")
        around_here = [(len(path), name) for name, app in apps.items() if _is_in(here, path := os.path.realpath(app.path))]
        longest = [name for length, name in around_here if length == max(around_here)[0]]
        if len(longest) == 1:
            return longest[0]
        raise ValueError(f"there are several applications ({', '.join(sorted(apps))}): say which with --app")

    def _answer(self, caller: Caller, key: str, answer: ev.Answer, *, first: bool) -> None:
        run = answer.run
        if run is None:
            error = answer.error
            if first:
                self._release(key)
            status = TOO_BUSY if error is not None and error.code == _BUSY_CODE else REFUSED
            caller.say(f"refused {status} {error}")
            self._dismiss(caller)
            return
        caller.say("accepted")
        self._await(caller, run)
        if run.state == WAITING:
            self._watch(key)

    # --- the end of a run ---------------------------------------------------------------------------------------------
    def _question(self, caller: Caller, key: str) -> None:
        run = self._server.lookup(key)
        if run is None:
            caller.say("unknown")
            self._dismiss(caller)
        else:
            self._await(caller, run)

    def _await(self, caller: Caller, run: Run) -> None:
        if caller.fd not in self._callers:
            return
        caller.key = run.key
        self._waiting.setdefault(run.key, []).append(caller)
        if run.state == ENDED:
            self.ended(run)

    def ended(self, run: Run) -> None:
        """A run has ended: whoever waits for that learns how, and its descriptors are given back if nobody took them."""
        self._release(run.key)
        sentence = f"the run was ended by the daemon: {run.outcome}" if run.outcome in REASONS else ""
        if run.error and run.outcome in REASONS:
            sentence = run.error["message"]
        for caller in list(self._waiting.get(run.key, ())):
            caller.say(f"ended {run.retcode or 0} {run.signal} {sentence}")
            self._dismiss(caller)

    # --- descriptors --------------------------------------------------------------------------------------------------
    def _hold(self, key: str, fds: tuple[int, ...]) -> None:
        self._held[key] = fds
        self._count()
        self._server.children.tell_keeper(m.Shelve(_names(key, len(fds)), fds))

    def _count(self) -> None:
        """Callers and what they wait with take of the same files as connections do."""
        callers = len(self._callers)
        self._server.clients.set_aside(callers + _MOST * max(callers, len(self._held)))

    def _watch(self, key: str) -> None:
        fds = self._held.get(key)
        if fds is not None and key not in self._watched:
            self._watched.add(key)
            self._server.loop.register(fds[_LINE], Line(self, key), 0)  # 0: its end is reported all the same

    def caller_gone(self, key: str) -> None:
        """Nobody waits any more for a run that has not begun."""
        self._forget_line(key)
        self._server.step(ev.Terminate(0, key))

    def _forget_line(self, key: str) -> None:
        if key in self._watched:
            self._watched.discard(key)
            self._server.loop.unregister(self._held[key][_LINE])

    def descriptors(self, key: str) -> tuple[int, ...]:
        """What the worker is to get; nothing when a crash has lost it."""
        return self._held.get(key, ())

    def given(self, key: str) -> None:
        """The worker has the descriptors."""
        self._release(key)

    def _release(self, key: str) -> None:
        fds = self._held.get(key)
        if fds is None:
            return
        self._forget_line(key)
        del self._held[key]
        self._count()
        self._server.children.tell_keeper(m.Unshelve(_names(key, len(fds))))
        close_all(fds)

    # --- hand-over ----------------------------------------------------------------------------------------------------
    def adopt(self, shelf: dict[str, int]) -> None:
        """Take the callers' descriptors from the shelf; what belongs to no run any more is given back."""
        found: dict[str, dict[int, int]] = {}
        for name in [name for name in shelf if name.startswith(SHELF)]:
            key, _, index = name.removeprefix(SHELF).rpartition(":")
            found.setdefault(key, {})[int(index)] = shelf.pop(name)
        for key, fds in found.items():
            self._held[key] = tuple(fds[index] for index in sorted(fds))
            if key not in self._server.engine.runs or len(fds) < _FEWEST:
                self._release(key)

    def begin(self) -> None:
        """The first turn: watch the callers' lines; a run whose caller a stop of the service has cut off is over."""
        for run in [run for run in self._server.engine.runs.values() if run.kind == SCRIPT and run.state == WAITING]:
            if run.key in self._held:
                self._watch(run.key)
            else:
                log("master", f"run {run.key} ({run.name}) has no caller any more: cancelled")
                self._server.step(ev.Terminate(0, run.key))


def _read(fd: int) -> Surroundings:
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode) or status.st_size > surroundings.MOST:
        raise ValueError(f"arguments and environment are no file, or larger than {surroundings.MOST >> 20} MiB")
    around = surroundings.decode(os.pread(fd, status.st_size, 0))
    int(around.priority)
    return around


def _is_in(folder: str, path: str) -> bool:
    return folder == path or folder.startswith(path.rstrip("/") + "/")


def _names(key: str, count: int) -> tuple[str, ...]:
    return tuple(f"{SHELF}{key}:{index}" for index in range(count))
