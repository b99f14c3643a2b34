"""What `rocksyd.toml` may say of companions, and what is said of it when it is wrong."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rocksyd import config
from rocksyd.config import Address
from rocksyd.errors import ConfigError

APP = '\n[apps.app]\npath = "."\njobs = ["jobs"]\n'
METRICS = '[metrics]\nlisten = ["http://127.0.0.1:9180", "http://[::1]:9180"]\n'


def read(text: str) -> config.Config:
    return config.parse(text + APP, "/srv/shop/rocksyd.toml")


def test_there_are_none_that_are_not_configured() -> None:
    assert read("").companions == {}


def test_one_that_is_built_in_and_one_of_a_users_own_are_the_same_to_the_master() -> None:
    own = """
[companions.bell]
target = "tower.bell:serve"
path = "tower"
python = "tower/.venv/bin/python"
listen = ["unix://run/bell.sock", "https://localhost:0"]
namespace = "bell"
ready_timeout = "5s"
grace = "1s"
env = { TONE = "high" }
settings = { tone = ["high", 1, 2.5, true], more = { a = {} } }
"""
    metrics, bell = read(METRICS + own).companions.values()
    assert (metrics.name, metrics.target, metrics.namespace) == ("metrics", "rocksyd.companions.metrics:serve", "")
    assert metrics.listen[1] == ("http://[::1]:9180", Address("tcp", host="::1", port=9180))
    assert (metrics.ready_timeout, metrics.grace, metrics.path, metrics.python) == (30.0, 10.0, "", "")
    assert (bell.path, bell.python) == ("/srv/shop/tower", "/srv/shop/tower/.venv/bin/python")
    assert [text for text, _ in bell.listen] == ["unix:///srv/shop/run/bell.sock", "https://localhost:0"]
    assert (bell.namespace, bell.ready_timeout, bell.grace, bell.env) == ("bell", 5.0, 1.0, {"TONE": "high"})
    assert bell.settings == {"tone": ["high", 1, 2.5, True], "more": {"a": {}}}


WRONG = {
    "[metrics]": 'metrics: listen is missing; add listen = ["http://127.0.0.1:9180"]',
    '[metrics]\nlisten = ["tcp://127.0.0.1:1"]': 'metrics.listen[0]: expected an address such as "http://127.0.0.1:9180"',
    '[metrics]\nlisten = ["http://127.0.0.1:99999"]': "metrics.listen[0]: expected a port from 0 to 65535",
    f'{METRICS}target = "a:b"': "metrics.target: unknown key",
    f"{METRICS}[companions.metrics]": "companions.metrics: metrics is built in: its table is [metrics]",
    "[companions.a]": 'companions.a: target is missing; add target = "module:callable"',
    '[companions."a b"]\ntarget = "a:b"': 'companions."a b": expected a companion\'s name',
    '[companions.a]\ntarget = "a"': 'companions.a.target: expected a callable such as "shop.smoke:check"',
    '[companions.a]\ntarget = "a:b"\nnamespace = "run"': "companions.a.namespace: run is the protocol's own",
    '[companions.a]\ntarget = "a:b"\nnamespace = "A.b"': "companions.a.namespace: expected small letters",
    '[companions.a]\ntarget = "a:b"\nnamespace = "x"\n[companions.b]\ntarget = "a:b"\nnamespace = "x"': (
        "companions.b.namespace: the companion a has that namespace"
    ),
    '[companions.a]\ntarget = "a:b"\nlisten = ["http://h:1", "http://h:1"]': "companions.a.listen: the same address twice",
    '[companions.a]\ntarget = "a:b"\nsettings = { d = [2020-01-01] }': "companions.a.settings: expected strings",
    '[companions.a]\ntarget = "a:b"\nready_timeout = 0': "companions.a.ready_timeout: expected a duration above zero",
    "metrics = 5": "metrics: expected a table such as [metrics], got 5",
    "companions = 5": "companions: expected a table such as [companions], got 5",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_is_named_with_its_key_and_the_cure(text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(text)
    assert WRONG[text] in str(refused.value)


def test_check_config_says_what_is_to_be_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    loaded = read(METRICS)
    assert config.not_installed(loaded) == []
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "prometheus_client", raising=False)
    monkeypatch.setattr(sys, "path_importer_cache", {})
    assert config.not_installed(loaded) == [
        "/srv/shop/rocksyd.toml:1: metrics: prometheus_client is not installed: pip install rocksyd[metrics]"
    ]
