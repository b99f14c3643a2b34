"""Plays a recorded conversation with a real server over a real socket, and says where they differ.

A conversation is a text file; the format is in ``README.md`` beside this file. The same conversation is played with every
request group in one write (``whole``) or with every byte in its own (``bytewise``): the server must answer the same.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

Mode = Literal["whole", "bytewise"]
MODES: tuple[Mode, ...] = ("whole", "bytewise")

_STEP = re.compile(r"(C[:~^*]|S[:~=?*.]|A:|E\.) ?(.*)")
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|.)")
_ESCAPED = {"n": b"\n", "r": b"\r", "t": b"\t", "\\": b"\\"}


class Step(NamedTuple):
    """One line of a conversation."""

    number: int
    """Line in the file, from 1."""
    kind: str
    text: str


class ConversationError(AssertionError):
    """The server did not say what the conversation says. The message has the file, the line, and what was said till then."""


def parse(path: Path) -> list[Step]:
    """The steps of a conversation file. Raises ValueError with file and line for what is none."""
    steps = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _STEP.fullmatch(line)
        if match is None:
            raise ValueError(f"{path}:{number}: not a step of a conversation: {line!r} (see README.md)")
        steps.append(Step(number, match[1], match[2]))
    return steps


def play(
    path: str | Path,
    connect: Callable[[], socket.socket],
    *,
    mode: Mode = "whole",
    actions: Mapping[str, Callable[[], object]] | None = None,
    timeout: float = 30.0,
) -> None:
    """Hold the conversation in ``path`` with the server that ``connect`` gives a connected socket to.

    ``actions`` are what the file's ``A:`` lines call, by name. ``timeout`` (seconds) is for any one answer.

    Raises:
        ConversationError: an answer differs, is missing, or came unasked.
    """
    path = Path(path)
    with contextlib.closing(connect()) as connection:
        connection.settimeout(timeout)
        if connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _Player(path, connection, mode, actions or {}, timeout).play(parse(path))


def contains(actual: Any, expected: Any) -> bool:
    """Whether a JSON value has at least what another one shows: more members of objects are allowed, nothing else."""
    if isinstance(expected, dict):
        return isinstance(actual, dict) and all(
            name in actual and contains(actual[name], member) for name, member in expected.items()
        )
    if isinstance(expected, list):
        return isinstance(actual, list) and len(actual) == len(expected) and all(map(contains, actual, expected))
    return type(actual) is type(expected) and bool(actual == expected)


def matches(line: bytes, step: Step) -> bool:
    """Whether a line of the server, with its line end, is what an ``S`` step says."""
    if step.kind == "S:":
        return line == step.text.encode() + b"\n"
    if step.kind == "S~":
        return re.fullmatch(step.text.encode(), line.removesuffix(b"\n"), re.DOTALL) is not None
    try:
        return contains(json.loads(line), json.loads(step.text))
    except ValueError:
        return False


class _Player:
    def __init__(
        self, path: Path, connection: socket.socket, mode: Mode, actions: Mapping[str, Callable[[], object]], timeout: float
    ) -> None:
        self.path = path
        self.connection = connection
        self.mode = mode
        self.actions = actions
        self.timeout = timeout
        self.unsent = b""
        self.received = b""
        self.at_end = False
        self.said: list[str] = []

    def play(self, steps: list[Step]) -> None:
        rest = list(steps)
        while rest:
            step = rest.pop(0)
            if step.kind == "C*":
                self._ask_again_until(step, rest)
            elif step.kind == "S?":
                group = [step]
                while rest and rest[0].kind == "S?":
                    group.append(rest.pop(0))
                self._expect_in_any_order(group)
            else:
                self._perform(step)
        self._end()

    def _perform(self, step: Step) -> None:
        if step.kind[0] == "C":
            self.unsent += _bytes_of(step)
            return
        self._send()
        if step.kind == "A:":
            self.actions[step.text]()
        elif step.kind == "E.":
            self.connection.shutdown(socket.SHUT_WR)
        elif step.kind == "S.":
            line = self._line(step)
            if line:
                self._fail(step, line)
        else:
            line = self._line(step)
            if not matches(line, step):
                self._fail(step, line)

    def _ask_again_until(self, request: Step, rest: list[Step]) -> None:
        """Poll: the answer must be one of the ``S*`` lines until it is the ``S`` line behind them."""
        meanwhile = []
        while rest and rest[0].kind == "S*":
            meanwhile.append(rest.pop(0))
        final = rest.pop(0)
        deadline = time.monotonic() + self.timeout
        while True:
            self.unsent += request.text.encode() + b"\n"
            self._send()
            line = self._line(final)
            if matches(line, final):
                return
            expected = any(line == step.text.encode() + b"\n" or matches(line, step) for step in meanwhile)
            if not expected or time.monotonic() > deadline:
                self._fail(final, line)
            time.sleep(0.01)  # between two polls, so as not to take the processor from whom it waits for

    def _expect_in_any_order(self, steps: list[Step]) -> None:
        self._send()
        open_steps = list(steps)
        for _ in steps:
            line = self._line(open_steps[0])
            found = next((step for step in open_steps if matches(line, step)), None)
            if found is None:
                self._fail(open_steps[0], line)
            else:
                open_steps.remove(found)

    def _send(self) -> None:
        data, self.unsent = self.unsent, b""
        if not data:
            return
        self.said += [f"C: {line!r}" for line in data[:4096].splitlines(keepends=True)]
        # A megabyte goes in small pieces, not in single bytes: that would be seconds of system calls and no other cut.
        size = len(data) if self.mode == "whole" else 1 + len(data) // 65536
        # A server that closes on what it cannot stand need not have read to the end: its answer is what counts.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for at in range(0, len(data), size):
                self.connection.sendall(data[at : at + size])

    def _line(self, step: Step) -> bytes:
        """The server's next line with its end; what there is at the end of the connection, ``b""`` for nothing."""
        while b"\n" not in self.received and not self.at_end:
            try:
                data = self.connection.recv(65536)
            except ConnectionResetError:
                data = b""
            except TimeoutError:
                self._fail(step, None)
            self.at_end = not data
            self.received += data
        line, end, self.received = self.received.partition(b"\n")
        if line or end:
            self.said.append(f"S: {line + end!r}")
        return line + end

    def _end(self) -> None:
        """Say no more, and hear that the server has nothing to say either."""
        self._send()
        if not self.at_end:
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_WR)
        line = self._line(Step(0, "S.", ""))
        if line:
            self._fail(Step(0, "S.", ""), line)

    def _fail(self, step: Step, line: bytes | None) -> None:
        got = "no answer in time" if line is None else "the end of the connection" if not line else repr(line)
        expected = "the end of the connection" if step.kind == "S." else f"{step.kind} {step.text}"
        where = f"{self.path}:{step.number}" if step.number else f"{self.path}: at the end"
        said = "\n  ".join(self.said[-40:])
        raise ConversationError(f"{where} ({self.mode})\n expected {expected}\n got      {got}\n said so far:\n  {said}")


def _bytes_of(step: Step) -> bytes:
    if step.kind == "C:":
        return step.text.encode() + b"\n"
    if step.kind == "C^":
        times, _, text = step.text.partition(" ")
        return text.encode() * int(times)
    parts = _ESCAPE.split(step.text)
    return b"".join(_unescape(part) if index % 2 else part.encode() for index, part in enumerate(parts))


def _unescape(name: str) -> bytes:
    return bytes([int(name[1:], 16)]) if name[0] == "x" else _ESCAPED[name]
