"""Scripts in files of their own, ``scripts.d/*.toml``: one configuration, and each mistake said with its file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocksyd import config
from rocksyd.cli.commands import run_command
from rocksyd.config import files
from rocksyd.config.files import Part, kept, unkept
from rocksyd.errors import ConfigError

MAIN = '[apps.shop]\npath = "shop"\njobs = ["shop.jobs"]\n'
NIGHTLY = '[scripts.nightly]\ntarget = "nightly"\ncron = "0 3 * * *"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop" / "shop").mkdir(parents=True)
    (tmp_path / "shop" / "shop" / "jobs.py").touch()
    (tmp_path / "rocksyd.toml").write_text(MAIN)
    (tmp_path / "scripts.d").mkdir()
    return tmp_path


def put(folder: Path, **parts: str) -> str:
    for name, text in parts.items():
        (folder / "scripts.d" / f"{name}.toml").write_text(text)
    return str(folder / "rocksyd.toml")


def errors(path: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    return str(caught.value).splitlines()


def test_scripts_of_all_files_are_the_configurations(folder: Path) -> None:
    path = put(folder, b='scripts.two = { target = "t" }\n', a=f"\ufeff{NIGHTLY}", empty="")
    for name in (".hidden.toml", "a.toml~", "notes.md"):
        (folder / "scripts.d" / name).write_text("this is no TOML")
    (folder / "rocksyd.toml").write_text(f'{MAIN}[scripts.own]\ntarget = "t"\n')
    loaded = config.load(path)
    assert list(loaded.scripts) == ["own", "nightly", "two"], "the main file's first, then by the names of the files"
    assert set(loaded.companions["scheduler"].settings["scripts"]) == {"own", "nightly", "two"}, "the scheduler is told all"
    assert str(loaded.places["scripts", "nightly", "cron"]) == f"{folder}/scripts.d/a.toml:3"


def test_consumers_may_stand_in_any_file_and_be_written_as_scripts(folder: Path) -> None:
    mail = 'target = "shop.jobs:mail"\ndepth = "shop.queues:mail"\nmax = 4\n'
    path = put(folder, a=f"[consumers.mail]\n{mail}", b=f"[scripts.letters]\n{mail}{NIGHTLY}")
    loaded = config.load(path)
    assert {name: (one.depth, one.max) for name, one in loaded.consumers.items()} == {
        "letters": ("shop.queues:mail", 4), "mail": ("shop.queues:mail", 4),
    }  # fmt: skip
    assert list(loaded.scripts) == ["nightly"]
    assert loaded.companions["scheduler"].settings["consumers"].keys() == {"letters", "mail"}
    put(folder, b=f"[scripts.mail]\n{mail}cron = '0 3 * * *'\n")
    place = f"{folder}/scripts.d/b.toml"
    assert [error.split(": ")[:3] for error in errors(path)] == [
        [f"{folder}/scripts.d/a.toml:1", "consumers.mail", "there is a script of that name, [scripts.mail]; "
         "choose another name for one of the two"],
        [f"{place}:5", "scripts.mail.cron", "unknown key; known here"],
    ]  # fmt: skip
    put(folder, b="[consumers.mail]\n" + mail)
    assert errors(path) == [
        f"{place}:1: consumers.mail: the same name as at {folder}/scripts.d/a.toml:1; rename or remove one of the two"
    ]


def test_many_thousands_of_scripts_are_read_at_a_cost_that_grows_with_their_number(folder: Path) -> None:
    """Counted, not timed: what each file's places are looked at."""
    number = 2000
    path = put(folder, a="".join(f'[scripts.s{one}]\ntarget = "t"\n' for one in range(number)), b=NIGHTLY)
    looked = 0

    class Places(dict[tuple[str | int, ...], object]):
        def items(self):  # type: ignore[no-untyped-def]
            nonlocal looked
            looked += len(self)
            return super().items()

    document: dict[str, object] = {"scripts": {}}
    there = Places({("scripts", f"s{one}"): one for one in range(number)})
    files._add(document, {}, files.Problems(path, {}), {"scripts": {f"s{one}": {} for one in range(number)}}, there)  # type: ignore[arg-type]
    assert looked == number
    assert len(config.load(path).scripts) == number + 1


def test_a_folder_that_is_not_there_is_none(folder: Path) -> None:
    (folder / "scripts.d").rmdir()
    assert config.load(str(folder / "rocksyd.toml")).scripts == {}


