"""php-fpm behind nginx, both as Debian has them: told to reload by USR2.

What must live here: their configuration, and how the end of a reload is seen.
What this file must not know: how waits are measured.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

from bench.programs import missing
from bench.servers import Server
from rocksyd.testing.daemon import descendants

_FPM = """\
[global]
error_log = {folder}/fpm.log
daemonize = no
; else requests that are under way end with their workers
process_control_timeout = 10s
[www]
listen = {folder}/fpm.sock
{user}
pm = static
pm.max_children = 16
"""
_NGINX = """\
daemon off; {user} worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{}}
http {{
  access_log off; keepalive_requests 100000000;
  client_body_temp_path {folder}/other; proxy_temp_path {folder}/other; fastcgi_temp_path {folder}/other;
  uwsgi_temp_path {folder}/other; scgi_temp_path {folder}/other;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      fastcgi_pass unix:{folder}/fpm.sock;
      fastcgi_param SCRIPT_FILENAME {folder}/index.php; fastcgi_param REQUEST_METHOD $request_method;
      fastcgi_param CONTENT_LENGTH $content_length; fastcgi_param CONTENT_TYPE $content_type;
    }}
  }}
}}
"""
_PAGE = """<?php header('Content-Type: application/json'); header('Content-Length: 14'); echo "{\\"retcode\\":0}\\n";"""


def fpm() -> str:
    """Path of php-fpm; "" where there is none. Debian's has its version in its name."""
    found = [shutil.which("php-fpm"), *sorted(map(str, Path("/usr/sbin").glob("php-fpm*")), reverse=True)]
    return next(filter(None, found), "")


def lacking() -> str:
    """Why it cannot run here; "" when it can."""
    return ", ".join(filter(None, ("" if fpm() else "command php-fpm", missing(commands=["nginx"]))))


class PhpFpm(Server):
    """USR2: it executes itself anew, keeping its socket."""

    loads = 0
    says = "NOTIFY_SOCKET"

    def words(self) -> list[str]:
        root = os.geteuid() == 0
        (self.folder / "index.php").write_text(_PAGE)
        (self.folder / "fpm.conf").write_text(_FPM.format(folder=self.folder, user="user = root" if root else ""))
        text = _NGINX.format(folder=self.folder, port=self.port, user="user root;" if root else "")
        (self.folder / "nginx.conf").write_text(text)
        self.nginx = self.started(["nginx", "-c", str(self.folder / "nginx.conf"), "-e", str(self.folder / "nginx.log")])
        return [
            fpm(),
            "--nodaemonize",
            "--fpm-config",
            str(self.folder / "fpm.conf"),
            *(["--allow-to-run-as-root"] if root else []),
        ]

    def wait_loaded(self, number: int) -> None:
        """What it tells its service manager."""
        while b"READY=1" not in self.heard("that it is ready"):
            pass

    def restart(self) -> None:
        os.kill(self.process.pid, signal.SIGUSR2)
        self.wait_loaded(0)
        self.wait_answer()

    def everybody(self) -> Iterator[int]:
        yield from super().everybody()
        with contextlib.suppress(ProcessLookupError):
            yield from descendants(self.nginx.pid)
        yield self.nginx.pid

    def __exit__(self, *_: object) -> None:
        super().__exit__(None, None, None)
        self.nginx.wait()
