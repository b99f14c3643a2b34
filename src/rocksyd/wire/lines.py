"""Lines out of pieces of bytes, at a cost that does not depend on how the bytes were cut.

What must live here: splitting, the limit of a line, and what is left over (a hand-over needs it).
What this file must not know: what a line says.

Every byte is searched once, when it arrives: only new bytes can hold the next line's end. A chunk is split in one go, and an
unfinished line grows in a ``bytearray``. So a line of 1 MiB in single bytes and 100,000 lines in one chunk are both linear.
"""

from __future__ import annotations

from collections import deque

from rocksyd.errors import RocksydError


class LineTooLong(RocksydError):
    """A line is longer than it may be. ``start`` is how it begins (enough to tell its dialect)."""

    def __init__(self, start: bytes, max_line: int) -> None:
        super().__init__(f"a line is longer than {max_line} bytes: send less in one line, or raise max_line")
        self.start = start
        self.max_line = max_line


class LineBuffer:
    """Bytes in, lines out. ``max_line`` counts the bytes of a line without its end (``\\n`` or ``\\r\\n``).

    A line that is too long ends the buffer: the lines before it still come out, then ``next_line`` raises LineTooLong every
    time, and what is appended is dropped. So the memory is bounded by ``max_line`` and what is appended before it is taken out.
    """

    __slots__ = ("_lines", "_overlong", "_rest", "max_line")

    def __init__(self, max_line: int) -> None:
        self.max_line = max_line
        self._lines: deque[bytes] = deque()
        self._rest = bytearray()
        self._overlong = False

    def __bool__(self) -> bool:
        """Whether ``next_line`` has something to say: a complete line, or one that is too long."""
        return bool(self._lines) or self._overlong

    @property
    def empty(self) -> bool:
        """Whether nothing has come that has not come out."""
        return not self._rest and not self._lines

    def append(self, data: bytes) -> None:
        """Add bytes as they came from the client."""
        if self._overlong:
            return
        if b"\n" not in data:
            self._rest += data
        else:
            parts = data.split(b"\n")
            last = parts.pop()
            if self._rest:
                self._rest += parts[0]
                parts[0] = bytes(self._rest)
            # Only what is longer as a whole can hold a line that is too long.
            if len(data) + len(self._rest) > self.max_line and self._stop_at_overlong(parts):
                return
            self._lines.extend(parts)
            self._rest = bytearray(last)
        if len(self._rest) > self.max_line:
            self._stop_at_overlong([bytes(self._rest)])

    def _stop_at_overlong(self, parts: list[bytes]) -> bool:
        """If one of ``parts`` is too long, keep the lines before it and its beginning, nothing else."""
        for index, part in enumerate(parts):
            if len(part) - part.endswith(b"\r") > self.max_line:
                self._lines.extend(parts[:index])
                # Two bytes more than allowed: whoever gets `remaining()` comes to the same end.
                self._rest = bytearray(part[: self.max_line + 2])
                self._overlong = True
                return True
        return False

    def next_line(self) -> bytes | None:
        """The next complete line without its end; None while there is none.

        Raises:
            LineTooLong: the next line is longer than ``max_line``.
        """
        if self._lines:
            line = self._lines.popleft()
            return line[:-1] if line.endswith(b"\r") else line
        if self._overlong:
            raise LineTooLong(bytes(self._rest[:80]), self.max_line)
        return None

    def remaining(self) -> bytes:
        """What has not come out yet, byte for byte; appended to a new buffer it gives the same lines."""
        return b"".join(line + b"\n" for line in self._lines) + bytes(self._rest)

    def clear(self) -> None:
        """Forget everything (the connection is about to be closed)."""
        self._lines.clear()
        self._rest = bytearray()
        self._overlong = False
