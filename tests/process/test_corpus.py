"""Every conversation of the corpus with the daemon itself, whole and byte by byte."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import tests.corpus
from rocksyd.testing import Daemon
from tests.corpus.player import MODES, Mode, parse, play

CORPUS = Path(next(iter(tests.corpus.__path__)))
PATHS = sorted(CORPUS.glob("*.txt"))
OF_THEIR_OWN = [path for path in PATHS if path.stem.startswith("restart_") or any(step.kind == "A:" for step in parse(path))]
"""Conversations that restart the daemon or open the gate want a daemon of their own."""
TOGETHER = [path for path in PATHS if path not in OF_THEIR_OWN]


def corpus_daemon(folder: Path) -> Daemon:
    """A daemon with the corpus's configuration and application; its jobs wait for the file ``gate`` in the folder."""
    text = (
        (CORPUS / "rocksyd.toml")
        .read_text()
        .replace("unix://rocksyd.sock", "unix://d.sock")
        .replace('path = "."', 'path = "app"')
    )
    daemon = Daemon(folder, config=text, environment={"ROCKSYD_GATE": str(folder / "gate")})
    for name in ("application.py", "narrow.py"):
        shutil.copy(CORPUS / name, daemon.app / name)
    return daemon


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("path", OF_THEIR_OWN, ids=lambda path: path.stem)
def test_a_conversation_goes_as_written(path: Path, mode: Mode, tmp_path: Path) -> None:
    with corpus_daemon(tmp_path) as daemon:
        play(path, daemon.connect, mode=mode, actions={"release": (tmp_path / "gate").touch})


@pytest.mark.parametrize("mode", MODES)
def test_all_conversations_that_need_nothing_done_go_as_written_with_one_daemon(mode: Mode, tmp_path: Path) -> None:
    assert len(TOGETHER) > 5
    with corpus_daemon(tmp_path) as daemon:
        for path in TOGETHER:
            play(path, daemon.connect, mode=mode)