def test_the_same_name_twice_is_said_with_both_places(folder: Path) -> None:
    path = put(folder, a=NIGHTLY, b=f"\n\n{NIGHTLY}")
    assert errors(path) == [
        f"{folder}/scripts.d/b.toml:3: scripts.nightly: the same name as at {folder}/scripts.d/a.toml:1; "
        "rename or remove one of the two"
    ]
    (folder / "rocksyd.toml").write_text(MAIN + NIGHTLY)
    assert [error.partition(": ")[0] for error in errors(path)] == [
        f"{folder}/scripts.d/{file}" for file in ("a.toml:1", "b.toml:3")
    ]
    assert all(f"at {folder}/rocksyd.toml:4;" in error for error in errors(path))


def test_what_is_wrong_is_said_with_its_file_line_and_key_in_the_order_of_the_files(folder: Path) -> None:
    path = put(
        folder, b='[scripts.b]\ntarget = "t"\n\nevry = "5m"\n', a='max_line = "1M"\n[scripts.a]\ncron = 5\n', c="scripts = 1\n"
    )
    (folder / "rocksyd.toml").write_text(f'colour = "red"\n{MAIN}')
    assert [error.split(": ")[:2] for error in errors(path)] == [
        [f"{folder}/rocksyd.toml:1", "colour"],
        [f"{folder}/scripts.d/a.toml:1", "max_line"],
        [f"{folder}/scripts.d/a.toml:2", "scripts.a"],
        [f"{folder}/scripts.d/a.toml:3", "scripts.a.cron"],
        [f"{folder}/scripts.d/b.toml:4", "scripts.b.evry"],
        [f"{folder}/scripts.d/c.toml:1", "scripts"],
    ]
    assert errors(path)[1].endswith(
        "a file of scripts.d has tables [scripts.NAME] and [consumers.NAME] and nothing else; move max_line to rocksyd.toml"
    )


def test_every_file_that_is_not_toml_is_named(folder: Path) -> None:
    path = put(folder, a="[scripts.a\n", b=NIGHTLY, c="[scripts.c]\ntarget = t\n")
    assert [error.partition(" not valid")[0] for error in errors(path)] == [
        f"{folder}/scripts.d/a.toml:1:11:", f"{folder}/scripts.d/c.toml:2:10:",
    ]  # fmt: skip


def test_what_cannot_be_read_is_said(folder: Path) -> None:
    path = put(folder)
    (folder / "scripts.d" / "a.toml").symlink_to("nowhere")
    assert errors(path) == [
        f"{folder}/scripts.d/a.toml: no such file; a link to nothing, or removed just now: remove the link, or try again"
    ]
    (folder / "scripts.d" / "a.toml").unlink()
    (folder / "scripts.d" / "a.toml").write_bytes(b"#\n# \xff\n")
    assert errors(path)[0].startswith(f"{folder}/scripts.d/a.toml:2: not UTF-8")
    os.rename(folder / "scripts.d", folder / "elsewhere")
    (folder / "scripts.d").touch()
    assert errors(path) == [f"{folder}/scripts.d: is no folder; it is the one for files of scripts: rename this file"]


def test_check_config_reads_them(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = put(folder, a=NIGHTLY)
    assert run_command(["check-config", "-c", path]) == 0
    assert "  script nightly: every day at 03:00 " in capsys.readouterr().out
    put(folder, a=f'{NIGHTLY}timezone = "Europe/Nowhere"\n', b='[scripts.b]\ntarget = "t"\ncron = "61 * * * *"\n')
    assert run_command(["check-config", "-c", path]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(f"{folder}/scripts.d/a.toml:4: scripts.nightly.timezone: there is no time zone 'Europe/Nowhere'")
    assert said[1].startswith(f"{folder}/scripts.d/b.toml:3: scripts.b.cron: the minute is '61'")


texts = st.text(st.characters(exclude_categories=["Cs"]))


@given(texts, st.lists(st.tuples(texts, texts.map(lambda text: text.removeprefix("\ufeff")))))
def test_the_text_that_is_kept_of_all_files_is_taken_apart_as_it_was(text: str, others: list[tuple[str, str]]) -> None:
    parts = tuple(Part(name, content) for name, content in others)
    assert unkept(kept(text, parts)) == (text, parts)
    assert unkept(kept(kept(text, parts), parts)) == (kept(text, parts), parts), "whatever stands in it"


def test_the_text_that_is_kept_is_the_same_configuration_here_and_for_a_version_that_knows_one_file(folder: Path) -> None:
    path = put(folder, a=f"\ufeff{NIGHTLY}", b='[scripts.b]\ntarget = "t"\n')
    text, loaded = config.read_checked(path)
    assert config.parse_kept(text, path) == loaded
    assert config.parse(text, path) == loaded
    assert config.parse_kept(MAIN + NIGHTLY, path) == config.parse(MAIN + NIGHTLY, path), "kept by a version that knew one file"
