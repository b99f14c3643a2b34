"""What is known of libraries and forks: ``libraries.toml``, beside this file.

What must live here: reading it. What this file must not know: what is done with it.

Each table is named as the library is imported and has ``distribution`` (its name on the package index), ``name`` (what people
call it, if not that), ``verdict`` (``safe``: used before the fork it goes on working in several workers at once; ``hook``: it
does with what ``cure`` says; ``unsafe``: it does not), ``tested`` (the version that bench/fork_safety has tried; "" for none),
``why`` and ``cure``. ``when`` says what of it is meant: ``loaded`` (being imported is enough), ``made`` (an object of one of the
classes ``objects``, as ``module:Class``, that a module holds), or ``used`` (what it leaves is seen as a thread or a socket).
"""

from __future__ import annotations

import os
import tomllib
from typing import Any

PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "libraries.toml")
_DEFAULTS: dict[str, Any] = {"tested": "", "why": "", "cure": "", "when": "used", "objects": []}


def libraries() -> dict[str, dict[str, Any]]:
    """All entries by the name they are imported under, with every key."""
    with open(PATH, "rb") as file:
        return {name: {**_DEFAULTS, "name": entry["distribution"], **entry} for name, entry in tomllib.load(file).items()}
