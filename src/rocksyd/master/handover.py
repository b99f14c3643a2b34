"""The hand-over as the old master does it: it freezes, hands everything over, and waits for the verdict.

What must live here: the steps, and what is said to the keeper. What this file must not know: what is in the snapshot.
"""

from __future__ import annotations

import os
import time
from typing import Any

from rocksyd import messages as m
from rocksyd.errors import ChannelClosed
from rocksyd.journal.store import Journal
from rocksyd.master.snapshot import Snapshot
from rocksyd.master.staff.keeper import Keeper
from rocksyd.posix.channel import Channel, memfd

FLUSH_TIMEOUT = 1.0


def freeze(snapshot: Snapshot, keeper: Keeper, journal: Journal) -> tuple[str, list[Any]]:
    """Hand everything over, then wait for the verdict: leave, or go on as if nothing had been.

    Returns why it was called off, and what the keeper said in the meantime.
    """
    began = time.monotonic()
    for say in snapshot.last_words:
        say()
    loose = [one for give in snapshot.loose for one in give()]
    keeper.channel.flush()
    flush([channel for give in snapshot.channels for channel in give()])
    journal.close()
    fd = memfd("snapshot", snapshot.dump(began))
    *first, last = [loose[at : at + 200] for at in range(0, max(1, len(loose)), 200)]
    for part in first:
        keeper.channel.send(m.Shelve(tuple(name for name, _ in part), tuple(fd for _, fd in part)))
    keeper.channel.send(m.Frozen(tuple(name for name, _ in last), (fd, *(fd for _, fd in last))))
    os.close(fd)
    reason, later = _verdict(keeper.channel)
    journal.reopen()
    keeper.tell(m.Unshelve(tuple(name for name, _ in loose)))
    return reason, later


def flush(channels: list[Channel]) -> None:
    """Send what waits for children, as far as they take it. The end of one is told by whoever reads its channel."""
    until = time.monotonic() + FLUSH_TIMEOUT
    while (channels := [channel for channel in channels if _has_more(channel)]) and time.monotonic() < until:
        time.sleep(0.001)


def _has_more(channel: Channel) -> bool:
    try:
        return not channel.flush()
    except ChannelClosed:
        return False


def _verdict(keeper: Channel) -> tuple[str, list[Any]]:
    """Block until the keeper says how it went; what else it says meanwhile is dealt with after a THAW."""
    later: list[Any] = []
    while True:
        keeper.flush()
        message = keeper.wait(0.01 if keeper.pending else None)
        match message:
            case m.Retired():
                os._exit(0)
            case m.Thaw():
                return message.reason, later
            case None:
                continue
            case _:
                later.append(message)
