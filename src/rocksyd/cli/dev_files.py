"""Which files ``rocksyd dev`` looks after: those whose change means other code.

What must live here: folders, suffixes, exceptions. What this file must not know: how a change is noticed, and what follows.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from rocksyd.config import Config
from rocksyd.config.files import PARTS, is_part

SUFFIXES = (".py", ".html", ".jinja", ".jinja2", ".j2", ".mo")
"""Modules, and what is kept in memory once it was loaded (templates, translations)."""
_NEVER = frozenset({"__pycache__", "node_modules", "site-packages"})


class Files:
    """The applications' folders, what was asked for besides, and the configuration itself."""

    def __init__(self, config: Config, more: Iterable[str] = ()) -> None:
        self._configuration = os.path.realpath(config.path)
        self._folder = config.folder
        self._parts = os.path.realpath(os.path.join(config.folder, PARTS))
        self._state = os.path.realpath(config.state_dir)
        asked = [os.path.realpath(path) for path in more]
        self._single = {path for path in asked if not os.path.isdir(path)}
        self._roots = {os.path.realpath(app.path) for app in config.apps.values()} | (set(asked) - self._single)

    def folders(self) -> list[str]:
        """Where to watch: all of it, or (for single files) the folder they are in."""
        own = {self._parts} if os.path.isdir(self._parts) else set()
        return sorted(self._roots | own | {os.path.dirname(path) for path in (self._configuration, *self._single)})

    def entered(self, path: str) -> bool:
        """Whether a folder below a watched one is watched, too: no hidden ones, environments, caches, nor the daemon's state."""
        name = os.path.basename(path)
        if name.startswith(".") or name in _NEVER or path == self._state or os.path.exists(os.path.join(path, "pyvenv.cfg")):
            return False
        return path == self._parts or self._inside(path) or any(root.startswith(path + "/") for root in self._roots)

    def matters(self, path: str) -> bool:
        """Whether this file's change is one to reload for."""
        if self.configures(path) or path in self._single:
            return True
        return path.endswith(SUFFIXES) and not os.path.basename(path).startswith((".", "#")) and self._inside(path)

    def configures(self, path: str) -> bool:
        """Whether this is a file of the configuration itself."""
        return path == self._configuration or (os.path.dirname(path) == self._parts and is_part(os.path.basename(path)))

    def shown(self, paths: Iterable[str]) -> list[str]:
        """As a person knows them: relative to the configuration."""
        return sorted(os.path.relpath(path, os.path.realpath(self._folder)) for path in paths)

    def _inside(self, path: str) -> bool:
        return any(path == root or path.startswith(root.rstrip("/") + "/") for root in self._roots)
