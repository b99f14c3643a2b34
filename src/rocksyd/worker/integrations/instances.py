"""All living objects of a class, for libraries that keep no list of them.

What must live here: the search. What this file must not know: any library.
"""

from __future__ import annotations

import gc
from typing import Any


def instances(of: type[Any]) -> list[Any]:
    """Every object of class ``of`` or one derived from it.

    By the type itself, and not by ``isinstance``: that asks an object for its ``__class__``, which lazy ones answer by
    loading what they stand for.
    """
    classes = _with_derived(of)
    return [found for found in gc.get_objects() if type(found) in classes]


def _with_derived(of: type[Any]) -> set[type[Any]]:
    classes = {of}
    for derived in type.__subclasses__(of):
        classes |= _with_derived(derived)
    return classes
