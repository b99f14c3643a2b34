"""`rocksyd journal`: looking after the state of a daemon.

What must live here: whether a daemon may be there, and what is said of what was done.
What this file must not know: how it is done.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rocksyd import __version__, config
from rocksyd.cli.daemon import config_path
from rocksyd.cli.output import json_line, say, write
from rocksyd.cli.tables import hung, screen
from rocksyd.errors import JournalError
from rocksyd.journal import care
from rocksyd.journal.repair import repair
from rocksyd.posix.files import open_file
from rocksyd.units import format_size

USAGE = 2
_ABOUT = "backup.json"
"""What a backup says of itself; it is written last."""


def journal(options: argparse.Namespace) -> int:
    """Carry out ``rocksyd journal ACT``. Raises JournalError."""
    if (options.folder is None) == (options.act in ("backup", "restore")):
        say(f"journal {options.act} needs a folder" if options.folder is None else f"journal {options.act} takes no folder")
        return USAGE
    folder = config.load(config_path(options)).state_dir
    return _ACTS[options.act](folder, options)


@contextmanager
def _alone(folder: str) -> Iterator[None]:
    """No daemon is using the folder, and none can begin to."""
    lock = open_file(f"{folder}/lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise JournalError(f"a daemon is using {folder}: stop it first (rocksyd stop)") from None
        yield
    finally:
        os.close(lock)


def _repair(folder: str, options: argparse.Namespace) -> int:
    path = f"{folder}/journal.sqlite"
    if not os.path.exists(path):
        raise JournalError(f"there is no {path}: nothing to repair")
    with _alone(folder):
        done = repair(path)
    unclear = f"; {done.bad} rows could not be made sense of, and are in the damaged file" if done.bad else ""
    write(f"{path}: {done.runs} runs were read and are in a new file{unclear}\nthe damaged file is {done.kept}\n")
    return 0


def _check(folder: str, options: argparse.Namespace) -> int:
    found = care.check(folder)
    if options.json:
        write(json_line({**found._asdict(), "ok": not found.problems}))
        return 1 if found.problems else 0
    counts = ", ".join(f"{number:,} {name}" for name, number in sorted(found.runs.items())) or "none"
    free = f", {format_size(found.free)} of it free (rocksyd journal compact)" if found.free else ""
    lines = hung("", "damaged" if found.problems else "whole", screen(), "red" if found.problems else "green")
    for problem in found.problems:
        lines += hung("- ", problem, screen(), "")
    lines += hung("runs      ", counts, screen(), "")
    lines += hung("outputs   ", f"{found.outputs:,}", screen(), "")
    lines += hung("journal   ", f"{format_size(found.size)}{free}", screen(), "")
    if found.set_aside:
        lines += hung("set aside ", f"{found.set_aside:,} rows that could not be read (table set_aside)", screen(), "")
    write("".join(f"{line}\n" for line in lines))
    return 1 if found.problems else 0


def _compact(folder: str, options: argparse.Namespace) -> int:
    if not os.path.exists(f"{folder}/{care.JOURNAL}"):
        raise JournalError(f"there is no {folder}/{care.JOURNAL}: nothing to compact")
    with _alone(folder):
        before, after = care.compact(folder)
    write(f"{folder}/{care.JOURNAL}: {format_size(before)} before, {format_size(after)} now\n")
    return 0


def _export(folder: str, options: argparse.Namespace) -> int:
    now = time.time()
    since, until = (now - value if value is not None else None for value in (options.since, options.until))
    for record in care.records(folder, since, until):
        write(json.dumps(record) + "\n")
    return 0


def _backup(folder: str, options: argparse.Namespace) -> int:
    to = os.path.abspath(options.folder)
    if os.path.lexists(to) and (not os.path.isdir(to) or os.listdir(to)):
        raise JournalError(f"{to} is there and not empty: name a new folder for each backup")
    os.makedirs(to, mode=0o700, exist_ok=True)
    outputs = care.copy(folder, to)
    runs = sum(care.check(to).runs.values())
    about = {"at": time.time(), "version": __version__, "state_dir": folder, "runs": runs, "outputs": outputs}
    with open(f"{to}/{_ABOUT}.new", "w", encoding="utf-8") as file:
        file.write(json_line(about))
        file.flush()
        os.fsync(file.fileno())
    os.rename(f"{to}/{_ABOUT}.new", f"{to}/{_ABOUT}")
    write(json_line(about) if options.json else f"{to}: {runs:,} runs, {outputs:,} outputs\n")
    return 0


def _restore(folder: str, options: argparse.Namespace) -> int:
    source = os.path.abspath(options.folder)
    try:
        with open(f"{source}/{_ABOUT}", encoding="utf-8") as file:
            about = json.load(file)
    except (OSError, ValueError) as error:
        cure = "name a folder that `rocksyd journal backup` has made"
        raise JournalError(f"{source} is no whole backup ({error}): {cure}") from error
    found = care.check(source)
    if found.problems:
        raise JournalError(f"{source} is damaged, nothing was changed: {found.problems[0]}")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    with _alone(folder):
        fresh = f"{folder}/restored"
        shutil.rmtree(fresh, ignore_errors=True)
        os.mkdir(fresh, 0o700)
        care.copy(source, fresh)
        care.move_outputs(fresh, folder)
        kept = f"{folder}/before-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
        os.mkdir(kept, 0o700)
        names = [f"{name}{end}" for name in (care.JOURNAL, *care.STORES) for end in ("-wal", "-shm", "")]
        names += ["output", "history"]  # history: an index of the journal, which is made anew
        for name in names:
            if os.path.exists(f"{folder}/{name}"):
                os.rename(f"{folder}/{name}", f"{kept}/{name}")
        for name in sorted(os.listdir(fresh), key=lambda name: name == care.JOURNAL):  # the journal last: it makes it whole
            os.rename(f"{fresh}/{name}", f"{folder}/{name}")
        os.rmdir(fresh)
        if not os.listdir(kept):
            os.rmdir(kept)
    runs = sum(found.runs.values())
    write(f"{folder}: {runs:,} runs, {about['outputs']:,} outputs; what was there before is in {kept}\n")
    sys.stdout.flush()
    return 0


_ACTS: dict[str, Callable[[str, argparse.Namespace], int]] = {
    "check": _check, "compact": _compact, "export": _export, "backup": _backup, "restore": _restore, "repair": _repair,
}  # fmt: skip
