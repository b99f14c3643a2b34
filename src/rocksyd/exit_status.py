"""How a process ended, from what ``waitpid`` gives (wait(2)), in words: for every process that tells of it.

What must live here: the words, and the names of signals. What this file must not know: the system, which it need not ask.
"""

from __future__ import annotations

# Linux's numbers, signal(7). The module ``signal`` would bring ``enum`` into every command.
SIGNALS = {
    1: "HUP", 2: "INT", 3: "QUIT", 4: "ILL", 5: "TRAP", 6: "ABRT", 7: "BUS", 8: "FPE", 9: "KILL", 10: "USR1", 11: "SEGV",
    12: "USR2", 13: "PIPE", 14: "ALRM", 15: "TERM", 24: "XCPU", 25: "XFSZ", 31: "SYS",
}  # fmt: skip
"""Those that can end a process; names without SIG."""


def describe(status: int | None) -> str:
    """The end of a sentence: ``exited with status 3``, ``was killed by SIGKILL``; None: nobody knows."""
    if status is None:
        return "ended, and nobody knows how"
    if number := status & 0x7F:
        return f"was killed by {signal_name(number)}{' (core dumped)' if status & 0x80 else ''}"
    return f"exited with status {status >> 8}"


def signal_name(number: int) -> str:
    """``SIGTERM`` for 15; ``signal 40`` for one that has no name."""
    return f"SIG{SIGNALS[number]}" if number in SIGNALS else f"signal {number}"
