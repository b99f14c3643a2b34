"""A small Django project with one application, and a virtual environment that has Django and nothing of rocksyd."""

from __future__ import annotations

import importlib.util
import venv
from pathlib import Path

from rocksyd.testing import Daemon

SETTINGS = """
from pathlib import Path
BASE_DIR = Path(__file__).parent
SECRET_KEY = "test"
USE_TZ = True
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "mail"{apps}]
DATABASES = {{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "db.sqlite3"}}}}
{more}
"""

DIGEST = """
import datetime, sys
from django.core.management.base import BaseCommand, CommandError

class Command(BaseCommand):
    stealth_options = ("secret",)

    def add_arguments(self, parser):
        parser.add_argument("box")
        parser.add_argument("others", nargs="*", type=int)
        parser.add_argument("--to", required=True)
        parser.add_argument("--hours", type=int, default=24)
        parser.add_argument("--day", type=datetime.date.fromisoformat)
        parser.add_argument("--format", choices=("text", "html"), default="text")
        parser.add_argument("--tag", action="append", dest="tags", type=str.upper)
        parser.add_argument("--dry-run", action="store_true")

    def handle(self, *args, **options):
        if options["box"] == "broken":
            raise CommandError("the box is broken", returncode=int(options["to"]))
        self.stdout.write("to standard output")
        self.stderr.write("to standard error")
        names = ("box", "others", "to", "hours", "day", "format", "tags", "dry_run", "secret")
        return repr({name: options[name] for name in names if options.get(name) is not None})
"""

CONFIG = """
listen = ["unix://d.sock"]
state_dir = "var"
[apps.shop]
path = "app"
jobs = ["rocksyd.contrib.django"]
env = {{ DJANGO_SETTINGS_MODULE = "settings" }}
{app}
[apps.shop.pool]
max_workers = 4
"""


def project(folder: Path, *, app: str = "", more: str = "", installed: str = "") -> Daemon:
    """A daemon, not started, for a project in ``folder``; ``app`` and ``more`` are lines for its rocksyd.toml and settings.py."""
    commands = folder / "app" / "mail" / "management" / "commands"
    commands.mkdir(parents=True)
    for place in (commands, commands.parent, commands.parent.parent):
        (place / "__init__.py").touch()
    (commands / "digest.py").write_text(DIGEST)
    apps = f', "{installed}"' if installed else ""
    (folder / "app" / "settings.py").write_text(SETTINGS.format(apps=apps, more=more))
    (folder / "app" / "manage.py").write_text(
        'import os, sys\nos.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")\n'
        "from django.core.management import execute_from_command_line\nexecute_from_command_line(sys.argv)\n"
    )
    return Daemon(folder, config=CONFIG.format(app=app))


def environment_with_django(folder: Path) -> Path:
    """A virtual environment with Django and what it needs, and without rocksyd; its interpreter."""
    venv.create(folder, symlinks=True)
    packages = next(folder.glob("lib/python*/site-packages"))
    for name in ("django", "asgiref", "sqlparse"):
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.submodule_search_locations
        (packages / name).symlink_to(spec.submodule_search_locations[0])
    return folder / "bin" / "python"
