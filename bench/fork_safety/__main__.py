"""``python -m bench.fork_safety [--write] [names...]``: try the libraries, print what was found, write it into the manual.

The libraries get a virtual environment of their own (in bench/results/fork-safety, some 1.2 GB), made at the first use.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from importlib import import_module
from pathlib import Path
from typing import Any

from bench.fork_safety import table
from bench.fork_safety.matrix import judge
from bench.fork_safety.servers import servers
from bench.fork_safety.zygote import APPLICATION, try_stage

HERE = Path(__file__).parent
HOME = HERE.parent / "results" / "fork-safety"
WANTED = HERE / "requirements.txt"
VERSIONS = "import json, sys; from importlib.metadata import version; print(json.dumps([version(name) for name in sys.argv[1:]]))"


def main() -> int:
    """0 when every library is as the knowledge of ``rocksyd doctor`` says."""
    options = _options()
    cases = _cases()
    unknown = set(options.names) - set(cases)
    if unknown:
        print(f"there is no case {', '.join(sorted(unknown))}; there are: {', '.join(cases)}", file=sys.stderr)
        return 2
    python = options.python or _environment()
    names = options.names or list(cases)
    versions = _versions(python, {name: cases[name].distribution for name in names})
    rows = []
    with tempfile.TemporaryDirectory(prefix="fork-safety-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # PostgreSQL runs as another user
        with servers(python, folder) as ports:
            for case in names:
                if cases[case].server not in ("", *ports):
                    print(f"{case}: left out, there is no {cases[case].server} here", flush=True)
                    continue

                def attempt(stage: str, case: str = case) -> Any:
                    return try_stage(python, case, stage, ports, folder / "log")

                row = judge(cases[case], versions[case], attempt)
                rows.append(row)
                print(table.line(row), flush=True)
        if options.log:
            options.log.write_bytes((folder / "log").read_bytes())
    if options.write:
        table.write(rows)
    wrong = table.disagreements(rows)
    print("".join(f"{sentence}\n" for sentence in wrong), end="")
    return 1 if wrong else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.fork_safety", description="Tries libraries in real zygotes.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="distributions; all by default")
    parser.add_argument("--write", action="store_true", help="keep the results in matrix.json and docs/fork-safety.md")
    parser.add_argument("--python", type=Path, help="an interpreter that has the libraries, instead of an environment of our own")
    parser.add_argument("--log", type=Path, help="keep there what zygotes and workers have printed")
    return parser.parse_args()


def _cases() -> dict[str, Any]:
    sys.path.insert(0, str(APPLICATION))
    found: dict[str, Any] = import_module("stage").cases()
    return dict(sorted(found.items()))


def _environment() -> Path:
    """The interpreter of the environment, which is made or brought up to date."""
    python, stamp = HOME / "bin" / "python", HOME / "installed"
    if not stamp.exists() or stamp.read_text() != WANTED.read_text():
        venv.create(HOME, with_pip=True)
        words = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:", "-r", WANTED]
        subprocess.run(words, check=True)
        stamp.write_text(WANTED.read_text())
    return python


def _versions(python: Path, distributions: dict[str, str]) -> dict[str, str]:
    done = subprocess.run([python, "-c", VERSIONS, *distributions.values()], check=True, capture_output=True, text=True)
    return dict(zip(distributions, json.loads(done.stdout), strict=True))


if __name__ == "__main__":
    sys.exit(main())
