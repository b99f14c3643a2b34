"""Which revision of its code an application is loaded from.

What must live here: ``[apps.X] revision``: git's files, a file, a command.
What this file must not know: what the revision is used for.

Git is not run where its files say it (gitrepository-layout(5)): the folder is another user's often, and a start should not wait
for a program. It is where they do not (refs in another format).
"""

from __future__ import annotations

import os
import re

GIT = "git"
SHOWN = 12
"""Characters of a commit's name."""
MOST = 64
"""Characters of any revision."""
PATIENCE = 10.0
"""Seconds that a command may take."""
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_MOST_LINKS = 5
"""References that refer to references."""


def revision(setting: str, folder: str) -> tuple[str, str]:
    """The revision, "" if there is none, and what somebody should know about it, "" mostly.

    ``setting`` is ``git``, or a file's name whose first line it is, or a command whose first line of output it is; both are
    meant in ``folder``, which has no symbolic links.
    """
    if setting == GIT:
        return _of_git(folder), ""
    try:
        with open(os.path.join(folder, setting), encoding="utf-8", errors="replace") as file:
            return _first_line(file.read(4096)), ""
    except FileNotFoundError:
        pass
    except OSError as error:
        return "", f"revision: {setting} cannot be read: {error.strerror}"
    return _of_command(setting, folder)


def _first_line(text: str) -> str:
    line = text.strip().partition("\n")[0].strip()
    return "".join(character for character in line if character.isprintable())[:MOST]


def _of_command(setting: str, folder: str) -> tuple[str, str]:
    import shlex  # noqa: PLC0415  (only who has a command pays for it)
    import subprocess  # noqa: PLC0415

    try:
        words = shlex.split(setting)
        done = subprocess.run(
            words,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE,
            check=False,
        )
    except (OSError, ValueError, IndexError, subprocess.SubprocessError) as error:
        return "", f"revision: {setting!r} is no file in {folder}, and as a command it fails: {error}"
    if done.returncode:
        return "", f"revision: {setting!r} ended with status {done.returncode}: {_first_line(done.stderr)}"
    return _first_line(done.stdout), ""


# --- git --------------------------------------------------------------------------------------------------------------
def _of_git(folder: str) -> str:
    """Of the work tree that the folder is in; "" for none."""
    top = folder
    while not os.path.lexists(os.path.join(top, ".git")):
        above = os.path.dirname(top)
        if above == top:
            return ""
        top = above
    try:
        commit = _head(os.path.join(top, ".git"))
    except (OSError, ValueError):
        commit = ""
    if not commit:
        commit = _of_command("git -c safe.directory=* rev-parse HEAD", folder)[0]
    return commit[:SHOWN] if _COMMIT.fullmatch(commit) else ""


def _head(git: str) -> str:
    """The commit that HEAD is at."""
    if os.path.isfile(git):  # of a further work tree, or of a submodule
        git = os.path.join(os.path.dirname(git), _read(git).removeprefix("gitdir:").strip())
    common = git
    if os.path.exists(os.path.join(git, "commondir")):
        common = os.path.join(git, _read(os.path.join(git, "commondir")).strip())
    value = _read(os.path.join(git, "HEAD")).strip()
    for _ in range(_MOST_LINKS):
        if not value.startswith("ref:"):
            return value
        name = value.removeprefix("ref:").strip()
        if not name.startswith("refs/") or ".." in name.split("/"):
            return ""
        value = _reference(common, name)
    return ""


def _reference(common: str, name: str) -> str:
    try:
        return _read(os.path.join(common, name)).strip()
    except FileNotFoundError:
        pass
    with open(os.path.join(common, "packed-refs"), encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.rstrip("\n").endswith(f" {name}"):
                return line.partition(" ")[0]
    return ""


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read(4096)
