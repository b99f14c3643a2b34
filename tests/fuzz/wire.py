"""Fuzzes the wire: no bytes may raise, outgrow the limit, or mean something else when they are cut differently.

    python -m tests.fuzz.wire --runs 100000 [--seed 1] [--corpus FOLDER]

With atheris installed it is guided by coverage (libFuzzer keeps what it finds in FOLDER). Without it the same target gets
mutations of the conversations in ``tests/corpus``, the same ones for the same seed. A finding ends the run with the input.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import random
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

from rocksyd.wire import Answer, Batch, Call, Check, Connection, Free, Quit, Request, Stats, Submit, Terminate
from tests.corpus.player import parse

CORPUS = Path(__file__).parent.parent / "corpus"
LIMITS = (16, 64, 300, 5000)
_TOKENS = [
    b"\n", b"\r\n", b"\r", b"\x00", b"\xff", b"{", b"}", b"[", b"]", b'"', b":", b",", b"\\", b"\\ud800", b"NaN", b"-", b"1e999",
    b"9" * 30, b"[" * 600, b'{"a":' * 600, b"true", b"null", b" ", b'"jsonrpc":"2.0"', b'"id":1', b'"method":"run"', b'"hash":',
    b'"params":{"key":"k"}', b"check ", b"run ", b"stats ", b"quit", b"bye", "ж\U0001f600".encode(),
]  # fmt: skip


def target(data: bytes) -> None:
    """One input: the first two bytes say the limit and how to cut, the rest is what a client sends."""
    if len(data) < 2:
        return
    max_line, step, said = LIMITS[data[0] % len(LIMITS)], 1 + data[1], data[2:]
    whole = _feed([said], max_line)
    assert _feed([said[at : at + step] for at in range(0, len(said), step)], max_line) == whole, "the cut changed the meaning"
    assert _feed_across_handovers(said, step, max_line) == whole, "a hand-over changed the meaning"


def _feed(pieces: list[bytes], max_line: int) -> list[tuple[type, Request]]:
    connection = Connection(max_line=max_line)
    found: list[tuple[type, Request]] = []
    for piece in pieces:
        connection.receive_data(piece)
        _take(connection, found)
        assert len(connection.buffered) <= max_line + 1, "the buffer outgrew its limit"
    return found


def _feed_across_handovers(said: bytes, step: int, max_line: int) -> list[tuple[type, Request]]:
    connection = Connection(max_line=max_line)
    found: list[tuple[type, Request]] = []
    for at in range(0, len(said), step):
        connection.receive_data(said[at : at + step])
        connection = Connection.restore(connection.buffered, max_line=max_line, closed=connection.closed)
        _take(connection, found)
    return found


def _take(connection: Connection, found: list[tuple[type, Request]]) -> None:
    while (request := connection.next_request()) is not None:
        _examine(request)
        found.append((type(request), request))
    assert not connection.has_line


def _examine(request: Request | Call) -> None:
    """What the engine relies on without looking."""
    if isinstance(request, Check | Submit | Terminate | Free):
        assert request.key == str(int(request.key))
    if isinstance(request, Submit):
        assert request.target
        json.dumps([request.params, request.options], allow_nan=False).encode()
    elif isinstance(request, Answer):
        assert request.data.endswith(b"\n")
        assert request.data.count(b"\n") == 1
        assert request.data.isascii()
    elif isinstance(request, Call):
        json.dumps([request.id, request.params], allow_nan=False, ensure_ascii=False).encode()
    elif isinstance(request, Batch):
        assert request.calls
        for call in request.calls:
            _examine(call)
    elif isinstance(request, Stats):
        assert all(word and word.isprintable() for word in request.arguments)
    elif isinstance(request, Quit):
        assert request == ()


def seeds() -> list[bytes]:
    """What the clients of the corpus say, a file each, and line by line."""
    found = []
    for path in sorted(CORPUS.rglob("*.txt")):
        lines = [step.text.encode() + b"\n" for step in parse(path) if step.kind in {"C:", "C~", "C*"}]
        found += [b"\x02\x05" + b"".join(lines), *(b"\x03\x02" + line for line in lines)]
    return found


def mutate(chance: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """``data`` with some of its bytes changed, lost, doubled, or mixed with another input's."""
    changed = bytearray(data[:4000])
    for _ in range(1 + chance.randrange(6)):
        at, end = chance.randrange(len(changed) + 1), chance.randrange(len(changed) + 1)
        kind = chance.randrange(6)
        if kind == 0:
            changed[at:at] = chance.choice(_TOKENS)
        elif kind == 1:
            changed[at : at + 1] = bytes([chance.randrange(256)])
        elif kind == 2:
            del changed[min(at, end) : min(at, end) + chance.randrange(1, 12)]
        elif kind == 3:
            changed[at:at] = changed[min(at, end) : max(at, end)]
        elif kind == 4:
            other = chance.choice(others)
            changed[at:] = other[chance.randrange(len(other)) :]
        else:
            changed[at : at + 4] = chance.choice(_TOKENS)
    return bytes(changed)


def run_unguided(runs: int, seed: int) -> int:
    """Mutations of the corpus. Returns the exit status."""
    chance = random.Random(seed)
    known = seeds()
    for number in range(runs):
        data = known[number] if number < len(known) else mutate(chance, chance.choice(known), known)
        try:
            target(data)
        except Exception:  # noqa: BLE001  (any exception is a finding)
            traceback.print_exc()
            print(f"run {number} of seed {seed}: tests.fuzz.wire.target({data!r})", file=sys.stderr)
            return 1
    print(f"{runs} runs of seed {seed}: nothing found")
    return 0


def run_guided(atheris: Any, runs: int, seed: int, corpus: str) -> int:
    """Coverage decides what is tried next. Ends the process itself, as libFuzzer does."""
    if not corpus:
        with tempfile.TemporaryDirectory() as temporary:  # libFuzzer leaves without a goodbye: only its parent can clean up
            again = [sys.executable, "-m", "tests.fuzz.wire", f"--runs={runs}", f"--seed={seed}", f"--corpus={temporary}"]
            return subprocess.run(again, check=False).returncode
    atheris.instrument_all()
    folder = Path(corpus)
    folder.mkdir(exist_ok=True)
    for data in seeds():
        (folder / hashlib.sha1(data, usedforsecurity=False).hexdigest()).write_bytes(data)
    atheris.Setup([sys.argv[0], f"-runs={runs}", f"-seed={seed}", "-max_len=6000", str(folder)], target)
    atheris.Fuzz()
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz.wire", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=20000, help="inputs to try (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="the same seed tries the same inputs (default: %(default)s)")
    parser.add_argument("--corpus", default="", help="folder where atheris keeps what it finds")
    options = parser.parse_args()
    try:
        atheris = importlib.import_module("atheris")
    except ImportError:
        return run_unguided(options.runs, options.seed)
    return run_guided(atheris, options.runs, options.seed, options.corpus)


if __name__ == "__main__":
    sys.exit(main())
