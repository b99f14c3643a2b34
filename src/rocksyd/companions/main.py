"""Where a companion begins: ``python -I boot.py companion NAME``; descriptor 3 is the channel to the master.

What must live here: from the first message to the companion's own function, and what is said when that fails.
What this file must not know: what any companion does.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from typing import Any

from rocksyd import messages as m
from rocksyd.companions.companion import CannotAttend, Companion
from rocksyd.errors import ChannelClosed, RocksydError
from rocksyd.posix.channel import Channel
from rocksyd.posix.log import log
from rocksyd.posix.titles import set_title


def main(argv: list[str]) -> int:
    """Be the companion that ATTEND names; returns its exit status."""
    name = argv[0]
    set_title(f"rocksyd: {name}")
    channel = Channel.from_fd(3)
    os.set_inheritable(3, False)
    try:
        order = channel.wait()
    except ChannelClosed:
        return 0  # the master that wanted it is gone
    companion = Companion(channel, order)
    try:
        _target(order)(companion)
    except (CannotAttend, RocksydError) as error:
        companion.say(m.Failed(reason=str(error)))
        return 1
    except Exception as error:  # noqa: BLE001  (whatever it is, whoever ordered the start has to hear of it)
        text = traceback.format_exc().rstrip()
        log(name, text)
        companion.say(m.Failed(reason=f"{type(error).__name__}: {error}", traceback=text[-8000:]))
        return 1
    return 0


def _target(order: m.Attend) -> Any:
    if order.path:
        sys.path.insert(0, order.path)
    module, _, name = order.target.partition(":")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found
