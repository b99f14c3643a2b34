"""The Django application, for INSTALLED_APPS."""

from __future__ import annotations

from django.apps import AppConfig


class OutboxConfig(AppConfig):  # type: ignore[misc]
    """Brings the table of orders that wait for their transaction."""

    name = "rocksyd.contrib.django.outbox"
    label = "rocksyd_outbox"
    verbose_name = "rocksyd's outbox"
    default_auto_field = "django.db.models.BigAutoField"
