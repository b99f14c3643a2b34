"""The table of the outbox."""

from __future__ import annotations

from django.db import models


class Waiting(models.Model):  # type: ignore[misc]
    """An order that the daemon is to be given, because its transaction is committed."""

    key = models.CharField(max_length=128, unique=True)
    """The run's."""
    order = models.JSONField()
    """The parameters of ``run``, without the key."""
    created = models.DateTimeField(auto_now_add=True)
    trouble = models.CharField(max_length=500, blank=True, default="")
    """Why the daemon has refused it for good; "" for one that is only to be given to it."""

    class Meta:
        """Its table."""

        db_table = "rocksyd_outbox"
        verbose_name = "waiting order"

    def __str__(self) -> str:
        return f"{self.key}: {self.order.get('target')}"
