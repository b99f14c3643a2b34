"""What is published: the wheels start wherever they are installed, and the sdist has all that git has."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import rocksyd

ROOT = Path(__file__).parents[2]
STATIC = "static" if shutil.which("cc") else ""
PT_DYNAMIC, PT_INTERP = 2, 3


def built(folder: Path, target: str, launcher: str = "") -> Path:
    """What hatchling makes of this repository."""
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)],
        cwd=ROOT, env={**os.environ, "ROCKSYD_LAUNCHER": launcher}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.iterdir()
    return path


def installed(wheel: Path, folder: Path) -> Path:
    """The folder with the commands of a new environment that has the wheel."""
    for command in (
        [sys.executable, "-m", "venv", "--without-pip", str(folder)],
        [sys.executable, "-m", "pip", "--python", str(folder), "install", "-q", "--no-index", "--no-deps", str(wheel)],
    ):
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    return folder / "bin"


def said(*command: str | Path, **variables: str) -> tuple[int, str, str]:
    done = subprocess.run(
        command,
        env={"PATH": "/usr/bin:/bin", **variables},
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("launcher", ["python", *filter(None, [STATIC])])
def test_the_commands_start_in_a_folder_whose_name_has_spaces_and_by_a_link_to_them(tmp_path: Path, launcher: str) -> None:
    commands = installed(built(tmp_path / "dist", "wheel", launcher), tmp_path / "an environment")
    links = tmp_path / "links to it"
    links.mkdir()
    (links / "first").symlink_to("../an environment/bin/rocksyd")
    (links / "rocksyd").symlink_to("first")
    (links / "rocksyd-exec").symlink_to(commands / "rocksyd-exec")
    version = (0, f"rocksyd {rocksyd.__version__}\n", "")
    assert said(commands / "rocksyd", "--version") == version
    assert said(links / "rocksyd", "--version") == version
    assert said("rocksyd", "--version", PATH=f"{links}:/usr/bin:/bin") == version
    assert said(commands / "python", "-m", "rocksyd", "--version") == version
    for command in (commands / "rocksyd-exec", links / "rocksyd-exec"):
        status, _, errors = said(command, "--address", f"unix://{tmp_path}/nobody.sock", "-c", "pass")
        assert (status, "no daemon answers" in errors) == (69, True), errors


def test_the_command_runs_with_the_python_that_has_it_where_others_stand_beside(tmp_path: Path) -> None:
    """As in /usr/local: what pip of Debian's own Python installs there is not for the one that stands there."""
    package = built(tmp_path / "dist", "wheel", "python")
    commands = tmp_path / "local" / "bin"
    commands.mkdir(parents=True)
    with zipfile.ZipFile(package) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".data/scripts/rocksyd")]
        (commands / "rocksyd").write_bytes(archive.read(name))
    (commands / "rocksyd").chmod(0o755)
    (tmp_path / "local" / "lib" / "python3.99" / "dist-packages" / "rocksyd").mkdir(parents=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for path, name in ((commands / "python3", "the one beside"), (elsewhere / "python3.99", "the right one")):
        path.write_text(f'#!/bin/sh\necho "{name}: $*"\n')
        path.chmod(0o755)
    status, output, errors = said(commands / "rocksyd", "ps", "a b", PATH=f"{elsewhere}:/usr/bin:/bin")
    assert (status, output, errors) == (0, f"the right one: {commands}/rocksyd ps a b\n", "")


def test_the_wheel_for_every_machine_says_so(tmp_path: Path) -> None:
    assert built(tmp_path, "wheel", "python").name.endswith("-py3-none-any.whl")


@pytest.mark.skipif(not STATIC, reason="needs a C compiler")
def test_the_compiled_wheel_fits_every_linux_of_this_processor(tmp_path: Path) -> None:
    """`linux_x86_64` can be published nowhere. The launcher asks for no loader and no library of either libc."""
    wheel = built(tmp_path, "wheel", "static")
    machine = os.uname().machine
    assert wheel.name.endswith(f"-py3-none-manylinux_2_17_{machine}.musllinux_1_1_{machine}.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("/rocksyd-exec")]
        program = archive.read(name)
    assert program[:5] == b"\x7fELF\x02"
    offset, size, count = struct.unpack_from("<Q", program, 32)[0], *struct.unpack_from("<HH", program, 54)
    kinds = {struct.unpack_from("<I", program, offset + number * size)[0] for number in range(count)}
    assert not kinds & {PT_INTERP, PT_DYNAMIC}


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="compares with what git has")
def test_the_sdist_has_all_that_git_has(tmp_path: Path) -> None:
    """So the tests, the demonstration and every link of the README are in it."""
    with tarfile.open(built(tmp_path, "sdist")) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    known = {name for name in listed.split("\0") if name and (ROOT / name).exists()}
    assert known - packed == set()
    assert packed - known <= {"PKG-INFO", *unknown(packed - known)}
    assert "demo/__main__.py" in packed


def unknown(names: set[str]) -> set[str]:
    """Those of ``names`` that are new here and not ignored: somebody is about to add them."""
    done = subprocess.run(
        ["git", "ls-files", "-z", "--others", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return names & set(done.stdout.split("\0"))


def test_the_demonstration_needs_few_packages_and_none_of_the_tests() -> None:
    """`make demo` installs these, in the versions that the tests use."""
    found = {}
    for place in ("examples/constraints.txt", "constraints.txt"):
        lines = (line for line in (ROOT / place).read_text().splitlines() if "==" in line)
        found[place] = {line.rstrip(" \\") for line in lines}
    demo = found["examples/constraints.txt"]
    assert demo <= found["constraints.txt"]
    assert not {line.partition("==")[0] for line in demo} & {"sphinx", "mypy", "pytest", "ruff", "hypothesis", "flask"}
    names = {line.partition("==")[0] for line in demo}
    assert len(names) < 25, "Django and pandas with what they need, and what serves the shop's pages and the dashboard"
