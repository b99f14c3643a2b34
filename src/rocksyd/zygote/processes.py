"""Children and process groups, as a zygote needs them: looked at without being reaped, signalled as groups.

What must live here: wait, kill and /proc. What this file must not know: what a child is for.

Sources: waitid(2) (WNOWAIT), killpg(3), proc(5) (``stat``: fields state, ppid, pgrp, utime, stime, cutime, cstime).
"""

from __future__ import annotations

import os

from rocksyd.posix.processes import stat_fields

_TICKS = os.sysconf("SC_CLK_TCK")


def first_ended() -> int | None:
    """A child that has ended and is not reaped; None when there is none."""
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return found.si_pid if found is not None else None


def has_ended(pid: int) -> bool:
    """Whether the child ``pid`` has ended. It is not reaped."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def zombie_status(pid: int) -> int:
    """How the ended child ``pid`` ended, as ``os.waitpid`` would say. It is not reaped."""
    found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    assert found is not None
    if found.si_code == os.CLD_EXITED:
        return (found.si_status & 0xFF) << 8
    return found.si_status | (0x80 if found.si_code == os.CLD_DUMPED else 0)


def zombie_cpu(pid: int) -> float:
    """Seconds of user and system time of an ended child and the children it had waited for. It is not reaped."""
    fields = stat_fields(pid)
    return sum(int(value) for value in fields[11:15]) / _TICKS if len(fields) > 14 else 0.0


def peak_memory(pid: int) -> int:
    """Bytes of resident memory ``pid`` has had at most so far; 0 when that cannot be known."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            for line in file:
                if line.startswith(b"VmHWM:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return 0


def private_memory(pid: int) -> int:
    """Bytes that ``pid`` has written and no other process shares; 0 when that cannot be known.

    What a worker adds to the memory of the whole tree: its part of what it shares is there without it as well.
    """
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Private_Dirty:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return 0


def left_in_group(leader: int) -> list[int]:
    """Who lives in the process group of ``leader``, a child that has ended and is not reaped, besides it.

    The group cannot be asked whether it is empty while the dead leader is in it, and to read all of /proc costs milliseconds. So
    the dead one is moved into our own group: its number, which is the group's, stays taken until it is reaped.
    """
    try:
        os.setpgid(leader, os.getpgrp())
        os.killpg(leader, 0)
    except ProcessLookupError:
        return []
    except PermissionError:
        pass  # it had become another program (execve), or is in another session; or who is there is not ours to signal
    group = str(leader).encode()
    found = ((int(name), stat_fields(int(name))) for name in os.listdir("/proc") if name.isdigit() and int(name) != leader)
    return [pid for pid, fields in found if len(fields) > 2 and fields[2] == group and fields[0] not in (b"Z", b"X")]


def name_of(pid: int) -> str:
    """What ``pid`` is called (proc(5), ``comm``); "" when it is gone."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def signal_group(leader: int, number: int) -> None:
    """Send signal ``number`` to the group of ``leader``, a child that is not reaped.

    A child that was forked this instant may not have made its group yet; then it is alone, and gets the signal itself.
    """
    try:
        os.killpg(leader, number)
    except ProcessLookupError:
        os.kill(leader, number)
    except PermissionError:
        pass  # a job has changed its user in a way that only root can signal; there is nothing a zygote could do
