"""The news of a daemon for blocking code.

What must live here: an iterator over what ``news`` makes of what is heard.
What this file must not know: connections, and which news are new.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import NoReturn

from rocksyd.client.conversation import Line
from rocksyd.client.news import Event, News
from rocksyd.client.protocol import Notification, result_of


class Subscription:
    """What happens at the daemon, as an iterator that ends when it is closed."""

    def __init__(self, line: Line, no_answer: Callable[[str], NoReturn], news: News) -> None:
        self._no_answer = no_answer
        self._news = news
        self._said = line.listen(lambda: {0: news.call()})
        self._events: list[Event] = []
        self._subscribed = False
        while not self._subscribed:
            self._take()

    @property
    def position(self) -> int:
        """Give this to ``subscribe`` to go on from here, in another process or at another time."""
        return self._news.position or 0

    def __iter__(self) -> Subscription:
        return self

    def __next__(self) -> Event:
        while not self._events:
            self._take()
        return self._events.pop(0)

    def _take(self) -> None:
        try:
            event = next(self._said)
        except TimeoutError:
            self._no_answer("subscribe")
        if isinstance(event, Notification):
            self._events += self._news.heard(event)
        else:
            result_of(event)
            self._subscribed = True
            self._events += self._news.subscribed(event)

    def close(self) -> None:
        """Hear no more; also from another place of the same thread."""
        self._said.close()

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
