"""XML documents, each ended by a zero byte, as Flash's XMLSocket has them. All of it is one's own: `feed` and `pending`."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree

from rocksyd import ProtocolError

MAX = 64 * 1024


class XmlDocuments:
    """Each connection has a copy of its own."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    @property
    def pending(self) -> bytes:
        return b"".join(self._parts)

    def feed(self, data: bytes) -> Iterator[ElementTree.Element]:
        *ends, rest = data.split(b"\0")
        for end in ends:
            self._keep(end)
            document, self._parts, self._size = self.pending, [], 0
            yield self._read(document)
        self._keep(rest)

    def encode(self, message: ElementTree.Element) -> bytes:
        return ElementTree.tostring(message, encoding="utf-8") + b"\0"

    def _keep(self, part: bytes) -> None:
        """What is not complete is kept in the pieces in which it came: joining them each time would cost their square."""
        self._size += len(part)
        if self._size > MAX:
            raise ProtocolError(f"a document is longer than {MAX} bytes")
        if part:
            self._parts.append(part)

    def _read(self, document: bytes) -> ElementTree.Element:
        # Entities are declared there, and a few of them make gigabytes of a short document.
        if b"<!DOCTYPE" in document:
            raise ProtocolError("a document with a DOCTYPE is not taken")
        try:
            return ElementTree.fromstring(document)
        except (ElementTree.ParseError, ValueError, LookupError) as error:  # an encoding that there is not, or cannot be
            raise ProtocolError(f"a document is not XML: {error}") from None
