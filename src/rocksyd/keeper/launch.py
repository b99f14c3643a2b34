"""How the command line becomes, or starts, a keeper. Loaded by the command line only; the keeper itself never imports it."""

from __future__ import annotations

import os
import sys

import rocksyd
from rocksyd.keeper.daemonize import daemonize


def command(config: str, *, pid_file: str | None = None, log_file: str | None = None) -> list[str]:
    """The keeper's command line. Paths are made absolute; symbolic links in them stay, so that a switched one is followed."""
    boot = os.path.join(os.path.abspath(next(iter(rocksyd.__path__))), "boot.py")
    words = [sys.executable, "-I", "-S", boot, "keeper", "--config", os.path.abspath(config)]
    if pid_file is not None:
        words += ["--pid-file", os.path.abspath(pid_file)]
    if log_file is not None:
        words += ["--log-file", os.path.abspath(log_file)]
    return words


def serve(config: str, *, daemon: bool, pid_file: str | None = None, log_file: str | None = None) -> int:
    """Run the service.

    In the foreground this process becomes the keeper, so the PID stays and nothing is returned. As a daemon the service gets a
    process of its own, and this returns when it is ready.

    Returns:
        0: the daemon is ready; 1: it could not be started (the reason is on stderr).

    Raises:
        OSError: the interpreter cannot be executed.
    """
    words = command(config, pid_file=pid_file, log_file=log_file)
    if not daemon:
        sys.stdout.flush()
        sys.stderr.flush()
        os.execv(words[0], words)
    return daemonize(words, log_file=os.path.abspath(log_file) if log_file is not None else None)
