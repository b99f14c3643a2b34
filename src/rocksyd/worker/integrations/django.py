"""Django: no connection of the preload is shared by workers, and none goes stale from job to job.

Two processes that speak on one database connection break it for both. Django opens another where it needs one.
"""

from __future__ import annotations

import sys
from typing import Any

LIBRARY = "django.db"


def before_fork() -> None:
    """Close what loading has opened: connections to databases and caches."""
    db: Any = sys.modules.get(LIBRARY)
    if not _configured():
        return
    db.connections.close_all()
    db.reset_queries()
    _close_caches()


def between_jobs() -> None:
    """What Django does itself between two requests: broken and over-age connections are closed, the log of queries is emptied."""
    db: Any = sys.modules.get(LIBRARY)
    if not _configured():
        return
    db.reset_queries()
    db.close_old_connections()
    _close_caches()


def _configured() -> bool:
    settings: Any = sys.modules.get("django.conf")
    return settings is not None and bool(settings.settings.configured)


def _close_caches() -> None:
    cache: Any = sys.modules.get("django.core.cache")
    if cache is not None:
        cache.caches.close_all()
