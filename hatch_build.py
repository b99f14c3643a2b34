"""The commands in the wheel: ``rocksyd``, and the compiled launcher of ``rocksyd exec`` (without a C compiler a Python script).

``rocksyd`` is a script of our own and no entry point, because what pip writes for one imports ``re``, and that takes longer than
``rocksyd check`` does in all.

``pip install`` from source runs this. ``ROCKSYD_LAUNCHER=python`` leaves the compiler out, for a wheel that fits every machine.
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
#!python
import sys

from rocksyd.cli.{module} import {function}

sys.exit({function}(sys.argv[1:]))
"""


class CommandsHook(BuildHookInterface[Any]):
    """Adds the scripts to the wheel."""

    _folder: str = ""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make the scripts before the wheel is put together."""
        if self.target_name != "wheel":
            return
        self._folder = tempfile.mkdtemp(prefix="rocksyd-launcher-")
        program = Path(self._folder, NAME)
        if os.environ.get("ROCKSYD_LAUNCHER") != "python" and self._compile(program):
            platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{platform}"
        else:
            program.write_text(SCRIPT.format(module="exec", function="exec_script"))
        command = Path(self._folder, "rocksyd")
        command.write_text(SCRIPT.format(module="main", function="main"))
        for script in (program, command):
            script.chmod(0o755)
            build_data["shared_scripts"][str(script)] = script.name

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """The wheel is made."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _compile(self, program: Path) -> bool:
        """Whether there is a launcher now. A compiler that fails is no reason not to install."""
        compiler = (
            shlex.split(os.environ.get("CC", ""))
            or [found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))][:1]
        )
        if not compiler or not sys.platform.startswith("linux"):
            return False
        command = [*compiler, "-O2", "-o", str(program), str(Path(self.root, SOURCE))]
        try:
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        except (OSError, subprocess.SubprocessError):
            self.app.display_warning(f"{NAME} could not be compiled ({command[0]}): a Python script takes its place")
            return False
        return True
