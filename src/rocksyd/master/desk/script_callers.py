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
from collections.abc import Mapping

from rocksyd import codes, shelf_names, surroundings
from rocksyd import messages as m
from rocksyd.config import Address, AppConfig
from rocksyd.core import events as ev
from rocksyd.errors import RequestError
from rocksyd.kinds import SCRIPT
from rocksyd.master.barrier import Stranger
from rocksyd.master.desk.door import Door
from rocksyd.master.desk.listeners import is_own
from rocksyd.master.staff.keeper import Keeper
from rocksyd.master.turn import Turn
from rocksyd.model import ENDED, REASONS, WAITING, Run
from rocksyd.posix.channel import close_all, descriptors_in
from rocksyd.posix.log import log
from rocksyd.posix.loop import Loop
from rocksyd.surroundings import Surroundings

REFUSED, USAGE, TOO_BUSY = 1, 2, 75
_ORDER = b"exec 1"
_QUESTION = b"ended "
_FEWEST, _MOST = 3, 6
"""Descriptors of an order: surroundings, folder and line; with standard input, output and error."""
_LINE = 2
_NAME_MOST, _KEY_MOST = 200, 128


class ScriptCaller(Stranger):
    """One connection: an order and then its end, or a question for the end of a run."""

    __slots__ = ("fd", "key", "owner", "socket")

    def __init__(self, owner: Execs, socket: _socket.socket) -> None:
        self.owner = owner
        self.socket = socket
        self.fd = socket.fileno()
        self.key = ""
        """The run whose end it waits for."""

    kind = "exec"

    def __str__(self) -> str:
        return f"a caller of exec ({self.key or 'with no run'})"

    def handle(self, events: int) -> None:
        """What epoll says."""
        self.owner.on_caller(self, events)

    def broken(self, reason: str) -> None:
        """Its turn has raised what nobody expected: it does not get another."""
        self.say(f"refused {REFUSED} {reason}")
        self.owner.dismiss(self)

    def say(self, text: str) -> None:
        """Send a datagram. One that cannot be sent is to somebody who has gone."""
        try:
            self.socket.send(text.encode("utf-8", "replace"), _socket.MSG_NOSIGNAL | _socket.MSG_DONTWAIT)
        except OSError:
            return


class WaitingCaller(Stranger):
    """The line of a caller whose run waits: its other end closes when the caller goes."""

    __slots__ = ("key", "owner")

    def __init__(self, owner: Execs, key: str) -> None:
        self.owner = owner
        self.key = key

    kind = "exec"

    def __str__(self) -> str:
        return f"the caller of run {self.key}"

    def handle(self, events: int) -> None:
        """What epoll says: the caller has gone."""
        self.owner.caller_gone(self.key)

    def broken(self, reason: str) -> None:
        """Its end has raised what nobody expected; it was forgotten before."""


