"""One run at the daemon, as blocking code holds it.

What must live here: what one can ask of a run one has.
What this file must not know: how it is asked (``sync``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from rocksyd.client.records import failure, returned

if TYPE_CHECKING:
    from rocksyd.client.sync import Client

Record = dict[str, Any]
"""What the daemon shows of a run: ``key``, ``state``, ``outcome``, ``retcode`` ..."""


class Run:
    """One run at the daemon. ``record`` is what was last heard of it."""

    __slots__ = ("client", "key", "record")

    def __init__(self, client: Client, key: str, record: Record) -> None:
        self.client = client
        self.key = key
        self.record = record

    def __repr__(self) -> str:
        return f"Run({self.key!r}, {self.record.get('target')!r}, {self.record.get('state')!r})"

    def status(self) -> Record:
        """Ask for the record as it is now. Raises NotFound (it was freed)."""
        self.record = self.client.status(self.key)
        return self.record

    def wait(self, timeout: float | None = None, *, progress: Callable[[dict[str, Any]], object] | None = None) -> Record:
        """The record when the run has ended, however it ended. Raises TimedOut after ``timeout`` seconds, NotFound.

        ``progress`` is called with ``done``, ``total`` and ``note`` whenever the job tells how far it is.
        """
        if progress is not None:
            self.record = self.client.watch(self.key, progress, timeout)
            return self.record
        for record in self.client.wait(self.key, timeout=timeout):
            self.record = record
        return self.record

    def result(self, timeout: float | None = None, *, progress: Callable[[dict[str, Any]], object] | None = None) -> Any:
        """What the job returned. Raises JobFailed when it ended otherwise than well, ResultDropped, and what ``wait`` raises."""
        record = self.wait(timeout, progress=progress)
        error = failure(record)
        if error is not None:
            raise error
        return returned(record)

    def logs(self, *, follow: bool = False, offset: int = 0, told: Callable[[Record], object] | None = None) -> Iterator[str]:
        """Its output from byte ``offset`` on, in pieces; ``follow``: until it has ended.

        While it follows, ``told`` is called with the record whenever the run starts or says how far it is.
        """
        return self.client.logs(self.key, follow=follow, offset=offset, told=told)

    def terminate(self, signal: int | None = None) -> None:
        """End it: TERM to its process group, KILL after the grace. Raises NotNow (it has ended)."""
        self.client.terminate(self.key, signal)

    def stack(self) -> str:
        """Where each of its threads is, as text. Raises NotNow (it does not run, or cannot say)."""
        return self.client.stack(self.key)

    def free(self) -> None:
        """Let the daemon forget it. Raises NotNow (it has not ended)."""
        self.client.free(self.key)

    def retry(self) -> Run:
        """Run it again under its key, once it has ended."""
        return self.client.retry(self.key)
