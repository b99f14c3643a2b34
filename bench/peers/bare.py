"""The floor: a process that has loaded the same application and forks itself, with nothing around it.

    bare.py shop|MEGABYTES small|huge

``small``: in the pages it gets, with nothing collapsed; where the system gives huge ones to everybody ("always"), they are
switched off. (Numpy asks for them for its large arrays itself.) ``huge``: gathered and collapsed as rocksyd does it.
"""

from __future__ import annotations

import ctypes
import gc
import os
import struct
import sys
import time
from pathlib import Path
from typing import Any

from serve import APPLICATION, launches, serve, timed

PR_SET_THP_DISABLE = 41


def load(what: str, pages: str) -> None:
    sys.path.insert(0, APPLICATION)
    if pages == "huge":
        from rocksyd.zygote import hugepages

        hugepages.gather()
    elif "[always]" in Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text():
        ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)
    if what == "shop":
        import bench_shop  # type: ignore[import-not-found]

        bench_shop.load()
    else:
        import bench_ballast  # type: ignore[import-not-found]

        os.environ["BENCH_BALLAST"] = what
        bench_ballast.load()
    gc.disable()
    gc.freeze()
    if pages == "huge":
        hugepages.collapse()


def launch() -> tuple[float, float, float, float]:
    read, write = os.pipe()
    asked = time.monotonic_ns()
    pid = os.fork()
    if pid == 0:
        moment = time.monotonic_ns()
        os.write(write, struct.pack("q", moment))
        os._exit(0)
    began = struct.unpack("q", os.read(read, 8))[0]
    os.waitpid(pid, 0)
    heard = time.monotonic_ns()
    os.close(read)
    os.close(write)
    return asked, began, began, heard


def loop(count: int) -> None:
    for _ in range(count):
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)


def resident(_: int) -> Any:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    load(sys.argv[1], sys.argv[2])
    serve(
        {
            "launch": lambda count: launches(launch, count),
            "rate": lambda count: timed(lambda: loop(count)),
            "resident": resident,
        }
    )
    os._exit(0)  # what was gathered must not be taken apart (posix/libc.py)
