"""Numpy: its global generator of random numbers would give every worker the same ones.

``random`` needs nothing here, it reseeds itself in a forked child (``os.register_at_fork`` in the standard library); ``tempfile``
makes a generator anew in every process; OpenSSL reseeds itself from 1.1.1d on (RAND_DRBG(7)); ``uuid`` and ``secrets`` ask the
kernel. A generator that an application keeps for itself (``numpy.random.default_rng()`` in a module) is its own matter: it may
have been seeded on purpose.
"""

from __future__ import annotations

import os
import struct
import sys
from typing import Any

from rocksyd.posix import libc

LIBRARY = "numpy.random"

_WORDS = 624
"""32-bit words of a Mersenne twister's state; what follows them is the position of the next one, here: all are used up."""
_USED_UP = struct.pack("i", _WORDS)

_state: memoryview | None = None
_generator: Any = None
"""What the memory belongs to."""


def before_fork() -> None:
    """Find the state of the global generator in memory: to write there is a tenth of what ``seed`` costs a forked child."""
    global _state, _generator
    random: Any = sys.modules.get(LIBRARY)
    try:
        generator = random.mtrand._rand._bit_generator
        state = libc.memory_at(generator.ctypes.state_address, 4 * _WORDS + len(_USED_UP))
        random.seed(20)
        kind, words, position, *_ = random.get_state()
        if state is not None and kind == "MT19937" and bytes(state) == words.tobytes() + struct.pack("i", position):
            _state, _generator = state, generator
        random.seed()
    except Exception:  # noqa: BLE001  (one of another make, or the application's own generator in its place)
        return


def after_fork() -> None:
    """Numbers of its own."""
    if _state is not None:
        _state[:] = os.urandom(4 * _WORDS) + _USED_UP
        return
    random: Any = sys.modules.get(LIBRARY)
    if hasattr(random, "seed"):
        random.seed()