class Execs:
    """Every caller of ``rocksyd exec``."""

    def __init__(self, turn: Turn, door: Door, keeper: Keeper, loop: Loop) -> None:
        self._turn = turn
        self._door = door
        self._keeper = keeper
        self._loop = loop
        self._callers: dict[int, ScriptCaller] = {}
        self._waiting: dict[str, list[ScriptCaller]] = {}
        """Who waits for the end of a run."""
        self._held: dict[str, tuple[int, ...]] = {}
        """Descriptors of callers whose run has not been given to a worker."""
        self._watched: set[str] = set()
        turn.performs(ev.Ended, lambda effect: self.ended(effect.run))

    # --- coming and going ---------------------------------------------------------------------------------------------
    def take(self, socket: _socket.socket, address: Address) -> None:
        """Take in a connection; nobody's but the daemon's own user's and root's."""
        caller = ScriptCaller(self, socket)
        if not is_own(socket):
            caller.say(f"refused {REFUSED} exec is for the daemon's own user and root: a script runs with the daemon's rights")
            socket.close()
            return
        self._callers[caller.fd] = caller
        self._count()
        self._loop.register(caller.fd, caller, select.EPOLLIN)

    def on_caller(self, caller: ScriptCaller, events: int) -> None:
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
            self.dismiss(caller)

    def dismiss(self, caller: ScriptCaller) -> None:
        """End a connection."""
        if self._callers.pop(caller.fd, None) is None:
            return
        others = self._waiting.get(caller.key)
        if others is not None:
            others.remove(caller)
            if not others:
                del self._waiting[caller.key]
        self._loop.unregister(caller.fd)
        caller.socket.close()
        self._count()

    # --- orders -------------------------------------------------------------------------------------------------------
    def _order(self, caller: ScriptCaller, fds: tuple[int, ...]) -> None:
        try:
            event = _submission(fds, self._turn.engine.config.apps)
            key = event.key
            known = key in self._held or self._turn.lookup(key) is not None
        except (ValueError, OSError, RequestError) as error:
            close_all(fds)
            caller.say(f"refused {USAGE} {error}")
            self.dismiss(caller)
            return
        except Exception:
            close_all(fds)
            raise
        if known:
            close_all(fds)  # the order again, of a caller that lost its connection: its descriptors are here or have been given
        else:
            self._hold(key, fds)
        try:
            self._turn.order(event, lambda answer: self._answer(caller, key, answer, first=not known))
        except Exception:
            if not known:
                self._release(key)
            raise

    def _answer(self, caller: ScriptCaller, key: str, answer: ev.Answer, *, first: bool) -> None:
        run = answer.run
        if run is None:
            error = answer.error
            if first:
                self._release(key)
            status = TOO_BUSY if error is not None and error.code == codes.TOO_BUSY else REFUSED
            caller.say(f"refused {status} {error}")
            self.dismiss(caller)
            return
        caller.say("accepted")
        self._await(caller, run)
        if run.state == WAITING:
            self._watch(key)

    # --- the end of a run ---------------------------------------------------------------------------------------------
    def _question(self, caller: ScriptCaller, key: str) -> None:
        run = self._turn.lookup(key)
        if run is None:
            caller.say("unknown")
            self.dismiss(caller)
        else:
            self._await(caller, run)

    def _await(self, caller: ScriptCaller, run: Run) -> None:
        if caller.fd not in self._callers:
            return
        caller.key = run.key
        self._waiting.setdefault(run.key, []).append(caller)
        if run.state == ENDED:
            self.ended(run)

    def ended(self, run: Run) -> None:
        """A run has ended: whoever waits for that learns how, and its descriptors are given back if nobody took them."""
        self._release(run.key)
        callers = list(self._waiting.get(run.key, ()))
        if not callers:
            return
        sentence = f"the run was ended by the daemon: {run.attempt.outcome}" if run.attempt.outcome in REASONS else ""
        if run.attempt.error and run.attempt.outcome in REASONS:
            sentence = run.attempt.error["message"]
        for caller in callers:
            caller.say(f"ended {run.attempt.retcode or 0} {run.attempt.signal} {sentence}")
            self.dismiss(caller)

    # --- descriptors --------------------------------------------------------------------------------------------------
    def _hold(self, key: str, fds: tuple[int, ...]) -> None:
        self._held[key] = fds
        self._count()
        self._keeper.tell(m.Shelve(shelf_names.caller(key, len(fds)), fds))

    def _count(self) -> None:
        """Callers and what they wait with take of the same files as connections do."""
        callers = len(self._callers)
        self._door.set_aside(callers + _MOST * max(callers, len(self._held)))

    def _watch(self, key: str) -> None:
        fds = self._held.get(key)
        if fds is not None and key not in self._watched:
            self._watched.add(key)
            self._loop.register(fds[_LINE], WaitingCaller(self, key), 0)  # 0: its end is reported all the same

    def caller_gone(self, key: str) -> None:
        """Nobody waits any more for a run that has not begun."""
        self._forget_line(key)
        self._turn.step(ev.Terminate(key))

    def _forget_line(self, key: str) -> None:
        if key in self._watched:
            self._watched.discard(key)
            self._loop.unregister(self._held[key][_LINE])

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
        self._keeper.tell(m.Unshelve(shelf_names.caller(key, len(fds))))
        close_all(fds)

    # --- hand-over ----------------------------------------------------------------------------------------------------
    def adopt(self, shelf: dict[str, int]) -> None:
        """Take the callers' descriptors from the shelf; what no longer belongs to a run is given back."""
        found: dict[str, dict[int, int]] = {}
        for name in shelf_names.of(shelf_names.CALLER, shelf):
            key, index = shelf_names.caller_of(name)
            found.setdefault(key, {})[index] = shelf.pop(name)
        for key, fds in found.items():
            self._held[key] = tuple(fds[index] for index in sorted(fds))
            if key not in self._turn.engine.runs or len(fds) < _FEWEST:
                self._release(key)

    def begin(self) -> None:
        """The first turn: watch the callers' lines; a run whose caller a stop of the service has cut off is over."""
        for run in [run for run in self._turn.engine.runs.values() if run.order.kind == SCRIPT.name and run.state == WAITING]:
            if run.key in self._held:
                self._watch(run.key)
            else:
                log("master", f"run {run.key} ({run.order.name}) has no caller any more: cancelled")
                self._turn.step(ev.Terminate(run.key))


def _submission(fds: tuple[int, ...], apps: Mapping[str, AppConfig]) -> ev.Submit:
    """What is ordered with these descriptors. Raises ValueError, OSError or RequestError where it cannot be understood."""
    if not _FEWEST <= len(fds) <= _MOST:
        raise ValueError("descriptors are missing, or too many")
    around = _read(fds[0])
    if len(around.opened) != len(fds) - _FEWEST or not 0 < len(around.key) <= _KEY_MOST:
        raise ValueError("descriptors are missing, or the key is")
    app = _choose(around, apps)
    words = [word.decode("utf-8", "replace") for word in around.argv]
    name = " ".join(["exec", *(word if word.isprintable() and " " not in word else repr(word) for word in words)])
    options = {"timeout": 0, "retries": 0, "priority": int(around.priority)}
    return ev.Submit(around.key, name[:_NAME_MOST], words, app, options, kind=SCRIPT.name)


def _choose(around: Surroundings, apps: Mapping[str, AppConfig]) -> str:
    """The application: the one that is named, the only one, or the one whose folder the caller is in."""
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


def _read(fd: int) -> Surroundings:
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode) or status.st_size > surroundings.MOST:
        raise ValueError(f"arguments and environment are no file, or larger than {surroundings.MOST >> 20} MiB")
    around = surroundings.decode(os.pread(fd, status.st_size, 0))
    if not around.key.isascii():
        raise ValueError("the key of a caller of exec is made by its launcher, of ASCII characters")
    int(around.priority)
    return around


def _is_in(folder: str, path: str) -> bool:
    return folder == path or folder.startswith(path.rstrip("/") + "/")
