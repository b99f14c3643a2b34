"""Every error of rocksyd, one tree, one sentence each; the sentence is the message a person reads."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


class RocksydError(Exception):
    """Anything rocksyd raises on purpose."""


class ConfigError(RocksydError):
    """The configuration cannot be used. The message names file, line, key and what was expected."""


class CannotServe(RocksydError):
    """A master cannot prepare or take over. The message is for whoever ordered the start or restart."""


class MessageError(RocksydError):
    """A datagram between two of rocksyd's processes is not a message."""


class DescriptorsLost(RocksydError):
    """A message came without the descriptors that went with it: this process may have no more open. ``message`` is the rest."""

    def __init__(self, message: object) -> None:
        super().__init__("no room for the descriptors of a message: raise the limit of open files (LimitNOFILE=, ulimit -n)")
        self.message = message


class ChannelClosed(RocksydError):
    """The process at the other end of a channel is gone."""


class SnapshotError(RocksydError):
    """A snapshot, or a descriptor it speaks of, is not what the new master can take over."""


class JournalError(RocksydError):
    """The journal cannot be opened, read or written. The message names the file and the cause."""


class JournalLocked(JournalError):
    """Another program is writing to the journal at this moment."""


class AddressError(RocksydError):
    """An address cannot be listened on or reached. The message names it and the cure."""


class JobError(RocksydError):
    """A job is declared or named wrongly. The message names the target."""


class JobTimeout(RocksydError):
    """Raised in a job when its time is up: clean up and end within the grace, or the process is killed.

    No ``TimeoutError``: what a job tries again after a network's timeout must not be tried again after this one.
    """


class Retry(RocksydError):
    """Raised in a job: try it again. ``after``: seconds or ``"5m"``; left out, as ``retry_after`` says.

    It counts as an attempt: up to ``retries``, and where that is 0 up to 100.
    """

    def __init__(self, reason: str = "", *, after: float | str | None = None) -> None:
        super().__init__(reason)
        self.after = after


class Cancel(RocksydError):
    """Raised in a job: there is nothing to be done. The run ends as ``cancelled``, whatever ``retries`` says."""


class ProtocolError(RocksydError):
    """What a peer of a service sends is not the service's protocol. The text may go to the peer.

    ``messages``: those that were complete before it.
    """

    def __init__(self, text: str, messages: Iterable[Any] = ()) -> None:
        super().__init__(text)
        self.messages = list(messages)


class RequestError(RocksydError):
    """A request cannot be served. ``code`` is its JSON-RPC number, ``classic`` the text in the classic dialect."""

    def __init__(self, code: int, message: str, *, classic: str = "", data: object = None) -> None:
        super().__init__(message)
        self.code = code
        self.classic = classic or message
        self.data = data


# --- what callers of the daemon meet ----------------------------------------------------------------------------------
class NotFound(RequestError):
    """The daemon knows no run by this key, or no such target (JSON-RPC -32001)."""


class InUse(RequestError):
    """The key belongs to a run of something else (JSON-RPC -32002)."""


class NotAllowed(RequestError):
    """The daemon does not allow this caller this target or this order (JSON-RPC -32003)."""


class TooBusy(RequestError):
    """Too many runs wait already; the order was not taken, and may be repeated later (JSON-RPC -32004)."""


class NotNow(RequestError):
    """The daemon cannot do this at present: restarting failed, draining, still running (JSON-RPC -32005)."""


class NoDaemon(RocksydError):
    """No daemon answers at the address. The message names the address and the cure."""


class ResultDropped(RocksydError):
    """The run ended well, but what it returned was too long to be kept. ``record`` is what the daemon says of it."""

    def __init__(self, message: str, record: dict[str, object]) -> None:
        super().__init__(message)
        self.record = record


class TimedOut(RocksydError, TimeoutError):
    """What was waited for did not happen in the time given. The run, if it was one, goes on."""


class JobFailed(RocksydError):
    """A run ended otherwise than well. ``record`` is its record; the rest is taken from it."""

    def __init__(self, message: str, record: dict[str, object]) -> None:
        super().__init__(message)
        self.record = record
        error = record.get("error")
        details: dict[object, object] = error if isinstance(error, dict) else {}
        self.type = str(details.get("type", ""))
        self.reason = str(details.get("message", "") or record.get("reason") or "")
        self.traceback = str(details.get("traceback", ""))
