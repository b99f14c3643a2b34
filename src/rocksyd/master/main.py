"""A master: it prepares and takes over (``candidate``), then it serves (``serving``).

What must live here: what is said of a master that cannot go on. What this file must not know: why it cannot.
"""

from __future__ import annotations

import os
import traceback

from rocksyd.errors import ChannelClosed, JournalError, RocksydError
from rocksyd.master.candidate import Candidate
from rocksyd.master.serving import Serving
from rocksyd.posix.channel import Channel
from rocksyd.posix.log import log
from rocksyd.posix.titles import set_title


def main(argv: list[str]) -> int:
    """Be a master; descriptor 3 is the channel to the keeper."""
    keeper = Channel.from_fd(3)
    os.set_inheritable(3, False)
    set_title("rocksyd: master (preparing)")
    candidate = Candidate(keeper)
    try:
        candidate.run()
        Serving(candidate).run()
    except ChannelClosed:
        return 1  # the keeper is gone: the service is over, and the zygotes notice by themselves
    except Exception as error:  # noqa: BLE001  (whatever it is, whoever ordered this has to hear of it)
        if isinstance(error, JournalError if candidate.serving else RocksydError):
            candidate.give_up(str(error))
        else:
            log("master", traceback.format_exc().rstrip())
            candidate.give_up(f"{type(error).__name__}: {error}")
    return 1
