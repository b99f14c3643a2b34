"""What each import of a preload took and left behind, as a tree.

What must live here: the wrapper around the interpreter's import, and what it looks at. What this file must not know: reports.

Modules are seen where CPython itself takes the times of ``-X importtime``: at ``importlib._bootstrap._find_and_load``, which is
called for a module that is not loaded yet, by the import statement and by ``importlib.import_module``. What the looking itself
takes is taken off the times.

Sources: CPython ``Python/import.c`` (``import_find_and_load``), proc(5) (``statm``, ``task``, ``fd``).
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from rocksyd.zygote.safety import native_threads, open_sockets

_PAGE = os.sysconf("SC_PAGE_SIZE")
_bootstrap: Any = sys.modules["_frozen_importlib"]


class Node:
    """One import, or one step of the preload (the roots)."""

    __slots__ = ("began", "children", "failed", "grown", "name", "seconds", "sockets", "threads")

    def __init__(self, name: str) -> None:
        self.name = name
        self.began = 0.0
        self.seconds = 0.0
        """With its children."""
        self.grown = 0
        """Bytes by which the process's resident memory has grown meanwhile, with the children."""
        self.failed = False
        """It ended with an exception; often a library that tries what is installed."""
        self.threads: list[int] = []
        """Threads that were there after its own code ran and not before; children not counted."""
        self.sockets: list[int] = []
        """The same for sockets, by inode."""
        self.children: list[Node] = []

    def plain(self) -> dict[str, Any]:
        """As plain data, times in milliseconds."""
        found: dict[str, Any] = {"name": self.name, "ms": round(self.seconds * 1000, 3), "bytes": self.grown}
        if self.failed:
            found["failed"] = True
        if self.children:
            found["imports"] = [child.plain() for child in self.children]
        return found


class Imports:
    """Watches the imports of the thread that makes it, until ``close``."""

    def __init__(self, importing: Callable[[str], object]) -> None:
        """``importing`` is told the chain of each import as it begins, so that somebody knows where one hangs."""
        self.steps: list[Node] = []
        self._importing = importing
        self._thread = threading.get_ident()
        self._stack: list[Node] = []
        self._looking = 0.0
        """Seconds spent here."""
        self._known_threads = set(native_threads())
        self._known_sockets = set(open_sockets())
        self._descriptors = _descriptors()
        self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        self._original: Any = _bootstrap._find_and_load
        _bootstrap._find_and_load = self._find_and_load

    def step(self, name: str) -> None:
        """What comes now is the doing of this step of the preload."""
        self.end_step()
        self._begin(Node(name), self.steps)

    def end_step(self) -> None:
        """The step under way is over."""
        while self._stack:
            self._end()

    def close(self) -> None:
        """Stop watching."""
        self.end_step()
        if _bootstrap._find_and_load == self._find_and_load:
            _bootstrap._find_and_load = self._original
        os.close(self._statm)

    def chain_of(self, number: int) -> list[str]:
        """The imports, outermost first, during whose own code this thread (or socket, by inode) came; [] when in none."""
        return next((chain for step in self.steps if (chain := _chain(step, number)) is not None), [])[1:]

    # --- while imports go on ------------------------------------------------------------------------------------------
    def _find_and_load(self, name: str, import_: object) -> object:
        if threading.get_ident() != self._thread or not self._stack:
            return self._original(name, import_)
        node = Node(name)
        self._begin(node, self._stack[-1].children)
        depth = len(self._stack)
        try:
            return self._original(name, import_)
        except BaseException:
            node.failed = True
            raise
        finally:
            if len(self._stack) == depth and self._stack[-1] is node:
                self._end()

    def _begin(self, node: Node, siblings: list[Node]) -> None:
        entered = time.perf_counter()
        if self._stack:
            self._look(self._stack[-1])
        siblings.append(node)
        self._stack.append(node)
        self._importing(" > ".join(one.name for one in self._stack))
        node.grown = -self._resident()
        left = time.perf_counter()
        self._looking += left - entered
        node.began = left - self._looking

    def _end(self) -> None:
        entered = time.perf_counter()
        node = self._stack.pop()
        node.seconds = entered - self._looking - node.began
        node.grown += self._resident()
        self._look(node)
        self._looking += time.perf_counter() - entered

    def _look(self, node: Node) -> None:
        """What is new since the last look is the doing of ``node``'s own code."""
        threads = native_threads()
        if len(threads) != len(self._known_threads) or not self._known_threads.issuperset(threads):
            node.threads += sorted(set(threads) - self._known_threads)
            self._known_threads = set(threads)
        descriptors = _descriptors()
        if descriptors != self._descriptors:
            self._descriptors = descriptors
            sockets = set(open_sockets())
            node.sockets += sorted(sockets - self._known_sockets)
            self._known_sockets = sockets

    def _resident(self) -> int:
        return int(os.pread(self._statm, 200, 0).split()[1]) * _PAGE


def _descriptors() -> list[str]:
    return os.listdir("/proc/self/fd")


def _chain(node: Node, number: int) -> list[str] | None:
    if number in node.threads or number in node.sockets:
        return [node.name]
    for child in node.children:
        found = _chain(child, number)
        if found is not None:
            return [node.name, *found]
    return None
