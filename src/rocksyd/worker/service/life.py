"""A service worker's life: from its fork to ``os._exit``, by what the master tells it.

What must live here: SERVE, ACCEPT, LEAVE and their answers, checkpoints, what the master keeps in case this worker dies.
What this file must not know: how a connection is served (``engine``), the words between two workers (``line``).

It is *starting* until it is known that it could serve: its code loads the state of the worker that serves, which goes on. Then it
is *ready*, and waits. On ACCEPT everything is handed over to it, and it is *accepting*.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable
from typing import Any, NoReturn

from rocksyd import messages
from rocksyd.jobs import PROGRESS_INTERVAL, Current, find_current_by
from rocksyd.posix.channel import Channel, close_all, memfd, read_memfd
from rocksyd.posix.processes import raise_open_files
from rocksyd.posix.service_page import Page
from rocksyd.worker import leaving, output, results
from rocksyd.worker.context import Context
from rocksyd.worker.service import state
from rocksyd.worker.service.engine import Engine
from rocksyd.worker.service.line import Failed, Predecessor, Successor, sockets_of, told
from rocksyd.worker.staying import Staying
from rocksyd.worker.target import load

_GRACE = 10.0
_LOOK = 0.05
"""Seconds between two looks at what is left, while leaving."""
_STEP = 0.5
"""Seconds after which a successor that is not answered looks whether anybody serves."""


def serve(context: Context, order: messages.Fork, channel: Channel) -> NoReturn:
    """Be a service worker until the end."""
    Life(context, order.worker, channel).serve()


class Inside(Current):
    """What ``current()`` is in a service: no run, so that only its gauges are said."""

    def __init__(self, loop: asyncio.AbstractEventLoop, say: Callable[..., None]) -> None:
        super().__init__("", 1, 0.0, say, told=True)
        self._loop = loop

    def gauge(self, name: Any, value: Any) -> None:
        """See ``rocksyd.gauge``. What is said last goes out although no end of a run follows."""
        super().gauge(name, value)
        self._loop.call_later(PROGRESS_INTERVAL, self.flush)


class Life(Staying):
    """One worker."""

    called = "service worker"

    def __init__(self, context: Context, number: int, channel: Channel) -> None:
        super().__init__(context, number, channel)
        raise_open_files()  # its connections are bounded by max_connections; other workers have what the daemon was started with
        self._settings: dict[str, Any] = {}
        self._inside = Inside(self._loop, self._say_gauges)
        find_current_by(lambda: self._inside)
        self._grace = _GRACE
        self._busy_page: Page
        self._engine: Engine | None = None
        self._inward: Channel
        self._predecessor: Predecessor
        self._successor: Successor | None = None
        self._coming: asyncio.Task[None] | None = None
        self._kept: dict[int, socket.socket] = {}
        """Connections of a worker that has died, as the master has kept them."""
        self._kept_state = -1
        self._complained = False

    def _finish(self) -> None:
        self._say(messages.Left())
        self._channel.flush()
        leaving.finish(self._grace)

    # --- the channel --------------------------------------------------------------------------------------------------
    def _heard(self, message: Any) -> None:
        match message:
            case messages.Serve() if not self._settings:
                self._settings = message.settings
                self._task(self._begin(message))
            case messages.Share():
                if self._state == "accepting":
                    close_all(message.fds)
                else:
                    self._kept |= sockets_of(message)
            case messages.Checkpoint() if message.fds:
                self._kept_state = message.fds[0]
            case messages.Accept() if message.alone:
                self._go_on_alone()
            case messages.Accept() if self._state == "ready":
                self._succeed()
            case messages.Leave():
                self._leave(message.linger)
            case messages.Drain():
                self._leave_alone()
            case messages.Inventory() if not self._settings:
                self._say(messages.Idle(self._number, os.getpid(), message.epoch))
            case messages.Inventory() if self._state != "starting":
                self._say_serving()

    def _task(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = self._loop.create_task(work)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(told(error))

    def _fail(self, reason: str) -> None:
        """It will not serve; whoever does goes on."""
        self._say(messages.Failed(self._context.app, reason=f"service {self._settings['name']}: {reason}"))
        self._over.set()

    # --- coming -------------------------------------------------------------------------------------------------------
    async def _begin(self, order: messages.Serve) -> None:
        settings = order.settings
        self._grace = float(settings.get("grace", _GRACE))
        if settings.get("daemon"):
            os.environ.setdefault("ROCKSYD_ADDRESS", str(settings["daemon"]))
        inward, outward, page, *listening = order.fds
        self._inward = Channel.from_fd(inward)
        self._busy_page = Page(page)
        cls = load(str(settings["service"]))
        whole = None
        try:
            whole = await Successor(self._inward).rehearse(self._busy_page, _STEP)
        except Failed as failed:
            return self._fail(str(failed))
        try:
            self._rehearse(cls, whole)
            self._engine = Engine(cls, settings, self._loop, self._busy_page)
        except BaseException as error:  # noqa: BLE001  (whoever ordered the deploy has to hear of it)
            what = "the new code cannot go on with the state of the service" if whole is not None else "it cannot be served"
            return self._fail(f"{what}: {told(error)}")
        self._engine.listen([_listening(fd) for fd in listening])
        self._engine.tell = self._tell
        self._predecessor = Predecessor(self._engine, self._busy_page, settings, Channel.from_fd(outward))
        self._predecessor.retired = self._retired
        self._enter("ready")
        self._say_serving()
        return None

    def _rehearse(self, cls: type, whole: state.Whole | None) -> None:
        """Try it on an object that nobody will use."""
        if whole is not None:
            Engine(cls, self._settings, self._loop, None).load(whole, {})

    def _succeed(self) -> None:
        """Be handed over what the worker that serves has."""
        if self._successor is None:
            self._successor = Successor(self._inward)
            self._coming = self._task(self._take_over(self._successor))

    async def _take_over(self, successor: Successor) -> None:
        assert self._engine is not None
        engine = self._engine
        try:
            fd = await successor.take_over(engine.load, self._busy_page, _STEP)
        except Failed as failed:
            successor.close()
            self._successor = None
            if str(failed):
                self._fail(str(failed))
            else:
                self._say_serving()  # whoever served has died: the master says how to go on
            return
        _close(self._kept)
        self._say(messages.Checkpoint((fd,)))
        os.close(fd)
        for c in engine.connections:
            c.shared = False
        self._serve()
        self._note_silence(successor.silent_since)
        successor.close()

    def _note_silence(self, since: float) -> None:
        """How long nobody handled a message, for who looks at the page."""
        self._page["silence"] = round((time.monotonic() - since) * 1e6) if since else 0
        self._page["taken_over"] = round(time.time() * 1000)

    def _go_on_alone(self) -> None:
        """Nobody serves, says the master: go on with what it has kept. But it may not have heard yet that somebody does."""
        kept, self._kept = self._kept, {}
        if self._engine is None or self._state != "ready" or (self._successor is not None and self._successor.taken):
            return _close(kept)
        if self._busy_page.taken:
            _close(kept)
            return self._succeed()
        if self._coming is not None:
            self._coming.cancel()
        if self._successor is not None:
            self._successor.close()
        try:
            whole = state.read(read_memfd(self._kept_state)) if self._kept_state >= 0 else None
            self._engine.restore(whole, kept)
        except BaseException as error:  # noqa: BLE001  (whoever looks after the service has to hear of it)
            return self._fail(f"the state that was kept is of no use: {told(error)}")
        self._serve()
        return None

    def _serve(self) -> None:
        """From here on it is this one."""
        assert self._engine is not None
        if not self._busy_page.take():
            self._loop.call_later(_LOOK, self._busy_page.take)
        self._enter("accepting")
        self._engine.open()
        self._predecessor.listen()
        self._say_serving()
        self._checkpoint()

    # --- serving ------------------------------------------------------------------------------------------------------
    def _tell(self) -> None:
        """Let the master keep duplicates of those that have come, and none of those that have gone."""
        engine = self._engine
        assert engine is not None
        came, engine.came = engine.came, []
        went, engine.went = engine.went, []
        for at in range(0, len(came), 200):
            part = came[at : at + 200]
            self._say(messages.Share(tuple(c.id for c in part), tuple(c.fd for c in part)))
        if went:
            self._say(messages.Unshare(tuple(went)))
        page = self._page
        page["connections"], page["unsent"], page["requests"] = len(engine.connections), engine.unsent, engine.messages
        page.mark(int(time.monotonic() * 1000))

    def _checkpoint(self) -> None:
        engine, every = self._engine, float(self._settings.get("checkpoint", 5.0))
        if engine is None or self._state != "accepting" or not every:
            return
        self._loop.call_later(every, self._checkpoint)
        if not engine.calls.changed or engine.settling:
            return
        engine.calls.changed = False
        try:
            fd = memfd("state", state.write(engine.dump()))
        except Exception as error:  # noqa: BLE001  (the service's own code)
            if not self._complained:
                self._complained = True
                output.write(f"rocksyd: service {engine.name} gives no checkpoints:\n{results.traceback_of(error)}")
            return
        self._complained = False
        self._say(messages.Checkpoint((fd,)))
        os.close(fd)

    def _retired(self) -> None:
        """Another one serves: touch nothing any more."""
        self._enter("leaving")
        self._loop.remove_reader(self._channel.fileno())
        self._over.set()

    def _say_gauges(self, _done: object, _total: object, _note: object, gauges: dict[str, float]) -> None:
        if self._state == "accepting":
            self._say(messages.Progress(gauges=gauges))

    # --- leaving ------------------------------------------------------------------------------------------------------
    def _leave_alone(self) -> None:
        self._leave(self._grace)

    def _leave(self, linger: float) -> None:
        """Close every connection when what it is owed is written, at the latest after ``linger`` seconds."""
        engine = self._engine
        if engine is None or self._state != "accepting":
            self._over.set()
            return
        self._enter("leaving")
        self._predecessor.close()
        engine.shut()
        for c in engine.connections:
            c.close()
        self._look_whether_over(self._loop.time() + linger)

    def _look_whether_over(self, until: float) -> None:
        assert self._engine is not None
        if (not self._engine.connections and not self._engine.calls.running) or self._loop.time() >= until:
            self._over.set()
        else:
            self._loop.call_later(_LOOK, self._look_whether_over, until)


def _close(sockets: dict[int, socket.socket]) -> None:
    """Not needed here; whoever serves has them."""
    for one in sockets.values():
        one.close()
    sockets.clear()


def _listening(fd: int) -> socket.socket:
    made = socket.socket(fileno=fd)
    made.setblocking(False)
    return made
