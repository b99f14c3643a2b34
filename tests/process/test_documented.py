"""What the manual shows is what happens: its conversations are held, its programs are run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import rocksyd
from rocksyd.testing import Daemon
from tests.corpus.player import MODES, Mode, play

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str, kind: str) -> Iterator[str]:
    for found in BLOCK.finditer((DOCS / page).read_text()):
        if found[1] == kind:
            yield found[2]


JOBS = next(blocks("json-rpc.md", "python"))
CONVERSATIONS = [text for text in blocks("json-rpc.md", "text") if text.startswith("# conversation\n")]


@pytest.mark.parametrize("mode", MODES)
def test_the_conversations_of_the_manual_go_as_printed(mode: Mode, tmp_path: Path) -> None:
    assert len(CONVERSATIONS) > 8
    with Daemon(tmp_path / "daemon", JOBS) as daemon:
        for number, text in enumerate(CONVERSATIONS):
            path = tmp_path / f"conversation-{number}.txt"
            path.write_text(text)
            play(path, daemon.connect, mode=mode)


def test_the_programs_of_the_page_on_clients_run_as_printed(tmp_path: Path) -> None:
    programs = list(blocks("how-to/clients.md", "python"))
    with Daemon(tmp_path / "daemon", JOBS) as daemon:
        text = "\n".join(["from rocksyd import Client as C", "daemon = C()", *programs, "daemon.close()"])
        path = os.pathsep.join([str(daemon.app), str(Path(next(iter(rocksyd.__path__))).parent)])
        environment = {**os.environ, "PYTHONPATH": path, "ROCKSYD_ADDRESS": daemon.address}
        command = [sys.executable, "-W", "error", "-c", text]
        done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[:3] == ["300", "ok 100", "[100, 100, 100]"]
    assert {"5.0 of 5.0", "page 1", "page 2", "200", "10000", "[0, 100, 200]", "100"} <= set(lines)
    assert sum(line.endswith(" ok") for line in lines) >= 4
