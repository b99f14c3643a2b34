"""What a case is: one library, an object of it that is made once, and a way to use it that shows when two processes share it."""

from __future__ import annotations

import os
from typing import Any


class Case:
    """One library. ``use`` raises when anything is not as it should be."""

    distribution = ""
    """Its name on the package index; "" for the standard library."""
    name = ""
    """What people call it, if not that."""
    module = ""
    """What is imported."""
    rounds = 60
    warned = False
    """Whether, instead of a hook, ``unsafe = "warn"`` is enough: it copes with the fork by itself, but leaves threads."""
    server = ""
    """A server that not every machine has: ``redis`` or ``postgres``."""
    distinct = False
    """Whether what ``use`` returns must differ between processes: random numbers."""
    late = False
    """Whether the hook is to make the object after the fork only, because what its use leaves cannot be closed."""
    hook = ""
    """What ``before_fork`` and ``after_fork`` do, in a few words; "" for a library that should need none."""

    def create(self) -> Any:
        """The object that a module would hold: a client, a pool, an engine. Nothing is used yet."""
        return None

    def use(self, made: Any, tag: str) -> Any:
        """Use it once; ``tag`` is different each time, in every process."""
        raise NotImplementedError

    def before_fork(self, made: Any) -> None:
        """The hook in the loaded application."""

    def after_fork(self, made: Any) -> Any:
        """The hook in each worker; the object it is to use."""
        return made


def port(server: str) -> int:
    """Where one of the bench's servers listens."""
    return int(os.environ[f"FORK_{server.upper()}"])


def url(path: str = "") -> str:
    """On the HTTP server."""
    return f"http://127.0.0.1:{port('http')}{path}"


def check(found: Any, wanted: Any) -> Any:
    """``found``, which must be ``wanted``: an answer that belongs to another process is the worst that can happen."""
    if found != wanted:
        shown = repr(found)
        if f"{os.getpid()}-" not in shown and any(f"{pid}-" in shown for pid in _beside()):
            raise WrongAnswer("it was for another process")
        raise WrongAnswer(f"{shown} instead of {wanted!r}")
    return found


class WrongAnswer(Exception):
    """Something was answered, but not what was asked."""


def _beside() -> list[int]:
    """The other children of this process's parent."""
    with open(f"/proc/{os.getppid()}/task/{os.getppid()}/children", encoding="ascii") as file:
        return [int(word) for word in file.read().split()]
