"""Makes the blocking client from the one for asyncio, word by word: ``make format`` writes it, ``make lint`` checks it.

    python tools/blocking_client.py [--check]

One of the two is written by hand, so that what a method does, takes and says of itself is the same in both. What differs in
kind - sockets or streams, one call on a connection or many - is in ``connections`` and ``aio_connections``, by hand, under the
same names. (httpcore and psycopg do the same; the words are replaced without parsing, because what is made is read by people.)
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

CLIENT = Path(__file__).resolve().parent.parent / "src" / "rocksyd" / "client"
MADE = {"aio_asking.py": "asking.py", "aio_control.py": "control.py", "aio_requests.py": "requests.py", "aio.py": "sync.py"}
WORDS = [
    (r"^.*# asyncio only\n", ""),
    (r"^from asyncio import sleep", "from time import sleep"),
    (r"AsyncRecords\((self\._ended\(.*\))\)", r"\1"),
    (r"\bAsyncRecords\b", "Iterator[Record]"),
    (r"\bStopAsyncIteration\b", "StopIteration"),
    (r"\bAsync([A-Z]\w*)", r"\1"),
    (r"\basync (def|for|with)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\b__a(enter|exit|iter|next)__\b", r"__\1__"),
    (r"\banext\(", "next("),
    (r"\baclose\(", "close("),
    (r"\baio_(asking|connections|control|requests)\b", r"\1"),
    (r"\basyncio code\b", "blocking code"),
    (r"\bTasks may share it\.", "Threads may share it (each call uses a connection of its own), and so may forks."),
]
"""Patterns and what takes their place, one after the other."""


def made_from(source: Path) -> str:
    """The text of the twin. Notes which patterns were found."""
    text = source.read_text(encoding="utf-8")
    for pattern, words in WORDS:
        text, count = re.subn(pattern, words, text, flags=re.MULTILINE)
        _FOUND[pattern] = _FOUND.get(pattern, 0) + count
    head = f"# Made from {source.name} by tools/blocking_client.py: change that file, then `make format`.\n"
    for command in (["check", "--quiet", "--fix", "--select", "I"], ["format", "--quiet"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(source), "-"]
        text = subprocess.run(ruff, input=text, capture_output=True, text=True, check=True).stdout
    return head + text


_FOUND: dict[str, int] = {}


def main(arguments: list[str]) -> int:
    """Write the twins; with ``--check`` only say (exit status 1) which are not what they would be."""
    status = 0
    for name, twin in MADE.items():
        text, path = made_from(CLIENT / name), CLIENT / twin
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        if arguments == ["--check"]:
            print(f"{path.name} is not what {name} makes: change {name}, then run `make format`", file=sys.stderr)
            status = 1
        else:
            path.write_text(text, encoding="utf-8")
    for pattern, count in _FOUND.items():
        if not count:
            print(f"tools/blocking_client.py: the pattern {pattern!r} is found nowhere: remove it", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
