"""`rocksyd try -- python SCRIPT ...`: what a program of your own would gain, without a configuration.

What must live here: starting it cold and warm in turns, and comparing what it prints.
What this file must not know: how it is warm.

The daemon is one for the trial, in a folder that is removed. What it preloads is what the program has imported in its first, cold
run: for Django by ``django.setup``, else the modules themselves, but for those of the program's own folder where they cannot be
imported by themselves.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

from rocksyd.cli.output import json_line, say, write
from rocksyd.errors import RocksydError
from rocksyd.units import format_duration

USAGE, FAILED = 2, 1
_STATEMENT = """
import atexit, json, os, sys
def _said(path={path!r}):
    named = [name for name, module in list(sys.modules.items()) if getattr(module, "__file__", None) and not name.startswith("_")]
    with open(path, "w") as file:
        settings = os.environ.get("DJANGO_SETTINGS_MODULE", "") if "django" in sys.modules else ""
        json.dump([settings, [[name, sys.modules[name].__file__] for name in named]], file)
atexit.register(_said)
"""


class Turn(NamedTuple):
    """One run of the program."""

    seconds: float
    status: int
    output: bytes


class TrialError(RocksydError):
    """The program cannot be tried; the message says why."""


def try_command(options: argparse.Namespace) -> int:
    """Run it cold and warm in turns; 0 when it printed and exited the same each time."""
    words = options.words[1:] if options.words[:1] == ["--"] else options.words
    python, script = _split(words)
    with tempfile.TemporaryDirectory(prefix="rocksyd-try-") as folder:
        first, settings, modules = _imports([python, *script], folder)
        config = _serve(folder, python, settings, modules)
        try:
            exec_words = [_beside("rocksyd-exec"), "--address", f"unix://{folder}/d.sock", "--", *script]
            cold, warm = [], []
            for _ in range(options.turns):
                cold.append(_timed([python, *script]))
                warm.append(_timed(exec_words))
        finally:
            _stop(folder, config)
    return _tell(options, first, cold, warm)


def _split(words: list[str]) -> tuple[str, list[str]]:
    """The interpreter, and what stands behind it."""
    name = os.path.basename(words[0]) if words else ""
    if name.startswith("python"):
        python = shutil.which(words[0])
        if python is None:
            raise TrialError(f"there is no {words[0]}")
        words = words[1:]
    else:
        python = sys.executable
    if not words or (words[0] not in ("-m", "-c") and not os.path.isfile(words[0])):
        raise TrialError("expected a Python program: rocksyd try -- python manage.py nightly, or -- python -m module")
    return os.path.abspath(python), words


def _imports(words: list[str], folder: str) -> tuple[Turn, str, list[tuple[str, str]]]:
    """Run the program once, cold; Django's settings, and name and file of the modules that it had imported at its end."""
    said = os.path.join(folder, "imported.json")
    with open(os.path.join(folder, "sitecustomize.py"), "w", encoding="utf-8") as file:
        file.write(_STATEMENT.format(path=said))
    path = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH", "")]))
    turn = _timed(words, {**os.environ, "PYTHONPATH": path})
    try:
        with open(said, encoding="utf-8") as file:
            settings, modules = json.load(file)
    except (OSError, ValueError):
        return turn, "", []  # it ended by a signal, or os._exit: nothing is known, and nothing preloaded
    return turn, settings, [(name, file) for name, file in modules if name != "sitecustomize" and not file.startswith(folder)]


def _serve(folder: str, python: str, settings: str, modules: list[tuple[str, str]]) -> str:
    """Start a daemon that has imported them; returns its configuration."""
    here = os.getcwd()
    others = [name for name, file in modules if not os.path.abspath(file).startswith(here + os.sep)]
    preloads = [["django:setup"]] if settings else []
    preloads += [[name for name, _ in modules], others, []]
    config, reason = os.path.join(folder, "rocksyd.toml"), ""
    for preload in preloads:
        with open(config, "w", encoding="utf-8") as file:
            file.write(f'listen = ["unix://d.sock"]\nstate_dir = "var"\n[apps.try]\npath = {json.dumps(here)}\n')
            file.write(f'python = {json.dumps(python)}\npreload = {json.dumps(preload)}\nallow = ["json:dumps"]\n')
            file.write(f"env = {{ DJANGO_SETTINGS_MODULE = {json.dumps(settings)} }}\n" if settings else "")
            file.write('[apps.try.pool]\npm = "dynamic"\nmax_workers = 4\nmin_spare = 1\nmax_spare = 2\n')
        words = [_beside("rocksyd"), "serve", "-c", config, "--daemon", "--log-file", os.path.join(folder, "log")]
        started = subprocess.run([*words, "--pid-file", os.path.join(folder, "pid")], capture_output=True, text=True, check=False)
        if started.returncode == 0:
            return config
        reason = started.stderr.strip()
    raise TrialError(f"a daemon for the trial cannot be started: {reason}")


def _beside(name: str) -> str:
    """A command of this installation."""
    found = os.path.join(os.path.dirname(sys.executable), name)
    return found if os.path.exists(found) else shutil.which(name) or name


def _stop(folder: str, config: str) -> None:
    subprocess.run([_beside("rocksyd"), "--address", f"unix://{folder}/d.sock", "stop"], capture_output=True, check=False)


def _timed(words: list[str], environment: dict[str, str] | None = None) -> Turn:
    begin = time.perf_counter()
    ended = subprocess.run(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, check=False
    )
    return Turn(time.perf_counter() - begin, ended.returncode, ended.stdout)


def _tell(options: argparse.Namespace, first: Turn, cold: list[Turn], warm: list[Turn]) -> int:
    """The times, the middle one of each, and whether both did the same."""
    middle = [sorted(turn.seconds for turn in turns)[len(turns) // 2] for turns in (cold, warm)]
    same = len({(turn.status, turn.output) for turn in [first, *cold, *warm]}) == 1
    stable = len({(turn.status, turn.output) for turn in [first, *cold]}) == 1
    if options.json:
        times = {name: [round(turn.seconds, 4) for turn in turns] for name, turns in (("cold", cold), ("warm", warm))}
        write(json_line({**times, "same": same, "status": warm[-1].status}))
        return 0 if same else FAILED
    shown = " -> ".join(format_duration(round(seconds, 3)) for seconds in middle)
    how_often = "once each" if options.turns == 1 else f"the middle of {options.turns}, in turns"
    gain = f", {middle[0] / middle[1]:.1f} times as fast" if middle[1] and middle[0] > middle[1] else ""
    write(f"{shown}{gain} ({how_often})\n")
    if same:
        write(f"the same output and exit status ({warm[-1].status}) each time\n")
        return 0
    if stable:
        say(
            "what it printed, or its exit status, was another one when it was warm: docs/how-to/exec.md says what is not the same"
        )
    else:
        say("it prints something else each time, also when it is cold, so nothing could be compared")
    return FAILED
