"""From a row of the outbox to a run: after the commit, and later for what a crash has left.

What must live here: the order of the steps. What this file must not know: what is ordered.

A row is written in the caller's transaction, so it is there exactly when that is committed. It is deleted after the daemon has
acknowledged the order. Whoever dies in between leaves a row, and the next one orders again under the same key: the same run.
"""

from __future__ import annotations

import logging
from typing import Any
from uuid import uuid4

from django.db import DEFAULT_DB_ALIAS, transaction

from rocksyd import codes
from rocksyd.client.protocol import order as parameters
from rocksyd.contrib.django import conf
from rocksyd.contrib.django.outbox.models import Waiting
from rocksyd.errors import RequestError, RocksydError

PATIENCE = 2.0
"""Seconds that a request waits for the daemon after its commit; what it does not get there by then is relayed later."""
AT_ONCE = 500
_LATER = (codes.TOO_BUSY, codes.NOT_NOW)
logger = logging.getLogger("rocksyd.outbox")


def order(
    target: object, *args: Any, using: str = DEFAULT_DB_ALIAS, key: str | None = None, params: Any = None, **options: Any
) -> str:
    """Order a run once the current transaction is committed; outside of one, now. Returns its key.

    Args:
        target, args: as ``Client.run`` has them.
        using: the database whose transaction it is.
        key: the run's; a new one if left out.
        params: the arguments as a whole: an array, or an object.
        options: ``priority``, ``timeout``, ``eta`` ... of ``Client.run``.

    Raises TypeError: the arguments are not JSON.
    """
    given = parameters(target, args, {}, {**options, "params": params, "key": key or uuid4().hex})
    name = str(given.pop("key"))
    row = Waiting.objects.using(using).create(key=name, order=given)
    transaction.on_commit(lambda: _after_commit(row.pk, using), using=using)
    return name


def find(key: str, using: str = DEFAULT_DB_ALIAS) -> Waiting | None:
    """The row of an order that has not been given to the daemon."""
    found: Waiting | None = Waiting.objects.using(using).filter(key=key).first()
    return found


def _after_commit(pk: int, using: str) -> None:
    """The transaction is committed, and must not seem to have failed because of the daemon."""
    try:
        _give(Waiting.objects.using(using).filter(pk=pk), PATIENCE)
    except RocksydError as error:
        logger.warning("an order waits in the outbox, and is relayed later: %s", error)


def relay(using: str = DEFAULT_DB_ALIAS) -> int:
    """Give the daemon what waits in the outbox; how many orders it has taken. Run it every minute: ``django:outbox.relay``.

    Raises NoDaemon: nobody answers.
    """
    taken = 0
    while True:
        rows = Waiting.objects.using(using).filter(trouble="").order_by("pk")[:AT_ONCE]
        given, left = _give(rows, 30.0)
        taken += given
        if left or not given:
            return taken


def _give(rows: Any, patience: float) -> tuple[int, int]:
    """Order these; how many the daemon has taken, and how many are to be given to it later."""
    waiting = list(rows)
    if not waiting:
        return 0, 0
    with conf.client(timeout=patience, patience=patience) as client:
        answers = client.answers([("run", {**row.order, "key": row.key}) for row in waiting])
    taken, left = [], 0
    for row, answer in zip(waiting, answers, strict=True):
        if not isinstance(answer, RequestError):
            taken.append(row)
        elif answer.code in _LATER:
            left += 1
        else:
            logger.error("order %s in the outbox is refused: %s", row, answer)
            row.trouble = str(answer)[:500]
            row.save(update_fields=["trouble"])
    if taken:
        manager = Waiting.objects.using(taken[0]._state.db)
        manager.filter(pk__in=[row.pk for row in taken]).delete()
    return len(taken), left
