"""What masters say to the keeper: read, carried out where it is bookkeeping, passed on where something is to be decided.

What must live here: reading a master's channel, and what each message does to the shelf and to the children.
What this file must not know: what follows from it for start, restart and crash (``choreography``); when a link is read
(``service``).
"""

from __future__ import annotations

import signal
from collections.abc import Callable

from rocksyd import messages
from rocksyd.errors import ChannelClosed, DescriptorsLost, MessageError
from rocksyd.keeper.choreography import Choreography
from rocksyd.keeper.events import Hindered, Hung, Said
from rocksyd.keeper.links import Link
from rocksyd.keeper.world import World, close_all, send_signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Hearing:
    """Hears every master; ``feed`` is given what is to be decided."""

    def __init__(self, world: World, choreography: Choreography, feed: Callable[[Any], None]) -> None:
        self._world = world
        self._choreography = choreography
        self._feed = feed

    def listen(self, link: Link, count: int) -> bool:
        """Take at most ``count`` messages; false when there are no more now."""
        for _ in range(count):
            if link.ended or self._world.links.get(link.number) is not link:
                return False
            try:
                message = link.channel.receive()
            except ChannelClosed:
                link.ended = True
                self._feed(Hung(link.number))
                return False
            except DescriptorsLost as lost:
                self._lost(link, lost)
                continue
            except (MessageError, OSError) as error:
                self._world.log.line(f"killing master {link.pid}, which cannot be understood: {error}")
                send_signal(link.pid, signal.SIGKILL)
                return False
            if message is None:
                return False
            _WORDS.get(type(message), Hearing._hear)(self, link, message)
        return True

    def _lost(self, link: Link, lost: DescriptorsLost) -> None:
        """There was no room for what came with a message: the masters live, and whoever counts on it is told."""
        message = lost.message
        self._world.log.line(f"{lost}; {type(message).__name__.upper()} of master {link.pid} is dropped")
        role = self._choreography.role(link.number)
        if isinstance(message, messages.Spawn):
            link.say(messages.Spawned(message.name, 0, str(lost)))
        elif isinstance(message, messages.Shelve) and role == "serving":
            link.say(messages.Unshelved(message.names))
        elif role == "candidate" or isinstance(message, messages.Frozen):
            self._feed(Hindered(str(lost)))

    def _hear(self, link: Link, message: Any) -> None:
        close_all(getattr(message, "fds", ()))
        self._feed(Said(link.number, message))

    def _shelve(self, link: Link, message: messages.Shelve) -> None:
        role = self._choreography.role(link.number)
        if role == "serving":
            self._keep(message.names, message.fds)
        elif role == "candidate":
            self._world.shelf.put_in_drawer(link.number, message.names, message.fds)
        else:
            close_all(message.fds)

    def _keep(self, names: tuple[str, ...], fds: tuple[int, ...]) -> None:
        kept = self._world.shelf.put(names, fds)
        candidate = self._world.links.get(self._choreography.candidate)
        if candidate is not None and candidate.announced:
            candidate.say_shelved(kept)

    def _unshelve(self, link: Link, message: messages.Unshelve) -> None:
        role = self._choreography.role(link.number)
        if role == "candidate":
            self._world.shelf.drop_in_drawer(link.number, message.names)
        elif role == "serving":
            gone = self._world.shelf.drop(message.names)
            candidate = self._world.links.get(self._choreography.candidate)
            if gone and candidate is not None and candidate.announced:
                candidate.say(messages.Unshelved(tuple(gone)))

    def _frozen(self, link: Link, message: messages.Frozen) -> None:
        if self._choreography.role(link.number) != "serving" or not message.fds:
            close_all(message.fds)
            self._world.log.line(f"killing master {link.pid}: it said FROZEN without a snapshot, or unasked")
            send_signal(link.pid, signal.SIGKILL)
            return
        self._world.forget_snapshot()
        self._world.snapshot = message.fds[0]
        self._keep(message.names, message.fds[1:])
        self._feed(Said(link.number, message))
        if self._choreography.stage != "adopting":
            self._world.forget_snapshot()  # too late: it was thawed meanwhile

    def _spawn(self, link: Link, message: messages.Spawn) -> None:
        role = self._choreography.role(link.number)
        if role == "former" or self._choreography.stage in ("failing", "ended"):
            close_all(message.fds)
            return
        self._world.spawn(link, message, 0 if role == "serving" else link.number)

    def _signal(self, link: Link, message: messages.Signal) -> None:
        if self._choreography.role(link.number) != "former":
            self._world.signal_child(message)

    def _exit_ack(self, link: Link, message: messages.ExitAck) -> None:
        self._world.children.acknowledged(message.pids)

    def _status(self, link: Link, message: messages.Status) -> None:
        if self._choreography.role(link.number) != "serving":
            return
        if message.stopping:
            self._feed(Said(link.number, message))
            self._world.notifier.stopping(message.text)
        elif message.text:
            self._world.notifier.status(message.text)
        if message.alive:
            self._world.notifier.alive()


_WORDS: dict[type[Any], Any] = {
    messages.Shelve: Hearing._shelve,
    messages.Unshelve: Hearing._unshelve,
    messages.Frozen: Hearing._frozen,
    messages.Spawn: Hearing._spawn,
    messages.Signal: Hearing._signal,
    messages.ExitAck: Hearing._exit_ack,
    messages.Status: Hearing._status,
}
