"""The example application keeps what an application must keep to be preloaded and forked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

pytest.importorskip("django", reason="the extra `examples` is not installed")

SHOP = Path(__file__).parents[2] / "examples" / "shop"

_PRELOAD = """
import importlib, json, os, sys
sys.modules["rocksyd"] = None           # an import of it fails, as in the application's own virtual environment
sys.path.insert(0, os.getcwd())
for name in sys.argv[1:]:
    module, _, function = name.partition(":")
    loaded = importlib.import_module(module)
    if function:
        getattr(loaded, function)()
targets = []
for fd in os.listdir("/proc/self/fd"):
    try:
        targets.append(os.readlink(f"/proc/self/fd/{fd}"))
    except FileNotFoundError:
        pass
print(json.dumps({"threads": len(os.listdir("/proc/self/task")), "open": targets}))
"""


def environment(var: Path) -> dict[str, str]:
    return {**os.environ, "SHOP_VAR": str(var), "DJANGO_SETTINGS_MODULE": "shop.settings"}


def test_the_preload_needs_no_rocksyd_and_leaves_neither_threads_nor_sockets(tmp_path: Path) -> None:
    app = tomllib.loads((SHOP / "rocksyd.toml").read_text())["apps"]["shop"]
    command = [sys.executable, "-c", _PRELOAD, *app["preload"], app["smoke"]]
    done = subprocess.run(
        command, cwd=SHOP, env=environment(tmp_path), check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    )
    left = json.loads(done.stdout)
    assert left["threads"] == 1
    assert not [target for target in left["open"] if target.startswith("socket:") or "sqlite" in target]


def test_the_shops_own_tests_pass_cold(tmp_path: Path) -> None:
    command = [sys.executable, "manage.py", "test", "--noinput"]
    done = subprocess.run(command, cwd=SHOP, env=environment(tmp_path), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_shops_tests_with_rocksyds_fixtures_pass(tmp_path: Path) -> None:
    words = ["-m", "pytest", "-q", "-p", "rocksyd.testing.plugin", "-p", "no:cacheprovider", "--basetemp", str(tmp_path / "base")]
    clean = {name: value for name, value in environment(tmp_path).items() if not name.startswith("PYTEST_")}
    clean["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    done = subprocess.run([sys.executable, *words], cwd=SHOP, env=clean, capture_output=True, text=True, check=False)
    assert "4 passed" in done.stdout, done.stdout + done.stderr


def test_the_migrations_are_complete(tmp_path: Path) -> None:
    for command in (["migrate", "--verbosity", "0"], ["makemigrations", "--check", "--dry-run"]):
        done = subprocess.run(
            [sys.executable, "manage.py", *command],
            cwd=SHOP,
            env=environment(tmp_path),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
