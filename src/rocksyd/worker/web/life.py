"""A web worker's life: from its fork to ``os._exit``, by what the master tells it.

What must live here: SERVE, ACCEPT, LEAVE and their answers; when it is over.
What this file must not know: HTTP (``http``), how connections come and go (``door``), how WSGI is called (``wsgi``).

The order of leaving: it stops accepting, gives away every connection that is between two requests, and those that are not when
their response is through. Streams and WebSockets go on until they end or ``linger`` is over. Then LEFT.
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from importlib import import_module
from typing import Any, NoReturn

from rocksyd import messages
from rocksyd.errors import ChannelClosed, JobError
from rocksyd.jobs import find_current_by
from rocksyd.posix.channel import Channel
from rocksyd.worker import leaving, results
from rocksyd.worker.context import Context
from rocksyd.worker.staying import Staying
from rocksyd.worker.target import load
from rocksyd.worker.web import smoke
from rocksyd.worker.web.door import Door
from rocksyd.worker.web.engine import Engine, running
from rocksyd.worker.web.wsgi import Wsgi

_GRACE = 10.0
_STIR = 0.2
"""Seconds between two words to the master that there is something to be looked at."""
PATIENCE = 5.0
"""Seconds in which the master has to answer what it is asked."""
_LOOK = 0.05
"""Seconds between two looks at what is left, while leaving."""


def prepare(target: str) -> None:
    """In the zygote: load the application and what serves it, so that no worker has to. Raises JobError."""
    import_module("uvicorn.protocols.websockets.auto")
    if not callable(load(target)):
        raise JobError(f'{target!r} cannot be called: name the application itself, as in "shop.wsgi:application"')


def serve(context: Context, order: messages.Fork, channel: Channel) -> NoReturn:
    """Be a web worker until the end."""
    Life(context, order.worker, channel).serve()


class Life(Staying):
    """One worker."""

    called = "web worker"

    def __init__(self, context: Context, number: int, channel: Channel) -> None:
        super().__init__(context, number, channel)
        find_current_by(running)
        self._engine: Engine | None = None
        self._door: Door | None = None
        self._end_at = 0.0
        self._grace = _GRACE
        self._asked = 0
        self._asks: dict[int, asyncio.Future[Any]] = {}
        self._stirred_at = 0.0

    def _finish(self) -> None:
        engine, door = self._engine, self._door
        if engine is not None:
            self._loop.run_until_complete(asyncio.wait_for(engine.shutdown(), self._grace))
        if door is not None:
            self._say(messages.Left(self._page["given"], door.closed))
        leaving.finish(self._grace)

    # --- the channel --------------------------------------------------------------------------------------------------
    def _heard(self, message: Any) -> None:
        match message:
            case messages.Serve() if self._state == "starting" and self._engine is None:
                task = self._loop.create_task(self._begin(message))
                task.add_done_callback(lambda done: None if done.cancelled() else done.exception())
            case messages.Accept() if self._state == "ready":
                self._enter("accepting")
                assert self._door is not None
                self._door.open()
            case messages.Leave():
                self._leave(message.linger, alone=message.alone)
            case messages.Drain():
                self._leave_alone()
            case messages.Inventory() if self._engine is None:
                self._say(messages.Idle(self._number, os.getpid(), message.epoch))
            case messages.Inventory() if self._state != "starting":
                self._say_serving()
            case messages.Reply():
                asked = self._asks.pop(message.number, None)
                if asked is not None and not asked.done():
                    asked.set_result(message.result)

    def stir(self) -> None:
        """There is something to be looked at: requests come in, or more wait than can be taken."""
        now = time.monotonic()
        if now - self._stirred_at >= _STIR:
            self._stirred_at = now
            self._say(messages.Serving(self._number, os.getpid(), self._state == "accepting", self._state == "leaving"))

    async def ask(self, method: str) -> Any:
        """Ask the master something that it knows of the whole pool."""
        self._asked += 1
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._asks[self._asked] = answer
        self._say(messages.Ask(self._asked, method))
        return await asyncio.wait_for(answer, PATIENCE)

    def tell(self, what: str, where: str) -> None:
        """Something for the slow log; said in any thread."""
        with suppress(ChannelClosed):
            self._channel.post(messages.SlowRequest(what, where))

    # --- coming -------------------------------------------------------------------------------------------------------
    async def _begin(self, order: messages.Serve) -> None:
        settings = order.settings
        self._grace = float(settings.get("grace", _GRACE))
        inward, outward, *listening = order.fds
        if settings.get("daemon"):
            os.environ.setdefault("ROCKSYD_ADDRESS", str(settings["daemon"]))
        try:
            target = settings.get("asgi") or settings["wsgi"]
            found = load(target)
            app = found if settings.get("asgi") else Wsgi(found, settings, self._loop, self._page)
            self._engine = Engine(app, settings, self._page, self._loop)
            self._engine.stir, self._engine.ask, self._engine.slow.say = self.stir, self.ask, self.tell
            self._door = Door(self._engine, settings, (inward, outward, *listening))
            await self._engine.startup()
            if order.smoke:
                await smoke.pass_it(self._engine, order.smoke)
        except BaseException as error:  # noqa: BLE001  (whoever ordered the deploy has to hear of it)
            expected = isinstance(error, JobError)
            reason = str(error) if expected else f"the web application cannot be served: {type(error).__name__}: {error}"
            trace = "" if expected else results.traceback_of(error)
            self._say(messages.Failed(self._context.app, reason=reason, traceback=trace))
            self._engine = None
            self._over.set()
            return
        self._enter("ready")
        self._say_serving()

    # --- leaving ------------------------------------------------------------------------------------------------------
    def _leave_alone(self) -> None:
        self._leave(self._grace, alone=True)

    def _leave(self, linger: float, *, alone: bool) -> None:
        end = time.monotonic() + linger
        self._end_at = min(self._end_at, end) if self._end_at else end
        if self._door is None or self._state == "starting":
            self._over.set()
            return
        first = self._state != "leaving"
        self._enter("leaving")
        self._door.close(alone=alone)
        if first:
            self._look_whether_over()

    def _look_whether_over(self) -> None:
        assert self._door is not None
        self._door.give_all()
        if self._door.empty:
            self._over.set()
        elif time.monotonic() >= self._end_at:
            self._door.end_all()
            self._end_at += 1.0
            self._loop.call_later(_LOOK, self._look_whether_over)
        else:
            self._loop.call_later(_LOOK, self._look_whether_over)
