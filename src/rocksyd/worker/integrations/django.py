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
    """What Django does itself between two requests: broken and over-age connections are closed, the log of queries is emptied.

    (``reset_queries`` and ``close_old_connections`` of django.db, in one look at the connections there are.)
    """
    db: Any = sys.modules.get(LIBRARY)
    if not _configured():
        return
    for connection in db.connections.all(initialized_only=True):
        connection.queries_log.clear()
        connection.close_if_unusable_or_obsolete()
    _close_caches()


def _configured() -> bool:
    settings: Any = sys.modules.get("django.conf")
    return settings is not None and bool(settings.settings.configured)


def _close_caches() -> None:
    cache: Any = sys.modules.get("django.core.cache")
    if cache is not None:
        cache.caches.close_all()
