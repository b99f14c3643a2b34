"""What a worker must not share with the zygote it was forked from: finalizers, and the state of random generators.

What must live here: preparing both in the zygote, once, so that a fork costs next to nothing. What this file must not know: jobs.

Needs nothing here: ``random`` reseeds itself in a forked child (``os.register_at_fork`` in the standard library), and so does
OpenSSL from 1.1.1d on (RAND_DRBG(7)). Numpy's global generator does not.
"""

from __future__ import annotations

import os
import struct
import sys
import weakref
from typing import Any

from rocksyd.posix import libc

_WORDS = 624
"""32-bit words of a Mersenne twister's state; what follows them is the position of the next one, here: all are used up."""
_USED_UP = struct.pack("i", _WORDS)

_numpy_state: memoryview | None = None
_numpy_generator: Any = None
"""What the memory belongs to."""


def prepare() -> None:
    """In the zygote, when everything is loaded."""
    _prepare_numpy()
    registry = getattr(weakref.finalize, "_registry", None)
    if type(registry) is dict:
        weakref.finalize._registry = _Registry(registry)  # type: ignore[attr-defined]


def take_back() -> None:
    """In the zygote, at its end: the finalizers of what was made while the application was loaded are its own to run."""
    registry = getattr(weakref.finalize, "_registry", None)
    if isinstance(registry, _Registry):
        weakref.finalize._registry = {**registry.before, **registry}  # type: ignore[attr-defined]


class _Registry(dict[Any, Any]):
    """The registry of ``weakref.finalize`` in which those from before the fork are found, but not at the end of the process.

    Temporary folders and the like made while the application was loaded belong to the zygote: no worker removes them by ending.
    """

    def __init__(self, before: dict[Any, Any]) -> None:
        super().__init__()
        self.before = before

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) or key in self.before

    def get(self, key: Any, default: Any = None) -> Any:
        return super().get(key) or self.before.get(key, default)

    def pop(self, key: Any, default: Any = None) -> Any:
        return super().pop(key, None) or self.before.pop(key, default)


def _prepare_numpy() -> None:
    """Find the state of numpy's global generator in memory: to write there is a tenth of what ``seed`` costs a forked child."""
    global _numpy_state, _numpy_generator
    random = sys.modules.get("numpy.random")
    try:
        generator = random.mtrand._rand._bit_generator  # type: ignore[union-attr]
        state = libc.memory_at(generator.ctypes.state_address, 4 * _WORDS + len(_USED_UP))
        random.seed(20)  # type: ignore[union-attr]
        kind, words, position, *_ = random.get_state()  # type: ignore[union-attr]
        if state is not None and kind == "MT19937" and bytes(state) == words.tobytes() + struct.pack("i", position):
            _numpy_state, _numpy_generator = state, generator
        random.seed()  # type: ignore[union-attr]
    except Exception:  # noqa: BLE001  (no numpy, one of another make, or the application's own generator in its place)
        return


def reseed() -> None:
    """In a forked child: numbers of its own."""
    if _numpy_state is not None:
        _numpy_state[:] = os.urandom(4 * _WORDS) + _USED_UP
        return
    random = sys.modules.get("numpy.random")
    if random is not None and hasattr(random, "seed"):
        random.seed()
