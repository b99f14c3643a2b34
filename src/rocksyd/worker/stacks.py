"""Where the threads of a job are, printed on a signal: by ``faulthandler``, from within the process and without ptrace.

What must live here: the handler. What this file must not know: who asks, and who reads it.

The handler is C code that needs neither the interpreter nor its lock, so it answers for a job that is stuck in C, too. It prints
to descriptor 2, which is the run's output: a file of its own would be a descriptor that a job finds.
"""

from __future__ import annotations

import faulthandler

from rocksyd.posix import signals


def prepare() -> None:
    """In the zygote: handlers are inherited by forks, so this costs no worker anything."""
    faulthandler.register(signals.STACKS, file=2, all_threads=True, chain=False)


def forget() -> None:
    """For a script that is run as if by a fresh Python."""
    faulthandler.unregister(signals.STACKS)
