"""The example shop loaded as rocksyd loads it, for peers that import their application themselves."""

import importlib
import os
import sys

SHOP = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "examples", "shop")
PRELOAD = ("django:setup", "shop.urls", "shop.warehouse", "shop.reports", "shop.prices:load")


def load(entries=PRELOAD):
    """Everything that ``preload`` in ``examples/shop/rocksyd.toml`` names."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
    if SHOP not in sys.path:
        sys.path.insert(0, SHOP)
    for entry in entries:
        module, _, name = entry.partition(":")
        found = importlib.import_module(module)
        if name:
            getattr(found, name)()
