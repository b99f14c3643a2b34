"""For pytest: a database of the tests' own, for this process and for the daemons it starts."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

FOLDER = Path(tempfile.mkdtemp(prefix="shop-tests-"))
os.environ["SHOP_VAR"] = str(FOLDER)  # before the settings are read
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")


def pytest_configure(config: pytest.Config) -> None:
    import django  # noqa: PLC0415  (only now: see above)

    django.setup()


def pytest_unconfigure(config: pytest.Config) -> None:
    import shutil  # noqa: PLC0415

    from django.db import connections  # noqa: PLC0415

    connections.close_all()
    shutil.rmtree(FOLDER, ignore_errors=True)


@pytest.fixture(scope="session")
def database() -> None:
    """Migrated, with products on the shelves and no orders."""
    from django.core.management import call_command  # noqa: PLC0415

    call_command("migrate", verbosity=0)
    call_command("seed", products=50, orders=0, verbosity=0)
