"""Django's commands do the same with a fresh Python and in a warm worker: output, exit status, what is in the database."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rocksyd.testing import Daemon
from tests.exec.stage import CLIENT, POOL, environment, launcher

pytest.importorskip("django")

SHOP = Path(__file__).parents[2] / "examples" / "shop"
CONFIG = f"""\
listen = ["unix://d.sock"]
state_dir = "var"
[apps.shop]
path = "shop"
preload = ["django:setup", "shop.urls", "shop.warm:management"]
allow = ["shop.checks:*"]
env = {{ DJANGO_SETTINGS_MODULE = "shop.settings" }}
[apps.shop.pool]
{POOL}
"""
COMMANDS = (
    "check",
    "migrate",
    "makemigrations --check --dry-run",
    "seed",
    "dumpdata catalogue.product",
    "shell -c 'from catalogue.models import Product; print(Product.objects.count()); raise SystemExit(5)'",
    "shell < statements.py",
    "test catalogue --noinput",
    "no_such_command",
)


def _seen(python: str, folder: Path, daemon: Daemon) -> list[tuple[str, int, str]]:
    """What each command shows, and in the end what is left of everything."""
    found = []
    for command in COMMANDS:
        ended = subprocess.run(
            ["bash", "-c", f"{python} manage.py {command}"], cwd=folder, env=environment(daemon), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        text = re.sub(r"in \d+\.\d+s|0x[0-9a-f]+|\d{4}-\d\d-\d\d[ T][\d:.+Z]+", "<time>", ended.stdout + ended.stderr)
        found.append((command, ended.returncode, text))
    return found


@pytest.mark.long
def test_django_commands_do_the_same_cold_and_warm(tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    shutil.copytree(SHOP, shop, ignore=shutil.ignore_patterns("var", "*.sqlite3", "__pycache__"))
    (shop / "var").mkdir()
    (shop / "statements.py").write_text("from catalogue.models import Product\nprint(Product.objects.exists(), __name__)\n1/0\n")
    with Daemon(tmp_path, config=CONFIG) as daemon:
        cold = _seen(sys.executable, shop, daemon)
        for path in (shop / "var").iterdir():
            path.unlink()
        warm = _seen(launcher(tmp_path) or CLIENT, shop, daemon)
    different = [f"cold: {one}\nwarm: {other}" for one, other in zip(cold, warm, strict=True) if one != other]
    assert not different, "\n".join(different)
    assert [status for _, status, _ in cold] == [0, 0, 0, 0, 0, 5, 1, 0, 1]
