"""The commands in the wheel: ``rocksyd``, and the compiled launcher of ``rocksyd exec`` (without a C compiler a script).

``rocksyd`` is a script of our own and no entry point, because what pip writes for one imports ``re``, and that takes longer than
``rocksyd check`` does in all. It begins with ``#!/bin/sh`` and finds its Python itself: a first line that pip makes of
``#!python`` does not start in a folder whose name has a space.

``pip install`` from source runs this. The environment's ``ROCKSYD_LAUNCHER`` says what the launcher is to be:

* not set: compiled, and linked statically if that is possible; else a script.
* ``static``: for a wheel that is published: it fits every Linux of this processor, with glibc or musl. Else it is an error.
* ``python``: a script, for a wheel that fits every machine.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NAME = "rocksyd-exec"
SOURCE = Path("src", "rocksyd", "launcher", f"{NAME}.c")
SCRIPT = """\
#!/bin/sh
\'\'\':'
# For the shell: the Python that this copy of rocksyd is installed for executes this file again.
self=$0
while [ -h "$self" ]; do
    link=$(readlink "$self")
    case $link in /*) self=$link ;; *) self=${self%/*}/$link ;; esac
done
case $self in */*) here=${self%/*} ;; *) here=. ;; esac
python=$here/python3
for package in "$here"/../lib/python3.*/*-packages/rocksyd; do
    if [ -d "$package" ]; then
        folder=${package%/*/rocksyd}
        python=$here/${folder##*/}
        break
    fi
done
[ -x "$python" ] || python=${python##*/}
exec "$python" "$self" "$@"
\'\'\'
import sys

from rocksyd.cli.@module@ import @function@

sys.exit(@function@(sys.argv[1:]))
"""
# The tags of a launcher that needs no library of the system's: whatever the libc, from the oldest that Python 3.11 is built for.
EVERY_LINUX = ("manylinux_2_17", "musllinux_1_1")


class CommandsHook(BuildHookInterface[Any]):
    """Adds the scripts to the wheel."""

    _folder: str = ""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make the scripts before the wheel is put together."""
        if self.target_name != "wheel":
            return
        self._folder = tempfile.mkdtemp(prefix="rocksyd-launcher-")
        program = Path(self._folder, NAME)
        wanted = os.environ.get("ROCKSYD_LAUNCHER", "")
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        if wanted != "python" and self._compile(program, "-static"):
            processor = platform.removeprefix("linux_")
            build_data["tag"] = "py3-none-" + ".".join(f"{system}_{processor}" for system in EVERY_LINUX)
        elif wanted == "static":
            raise RuntimeError(
                f"{NAME} cannot be linked statically here, as ROCKSYD_LAUNCHER=static asks for: install a C compiler and the "
                "static C library (Debian: apt install gcc libc6-dev), or leave the variable out for a wheel of this machine only"
            )
        elif wanted != "python" and self._compile(program):
            build_data["tag"] = f"py3-none-{platform}"
        else:
            program.write_text(_script("exec", "exec_script"))
            if wanted != "python":
                self.app.display_warning(f"{NAME} could not be compiled: a script takes its place")
        build_data["pure_python"] = "tag" not in build_data
        command = Path(self._folder, "rocksyd")
        command.write_text(_script("main", "main"))
        for script in (program, command):
            script.chmod(0o755)
            build_data["shared_scripts"][str(script)] = script.name

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """The wheel is made."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _compile(self, program: Path, *flags: str) -> bool:
        """Whether there is a launcher now. A compiler that fails is no reason not to install."""
        compiler = (
            shlex.split(os.environ.get("CC", ""))
            or [found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))][:1]
        )
        if not compiler or not sys.platform.startswith("linux"):
            return False
        command = [*compiler, "-O2", *flags, "-s", "-o", str(program), str(Path(self.root, SOURCE))]
        try:
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        except (OSError, subprocess.SubprocessError):
            return False
        return True


def _script(module: str, function: str) -> str:
    return SCRIPT.replace("@module@", module).replace("@function@", function)
