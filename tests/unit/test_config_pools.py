"""What ``rocksyd.toml`` says of pools: several of one application, and whom each is for."""

from __future__ import annotations

import pytest

from rocksyd.config import PoolConfig, parse
from rocksyd.errors import ConfigError

APP = '[apps.shop]\npath = "shop"\njobs = ["shop.jobs"]\n'
FILE = "/srv/rocksyd.toml"


def problem(text: str) -> str:
    """The one error of ``text``, without the file's name."""
    with pytest.raises(ConfigError) as caught:
        parse(text, FILE)
    (line,) = str(caught.value).split("\n")
    return line.removeprefix(FILE + ":")


def test_an_application_has_its_own_pool_and_as_many_more_as_are_named() -> None:
    shop = parse(APP + "[apps.shop.pools.slow]\nmax_workers = 2\n[apps.shop.pools.wide]\nmax_workers = 64", FILE).apps["shop"]
    assert shop.every_pool() == {
        "shop": PoolConfig(),
        "shop/slow": PoolConfig(max_workers=2),
        "shop/wide": PoolConfig(max_workers=64),
    }


def test_a_target_chooses_a_pool() -> None:
    text = APP + '[apps.shop.pools.slow]\n[apps.shop.jobs_settings.nightly]\npool = "slow"'
    assert parse(text, FILE).apps["shop"].jobs_settings["nightly"].pool == "slow"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "[apps.shop.jobs_settings.nightly]\npool = 'slow'",
            "5: apps.shop.jobs_settings.nightly.pool: there is no pool 'slow' (it has only its own); add [apps.shop.pools.slow]",
        ),
        (
            "[apps.shop.pools.slow]\n[apps.shop.jobs_settings.nightly]\npool = 'slwo'",
            "6: apps.shop.jobs_settings.nightly.pool: there is no pool 'slwo' (there are: slow)",
        ),
        ("[apps.shop.pools.'a b']", '4: apps.shop.pools."a b": expected a pool\'s name of at most 64 letters'),
        ("[apps.shop.pools.slow]\nmax_wokers = 1", "5: apps.shop.pools.slow.max_wokers: unknown key; did you mean max_workers?"),
        ("[apps.shop.pools]\nmax_workers = 1", "5: apps.shop.pools.max_workers: expected a table such as"),
    ],
)
def test_one_sentence_for_each_mistake(text: str, sentence: str) -> None:
    assert problem(APP + text).startswith(sentence)
