"""Two versions of rocksyd on one machine: one unpacked from the history, and a place where now one and now the other stands.

What must live here: how a version gets out of git, and how a deploy changes it. What this file must not know: daemons, clients.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import tarfile
from pathlib import Path

from rocksyd.testing.daemon import PACKAGE

ROOT = Path(__file__).resolve().parent.parent
BEFORE = "36d6a3f0118e68a44b38b1fe74d4389a1fca0b4f"
"""The version that this one and the next have to hand over from and to: the last commit before runs got their present shape."""


class NoHistory(RuntimeError):
    """The version cannot be had; the message says how to get it."""


def unpacked(folder: Path, commit: str = BEFORE) -> Path:
    """Put rocksyd as it was at ``commit`` into ``folder``.

    Returns:
        The folder of the package, to be given to ``Daemon(package=...)`` or ``Place``.

    Raises:
        NoHistory: there is no git, or this clone does not have the commit.
    """
    try:
        archive = subprocess.run(
            ["git", "-C", str(ROOT), "archive", "--format=tar", commit, "src/rocksyd"], capture_output=True, check=False
        )
    except FileNotFoundError:
        raise NoHistory(f"version {commit[:7]} of rocksyd is needed, and comes out of git: install git") from None
    if archive.returncode:
        reason = archive.stderr.decode(errors="replace").strip()
        cure = "clone with its whole history (git fetch --unshallow; in CI: fetch-depth: 0)"
        raise NoHistory(f"version {commit[:7]} of rocksyd is needed, and {ROOT} does not have it: {cure}. git says: {reason}")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")
    package = folder / "src" / "rocksyd"
    label(package, commit[:7])
    return package


def label(package: Path, name: str) -> str:
    """Let a copy of rocksyd say of itself that it is version ``0.1.0+name``, so that a test sees who serves. Returns that."""
    module = package / "__init__.py"
    text, count = re.subn(
        r'^__version__ = "([^"+]+)[^"]*"$', rf'__version__ = "\1+{name}"', module.read_text(), flags=re.MULTILINE
    )
    assert count == 1, f"{module} does not say its version"
    module.write_text(text)
    return version(package)


def version(package: Path) -> str:
    """What a copy of rocksyd says of itself."""
    found = re.search(r'^__version__ = "([^"]+)"$', (package / "__init__.py").read_text(), flags=re.MULTILINE)
    assert found, f"{package} does not say its version"
    return found[1]


class Place:
    """A folder's name under which now one version of the package stands and now another, as deploys that switch a link do it."""

    def __init__(self, path: Path, package: Path = PACKAGE) -> None:
        self.path = path
        self.now = package
        path.symlink_to(package, target_is_directory=True)

    def switch(self, package: Path) -> None:
        """Let the name stand for this version from now on: in one step, so that it always stands for one of them."""
        beside = self.path.with_name(f"{self.path.name}.next")
        beside.symlink_to(package, target_is_directory=True)
        os.replace(beside, self.path)
        self.now = package
