"""What must hold before new code may serve (``smoke`` in ``rocksyd.toml``)."""

from __future__ import annotations

from django.core import checks

from shop import prices


def smoke() -> None:
    """Fail where Django's own system checks find an error, or where the price index has no offer for its first article.

    No database is asked: a connection opened before the fork would be shared by every job.
    """
    errors = [message for message in checks.run_checks() if message.is_serious()]
    if errors:
        raise RuntimeError("\n".join(map(str, errors)))
    index = prices.load()
    index.best(next(iter(index.articles)))
