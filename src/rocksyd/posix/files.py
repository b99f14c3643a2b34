"""Opening files that others can replace.

What must live here: what tells a file from everything else that a path may lead to.
What this file must not know: what the files are for.
"""

from __future__ import annotations

import errno
import os
import stat

TIMES = ".times"
"""What the file with the times of an output has behind the output's name."""


def open_file(path: str, flags: int, mode: int = 0o640) -> int:
    """Open a regular file, as ``os.open`` does, close-on-exec.

    Jobs of the daemon's own user can put a FIFO or a link to a device in the place of a file, and whoever opens or reads such a
    thing may wait for ever.

    Raises:
        OSError: it cannot be opened, or is no regular file (``EINVAL``, "is not a regular file").
    """
    fd = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY, mode)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "is not a regular file", path)
        os.set_blocking(fd, True)
    except BaseException:
        os.close(fd)
        raise
    return fd
