"""Completion in the shells that are here, with a real daemon's keys and targets."""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rocksyd.testing.daemon import TIMEOUT, Daemon
from tests.terminal.stage import JOBS, Program, environment, rocksyd

SHELLS = [
    pytest.param(name, marks=pytest.mark.skipif(not shutil.which(name), reason=f"no {name} here"))
    for name in ("bash", "zsh", "fish")
]


class Shell:
    """One shell with the script loaded, and `rocksyd` on its path."""

    def __init__(self, name: str, daemon: Daemon, folder: Path) -> None:
        self.name = name
        program = folder / "bin" / "rocksyd"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m rocksyd.cli "$@"\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        home = folder / "home"
        home.mkdir(exist_ok=True)
        path = f"{program.parent}:{os.environ['PATH']}"
        self.env = environment(daemon, PATH=path, HOME=str(home), XDG_CONFIG_HOME=str(home), XDG_DATA_HOME=str(home), PS1="$ ")
        self.folder = folder / "here"
        self.folder.mkdir(exist_ok=True)
        (self.folder / "some.toml").touch()
        self.script = folder / f"completion.{name}"
        self.script.write_text(rocksyd(daemon, "completion", name).stdout)

    def words(self, line: str) -> list[str]:
        """What the shell would offer at the end of this line."""
        return {"bash": self._bash, "fish": self._fish, "zsh": self._zsh}[self.name](line)

    def _run(self, *words: str) -> str:
        done = subprocess.run(
            words,
            env=self.env,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert not done.stderr, done.stderr
        return done.stdout

    def _bash(self, line: str) -> list[str]:
        text = f"""
            source {shlex.quote(str(self.script))}
            compopt() {{ echo "option $2"; }}
            COMP_LINE={shlex.quote(line)} COMP_POINT=${{#COMP_LINE}} COMP_WORDS=(rocksyd) COMP_CWORD=1
            COMP_WORDBREAKS=$' \\t\\n"\\'><=;|&(:'
            _rocksyd
            printf '%s\\n' "${{COMPREPLY[@]}}"
        """
        return [line for line in self._run("bash", "--norc", "-c", text).splitlines() if line and not line.startswith("option ")]

    def _fish(self, line: str) -> list[str]:
        text = f"source {shlex.quote(str(self.script))}; complete -C {shlex.quote(line)}"
        return [line.partition("\t")[0] for line in self._run("fish", "--no-config", "-c", text).splitlines()]

    def _zsh(self, line: str) -> list[str]:
        """zsh completes only at a terminal, so its own function for offering words is replaced by one that notes them."""
        text = (
            "autoload -Uz compinit; compinit -u -D; zmodload zsh/zutil\n"
            f"source {shlex.quote(str(self.script))}\n"
            "_files() { print -r -- some.toml }\n"
            '_describe() { print -rl -- "${(@P)3}" }\n'
            f"line={shlex.quote(line)}; words=(${{(z)line}}); [[ $line == *' ' ]] && words+=('')\n"
            "CURRENT=$#words; PREFIX=$words[-1]; _rocksyd; true"
        )
        lines = self._run("zsh", "-f", "-c", text).splitlines()
        return [line.replace("\\:", "\0").partition(":")[0].replace("\0", ":") for line in lines]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path, JOBS, parts={"app": 'allow = ["os.path:join"]'}) as daemon, daemon.client() as client:
        client.run("broken", key="done:1").wait()
        run = client.run("holds", str(tmp_path / "end"), key="going-1")
        yield daemon
        (tmp_path / "end").touch()
        run.wait()


@pytest.mark.parametrize("name", SHELLS)
def test_commands_options_keys_targets_and_parameters(tmp_path: Path, daemon: Daemon, name: str) -> None:
    shell = Shell(name, daemon, tmp_path)
    assert {"run", "restart", "retry"} <= set(shell.words("rocksyd r"))
    assert shell.words("rocksyd kill ") == ["going-1"]
    assert shell.words("rocksyd retry d") == (["done:1"])
    assert set(shell.words("rocksyd why ")) == {"going-1", "done:1"}
    assert shell.words("rocksyd run gre") == ["greet"]
    assert set(shell.words("rocksyd run greet ")) == {"name=", "loud=", "times="}
    assert {"--wait", "--key"} <= set(shell.words("rocksyd run greet --"))
    assert shell.words("rocksyd ps --state w") == ["waiting"]
    assert shell.words("rocksyd kill going-1 --signal KI") == ["KILL"]
    assert shell.words("rocksyd run --app ") == ["app"]
    assert shell.words("rocksyd completion f") == ["fish"]
    assert shell.words("rocksyd --address unix:///nowhere kill ") == []
    if name != "bash":  # there the shell itself adds the files
        assert "some.toml" in shell.words("rocksyd check-config -c ")


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash here")
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("rocksyd run os.path:jo", ["join"]),  # bash has cut at the colon, and puts it back
        ("rocksyd run os.pa", ["os.path:join"]),
        ("rocksyd run 'os.path:jo", ["os.path:join"]),
        ("rocksyd retry done:", ["1"]),
        ("rocksyd ps --state=w", ["waiting"]),
        ("echo x | env A=b /usr/bin/rocksyd kill go", ["going-1"]),
        ("rocksyd nonsense ", []),
        ("rocksyd kill 'it", []),
        ("rocksyd run \"a 'b", []),
    ],
)
def test_bash_cuts_words_in_its_own_places(tmp_path: Path, daemon: Daemon, line: str, words: list[str]) -> None:
    assert Shell("bash", daemon, tmp_path).words(line) == words


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("bash", ["bash", "--norc", "--noprofile", "-i"]),
        ("zsh", ["zsh", "-f", "-i"]),
    ],
)
def test_tab_completes_at_a_prompt(tmp_path: Path, daemon: Daemon, name: str, start: list[str]) -> None:
    if not shutil.which(name):
        pytest.skip(f"no {name} here")
    shell = Shell(name, daemon, tmp_path)
    load = "autoload -Uz compinit; compinit -u -D; " if name == "zsh" else ""
    with Program(start, shell.env, cwd=shell.folder) as program:
        program.type(f"{load}source {shlex.quote(str(shell.script))}; echo load''ed\n")
        program.sees("loaded")
        program.type("rocksyd check done\t")
        program.until(lambda s: any("check done:1" in line.replace("\\", "") for line in s.lines), "the whole key")
        program.type("\n")
        program.sees("ValueError")
        program.type("rocksyd run gre\tna\t")
        program.sees("rocksyd run greet name=")
        program.type("Ann --wait\n")
        program.sees('"Ann"')
        program.type("exit\n")
        program.ends()


def test_nothing_is_said_where_there_is_no_daemon(tmp_path: Path) -> None:
    def ask(*words: str) -> Any:
        env = {**environment(None), "ROCKSYD_ADDRESS": f"unix://{tmp_path}/nobody"}
        words = (sys.executable, "-m", "rocksyd.cli", "__complete", *words)
        return subprocess.run(words, env=env, capture_output=True, text=True, timeout=TIMEOUT, check=False)

    for words in (("words", "kill", ""), ("line", ":", "rocksyd kill "), (), ("line",), ("words",), ("words", "run", "x", "")):
        done = ask(*words)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), words
    assert "restart" in ask("words", "rest").stdout
