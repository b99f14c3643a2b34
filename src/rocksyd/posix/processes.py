"""Processes as the kernel knows them: starting, reaping, describing and finding them.

What must live here: fork+exec with exact descriptors, ``wait4``, the subreaper flag, ``/proc`` as a list of children.
What this file must not know: what a child is for, and any message.

Sources: prctl(2) PR_SET_CHILD_SUBREAPER (kept across execve, not inherited by a fork), wait4(2), proc(5) ``task/<tid>/children``
(needs CONFIG_PROC_CHILDREN; where it is missing every ``/proc/<pid>/stat`` is read instead).
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import signal
from collections.abc import Iterator, Mapping, Sequence

from rocksyd.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_PR_SET_CHILD_SUBREAPER = 36
_PAGE = resource.getpagesize()


def raise_open_files() -> tuple[int, int]:
    """Let this process open as many files as the hard limit says: every connection is one. The limits before, soft and hard."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return soft, hard


class Ended(Value):
    """A child that has been reaped."""

    pid: int
    status: int
    """As ``os.waitpid`` gives it."""
    cpu: float
    """Seconds, user and system, with the descendants it waited for."""
    max_rss: int
    """Bytes."""


class Command(Value):
    """What ``start`` executes."""

    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: str = ""
    fds: Sequence[int] = ()
    """``fds[i]`` becomes descriptor ``3 + i``."""
    nofile: int = 0
    """Soft limit of open files in the child; 0 leaves it as it is."""
    keep: Sequence[int] = ()
    """Descriptors that stay open under the numbers they have (with these, ``fds`` must be empty)."""
    output: int = -1
    """Becomes descriptors 1 and 2; -1 leaves them as they are."""


class Started(Value):
    """A child between fork and exec."""

    pid: int
    verdict: int
    """Read end of a pipe: ends empty when the exec came about, else holds what ``failure`` explains."""


def become_subreaper() -> None:
    """Let orphaned descendants become this process's children, so that none escapes.

    Loads ``ctypes`` (0.5 MB that are never given back): a program that wants to stay small calls this, then executes itself.

    Raises:
        OSError: the kernel refuses (it never does since Linux 3.4).
    """
    import ctypes  # noqa: PLC0415  (see above)

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl(PR_SET_CHILD_SUBREAPER): {os.strerror(number)}")


def reap() -> Iterator[Ended]:
    """Every child that has ended, without waiting for any."""
    while True:
        try:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield Ended(pid, status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def start(command: Command) -> Started:
    """Fork and execute, in a session of its own, with default signal dispositions and an empty mask.

    A session of its own: Ctrl-C at a terminal reaches only the process the person started, which decides what it means.
    Returns at once; whether the exec came about is read from ``verdict`` later, because a folder on a dead network
    file system can hold the child for minutes.

    Raises:
        OSError: there could be no fork, or no pipe.
    """
    verdict, report = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    # A signal that comes to the child before its handlers are reset would be told to the parent's wakeup descriptor.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _execute(command, report)
    except OSError:
        os.close(verdict)
        raise
    finally:
        os.close(report)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return Started(pid, verdict)


def _execute(command: Command, report: int) -> NoReturn:
    stage = "prepare"
    try:
        os.setsid()
        _reset_signals()
        first_free = 3 + len(command.fds)
        report = fcntl.fcntl(report, fcntl.F_DUPFD_CLOEXEC, first_free)
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, first_free) for fd in command.fds]
        for number, fd in enumerate(high, 3):
            os.dup2(fd, number)
        for fd in command.keep:
            os.set_inheritable(fd, True)
        if command.output >= 0:
            os.dup2(command.output, 1)
            os.dup2(command.output, 2)
        if command.nofile:
            _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (command.nofile, hard))
        stage = "chdir"
        if command.cwd:
            os.chdir(command.cwd)
        stage = "exec"
        os.execvpe(command.argv[0], list(command.argv), dict(command.env))
    except OSError as error:
        os.write(report, f"{stage} {error.errno}".encode())
    except (ValueError, TypeError, OverflowError) as error:  # an argument with a NUL in it, a limit that is none
        os.write(report, f"{stage} 0 {error!r}"[:4000].encode())
    finally:
        os._exit(127)


