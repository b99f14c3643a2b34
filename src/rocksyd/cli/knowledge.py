"""What is known of libraries and forks: ``libraries.toml``, beside this file.

What must live here: reading it. What this file must not know: what is done with it.

Each table is named as the library is imported and has ``distribution`` (its name on the package index), ``verdict`` (``safe``:
used before the fork it goes on working in several workers at once; ``hook``: it does with what ``cure`` says; ``unsafe``: it does
not), ``tested`` (the version that bench/fork_safety has tried; "" for none), ``why``, ``cure`` and ``objects``: the classes, as
``module:Class``, whose objects from before the fork are meant. A library without ``objects`` is meant as soon as it is loaded.
"""

from __future__ import annotations

import os
import tomllib
from typing import Any

PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "libraries.toml")
_DEFAULTS: dict[str, Any] = {"tested": "", "why": "", "cure": "", "objects": []}


def libraries() -> dict[str, dict[str, Any]]:
    """All entries by the name they are imported under, with every key."""
    with open(PATH, "rb") as file:
        return {name: {**_DEFAULTS, **entry} for name, entry in tomllib.load(file).items()}
