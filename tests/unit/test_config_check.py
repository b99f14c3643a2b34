"""The configuration and the disk: the file itself, the token, and what must exist."""

from __future__ import annotations

import os
import resource
import socket
from pathlib import Path

import pytest

from rocksyd.config import FEWEST_CLIENTS, check, everything, load, parse, read, token
from rocksyd.errors import ConfigError

needs_no_root = pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everything")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop").mkdir()
    return tmp_path


def write(folder: Path, *, top: str = "", app: str = "") -> str:
    path = folder / "rocksyd.toml"
    path.write_text(f'{top}\n[apps.shop]\npath = "shop"\njobs = ["shop.jobs"]\n{app}\n', encoding="utf-8")
    return str(path)


def refusal(path: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path)
    return str(caught.value)


def test_a_right_file(folder: Path) -> None:
    (folder / "python").write_text("#!/bin/sh\n")
    (folder / "python").chmod(0o700)
    path = write(folder, app='python = "python"')
    config = load(path)
    assert config.path == path
    assert config.apps["shop"].path == str(folder / "shop")
    assert token(config) is None
    # Nothing was made yet: checking changes nothing.
    assert sorted(os.listdir(folder)) == ["python", "rocksyd.toml", "shop"]


def test_symbolic_links_stay(folder: Path) -> None:
    write(folder)
    (folder / "current").symlink_to(folder)
    config = load(str(folder / "current" / "rocksyd.toml"))
    assert config.folder == str(folder / "current")
    assert config.apps["shop"].path == str(folder / "current" / "shop")


# --- the file -----------------------------------------------------------------------------------------------------------
def test_no_such_file(folder: Path) -> None:
    assert refusal(str(folder / "x.toml")) == f"{folder}/x.toml: no such file; name another with -c FILE"


def test_a_folder(folder: Path) -> None:
    assert refusal(str(folder)) == f"{folder}: is a folder; name a file in it"


def test_a_pipe_does_not_block(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    assert refusal(str(folder / "pipe")) == f"{folder}/pipe: is no regular file; name one"


def test_below_a_file(folder: Path) -> None:
    write(folder)
    assert "cannot be opened" in refusal(str(folder / "rocksyd.toml" / "x"))


def test_a_zero_byte_in_the_path() -> None:
    assert refusal("a\0b") == "'a\\x00b': cannot be opened (embedded null byte); correct the path"


@needs_no_root
def test_not_readable(folder: Path) -> None:
    path = write(folder)
    os.chmod(path, 0)
    assert refusal(path) == f"{path}: not readable by uid {os.geteuid()}; chown or chmod it, or run as its owner"


def test_not_utf8(folder: Path) -> None:
    path = folder / "rocksyd.toml"
    path.write_bytes(b"# one\n# two \xe9\n")
    assert refusal(str(path)).startswith(f"{path}:2: not UTF-8 (byte 0xe9); save the file in that encoding")


def test_the_text_can_be_kept_and_parsed_elsewhere(folder: Path) -> None:
    path = write(folder)
    text = read(path)
    os.unlink(path)
    assert parse(text, path).apps["shop"].jobs == ("shop.jobs",)


# --- what must exist ----------------------------------------------------------------------------------------------------
def test_every_error_with_its_line(folder: Path) -> None:
    (folder / "file").write_text("")
    path = write(
        folder,
        top='listen = [\n"unix://file/a.sock",\n"unix://file"]\nstate_dir = "file/var"\ntoken_file = "token"',
        app='python = "shop"\nuser = "no-such-user"\ngroup = "no-such-group"\n'
        '[apps.other]\npath = "x"\njobs = ["y"]\npython = "z"',
    )
    found = refusal(path).split("\n")
    assert [line.removeprefix(path + ":") for line in found] == [
        f"2: listen[0]: {folder}/file is no folder; remove it or name another path",
        f"3: listen[1]: {folder}/file exists and is no socket; remove it or name another path",
        f"4: state_dir: {folder}/file is no folder; remove it or name another path",
        f"5: token_file: {folder}/token: no such file; make it: (umask 077; head -c 24 /dev/urandom | base64) > {folder}/token",
        f"9: apps.shop.python: cannot be executed by uid {os.geteuid()}: {folder}/shop; "
        "name the interpreter itself, such as .venv/bin/python",
        '10: apps.shop.user: no such user: "no-such-user"; create it (useradd --system no-such-user) or correct the name',
        '11: apps.shop.group: no such group: "no-such-group"; create it (groupadd --system no-such-group) or correct the name',
        f"13: apps.other.path: no such folder: {folder}/x; create it or correct the path (it is relative to rocksyd.toml)",
        f"15: apps.other.python: no such file: {folder}/z; "
        "make the virtual environment (python3 -m venv ...) or correct the path",
    ]


def test_a_path_that_is_a_file(folder: Path) -> None:
    (folder / "shop").rmdir()
    (folder / "shop").write_text("")
    assert f"apps.shop.path: is no folder: {folder}/shop" in refusal(write(folder))


def test_an_old_socket_is_no_obstacle(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "a.sock"))
    assert check(load(write(folder, top='listen = ["unix://a.sock"]'))) == []


