"""The Django application, for INSTALLED_APPS."""

from __future__ import annotations

from django.apps import AppConfig
from django.core import checks


class RocksydConfig(AppConfig):  # type: ignore[misc]
    """Brings ``manage.py rocksyd`` and a check of ``settings.ROCKSYD``; it has no models."""

    name = "rocksyd.contrib.django"
    label = "rocksyd"  # the package's last name would be taken for Django's own
    verbose_name = "rocksyd"

    def ready(self) -> None:
        """Check the settings with all others: ``manage.py check``."""
        checks.register(check_settings)


def check_settings(app_configs: object = None, **_: object) -> list[checks.CheckMessage]:
    """What is wrong with ``settings.ROCKSYD``, as Django's checks report it."""
    from rocksyd.contrib.django import conf  # noqa: PLC0415  (the settings can be asked only now)

    try:
        conf.load()
    except conf.WrongSettings as error:
        return [checks.Error(str(error), hint=error.hint, id="rocksyd.E001")]
    return []
