"""What Django imports only when it is first used, loaded once for all forks, so that ``rocksyd exec`` starts at once."""

from __future__ import annotations

from importlib import import_module

from django.core import checks
from django.core.management import get_commands

OFTEN = ("check", "migrate", "makemigrations", "showmigrations", "shell", "dbshell", "test", "sendtestemail", "createsuperuser")


def management() -> None:
    """Import the commands that are used often and the project's own, and what the system checks look at."""
    for name, app in get_commands().items():
        if isinstance(app, str) and (name in OFTEN or not app.startswith("django.")):
            import_module(f"{app}.management.commands.{name}")
    checks.run_checks()
