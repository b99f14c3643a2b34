"""The state folder: its lock, and the journal in it.

What must live here: that one daemon uses the folder, and can write there.
What this file must not know: what is in the journal; who keeps the lock.

The lock is the open file's, so it lives on the keeper's shelf as long as the service does.
"""

from __future__ import annotations

import errno
import fcntl
import os

from rocksyd.config import Config
from rocksyd.errors import CannotServe
from rocksyd.journal.store import Journal, exists
from rocksyd.posix.files import open_file
from rocksyd.posix.log import log


class StateFolder:
    """The folder ``state_dir``."""

    def __init__(self, config: Config) -> None:
        self._path = config.state_dir
        self._lock = f"{self._path}/lock"
        self._journal = f"{self._path}/journal.sqlite"
        self._sync = config.journal.sync

    def lock(self) -> int:
        """Make the folder if it is not there, and lock it: the descriptor that has the lock. Raises CannotServe."""
        try:
            os.makedirs(f"{self._path}/output", mode=0o700, exist_ok=True)
            fd = open_file(self._lock, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise self._unusable(error) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(fd, 32, 0).decode(errors="replace").strip()
            raise CannotServe(
                f"another rocksyd (pid {pid}) uses state_dir {self._path}: stop it, or use another folder"
            ) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getppid()}\n".encode(), 0)
        return fd

    def check(self, lock: int) -> None:
        """See that ``lock`` is still the lock of this folder, and that something can be written there. Raises CannotServe."""
        try:
            if not _is_file(lock, self._lock):
                text = f"state_dir is {self._path} now, and a restart cannot move the journal: stop, move it, start"
                raise CannotServe(text)
            probe = os.open(self._path, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            try:
                os.write(probe, bytes(65536))
                os.fsync(probe)
            finally:
                os.close(probe)
        except OSError as error:
            raise self._unusable(error) from error

    def _unusable(self, error: OSError) -> CannotServe:
        why = f"{error.strerror}; see that it can be written and that its disk has room"
        if error.errno == errno.EINVAL:
            why = f"{error.filename} {error.strerror}; move it away"
        return CannotServe(f"state_dir {self._path}: {why}")

    # --- the journal --------------------------------------------------------------------------------------------------
    @property
    def has_journal(self) -> bool:
        """Whether there is one already."""
        return exists(self._journal)

    def journal(self) -> Journal:
        """Open the journal. Raises JournalError."""
        return Journal(self._journal, sync=self._sync, tell=lambda text: log("master", text))

    def last_generation(self) -> int:
        """The generation that served last, as far as the journal knows. Raises JournalError."""
        if not self.has_journal:
            return 0
        journal = self.journal()
        try:
            return int((journal.meta("service") or {}).get("generation", 0))
        finally:
            journal.close()


def _is_file(fd: int, path: str) -> bool:
    """Whether ``fd`` is the file that ``path`` names now."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False
