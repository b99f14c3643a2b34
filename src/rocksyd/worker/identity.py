"""As whom a process runs: user, groups, and the variables that tell programs so.

What must live here: the one change of user.
What this file must not know: names of users (``zygote.privileges``), messages, forks.

Sources: credentials(7), prctl(2) PR_SET_DUMPABLE (cleared by a change of user; then /proc/self is root's).
"""

from __future__ import annotations

import os
from typing import NamedTuple

from rocksyd.errors import ConfigError
from rocksyd.posix import libc


class Identity(NamedTuple):
    """Whom to become."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    env: dict[str, str]
    """HOME, USER, LOGNAME of the user."""


def become(whom: Identity) -> None:
    """Change the user of this process for good.

    Raises:
        ConfigError: the new user could not even read Python's library or rocksyd.
        OSError: the system refuses.
    """
    os.setgroups(whom.groups)
    os.setresgid(whom.gid, whom.gid, whom.gid)
    os.setresuid(whom.uid, whom.uid, whom.uid)
    libc.keep_dumpable()
    for file in (os.__file__, __file__):
        if not os.access(file, os.R_OK):
            raise ConfigError(f"user {whom.uid} cannot read {file}: give the application an interpreter that everybody may read")
