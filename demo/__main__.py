"""`python -m demo`: five acts, each claim checked; exit status 0 only if all of it was true."""

from __future__ import annotations

import signal
import sys
import time
from types import FrameType

from demo import acts
from demo.load import Load, Quiet
from demo.screen import Screen
from demo.stage import Stage, StageError
from rocksyd.errors import RocksydError


def main() -> int:
    """Play all acts; returns the exit status."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupted)
    screen = Screen()
    began = time.monotonic()
    screen.headline("rocksyd", "your application, loaded once · every job a fork of it · every deploy a restart nobody notices")
    try:
        play(screen)
    except KeyboardInterrupt:
        screen.end("interrupted: everything that was started has been ended")
        return 130
    except (StageError, RocksydError) as error:
        screen.claim("the demonstration could be played", False, "no")
        screen.quote(str(error))
    seconds = time.monotonic() - began
    if screen.broken:
        screen.end(f"{len(screen.broken)} of {screen.claims} claims did not hold: " + "; ".join(screen.broken), good=False)
        return 1
    screen.end(f"{screen.claims} claims, all of them true, in {seconds:.0f} s. Next: make run, and docs/quickstart.md", good=True)
    return 0


def play(screen: Screen) -> None:
    """All acts on one stage; whatever happens, nothing is left behind."""
    with Stage() as stage:
        acts.start(screen, stage)
        acts.jobs(screen, stage)
        work = acts.Work(stage)
        with Load(stage.tcp, stage.unix, stage.folder) as load, Quiet(stage.tcp, stage.unix) as quiet:
            cast = acts.Cast(stage, load, quiet, work)
            restarts = acts.restarts(screen, cast)
            broken = acts.broken_code(screen, cast)
            killed = acts.kill_master(screen, cast)
            acts.the_end(screen, cast)
        acts.stop(screen, stage)
    acts.nothing_left(screen, stage)
    screen.table(("", "restart", "broken code", "kill -9"), acts.summary(restarts, broken, killed))


def _interrupted(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
