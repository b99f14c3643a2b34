"""Where a keeper begins.

``python -I -S boot.py keeper --config PATH [--pid-file F] [--ready-fd N] [--log-file F] [--python EXE]``; exit status 0 after an
orderly stop (or what the master said), 1 when the service could not be started, 70 when its masters kept dying.
"""

from __future__ import annotations

import os
import sys

from rocksyd.errors import RocksydError
from rocksyd.keeper import pidfile, state
from rocksyd.keeper.choreography import Choreography
from rocksyd.keeper.log import Log
from rocksyd.keeper.options import Options, close_inherited, parse, passed_descriptors
from rocksyd.keeper.service import Keeper
from rocksyd.keeper.signals import SignalInbox
from rocksyd.keeper.world import World
from rocksyd.posix.channel import read_memfd
from rocksyd.posix.notify import Notifier
from rocksyd.posix.processes import become_subreaper, raise_open_files
from rocksyd.posix.titles import set_title


def main(argv: list[str]) -> int:
    """Run a keeper; returns the service's exit status (1: it could not be started, 70: its masters kept dying)."""
    try:
        options = parse(argv)
        if options.check >= 0:
            state.load(read_memfd(options.check))
            return 0
        if options.resume >= 0:
            return _resume(options.resume)
        if not options.subreaper:
            _come_back_as_subreaper()
        return _begin(options)
    except RocksydError as error:
        sys.stderr.write(f"rocksyd: {error}\n")
        return 1


def _come_back_as_subreaper() -> None:
    """Calling ``prctl`` takes ``ctypes``, half a megabyte for good: the flag survives execve, ``ctypes`` does not."""
    become_subreaper()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:], "--subreaper"])


def _begin(options: Options) -> int:
    passed = passed_descriptors(os.environ, os.getpid())
    close_inherited({*passed.values(), options.ready_fd})
    set_title("rocksyd: keeper")
    notifier = Notifier.from_environment(os.environ, os.getpid())
    world = World(options, raise_open_files()[0], Log(options.log_file), notifier)
    world.shelf.put(passed.keys(), passed.values())
    try:
        if options.pid_file:
            world.pid_fd = pidfile.take(options.pid_file)
        if options.log_file:
            world.starter.console = os.dup(2)
            world.log.point_to_file()
    except OSError as error:
        cure = "its folder must exist and be writable"
        world.starter.report_failure(f"cannot open the log file {options.log_file}: {error.strerror}; {cure}")
        world.give_pid_file_back()
        return 1
    except pidfile.PidFileError as error:
        world.starter.report_failure(str(error))
        return 1
    inbox = SignalInbox()
    inbox.open()
    return Keeper(world, Choreography(), inbox).run()


def _resume(fd: int) -> int:
    data = read_memfd(fd)
    world, choreography, signals = state.load(data)
    close_inherited({*state.descriptors(world), world.log.own})
    set_title("rocksyd: keeper")
    inbox = SignalInbox()
    keeper = Keeper(world, choreography, inbox)
    inbox.open()
    world.log.line("the keeper's new code has taken over")
    return keeper.run(signals)
