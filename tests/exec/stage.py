"""Both ways to run a command line: with a fresh Python, and through a daemon's warm worker."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from rocksyd.testing import Daemon

SCRIPTS = Path(__file__).parent / "scripts"
SOURCE = Path(__file__).parents[2] / "src" / "rocksyd" / "launcher" / "rocksyd-exec.c"
CLIENT = f"{sys.executable} -m rocksyd.cli exec --"
POOL = 'pm = "dynamic"\nmax_workers = 3\nmin_spare = 1\nmax_spare = 2\ngrace = "30s"\ntimeout = "5s"'
TIMEOUT = 60.0
_ADDRESS = re.compile(r"0x[0-9a-f]+")
_SECONDS = re.compile(r"\d+\.\d+( ?s|s)\b")


class Seen(NamedTuple):
    """What somebody sees who runs a command line in a shell."""

    status: int
    output: str
    errors: str
    files: dict[str, str]


def launcher(folder: Path) -> str:
    """The compiled launcher; "" where there is no compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return ""
    program = folder / "rocksyd-exec"
    subprocess.run([compiler, "-O1", "-Wall", "-Wextra", "-Werror", "-o", str(program), str(SOURCE)], check=True)
    return f"{program} --"


def environment(daemon: Daemon | None = None) -> dict[str, str]:
    """This process's, without what would tell one run from another, and with the daemon's address."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV", "_", "OLDPWD"))}
    return {**kept, "ROCKSYD_ADDRESS": daemon.address if daemon else ""}


def seen(command: str, python: str, folder: Path, daemon: Daemon, interpreter: str = sys.executable) -> Seen:
    """Run ``command`` in a shell in a new copy of the scripts; ``$P`` in it is what runs Python."""
    if folder.exists():
        shutil.rmtree(folder)
    shutil.copytree(SCRIPTS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    ended = subprocess.run(
        ["bash", "-c", command], cwd=folder, env={**environment(daemon), "P": python}, stdin=subprocess.DEVNULL,
        capture_output=True, timeout=TIMEOUT, check=False, preexec_fn=_default_signals,
    )  # fmt: skip
    # A Python in a temporary copy prints other paths and addresses; everything else has to be the same.
    texts = [_same(data.decode("utf-8", "backslashreplace"), folder, interpreter) for data in (ended.stdout, ended.stderr)]
    return Seen(ended.returncode, texts[0], texts[1], _files(folder))


def _default_signals() -> None:
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def _same(text: str, folder: Path, interpreter: str) -> str:
    # bash names the command line of what a signal has killed, which is not the same by nature
    text = re.sub(
        r"^bash: line \d+: +\d+ ([A-Z][a-z]+[A-Za-z0-9 ]*?)( \(core dumped\))? {2,}.*$", r"bash: \1", text, flags=re.MULTILINE
    )
    text = text.replace(str(folder), "<here>").replace(interpreter, "<python>")
    return _SECONDS.sub("<seconds>", _ADDRESS.sub("<address>", text))


def _files(folder: Path) -> dict[str, str]:
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_file() and "__pycache__" not in name and ".pytest_cache" not in name:
            found[name] = f"{path.stat().st_mode & 0o777:o} {path.read_bytes()!r}"
    return found
