"""nginx in front of a daemon, with the configuration that the how-to prints."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rocksyd.testing import Daemon, until

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to"
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
needs_nginx = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")


def _accepts(where: Path) -> bool:
    """Whether somebody listens there: the file alone says that it is bound."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(where)) == 0


@contextmanager
def nginx(daemon: Daemon, folder: Path, *, port: int = 0) -> Iterator[Path]:
    """It runs, and listens on the unix socket that is returned; each request that it passes on is a line of ``passed.log``.

    ``port``: of the daemon, where it is spoken to by TCP.
    """
    assert NGINX is not None
    (block,) = re.findall(r"```nginx\n(.*?)```", (HOW_TO / "nginx.md").read_text(), re.DOTALL)
    front = daemon._short / "front.sock"
    behind = f"127.0.0.1:{port}" if port else f"unix:{daemon._link / 'web.sock'}"
    block = block.replace("unix:/srv/shop/run/shop.sock", behind)
    block = block.replace("listen 80;", f"listen unix:{front}; access_log {folder}/passed.log passed if=$upstream_status;")
    for name in ("body", "proxy"):
        (folder / name).mkdir()
    temporary = " ".join(f"{kind}_temp_path {folder}/other;" for kind in ("fastcgi", "uwsgi", "scgi"))
    (folder / "nginx.conf").write_text(
        f"daemon off; {'user root;' if os.geteuid() == 0 else ''} worker_processes 1; pid {folder}/nginx.pid;"
        f" error_log {folder}/error.log; events {{}} http {{ client_body_temp_path {folder}/body;"
        f" log_format passed '$request_method $uri';"
        f" proxy_temp_path {folder}/proxy; {temporary}\n{block}\n}}\n"
    )
    process = subprocess.Popen([NGINX, "-c", f"{folder}/nginx.conf", "-e", f"{folder}/error.log"])
    try:
        until(lambda: _accepts(front), "nginx to listen")
        yield front
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
        front.unlink(missing_ok=True)
