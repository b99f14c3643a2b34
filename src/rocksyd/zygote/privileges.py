"""User, group and limits of an application's processes.

What must live here: names to numbers. What this file must not know: messages, forks.

Where the application has a user, the zygote becomes that user before the first import: no line of the application ever runs as
root, and there is nothing to do after a fork. Where only a pool has one, the application is loaded as the daemon's user,
and each worker of the pool becomes its own before any hook and job. A zygote can kill its workers either way.

Sources: credentials(7), setrlimit(2).
"""

from __future__ import annotations

import grp
import os
import pwd
import resource
from typing import Any

from rocksyd.errors import ConfigError
from rocksyd.posix import processes
from rocksyd.units import parse_size
from rocksyd.worker.identity import Identity


def identity(user: str, group: str) -> Identity | None:
    """Whom ``user`` and ``group`` (names or numbers, "" for none) mean; None when nothing changes.

    Raises:
        ConfigError: there is nobody of that name, or changing would take the rights of root.
    """
    if not user and not group:
        return None
    account = _account(user) if user else pwd.getpwuid(os.getuid())
    gid = _group(group) if group else account.pw_gid
    groups = tuple(os.getgrouplist(account.pw_name, gid)) if user else (gid,)
    if os.geteuid() != 0:
        if account.pw_uid == os.geteuid() and gid == os.getegid():
            return None
        raise ConfigError(f"user = {user!r}, group = {group!r}: only root can change them; start the daemon as root")
    env = {"HOME": account.pw_dir, "USER": account.pw_name, "LOGNAME": account.pw_name} if user else {}
    return Identity(account.pw_uid if user else os.getuid(), gid, groups, env)


def _account(user: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
    except KeyError:
        raise ConfigError(f"user = {user!r}: there is no such user on this system") from None


def _group(group: str) -> int:
    try:
        return grp.getgrgid(int(group)).gr_gid if group.isdigit() else grp.getgrnam(group).gr_gid
    except KeyError:
        raise ConfigError(f"group = {group!r}: there is no such group on this system") from None


def limits(settings: dict[str, Any]) -> tuple[tuple[int, tuple[int, int]], ...]:
    """``{"nofile": 1024, "as": "2G", "core": "unlimited"}`` as pairs for ``resource.setrlimit``, soft and hard alike.

    Raises:
        ConfigError: there is no such limit, or no such size.
    """
    found = []
    for name, value in settings.items():
        number = getattr(resource, f"RLIMIT_{name.upper()}", None)
        if number is None:
            raise ConfigError(f"rlimits: there is no limit {name!r} on this system (setrlimit(2) lists them)")
        try:
            size = resource.RLIM_INFINITY if value == "unlimited" else parse_size(value)
        except ValueError as error:
            raise ConfigError(f"rlimits.{name}: {error}") from error
        found.append((number, (size, size)))
    return tuple(found)


def memory_limit(most: int) -> tuple[tuple[int, tuple[int, int]], ...]:
    """What stops a worker that takes memory faster than the master looks, as pairs for ``resource.setrlimit``.

    RLIMIT_DATA counts what is reserved, used or not (stacks of threads, say), so it is far above ``most``: twice, and a
    gigabyte at least. The job gets ``MemoryError``.
    """
    limit = max(2 * most, most + (1 << 30))
    return ((resource.RLIMIT_DATA, (limit, limit)),) if most else ()


def raise_open_files() -> tuple[int, tuple[int, int]]:
    """Let this process open as many files as it may ever (a zygote keeps one a worker). The limit there was, for workers."""
    return resource.RLIMIT_NOFILE, processes.raise_open_files()
