"""Files that a process under test writes while a test reads them.

A file is there before anything is in it, and half of what is written may be there before the rest: whoever waits for its
existence and then reads it finds nothing now and then. So what a test reads is written in lines, and a line counts once it has
its end. A file whose mere existence says something is waited for with ``until(path.exists, ...)`` and not read;
``unit/test_files.py`` sees to it.
"""

from __future__ import annotations

from pathlib import Path

from rocksyd.testing import until


def whole(path: Path) -> str:
    """All whole lines that are in the file so far; ``""`` if there is no file yet."""
    try:
        text = path.read_text(errors="replace")
    except FileNotFoundError:
        return ""
    return text[: text.rfind("\n") + 1]


def lines(path: Path) -> list[str]:
    """The whole lines that are in the file so far, without their ends."""
    return whole(path).splitlines()


def wait_lines(path: Path, count: int = 1) -> list[str]:
    """Wait until the file has so many whole lines; all that it has then. Raises DaemonError naming the file."""
    until(lambda: len(lines(path)) >= count, f"{count} whole lines in {path}")
    return lines(path)
