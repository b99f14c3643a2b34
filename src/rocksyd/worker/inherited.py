"""What a worker must not share with the zygote it was forked from: finalizers.

What must live here: preparing them in the zygote, once, so that a fork costs nothing. What this file must not know: jobs, and
libraries that have to be looked after (``worker.integrations``).
"""

from __future__ import annotations

import weakref
from typing import Any


def prepare() -> None:
    """In the zygote, when everything is loaded; and again in a worker that is to be forked from itself."""
    registry: Any = getattr(weakref.finalize, "_registry", None)
    if type(registry) in (dict, _Registry):
        weakref.finalize._registry = _Registry(registry)  # type: ignore[attr-defined]


def take_back() -> None:
    """At the end of who has prepared: the finalizers of what it had made until then are its own to run."""
    registry = getattr(weakref.finalize, "_registry", None)
    if isinstance(registry, _Registry):
        registry.before.update(registry)
        weakref.finalize._registry = registry.before  # type: ignore[attr-defined]


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
