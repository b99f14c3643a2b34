"""Django: every management command is a job, ``manage.py rocksyd ...``, a client that the settings configure.

    jobs = ["rocksyd.contrib.django"]           # in rocksyd.toml: `rocksyd run django:send_digest to=owner@example.com`
    INSTALLED_APPS = [..., "rocksyd.contrib.django"]    # only for `manage.py rocksyd ...`; rocksyd has to be installed then

Imported name by name (PEP 562): Django imports this package before its settings can be asked.
"""

from __future__ import annotations

TYPE_CHECKING = False

if TYPE_CHECKING:
    from rocksyd.contrib.django.conf import client as client

_HOMES = {
    "__rocksyd_jobs__": ("rocksyd.contrib.django.commands", "offered"),
    "client": ("rocksyd.contrib.django.conf", "client"),
}


def __getattr__(name: str) -> object:
    home, attribute = _HOMES.get(name, ("", ""))
    if not home:
        raise AttributeError(f"module 'rocksyd.contrib.django' has no attribute {name!r}")
    import importlib  # noqa: PLC0415

    return getattr(importlib.import_module(home), attribute)
