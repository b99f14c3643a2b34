"""``manage.py rocksyd ...``: rocksyd's command line for this project's daemon, from whatever folder."""

from __future__ import annotations

import os
import sys

from django.core.management.base import BaseCommand

from rocksyd.cli.main import main
from rocksyd.contrib.django import conf
from rocksyd.errors import RocksydError

READS_CONFIG = ("serve", "dev", "check-config")


class Command(BaseCommand):  # type: ignore[misc]
    """Passes its words on; the project's ``rocksyd.toml`` is found by the settings."""

    help = "Runs a command of rocksyd for this project: serve, dev, run, exec, ps, logs, restart ... (manage.py rocksyd --help)"
    requires_system_checks: list[str] = []

    def run_from_argv(self, argv: list[str]) -> None:
        """Everything behind ``rocksyd`` is rocksyd's, options included."""
        sys.exit(self.handle(*argv[2:]))

    def handle(self, *args: str, **_: object) -> int:
        """Carry it out; the exit status."""
        words = list(args)
        try:
            self._find_daemon(words)
        except RocksydError as error:
            self.stderr.write(f"rocksyd: {error}")
            return 1
        return main(words)

    def _find_daemon(self, words: list[str]) -> None:
        if words[:1] and words[0] in READS_CONFIG:
            config = conf.config_path()
            if config and not any(word in ("-c", "--config") or word.startswith("--config=") for word in words):
                words += ["--config", config]
            return
        place = conf.place()
        if place is not None:
            os.environ.setdefault("ROCKSYD_ADDRESS", str(place.address))
            if place.token:
                os.environ.setdefault("ROCKSYD_TOKEN", place.token)
