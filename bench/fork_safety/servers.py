"""What the libraries of the matrix talk to: Redis and PostgreSQL as the system has them, and the fakes.

What must live here: starting and ending them. What this file must not know: who uses them for what.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from bench.programs import free_port

FAKES = Path(__file__).with_name("fakes.py")
PATIENCE = 60.0


@contextlib.contextmanager
def servers(python: Path, folder: Path) -> Iterator[dict[str, int]]:
    """All of them, name -> port; a server whose program this machine does not have is not in it."""
    with contextlib.ExitStack() as stack:
        ports = stack.enter_context(_fakes(python))
        for name, start in (("redis", _redis), ("postgres", _postgres)):
            words, user = start(folder, port := free_port())
            if words:
                stack.enter_context(_running(words, port, folder / f"{name}.log", user))
                ports[name] = port
        yield ports


@contextlib.contextmanager
def _fakes(python: Path) -> Iterator[dict[str, int]]:
    with subprocess.Popen([python, FAKES], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())
        finally:
            process.kill()


def _redis(_folder: Path, port: int) -> tuple[list[str], str | None]:
    program = shutil.which("redis-server")
    return ([program, "--port", str(port), "--save", "", "--bind", "127.0.0.1"], None) if program else ([], None)


def _postgres(folder: Path, port: int) -> tuple[list[str], str | None]:
    """PostgreSQL does not run as root: then it runs as ``nobody``."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres")) or [Path(shutil.which("postgres") or "")]
    program = found[-1]
    if not program.is_file() or not (program.parent / "initdb").exists():
        return [], None
    user = "nobody" if os.geteuid() == 0 else None
    data = folder / "postgres"
    data.mkdir()
    if user:
        os.chown(data, pwd.getpwnam(user).pw_uid, -1)
    words = [str(program.parent / "initdb"), "-D", str(data), "-U", "bench", "-A", "trust", "-E", "UTF8", "--no-sync"]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, user=user, env={"PATH": os.environ["PATH"], "LC_ALL": "C"})
    options = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off"}
    words = [str(program), "-D", str(data), "-p", str(port)]
    return [*words, *(f"--{name}={value}" for name, value in options.items())], user


@contextlib.contextmanager
def _running(words: list[str], port: int, log: Path, user: str | None) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, user=user, cwd="/")
    try:
        until = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{words[0]} does not accept connections:\n{log.read_text()}")
            time.sleep(0.02)
        yield
    finally:
        process.terminate()
        process.wait()