@needs_no_root
def test_folders_nobody_may_write_in(folder: Path) -> None:
    (folder / "locked").mkdir(mode=0o500)
    (folder / "shop").chmod(0)
    try:
        found = refusal(write(folder, top='state_dir = "locked/var"'))
    finally:
        (folder / "shop").chmod(0o700)
    me = f"uid {os.geteuid()}"
    assert f"state_dir: {me} may not write in {folder}/locked; chown it or name another path" in found
    assert f"apps.shop.path: not readable by {me}: {folder}/shop" in found


@needs_no_root
def test_what_is_behind_a_closed_door_is_not_called_missing(folder: Path) -> None:
    (folder / "shop" / "inner").mkdir()
    path = write(folder, app='[apps.other]\npath = "shop/inner"\njobs = ["x"]')
    (folder / "shop").chmod(0)
    try:
        found = refusal(path)
    finally:
        (folder / "shop").chmod(0o700)
    assert f"apps.other.path: out of reach for uid {os.geteuid()} (Permission denied): {folder}/shop/inner; create it" in found


@needs_no_root
def test_only_root_runs_jobs_as_others(folder: Path) -> None:
    found = refusal(write(folder, app='user = "root"\ngroup = "root"'))
    assert "apps.shop.user: only root may run jobs as another user" in found
    assert "apps.shop.group: only root may run jobs in a group that is not its own" in found


# --- the token ----------------------------------------------------------------------------------------------------------
def token_refusal(folder: Path, content: bytes, mode: int = 0o600) -> str:
    (folder / "token").write_bytes(content)
    (folder / "token").chmod(mode)
    config = parse(read(write(folder, top='token_file = "token"')), str(folder / "rocksyd.toml"))
    with pytest.raises(ConfigError) as caught:
        token(config)
    assert check(config) == [f"{folder}/rocksyd.toml:1: token_file: {caught.value}"]
    return str(caught.value)


def test_the_token(folder: Path) -> None:
    (folder / "token").write_text(" s3cret \n")
    (folder / "token").chmod(0o600)
    assert token(load(write(folder, top='token_file = "token"\nlisten = ["tcp://0.0.0.0:1"]'))) == "s3cret"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o622])
def test_a_token_that_others_may_read(folder: Path, mode: int) -> None:
    expected = f"its group or others have access to it (mode {mode:04o}); chmod 600 {folder}/token"
    assert expected in token_refusal(folder, b"s3cret", mode)


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "empty"),
        (b" \n\n", "empty"),
        (b"a\nb", "more than one line"),
        (b"\xff", "not UTF-8"),
        (b"a" * 5000, "larger than 4096 bytes"),
    ],
)
def test_a_token_that_is_none(folder: Path, content: bytes, cause: str) -> None:
    assert cause in token_refusal(folder, content)


# --- services and open files --------------------------------------------------------------------------------------------
def connections_refused(folder: Path, monkeypatch: pytest.MonkeyPatch, files: int, app: str) -> list[str]:
    """What is wrong with ``max_connections`` where so many files may be open."""
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (256, files))
    return [line for line in everything(write(folder, app=app))[1] if "max_connections" in line]


SERVICES = """[apps.shop.services.chat]
max_connections = 3000
[apps.shop.services.feed]
max_connections = 1000
"""


def test_services_may_have_as_many_connections_as_files_may_be_open(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = load(write(folder, app=SERVICES)).other_files + FEWEST_CLIENTS + 4000
    assert connections_refused(folder, monkeypatch, needed, SERVICES) == []
    assert connections_refused(folder, monkeypatch, resource.RLIM_INFINITY, SERVICES) == []
    chat, feed = connections_refused(folder, monkeypatch, needed - 1, SERVICES)
    assert chat == (
        f"{folder}/rocksyd.toml:6: apps.shop.services.chat.max_connections: 3000 connections, 4000 of all services, and "
        f"{needed - 1} files may be open here: a connection is a descriptor in its worker, in the master and in the keeper, and "
        f"these need {needed - 4000} for other things; lower it, so that all services have at most 3999, or raise LimitNOFILE= "
        "or ulimit -Hn"
    )
    assert feed.startswith(f"{folder}/rocksyd.toml:8: apps.shop.services.feed.max_connections: 1000 connections, 4000 of all ")


def test_the_limit_of_their_own_pool_holds_for_them(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = "[apps.shop.pools.chat]\nrlimits = { nofile = %s }\n"
    assert connections_refused(folder, monkeypatch, 20000, SERVICES + pool % 3064) == []
    assert connections_refused(folder, monkeypatch, 20000, SERVICES + pool % '"unlimited"') == []
    (chat,) = connections_refused(folder, monkeypatch, 20000, SERVICES + pool % 3063)
    assert chat == (
        f"{folder}/rocksyd.toml:6: apps.shop.services.chat.max_connections: 3000 connections, and its worker may open 3063 files "
        "(rlimits.nofile of its pool), of which 64 are for other things; lower it to 2999, or set nofile to 3064"
    )
