"""What the keeper is told when it is started: arguments, inherited descriptors, environment.

``argparse`` would cost a megabyte that is never given back; the only caller is rocksyd itself.
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import MutableMapping

import rocksyd
from rocksyd import shelf_names
from rocksyd.errors import RocksydError
from rocksyd.values import Value

FIRST_PASSED = 3
"""Where a service manager puts the descriptors of LISTEN_FDS (sd_listen_fds(3))."""


class UsageError(RocksydError):
    """The keeper was started with arguments it does not know."""


class Options(Value):
    """All paths are absolute; symbolic links in them are not resolved, so that a deploy that switches one is followed."""

    config: str = ""
    pid_file: str = ""
    log_file: str = ""
    python: str = ""
    boot: str = ""
    ready_fd: int = -1
    resume: int = -1
    """Descriptor of the state a keeper left that replaced itself."""
    check: int = -1
    """As ``resume``, but only to see whether this code can read it."""
    subreaper: bool = False
    """``prctl`` was called before this image was executed."""


_PATHS = {"--config": "config", "--pid-file": "pid_file", "--log-file": "log_file"}
_NUMBERS = {"--ready-fd": "ready_fd", "--resume": "resume", "--check": "check"}


def parse(argv: list[str]) -> Options:
    """Read the arguments. Raises UsageError."""
    values: dict[str, str | int | bool] = {
        "python": sys.executable,
        "boot": getattr(rocksyd, "started_by", None) or os.path.join(next(iter(rocksyd.__path__)), "boot.py"),
    }
    rest = list(argv)
    while rest:
        name = rest.pop(0)
        if name == "--subreaper":
            values["subreaper"] = True
            continue
        if not rest:
            raise UsageError(f"the keeper does not know the argument {name!r}, or it lacks its value")
        value = rest.pop(0)
        if name in _PATHS:
            values[_PATHS[name]] = os.path.abspath(value)
        elif name == "--python":
            values["python"] = os.path.abspath(value) if os.sep in value else value
        elif name in _NUMBERS and value.isdigit():
            values[_NUMBERS[name]] = int(value)
        else:
            raise UsageError(f"the keeper does not know the argument {name!r} with the value {value!r}")
    options = Options(**values)  # type: ignore[arg-type]
    if not options.config and options.resume < 0 and options.check < 0:
        raise UsageError("the keeper needs --config PATH")
    return options


def passed_descriptors(environment: MutableMapping[str, str], pid: int) -> dict[str, int]:
    """The sockets a service manager passed to ``pid``, by their names on the shelf; removed from ``environment``.

    ``sd:<n>`` counts them from 0; ``sd:<name>`` is a duplicate of the first one of that name (LISTEN_FDNAMES).
    """
    meant_for = environment.pop("LISTEN_PID", "")
    count = environment.pop("LISTEN_FDS", "")
    names = environment.pop("LISTEN_FDNAMES", "").split(":")
    if meant_for != str(pid) or not count.isdigit():
        return {}
    found: dict[str, int] = {}
    for index in range(int(count)):
        try:
            # Moved up and away: a number as low as these would be in the way of nobody, but 3 is every child's channel.
            fd = fcntl.fcntl(FIRST_PASSED + index, fcntl.F_DUPFD_CLOEXEC, FIRST_PASSED + int(count))
        except OSError:
            continue
        found[shelf_names.passed(index)] = fd
        name = names[index] if index < len(names) else ""
        if name and name != "unknown" and shelf_names.passed(name) not in found:
            found[shelf_names.passed(name)] = os.dup(fd)
    return found


def close_inherited(keep: set[int]) -> None:
    """Close every descriptor above 2 that is not in ``keep``, and let no child inherit the kept ones."""
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        if fd <= 2:
            continue
        try:
            if fd in keep:
                os.set_inheritable(fd, False)
            else:
                os.close(fd)
        except OSError:
            continue  # the descriptor of the listing itself
