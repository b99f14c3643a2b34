"""Orders that wait for their transaction: a run exists exactly when what was written beside its order is committed.

    INSTALLED_APPS = [..., "rocksyd.contrib.django", "rocksyd.contrib.django.outbox"]      # and: manage.py migrate

    from rocksyd.contrib.django import outbox

    with transaction.atomic():
        invoice.save()
        outbox.order("shop.jobs:send_invoice", invoice.pk, key=f"invoice-{invoice.pk}")

The order is a row of the same database. When the transaction is committed it is given to the daemon, and the row deleted; what a
crash leaves between the two, ``relay`` (the job ``django:outbox.relay``) gives to the daemon later, under the same key: once.
"""

from __future__ import annotations

TYPE_CHECKING = False

if TYPE_CHECKING:
    from rocksyd.contrib.django.outbox.relaying import find as find
    from rocksyd.contrib.django.outbox.relaying import order as order
    from rocksyd.contrib.django.outbox.relaying import relay as relay

_NAMES = ("find", "order", "relay")


def __getattr__(name: str) -> object:
    """Imported when first used: Django imports this package before there are models (PEP 562)."""
    if name not in _NAMES:
        raise AttributeError(f"module 'rocksyd.contrib.django.outbox' has no attribute {name!r}")
    import importlib  # noqa: PLC0415

    return getattr(importlib.import_module("rocksyd.contrib.django.outbox.relaying"), name)
