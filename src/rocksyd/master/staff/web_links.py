"""Workers that stay, of web pools and of services, as the master hears them: channels and pages.

What must live here: listening to a worker, ending it, and what is left of it when it is gone.
What this file must not know: what is decided of workers (``core.web``), what is served.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterator
from typing import Any

from rocksyd import bounds, shelf_names
from rocksyd import messages as m
from rocksyd.core import web_crew as decisions
from rocksyd.errors import ChannelClosed, DescriptorsLost, MessageError
from rocksyd.master.barrier import Stranger
from rocksyd.master.staff.keeper import Keeper
from rocksyd.master.staff.zygotes import Zygote, Zygotes
from rocksyd.posix import webpage
from rocksyd.posix.channel import Channel, close_all
from rocksyd.posix.log import WARNING, log
from rocksyd.posix.loop import Loop

MESSAGES_A_TURN = 64


class WebLink(Stranger):
    """The channel of a worker that stays."""

    kind = "web or service worker"
    """As ``health`` counts faults, whichever it was of."""

    def __init__(self, owner: WebLinks, worker: tuple[int, int], app: str, parent: str, channel: Channel) -> None:
        self.owner = owner
        self.number, self.pid = worker
        self.app = app
        self.parent = parent
        """The zygote it was forked from, by its name."""
        self.channel = channel
        self.page: webpage.Page | None = None
        self.shelved = False
        self.deadline = 0.0
        """When it is killed, unless it can serve or has left by then; 0 for never."""
        self.served = False
        """Whether it has been told what to serve."""

    def __str__(self) -> str:
        called, whose = self.owner.called(self.number)
        return f"{called} {decisions.title(self.number)} ({whose or self.app})"

    def handle(self, events: int) -> None:
        """What epoll says."""
        self.owner.hear(self, events)

    def broken(self, reason: str) -> None:
        """What it said has raised what nobody expected."""
        self.owner.kill(self, reason)

    def say(self, message: Any) -> None:
        """Say something to it; that it is gone its parent tells."""
        try:
            self.channel.send(message)
        except ChannelClosed:
            return
        if self.channel.pending:
            self.owner.loop.modify(self.channel.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def wait(self, seconds: float) -> None:
        """It has so long for what it was told."""
        self.deadline = time.monotonic() + seconds

    def take_page(self, message: m.Serving) -> None:
        """Map the page that it counts in. Raises MessageError."""
        try:
            if os.fstat(message.fds[0]).st_size != webpage.SIZE:
                raise MessageError("Serving, with what is no page")
            if self.page is None:
                self.page = webpage.Page(message.fds[0])
        finally:
            close_all(message.fds)


class WebLinks(dict[int, WebLink]):
    """All of them that there is a channel to, by number."""

    def __init__(self, loop: Loop, keeper: Keeper, zygotes: Zygotes) -> None:
        super().__init__()
        self.loop = loop
        self._keeper, self._zygotes = keeper, zygotes
        self.heard: Callable[[WebLink, Any], None] = lambda link, message: None
        """Told of each message. May raise MessageError."""
        self.called: Callable[[int], tuple[str, str]] = lambda number: ("web worker", "")
        """What people call the worker with this number, and whose it is."""

    def link(self, worker: tuple[int, int], app: str, parent: str, fd: int) -> WebLink:
        """Listen to a worker: (number, PID), its application, and the name of the zygote that it was forked from."""
        link = WebLink(self, worker, app, parent, Channel.from_fd(fd, bounds.FROM_WORKER))
        self[link.number] = link
        self.loop.register(fd, link, select.EPOLLIN)
        return link

    def belongs(self, link: WebLink, pid: int, zygote: Zygote) -> None:
        """A worker that was taken for an orphan has a zygote, which can bring its channel again."""
        link.pid, link.app, link.parent, link.served = pid, zygote.app, zygote.name, False
        if link.shelved:
            link.shelved = False
            self._keeper.tell(m.Unshelve((shelf_names.worker(link.number),)))

    def part(self, number: int) -> WebLink | None:
        """A worker is no more: hear its last words."""
        link = self.pop(number, None)
        if link is None:
            return None
        try:
            while (message := link.channel.receive()) is not None:
                self.heard(link, message)
        except (ChannelClosed, MessageError, DescriptorsLost, OSError):
            pass
        self.loop.unregister(link.channel.fileno())
        link.channel.close()
        if link.shelved:
            self._keeper.tell(m.Unshelve((shelf_names.worker(number),)))
        return link

    def hear(self, link: WebLink, events: int) -> None:
        """Take what a worker says; its end is told by its parent."""
        try:
            if events & select.EPOLLOUT and link.channel.flush():
                self.loop.modify(link.channel.fileno(), select.EPOLLIN)
            for _ in range(MESSAGES_A_TURN):
                message = link.channel.receive()
                if message is None:
                    return
                self.heard(link, message)
        except ChannelClosed:
            self.loop.unregister(link.channel.fileno())
        except (MessageError, DescriptorsLost) as error:
            self.kill(link, f"it said {error}")

    def kill(self, link: WebLink, reason: str) -> None:
        """End it now: only its own connections end with it."""
        log("master", f"{link} (pid {link.pid}) is killed: {reason}", level=WARNING, event="web.killed")
        zygote = self._zygotes.get(link.parent)
        if zygote is not None:
            zygote.tell(m.Kill(link.pid, 9, 0.0))
        else:
            self._keeper.tell(m.Signal(link.pid, 9, True))

    def shelve(self, parent: str) -> None:
        """This zygote is no more: put its workers' channels on the shelf, since it cannot bring them back."""
        orphans = [link for link in self.values() if link.parent == parent and not link.shelved]
        for orphan in orphans:
            orphan.shelved = True
        for at in range(0, len(orphans), 200):
            part = orphans[at : at + 200]
            names = tuple(shelf_names.worker(link.number) for link in part)
            self._keeper.tell(m.Shelve(names, tuple(link.channel.fileno() for link in part)))

    def with_pid(self, pid: int) -> int:
        """The number of the worker with this PID; 0 where it is none of these."""
        return next((link.number for link in self.values() if link.pid == pid), 0)

    def channels(self) -> Iterator[Channel]:
        """Those that are to be flushed before another master gets them."""
        return (link.channel for link in self.values())

    def loose(self) -> Iterator[tuple[str, int]]:
        """Names and descriptors of what goes with the snapshot, because it is not on the shelf."""
        return ((shelf_names.worker(link.number), link.channel.fileno()) for link in self.values() if not link.shelved)
