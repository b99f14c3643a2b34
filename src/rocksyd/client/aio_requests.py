"""What every call to the daemon needs, for asyncio code: where it is, and any method by its name.

What must live here: requests and what comes of them. What this file must not know: which methods there are, and how the daemon
is asked (``aio_asking``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from rocksyd.client.aio_asking import AsyncAsker
from rocksyd.client.calls import Call, no_answer, seconds
from rocksyd.client.endpoint import Place, find
from rocksyd.client.protocol import Reply, result_of
from rocksyd.errors import RequestError


class AsyncRequests:
    """Any method of the protocol, and the connections for it."""

    def __init__(
        self, address: str | None = None, token: str | None = None, *, timeout: float | str = 30.0, patience: float | str = 30.0
    ) -> None:
        place = find(address)
        if token is not None:
            place = Place(place.address, token, place.config)
        self.place = place
        self.timeout = seconds(timeout) or 0.0
        self.patience = seconds(patience) or 0.0
        self._asker = AsyncAsker(place, self.timeout, self.patience)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections that are kept for the next call. The client can still be used; it connects again."""
        await self._asker.connections.close()

    # --- asking -------------------------------------------------------------------------------------------------------
    async def request(self, method: str, params: dict[str, Any] | None = None, *, wait: bool = False) -> Any:
        """Call any method of the protocol and return its result; ``wait``: it may take as long as it likes.

        Raises:
            RequestError: NotFound, InUse, NotAllowed, TooBusy, NotNow, or another error the daemon answers with.
            NoDaemon: nobody answers (in time).
        """
        return (await self._results([Call(method, params or {})], wait=wait))[0]

    async def requests(self, calls: Sequence[tuple[str, dict[str, Any]]]) -> list[Any]:
        """Call several methods at once and return their results in order. Raises what ``request`` raises, for the first error."""
        return await self._results([Call(*call) for call in calls])

    async def answers(self, calls: Sequence[tuple[str, dict[str, Any]]]) -> list[Any]:
        """Call several methods at once; in order the result of each, or the RequestError that it was refused with.

        Raises:
            NoDaemon: nobody answers (in time).
        """
        return await self._results([Call(*call) for call in calls], read=_result_or_refusal)

    async def _results(self, calls: list[Call], *, wait: bool = False, read: Callable[[Reply], Any] = result_of) -> list[Any]:
        results: list[Any] = [None] * len(calls)
        replies = self._asker.ask(calls, None if wait else time.monotonic() + self.timeout)
        try:
            async for reply in replies:
                results[reply.id] = read(reply)
        except TimeoutError:
            raise no_answer(self.place, calls[0].method, self.timeout) from None
        finally:
            await replies.aclose()
        return results


def _result_or_refusal(reply: Reply) -> Any:
    try:
        return result_of(reply)
    except RequestError as error:
        return error
