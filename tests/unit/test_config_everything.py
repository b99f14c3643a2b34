"""All that is wrong with a configuration is said in one go, and modules that are not there are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from rocksyd import config
from rocksyd.config import AppConfig, PoolConfig
from rocksyd.config.modules import missing


def test_what_is_wrong_in_the_text_and_on_the_disk_is_said_together(tmp_path: Path) -> None:
    path = tmp_path / "rocksyd.toml"
    path.write_text(
        'max_line = "nonsense"\nlisten = ["unix:///dev/null/x/sock"]\nstate_dir = "/dev/null/y"\ntoken_file = "gone"\n'
        '[apps.shop]\npath = "nowhere"\njobs = ["jobs"]\ncolour = "red"\n[apps.other]\njobs = 5\n'
        '[apps.third]\npath = "."\njobs = ["jbos"]\npython = "gone"\n'
    )
    _, errors = config.everything(str(path))
    said = "\n".join(errors)
    for words in ("max_line: ", "listen[0]", "state_dir: ", "token_file: ", "apps.shop.path: no such folder",
                  "apps.shop.colour: ",
                  "apps.other: path is missing", "apps.other.jobs: ", "apps.third.python: no such file"):  # fmt: skip
        assert words in said, words
    assert len({error.partition(": ")[2].partition(": ")[0] for error in errors}) == len(errors), "a key is complained of twice"


@pytest.fixture
def app(tmp_path: Path) -> AppConfig:
    for name in ("shop/__init__.py", "shop/jobs.py", "shop/inner/__init__.py", "space/part.py", "single.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text("raise SystemExit('nothing may be imported')\n")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "__init__.py").write_text("__path__ = []\n")
    return AppConfig(name="a", path=str(tmp_path), jobs=(), allow=(), pool=PoolConfig())


@pytest.mark.parametrize(
    "name",
    ["shop", "shop.jobs", "shop.inner", "single", "space.part", "space.elsewhere", "odd.anything", "json", "json.decoder",
     "rocksyd", "rocksyd.contrib.django", "os.path", "django"],
)  # fmt: skip
def test_a_module_that_is_there_or_may_be_is_not_missing(app: AppConfig, name: str) -> None:
    assert missing(app, name) == ""


@pytest.mark.parametrize(
    ("name", "words"),
    [("shop.job", "no module 'job' in the package 'shop'"), ("shop.inner.deep", "no module 'deep' in the package 'inner'"),
     ("shpo.jobs", "no module 'shpo' in "), ("singel", "no module 'singel' in ")],
)  # fmt: skip
def test_a_module_that_is_not_there_is_named(app: AppConfig, name: str, words: str) -> None:
    assert words in missing(app, name)


def test_nothing_is_said_of_what_cannot_be_known(app: AppConfig) -> None:
    from dataclasses import replace

    assert missing(replace(app, python="/srv/.venv/bin/python"), "shpo") == ""
    assert missing(replace(app, env={"PYTHONPATH": "/srv"}), "shpo") == ""
    assert missing(replace(app, path="/no/such/folder"), "shpo") == ""