def _reset_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            try:
                signal.signal(number, signal.SIG_DFL)
            except (OSError, ValueError):
                continue  # the two or three numbers that libc keeps to itself
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def failure(command: Command, verdict: bytes) -> str:
    """The sentence for what ``start``'s child wrote to its verdict pipe."""
    stage, _, rest = verdict.decode(errors="replace").partition(" ")
    number, _, text = rest.partition(" ")
    cause = os.strerror(int(number)) if number.isdigit() and int(number) else text
    program = command.argv[0] if command.argv else "(no program named)"
    if stage == "chdir":
        return f"cannot start {program} in {command.cwd}: {cause}; the folder must exist and be accessible to this user"
    if stage == "exec":
        cure = "check that this interpreter or program exists and is executable"
        if number == str(errno.E2BIG):
            cure = "make its environment smaller"
        return f"cannot execute {program}: {cause}; {cure}"
    return f"cannot start {program}: {cause}"


def parent_of(pid: int) -> int:
    """The PID of its parent; 0 when there is no such process."""
    fields = stat_fields(pid)
    return int(fields[1]) if fields else 0


def cpu_time(pid: int) -> float:
    """Seconds of user and system time it has used so far, without its children's; 0.0 when there is no such process."""
    return _cpu_of(stat_fields(pid))


def main_thread(pid: int) -> tuple[str, float]:
    """What the main thread of ``pid`` does: its state (proc(5): R, S, D, T ...) and the CPU seconds it has used.

    ``("", 0.0)`` when there is no such process.
    """
    fields = stat_fields(pid, pid)
    return fields[0].decode() if fields else "", _cpu_of(fields)


def stat_fields(pid: int, thread: int = 0) -> list[bytes]:
    """The fields of ``stat`` (proc(5)) of a process, or of one of its threads, from the third, its state, on; none when there is
    no such."""
    path = f"/proc/{pid}/task/{thread}/stat" if thread else f"/proc/{pid}/stat"
    try:
        with open(path, "rb") as file:
            return file.read().rpartition(b")")[2].split()
    except OSError:
        return []


def _cpu_of(fields: list[bytes]) -> float:
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if fields else 0.0


def children_of(pid: int) -> list[int]:
    """PIDs of its living children and of its zombies."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found.extend(int(word) for word in file.read().split())
    except FileNotFoundError:
        if os.path.exists(f"/proc/{pid}") and not os.path.exists(f"/proc/self/task/{os.getpid()}/children"):
            return [int(name) for name in os.listdir("/proc") if name.isdigit() and parent_of(int(name)) == pid]
    except (OSError, ValueError):
        pass
    return found


def descendants_of(pid: int) -> list[int]:
    """PIDs of all descendants, nearest first. A snapshot: new ones may be born while it is read."""
    found: list[int] = []
    layer = children_of(pid)
    while layer:
        found.extend(layer)
        layer = [child for parent in layer for child in children_of(parent)]
    return found


def resident_memory(pid: int) -> int:
    """Resident bytes of a process (proc(5), ``statm``); 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def available_memory() -> int:
    """Bytes that can be taken without swapping (proc(5), ``MemAvailable``); -1 where the kernel does not say."""
    try:
        with open("/proc/meminfo", "rb") as file:
            for line in file:
                if line.startswith(b"MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return -1


def load() -> float:
    """How many processes have wanted a processor, on average of five minutes (proc_loadavg(5)); 0 where the kernel does not say.

    Read where a container has its own (lxcfs), which getloadavg(3) does not know.
    """
    try:
        with open("/proc/loadavg", "rb") as file:
            return float(file.read().split()[1])
    except (OSError, ValueError, IndexError):
        return 0.0


def proportional_memory(pid: int) -> int:
    """Resident bytes of a process, each page divided by those who share it (proc(5), ``smaps_rollup``).

    Where that cannot be read (a kernel before 4.14, another user's process) all that is resident; 0 when it is gone.
    """
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return resident_memory(pid)
