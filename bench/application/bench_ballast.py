"""An application of a chosen size: ``BENCH_BALLAST`` MB of memory that is in use."""

import os

held = bytearray()


def load():
    """Write to every page once, as data that was read from somewhere would have."""
    global held
    held = bytearray(os.urandom(4096)) * (int(os.environ.get("BENCH_BALLAST", "0")) * 256)
