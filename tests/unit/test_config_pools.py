"""What ``rocksyd.toml`` says of pools: several of one application, and whom each is for."""

from __future__ import annotations

import pytest

from rocksyd.config import EmergencyRestart, PoolConfig, parse
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


def test_runs_may_share_a_worker_that_stays_and_is_no_template() -> None:
    pool = "[apps.shop.pools.io]\nconcurrency = 100\n"
    assert parse(APP + pool + "max_jobs = 0", FILE).apps["shop"].pools["io"].concurrency == 100
    fresh = "5: apps.shop.pools.io.concurrency: max_jobs is 1 (every job has a fresh process), so nothing is shared;"
    assert problem(APP + pool).startswith(fresh)
    forked = "7: apps.shop.pools.io.refork_after: concurrency is 100, and a worker with an asyncio loop is not forked from;"
    assert problem(APP + pool + "max_jobs = 0\nrefork_after = 50").startswith(forked)


def test_a_target_chooses_a_pool() -> None:
    text = APP + '[apps.shop.pools.slow]\n[apps.shop.jobs_settings.nightly]\npool = "slow"'
    assert parse(text, FILE).apps["shop"].jobs_settings["nightly"] == {"pool": "slow"}


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


# --- lives and surroundings of workers ------------------------------------------------------------------------------------
def pool(text: str, app: str = "") -> PoolConfig:
    return parse(f"{APP}{app}\n[apps.shop.pool]\n{text}", FILE).apps["shop"].pool


def test_all_that_can_be_said_of_lives_and_surroundings() -> None:
    text = """
        max_jobs = 500
        max_jobs_jitter = "10%"
        max_age = "1h"
        max_age_jitter = "5m"
        recycle = 2
        park_after = 0
        user = "nobody"
        group = "nogroup"
        umask = "077"
        nice = 5
        cpu_affinity = [3, 1, 1]
        rlimits = { nofile = 1024, as = "2G", core = "unlimited" }
        oom_score_adj = -5
        env = { MODE = "slow" }
        """
    found = pool(text)
    assert (found.max_jobs_jitter, found.max_age, found.max_age_jitter, found.recycle, found.park_after) == (
        50,
        3600.0,
        300.0,
        2,
        0,
    )
    assert (found.user, found.group, found.umask, found.nice, found.cpu_affinity) == ("nobody", "nogroup", 0o077, 5, (1, 3))
    assert found.rlimits == {"nofile": 1024, "as": 2 * 1024**3, "core": "unlimited"}
    assert (found.oom_score_adj, found.env) == (-5, {"MODE": "slow"})


def test_jitter_is_a_fifth_where_nothing_is_said() -> None:
    found = pool('max_jobs = 500\nmax_age = "100s"')
    assert (found.max_jobs_jitter, found.max_age_jitter) == (100, 20.0)
    assert pool("max_jobs = 1").max_jobs_jitter == 0
    assert pool("max_jobs = 50\nmax_jobs_jitter = 3").max_jobs_jitter == 3


def test_an_emergency_restart_is_off_where_it_is_not_set() -> None:
    assert parse(APP, FILE).apps["shop"].emergency_restart == EmergencyRestart(0, 60.0)
    text = APP + 'emergency_restart = { workers = 10, within = "2m" }'
    assert parse(text, FILE).apps["shop"].emergency_restart == EmergencyRestart(10, 120.0)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            'max_jobs = 9\nmax_jobs_jitter = "20 %"',
            '6: apps.shop.pool.max_jobs_jitter: expected a percentage such as "20%", got "20 %"',
        ),
        (
            "max_jobs = 9\nmax_jobs_jitter = -1",
            "6: apps.shop.pool.max_jobs_jitter: expected a whole number from 0 to 1000000000, got -1; a percentage such as",
        ),
        ('max_age_jitter = "20%"', "5: apps.shop.pool.max_age_jitter: max_age is not set"),
        ("recycle = 2", "5: apps.shop.pool.recycle: max_jobs is 1 (every job has a fresh process), so nobody is replaced"),
        ("nice = 20", "5: apps.shop.pool.nice: expected a whole number from -20 to 19, got 20"),
        ("rlimits = { nfile = 1 }", "5: apps.shop.pool.rlimits.nfile: there is no such limit; known: as, core"),
        ("rlimits = { as = '1MB' }", '5: apps.shop.pool.rlimits.as: expected a number, a size such as "512M" or'),
        ("cpu_affinity = [-1]", "5: apps.shop.pool.cpu_affinity[0]: expected a whole number"),
    ],
)
def test_one_sentence_for_each_mistake_about_lives_and_surroundings(text: str, sentence: str) -> None:
    assert problem(f"{APP}[apps.shop.pool]\n{text}").startswith(sentence)


def test_an_application_with_a_user_of_its_own_cannot_become_another_in_a_pool() -> None:
    text = APP + 'user = "www"\n[apps.shop.pools.slow]\nuser = "batch"'
    assert problem(text).startswith(
        '6: apps.shop.pools.slow.user: user = "batch" for this pool, but the application itself runs as www'
    )


def test_an_emergency_restart_says_how_many_workers() -> None:
    text = APP + 'emergency_restart = { within = "1m" }'
    assert problem(text).startswith("4: apps.shop.emergency_restart: workers is missing")
