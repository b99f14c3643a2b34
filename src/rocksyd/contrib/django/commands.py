"""Management commands as jobs: ``django:send_digest`` for ``manage.py send_digest``.

What must live here: which commands are offered, and how one is run. What this file must not know: processes, messages.

They are imported when the application is loaded, so that a run finds its command in memory and a caller's parameters can be held
against it. A command that cannot be imported is a warning; its run will say why.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

import django
from django.apps import apps
from django.core.management import BaseCommand, CommandError, call_command, get_commands, load_command_class

from rocksyd.contrib.django import conf
from rocksyd.contrib.django.arguments import Arguments

PREFIX = "django:"
NOT_JOBS = ("dbshell", "rocksyd", "runserver", "shell", "testserver")
"""Commands that need a terminal or never end: offered only where ``ROCKSYD["COMMANDS"]`` names them in full."""


class Command:
    """A management command that can be called as a job."""

    def __init__(self, command: str) -> None:
        self.command = command
        self.__name__ = self.__qualname__ = PREFIX + command
        found = load(command)
        parser = found.create_parser("manage.py", command)
        stealth = [name for name in found.stealth_options if name not in BaseCommand.base_stealth_options]
        self._arguments = Arguments(self.__name__, parser, stealth)
        self.__rocksyd_signature__ = self._arguments.signature()

    def __call__(self, *words: Any, **options: Any) -> Any:
        """Run it: words of a command line, or arguments by name. Returns what ``handle`` returns.

        Raises:
            JobError: a parameter cannot be used.
            SystemExit: the command ended with a CommandError that has an exit status of its own.
            Exception: whatever the command raises.
        """
        placed, named = self._arguments.of(words, options)
        try:
            return call_command(load(self.command), *placed, **named)
        except CommandError as error:
            if error.returncode in (0, 1):
                raise
            sys.stderr.write(f"CommandError: {error}\n")
            raise SystemExit(error.returncode) from error


class Broken:
    """A command that could not be imported: running it tells why."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __call__(self, *words: Any, **options: Any) -> Any:
        """Try again, which raises."""
        return Command(self.command)(*words, **options)


def load(command: str) -> BaseCommand:
    """A new instance of a management command. Raises CommandError: there is none; Exception: what importing it raises."""
    home = get_commands().get(command)
    if home is None:
        raise CommandError(f"there is no management command {command!r}")
    return home if isinstance(home, BaseCommand) else load_command_class(home, command)


def offered(warn: Callable[[str], object]) -> dict[str, Callable[..., Any]]:
    """The jobs, by name; ``warn`` is told of commands that cannot be loaded. Calls ``django.setup`` where nobody has."""
    if not apps.ready:
        django.setup()
    patterns = conf.load().commands
    found: dict[str, Callable[..., Any]] = {}
    for command in sorted(get_commands()):
        wanted = any(fnmatchcase(command, pattern) for pattern in patterns)
        if not wanted or (command in NOT_JOBS and command not in patterns):
            continue
        try:
            found[PREFIX + command] = Command(command)
        except Exception as error:  # noqa: BLE001  (a command's module is anybody's code)
            warn(f"the management command {command!r} cannot be loaded ({type(error).__name__}: {error}); running it will fail")
            found[PREFIX + command] = Broken(command)
    return {**found, **_of_ours()}


def _of_ours() -> dict[str, Callable[..., Any]]:
    """The job that runs Django's tasks, and the one that relays the outbox, where the project has them."""
    from django.conf import settings  # noqa: PLC0415  (its settings can be asked only now)

    found: dict[str, Callable[..., Any]] = {}
    backends = [one.get("BACKEND", "") for one in (getattr(settings, "TASKS", None) or {}).values()]
    if any(name.startswith("rocksyd.") for name in backends):
        from rocksyd.contrib.django import tasks  # noqa: PLC0415  (it needs the library of tasks)

        found[tasks.JOB] = tasks.run
    if apps.is_installed("rocksyd.contrib.django.outbox"):
        from rocksyd.contrib.django.outbox.relaying import relay  # noqa: PLC0415  (it has a model)

        found[f"{PREFIX}outbox.relay"] = relay
    return found
