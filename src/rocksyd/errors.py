"""Every error of rocksyd, one tree, one sentence each; the sentence is the message a person reads."""

from __future__ import annotations


class RocksydError(Exception):
    """Anything rocksyd raises on purpose."""


class ConfigError(RocksydError):
    """The configuration cannot be used. The message names file, line, key and what was expected."""


class MessageError(RocksydError):
    """A datagram between two of rocksyd's processes is not a message."""


class ChannelClosed(RocksydError):
    """The process at the other end of a channel is gone."""


class SnapshotError(RocksydError):
    """A snapshot, or a descriptor it speaks of, is not what the new master can take over."""


class JournalError(RocksydError):
    """The journal cannot be opened, read or written. The message names the file and the cause."""


class AddressError(RocksydError):
    """An address cannot be listened on or reached. The message names it and the cure."""


class JobError(RocksydError):
    """A job is declared or named wrongly. The message names the target."""


class RequestError(RocksydError):
    """A request cannot be served. ``code`` is its JSON-RPC number, ``classic`` the text in the classic dialect."""

    def __init__(self, code: int, message: str, *, classic: str = "", data: object = None) -> None:
        super().__init__(message)
        self.code = code
        self.classic = classic or message
        self.data = data
