"""The published Phprocksyd: ``original.py PATH/Phprocksyd.php [checks]``. An unpatched PHP runs everything but its restart."""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import tempfile
import time
from pathlib import Path

from serve import launches, running, serve, timed

PORT = 31337
JOBS = """<?php
class First { public function run($args) { $now = hrtime(true); $file = fopen($args[0], 'r+'); fwrite($file, pack('q', $now)); } }
class Nothing { public function run($args) { } }
"""
NEEDS_PATCH = "$instance->init();"
"""What asks for the patched PHP that only a restart needs."""


class Connection:
    """One conversation with it."""

    def __init__(self) -> None:
        until = time.monotonic() + 10
        while True:
            try:
                self.socket = socket.create_connection(("127.0.0.1", PORT), 1)
                break
            except ConnectionRefusedError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.02)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.lines = self.socket.makefile("rb")
        self.number = 0

    def ask(self, command: str, **argument: object) -> dict[str, object]:
        self.socket.sendall(f"{command} {json.dumps(argument)}\n".encode())
        answer: dict[str, object] = json.loads(self.lines.readline())
        return answer

    def run(self, name: str, params: list[str]) -> int:
        self.number += 1
        self.ask("run", hash=self.number, **{"class": name, "params": params})
        return self.number

    def wait(self, number: int) -> None:
        while "retcode" not in self.ask("check", hash=number):
            time.sleep(0.0002)


def main(path: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        runner, pipe = Path(folder, "runner.php"), Path(folder, "pipe")
        runner.write_text(JOBS + Path(path).read_text().removeprefix("<?php").replace(NEEDS_PATCH, ""))
        os.mkfifo(pipe)
        reader = os.open(pipe, os.O_RDWR)
        with running("php", str(runner), stderr=None):
            connection = Connection()

            def launch() -> tuple[float, float, float, float]:
                asked = time.monotonic_ns()
                number = connection.run("First", [str(pipe)])
                began = struct.unpack("q", os.read(reader, 8))[0]
                connection.wait(number)
                return asked, began, began, time.monotonic_ns()

            def loop(count: int) -> None:
                for number in [connection.run("Nothing", []) for _ in range(count)]:
                    connection.wait(number)

            launch()
            serve({"launch": lambda count: launches(launch, count), "rate": lambda count: timed(lambda: loop(count))})


if __name__ == "__main__":
    main(sys.argv[1])
