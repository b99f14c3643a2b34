"""What `rocksyd serve` says in a terminal before it becomes the daemon: where it listens, what it loads, what to type next.

What must live here: the words, and a guess at the name of a job that can be tried.
What this file must not know: whether the application can be loaded; the log will say.
"""

from __future__ import annotations

import ast
import os
import shlex
import shutil
import sys

from rocksyd import __version__
from rocksyd.cli.output import clean
from rocksyd.config import AppConfig, Config


def banner(loaded: Config) -> str:
    """The text, for a person at a terminal."""
    rows = [("configuration", loaded.path), *(("listens at", str(address)) for address in loaded.listen)]
    rows += [
        ("pages at", text) for name in ("gateway",) if name in loaded.companions for text, _ in loaded.companions[name].listen
    ]
    for name, app in loaded.apps.items():
        rows.append(("application", f"{name} in {app.path}, at most {app.pool.max_workers} workers ({app.pool.pm})"))
        rows += [("pool", f"{app.name}/{pool}, at most {p.max_workers} workers ({p.pm})") for pool, p in app.pools.items()]
    lines = [f"rocksyd {__version__}", ""]
    previous = ""
    for title, value in rows:
        lines.append(f"  {title if title != previous else '':<13}  {clean(value)}")
        previous = title
    lines += ["", "It is ready when the log below says that it serves. Then, in another terminal:", ""]
    lines += [f"  {command:<{_WIDTH}}  {what}".rstrip() for command, what in _commands(loaded)]
    return "\n".join(lines) + "\n\n"


_WIDTH = 34


def _commands(loaded: Config) -> list[tuple[str, str]]:
    folder = os.path.dirname(os.path.abspath(sys.argv[0]))
    found = [] if shutil.which("rocksyd") else [(f"PATH={shlex.quote(folder)}:$PATH", "")]
    job = next((name for app in loaded.apps.values() if (name := _some_job(app))), "NAME")
    return [
        (f"cd {shlex.quote(loaded.folder)}", ""),
        *found,
        (f"rocksyd run {job} --wait", "a job, in a fork of what is loaded"),
        ("rocksyd ps -a", "what runs, waits and has ended"),
        ("rocksyd restart", "new code; nobody notices"),
        ("rocksyd stats", "numbers, and what restarts cost"),
        ("rocksyd stop", "or Ctrl-C here"),
    ]


def _some_job(app: AppConfig) -> str:
    """A job that needs no arguments, found by reading the modules named in ``jobs`` without running them; "" for none."""
    for module in app.jobs:
        path = os.path.join(app.path, *module.split("."))
        for candidate in (f"{path}.py", os.path.join(path, "__init__.py")):
            try:
                with open(candidate, "rb") as file:
                    tree = ast.parse(file.read())
            except (OSError, SyntaxError, ValueError):
                continue
            for node in tree.body:
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _is_job(node) and not _needs_arguments(node):
                    return node.name
    return ""


def _is_job(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    for decorator in node.decorator_list:
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        if (isinstance(called, ast.Name) and called.id == "job") or (isinstance(called, ast.Attribute) and called.attr == "job"):
            return True
    return False


def _needs_arguments(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    given = node.args
    positional = len(given.posonlyargs) + len(given.args) > len(given.defaults)
    return positional or any(default is None for default in given.kw_defaults)
