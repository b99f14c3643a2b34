"""A project's configuration for a test: the same applications, somewhere else."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocksyd import config as configuration
from rocksyd.errors import ConfigError
from rocksyd.testing.project import for_tests, toml

SCALARS = st.text() | st.integers(-(2**62), 2**62) | st.booleans() | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3), max_leaves=5)
TABLES = st.recursive(
    st.dictionaries(st.text(), VALUES, max_size=4),
    lambda inner: st.dictionaries(st.text(), inner | VALUES | st.lists(inner, max_size=2), max_size=4),
    max_leaves=8,
)


@given(TABLES)
def test_what_is_written_is_read_the_same(table: dict[str, object]) -> None:
    try:
        text = toml(table)
        text.encode()
    except UnicodeEncodeError:
        return  # a lone surrogate is in no file
    assert tomllib.loads(text) == table


def test_applications_stay_and_sockets_and_state_are_temporary(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "rocksyd.toml").write_text(
        'listen = ["tcp://127.0.0.1:31337", "unix:///run/x.sock"]\nstate_dir = "/var/lib/x"\ntoken_file = "token"\n'
        '[apps.shop]\npath = "src"\npython = "../venv/bin/python"\njobs = ["a.b"]\nenv = { A = "ä\\n" }\n'
        '[apps.shop.pool]\nmax_workers = 3\n[apps.shop.jobs_settings."a:b.c"]\ntimeout = "5m"\n'
    )
    target = tmp_path / "elsewhere" / "rocksyd.toml"
    found = configuration.parse(for_tests(folder / "rocksyd.toml"), str(target))
    assert [str(address) for address in found.listen] == [f"unix://{tmp_path}/elsewhere/d.sock"]
    assert found.state_dir == f"{tmp_path}/elsewhere/var"
    app = found.apps["shop"]
    assert (app.path, app.python) == (f"{folder}/src", f"{tmp_path}/venv/bin/python")
    assert (app.env, app.pool.max_workers, app.jobs_settings["a:b.c"]["timeout"]) == ({"A": "ä\n"}, 3, 300.0)


def test_what_cannot_be_read_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        for_tests(tmp_path / "rocksyd.toml")
    (tmp_path / "rocksyd.toml").write_text("[")
    with pytest.raises(ConfigError, match="not valid TOML"):
        for_tests(tmp_path / "rocksyd.toml")
