"""The PID file: locked as long as the service lives, so that a stale one is never mistaken for a running service.

Sources: flock(2) (the lock belongs to the open file, so it survives execve with the descriptor).
"""

from __future__ import annotations

import errno
import fcntl
import os

from rocksyd.errors import RocksydError


class PidFileError(RocksydError):
    """The PID file cannot be used. The message names the file, the cause and the cure."""


def take(path: str) -> int:
    """Lock ``path`` and write this process's PID into it; returns the descriptor that holds the lock.

    A file left by a process that is gone is taken over.

    Raises:
        PidFileError: another process holds it, or it cannot be written.
    """
    while True:
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            cure = "its folder must exist and be writable"
            raise PidFileError(f"cannot open the PID file {path}: {error.strerror}; {cure}") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(path, fd):
                os.ftruncate(fd, 0)
                os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
                return fd
        except OSError as error:
            holder = os.pread(fd, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(fd)
            if error.errno in (errno.EAGAIN, errno.EACCES):
                cure = "stop it first, or name another PID file"
                raise PidFileError(f"the PID file {path} is held by the running process {holder}: {cure}") from error
            raise PidFileError(f"cannot write the PID file {path}: {error.strerror}") from error
        os.close(fd)  # its holder removed it between our open and our lock


def give_back(path: str, fd: int) -> None:
    """Remove the file, then unlock it (in this order: nobody can lock a name that is about to vanish)."""
    try:
        if _is_still(path, fd):
            os.unlink(path)
    except OSError:
        pass
    os.close(fd)


def _is_still(path: str, fd: int) -> bool:
    try:
        found, ours = os.stat(path), os.fstat(fd)
    except FileNotFoundError:
        return False
    return (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino)
