"""``rocksyd.toml``: what it may say, and the sentence for each thing that it may not."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocksyd.config import (
    MAX_UNIX_PATH,
    Address,
    AppConfig,
    Config,
    JournalConfig,
    OutputConfig,
    PoolConfig,
    RestartConfig,
    parse,
    parse_address,
)
from rocksyd.errors import AddressError, ConfigError
from rocksyd.options import TARGET, said_in

APP = '[apps.shop]\npath = "shop"\njobs = ["shop.jobs"]\n'
FILE = "/srv/rocksyd.toml"
MANUAL = Path(__file__).parents[2] / "docs" / "configuration.md"


def problems(text: str, path: str = FILE) -> list[str]:
    """The errors of ``text``, without the file's name."""
    with pytest.raises(ConfigError) as caught:
        parse(text, path)
    return [line.removeprefix(path + ":") for line in str(caught.value).split("\n")]


def pool(text: str) -> str:
    return APP + "[apps.shop.pool]\n" + text


# --- what is right ------------------------------------------------------------------------------------------------------
def test_the_least_that_can_be_said() -> None:
    config = parse(APP, FILE)
    assert config == Config(
        path=FILE,
        folder="/srv",
        listen=(Address("unix", path="/srv/run/rocksyd.sock", mode=0o600),),
        state_dir="/srv/var",
        apps={"shop": AppConfig("shop", "/srv/shop", jobs=("shop.jobs",))},
        on_demand=config.on_demand,
    )
    assert list(config.on_demand) == ["scheduler"], "the code may bring schedules"


def test_all_that_can_be_said() -> None:
    text = """
        listen = ["unix:///run/r.sock?mode=0660", "tcp://127.0.0.1:31337", "tcp://[::1]:0"]
        state_dir = "../state"
        token_file = "token"
        auth = "token"
        max_line = "64K"
        write_timeout = 5
        auth_timeout = "2s"
        max_connections = 10
        cgroup = "groups"
        restart = { hello_timeout = "1s", prepare_timeout = "2s", adopt_timeout = "3s" }
        journal = { sync = "normal", calls = "failed", keep = "1d", keep_runs = 5 }
        output = { limit = "1M", keep = 0 }
        [apps.shop]
        path = "./shop/"
        python = "/opt/venv/bin/python"
        preload = ["django:setup", "shop.urls"]
        jobs = ["shop.jobs"]
        allow = ["shop.reports:*", "shop.*:Test*"]
        env = { MODE = "live", EMPTY = "" }
        unsafe = "warn"
        huge_pages = false
        smoke = "shop.smoke:check"
        user = "nobody"
        group = "nogroup"
        umask = "027"
        oom_score_adj = 500
        [apps.shop.pool]
        pm = "dynamic"
        max_workers = 16
        start_workers = 3
        min_spare = 2
        max_spare = 4
        spawn_rate = 8
        max_jobs = 100
        max_jobs_jitter = 10
        refork_after = 100
        timeout = "10m"
        grace = "250ms"
        max_queue = 7
        max_queue_bytes = "2M"
        queue_timeout = "1h"
        slow_after = "30s"
        max_rss = "512M"
        max_rss_hard = "1G"
        max_total_rss = "4G"
        max_processes = 50
        max_cpu = 1.5
        [apps.shop.jobs_settings.nightly]
        timeout = "2h"
        grace = 1
        max_running = 1
        retries = 3
        priority = -5
        start_within = "5m"
        slow_after = "90s"
        [apps.shop.jobs_settings."shop.reports:Daily"]
        """
    config = parse(text, FILE)
    assert config.listen == (
        Address("unix", path="/run/r.sock", mode=0o660),
        Address("tcp", host="127.0.0.1", port=31337),
        Address("tcp", host="::1", port=0),
    )
    assert (config.state_dir, config.token_file, config.max_line) == ("/srv/../state", "/srv/token", 65536)
    assert (config.write_timeout, config.auth_timeout, config.max_connections) == (5, 2, 10)
    assert config.cgroup == "/srv/groups"
    shop = config.apps["shop"]
    assert (shop.path, shop.python, shop.umask, shop.env) == (
        "/srv/shop",
        "/opt/venv/bin/python",
        0o027,
        {"MODE": "live", "EMPTY": ""},
    )
    assert shop.pool == PoolConfig(
        "dynamic",
        16,
        3,
        2,
        4,
        10.0,
        8,
        100,
        10,
        600.0,
        0.25,
        7,
        3600.0,
        30.0,
        512 << 20,
        1 << 30,
        4 << 30,
        50,
        1.5,
        refork_after=100,
        max_queue_bytes=2 << 20,
    )
    assert shop.jobs_settings == {
        "nightly": {
            "timeout": 7200.0, "grace": 1.0, "max_running": 1, "retries": 3, "priority": -5, "start_within": 300.0,
            "slow_after": 90.0,
        },
        "shop.reports:Daily": {},
    }  # fmt: skip


def test_a_hard_limit_of_memory_below_the_soft_one_is_refused() -> None:
    text = pool('max_rss = "1G"\nmax_rss_hard = "512M"')
    assert problems(text)[0].startswith("6: apps.shop.pool.max_rss_hard: is below max_rss")


def test_a_control_group_is_chosen_by_a_word_or_a_path_and_a_share_of_cpus_is_a_number() -> None:
    assert parse('cgroup = "off"\n' + APP, FILE).cgroup == "off"
    assert parse(APP, FILE).cgroup == "auto"
    assert parse(pool("max_cpu = 2"), FILE).apps["shop"].pool.max_cpu == 2.0
    assert problems(pool('max_cpu = "all"')) == ['5: apps.shop.pool.max_cpu: expected a number from 0 to 10000, got "all"']


def test_the_adaptive_limit_is_chosen_and_its_times_are_for_nothing_else() -> None:
    chosen = parse(pool('admission = "adaptive"\nwait_target = "50ms"\nwait_interval = "2s"'), FILE).apps["shop"].pool
    assert (chosen.admission, chosen.wait_target, chosen.wait_interval) == ("adaptive", 0.05, 2.0)
    (useless,) = problems(pool('wait_target = "50ms"'))
    assert useless.startswith(
        '5: apps.shop.pool.wait_target: wait_target is for admission = "adaptive", and admission is "fixed"; '
    )
    wrong = problems(pool('admission = "adaptive"\nwait_target = "2s"'))
    assert wrong == ["6: apps.shop.pool.wait_target: is 2s and wait_interval 1s; lower wait_target or raise wait_interval"]


def test_where_start_workers_is_not_set_it_is_min_spare() -> None:
    config = parse(pool('pm = "dynamic"\nmin_spare = 2\nmax_spare = 4'), FILE)
    assert config.apps["shop"].pool.start_workers == 2


def test_a_byte_order_mark_is_skipped() -> None:
    assert parse("\ufeff" + APP, FILE) == parse(APP, FILE)


def test_equality_is_of_settings_and_not_of_lines() -> None:
    assert parse("# why\n\n" + APP, FILE) == parse(APP, FILE)
    assert parse(APP, FILE).places["apps", "shop", "jobs", 0].line == 3


# --- what is wrong, one sentence each ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        # keys
        ("max_lin = 1\n" + APP, "1: max_lin: unknown key; did you mean max_line?"),
        (pool("\nmax_wokers = 3"), "6: apps.shop.pool.max_wokers: unknown key; did you mean max_workers?"),
        (
            APP + 'listen = ["unix://a"]',
            "4: apps.shop.listen: unknown key here; listen belongs at the top of the file, before the first [table]",
        ),
        (APP + "max_workers = 3", "4: apps.shop.max_workers: unknown key here; max_workers belongs in [apps.NAME.pool]"),
        (APP + "[output]\nzzz = 1", "5: output.zzz: unknown key; known here: keep, keep_runs, keep_size, limit"),
        (APP + '"a b" = 1', '4: apps.shop."a b": unknown key; known here: '),
        ("[app.shop]\n" + APP, "1: app: unknown key; did you mean apps?"),
        (
            APP + "[apps.shop.jobs_settings.shop.jobs]",
            "4: apps.shop.jobs_settings.shop: expected settings, got a table; a target with dots",
        ),
        # types
        (pool("timeout = true"), '5: apps.shop.pool.timeout: expected a duration such as "10s", got true'),
        (
            pool('grace = "10"\ntimeout = "10 s"'),
            '6: apps.shop.pool.timeout: expected a duration such as "10s" (units: ms, s, m, h, d), got "10 s"',
        ),
        (
            'max_line = "1MB"\n' + APP,
            '1: max_line: expected a size such as "512M" (units: K, M, G, T, each 1024 of the one before), got "1MB"',
        ),
        ("max_line = 1\n" + APP, "1: max_line: expected a size from 1024 to 1073741824 bytes, got 1"),
        ('write_timeout = "0s"\n' + APP, '1: write_timeout: expected a duration above zero such as "10s", got "0s"'),
        (pool("max_workers = 0"), "5: apps.shop.pool.max_workers: expected a whole number from 1 to 10000, got 0"),
        (pool("max_workers = true"), "5: apps.shop.pool.max_workers: expected a whole number from 1 to 10000, got true"),
        (pool("max_workers = 1.5"), "5: apps.shop.pool.max_workers: expected a whole number from 1 to 10000, got 1.5"),
        (
            pool('pm = "dinamic"'),
            '5: apps.shop.pool.pm: expected "static" or "dynamic" or "ondemand", got "dinamic"; did you mean "dynamic"?',
        ),
        ("auth = 3\n" + APP, '1: auth: expected "token" or "none", got 3'),
        (APP + 'huge_pages = "yes"', '4: apps.shop.huge_pages: expected true or false, got "yes"'),
        (APP + "umask = 27", '4: apps.shop.umask: expected octal digits in quotes such as "027", got 27'),
        (APP + 'umask = "1777"', '4: apps.shop.umask: expected octal digits in quotes such as "027", got "1777"'),
        (APP + "env = { A = 1 }", '4: apps.shop.env.A: expected a string such as "1", got 1'),
        (
            APP + 'env = { "A=B" = "1" }',
            '4: apps.shop.env."A=B": expected the name of an environment variable, without = and not empty',
        ),
        (APP + 'preload = "shop"', '4: apps.shop.preload: expected an array such as ["shop.urls"], got "shop"'),
        (
            APP + 'preload = ["a",\n"b c"]',
            '5: apps.shop.preload[1]: expected a module or callable such as "shop.urls" or "django:setup", got "b c"',
        ),
        (APP + 'smoke = "shop.smoke"', '4: apps.shop.smoke: expected a callable such as "shop.smoke:check", got "shop.smoke"'),
        (
            APP + 'allow = ["shop"]',
            '4: apps.shop.allow[0]: expected targets such as "shop.reports:Daily" or "shop.reports:*", got "shop"',
        ),
        (APP + 'allow = ["*:*"]', "4: apps.shop.allow[0]: expected the module to begin with a package's name"),
        (APP + "pool = 3", "4: apps.shop.pool: expected a table such as [apps.shop.pool], got 3"),
        ("[[apps.shop]]", "1: apps.shop: expected a table such as [apps.shop], got an array"),
        ("apps = 3", "1: apps: expected a table such as [apps], got 3"),
        ('state_dir = ""\n' + APP, '1: state_dir: expected a string such as "var", got ""'),
        ('state_dir = "a\\u0000b"\n' + APP, '1: state_dir: expected a string such as "var", got "a\\x00b"'),
        # applications
        ("", ' apps: no application; add a table [apps.NAME] with path = "..." and jobs = ["..."]'),
        ("\n[apps.shop]\njobs = ['j']", '2: apps.shop: path is missing; add path = "..."'),
        (
            "[apps.shop.pool]\n[apps.shop]\npath = 'p'",
            '2: apps.shop: nothing of it could be run; add jobs = ["..."] (modules) or allow',
        ),
        ("[apps.'a b']\npath = 'p'\njobs = ['j']", '1: apps."a b": expected an application\'s name of at most 64 letters'),
        # pools
        (
            pool('pm = "dynamic"\nmin_spare = 4\nmax_spare = 2'),
            "6: apps.shop.pool.min_spare: min_spare is 4 and max_spare is 2; lower min_spare or raise max_spare",
        ),
        (
            pool('pm = "dynamic"\nmin_spare = 4\nmax_spare = 5\nmax_workers = 4'),
            "7: apps.shop.pool.max_spare: max_spare is 5 and max_workers is 4; ",
        ),
        (
            pool('pm = "dynamic"\nmin_spare = 4\nmax_spare = 5\nstart_workers = 17'),
            "8: apps.shop.pool.start_workers: start_workers is 17 and max_workers is 16; ",
        ),
        (
            pool('pm = "dynamic"\nmin_spare = 4'),
            '4: apps.shop.pool: max_spare is missing; pm = "dynamic" keeps between min_spare and max_spare idle workers',
        ),
        (
            pool('pm = "static"\nmin_spare = 4'),
            '6: apps.shop.pool.min_spare: min_spare is for pm = "dynamic", and pm is "static"; remove min_spare',
        ),
        (
            pool('pm = "static"\nidle_timeout = 4'),
            '6: apps.shop.pool.idle_timeout: idle_timeout is for pm = "ondemand", and pm is "static"; ',
        ),
        (
            pool("refork_after = 4"),
            "5: apps.shop.pool.refork_after: max_jobs is 1 (every job has a fresh process); lower refork_after or raise max_jobs",
        ),
        (
            pool("max_jobs = 10\nrefork_after = 11"),
            "6: apps.shop.pool.refork_after: max_jobs is 10 (workers are replaced before they have run so many); lower refork",
        ),
        (
            pool("max_jobs_jitter = 4"),
            "5: apps.shop.pool.max_jobs_jitter: max_jobs is 1 (every job has a fresh process), so there is nothing to spread",
        ),
        # addresses
        ("listen = []\n" + APP, '1: listen: expected at least one address such as "unix://run/rocksyd.sock", got an empty array'),
        ('listen = "unix://a"\n' + APP, '1: listen: expected an array such as ["unix://run/rocksyd.sock"], got "unix://a"'),
        ("listen = [3]\n" + APP, '1: listen[0]: expected an address such as "unix://run/rocksyd.sock", got 3'),
        (
            'listen = ["unix://a", "unix://b",\n "unix://./a?mode=0660"]\n' + APP,
            "2: listen[2]: the same address as listen[0]; remove one of the two",
        ),
        (
            f'listen = ["unix:///{"a" * 107}"]\n' + APP,
            "1: listen[0]: the socket's path has 108 bytes and the kernel takes 107: /a",
        ),
        # who may
        (
            'listen = ["tcp://127.0.0.1:1"]\n' + APP,
            '1: listen[0]: tcp://127.0.0.1:1 would let anybody who reaches it run jobs; set token_file = "token" ',
        ),
        (
            'listen = ["tcp://0.0.0.0:1"]\n' + APP,
            "1: listen[0]: tcp://0.0.0.0:1 would let anybody who reaches it run jobs; set token_file",
        ),
        (
            'auth = "none"\nlisten = ["unix://a",\n"tcp://0.0.0.0:1"]\n' + APP,
            '3: listen[1]: tcp://0.0.0.0:1 can be reached from other machines, and auth = "none"',
        ),
        (
            'auth = "none"\ntoken_file = "t"\n' + APP,
            '1: auth: auth = "none" and token_file contradict each other; remove one of the two',
        ),
        ('auth = "token"\n' + APP, '1: auth: auth = "token" needs token_file = "token" (a file with a secret)'),
        # syntax
        ("a = 1\nb = x", "2:5: not valid TOML: Invalid value; a string stands in quotes"),
        ("a = 1\nb = [1,", "2:8: not valid TOML: "),
        ("a = " + "[" * 100_000, " arrays or tables are nested too deeply"),
        ("a = " + "9" * 5000, " not valid TOML: Exceeds the limit"),
    ],
)
def test_one_sentence_for_each_mistake(text: str, sentence: str) -> None:
    found = problems(text)
    assert len(found) == 1, found
    assert found[0].startswith(sentence)


def test_all_errors_are_listed_in_the_order_of_the_file() -> None:
    found = problems('listen = ["tcp://h:x"]\nmax_line = true\n[apps.shop]\nuser = 3\npath = "shop"\n[output]\nlimt = 3')
    assert [(line.split(":")[0], line.split(": ")[1]) for line in found] == [
        ("1", "listen[0]"),
        ("2", "max_line"),
        ("3", "apps.shop"),
        ("4", "apps.shop.user"),
        ("7", "output.limt"),
    ]


def test_errors_name_the_file_as_it_was_named() -> None:
    assert problems("x = 1\n" + APP, "conf/rocksyd.toml")[0].startswith("1: x: ")


def test_auth_none_is_offered_where_it_may_be() -> None:
    offer = 'or auth = "none" if every user of this machine may'
    assert offer in problems('listen = ["tcp://127.0.0.1:1"]\n' + APP)[0]
    assert offer not in problems('listen = ["tcp://0.0.0.0:1"]\n' + APP)[0]


def test_auth_none_is_for_loopback() -> None:
    listen = '["tcp://127.0.0.9:1", "tcp://[::1]:1", "tcp://localhost:2", "unix://a"]'
    assert parse(f'auth = "none"\nlisten = {listen}\n{APP}', FILE).auth == "none"


def test_two_ports_chosen_by_the_system_are_two() -> None:
    config = parse('token_file = "t"\nlisten = ["tcp://[::1]:0", "tcp://[::1]:0"]\n' + APP, FILE)
    assert len(config.listen) == 2


def test_a_folder_too_deep_for_the_usual_socket() -> None:
    found = problems(APP, "/" + "d" * 100 + "/rocksyd.toml")
    assert len(found) == 1
    assert found[0].startswith(" listen: the socket's path has 118 bytes")


# --- nothing but ConfigError ---------------------------------------------------------------------------------------------
scalars = st.one_of(
    st.sampled_from(
        ['"unix://a"', '"tcp://[::1]:1"', '"10s"', '"512M"', '"dynamic"', '"none"', '"a.b:c"', "true", "-1", "0", "1e400", "nan"]
    ),
    st.integers().map(str),
    st.text(st.characters(codec="utf-8", exclude_characters="'\n\r", categories=["L", "N", "P", "S"])).map("'{}'".format),
    st.just("1979-05-27"),
)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"), max_leaves=4)
TABLES = ["apps.shop", "apps.shop.pool", "apps.shop.env", "apps.shop.jobs_settings.x", "restart", "journal", "output"]


KINDS = (Config, AppConfig, PoolConfig, RestartConfig, JournalConfig, OutputConfig)


def known_keys() -> list[str]:
    names = {field.name for kind in KINDS for field in dataclasses.fields(kind)}
    return sorted(names | {option.name for option in said_in(TARGET)})


lines = st.one_of(
    st.builds("{} = {}".format, st.sampled_from(known_keys()), values),
    st.sampled_from([f"[{name}]" for name in TABLES] + [f"[[{name}]]" for name in TABLES] + ["[apps]"]),
)


def refuses_or_accepts(text: str) -> None:
    try:
        parse(text, "rocksyd.toml")
    except ConfigError as error:
        for line in str(error).split("\n"):
            assert re.match(r"rocksyd\.toml(:[0-9]+){0,2}: .+", line), line


@given(st.text())
def test_any_text_is_refused_with_a_sentence_or_accepted(text: str) -> None:
    refuses_or_accepts(text)


@given(st.lists(lines, max_size=12).map("\n".join))
def test_any_settings_are_refused_with_sentences_or_accepted(text: str) -> None:
    refuses_or_accepts(text)


@given(st.text(), st.sampled_from(["", "/srv"]))
def test_any_text_is_an_address_or_a_sentence(text: str, folder: str) -> None:
    for candidate in (text, "unix://" + text, "tcp://" + text, f"tcp://{text}:1"):
        with contextlib.suppress(AddressError):
            address = parse_address(candidate, folder)
            again = parse_address(str(address), folder)
            assert dataclasses.replace(again, mode=address.mode) == address


# --- addresses -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("unix:///run/a.sock", Address("unix", path="/run/a.sock")),
        ("unix://a/b.sock?mode=644", Address("unix", path="/srv/a/b.sock", mode=0o644)),
        ("tcp://example.org:80", Address("tcp", host="example.org", port=80)),
        ("tcp://[fe80::1%eth0]:80", Address("tcp", host="fe80::1%eth0", port=80)),
        ("unix:///" + "a" * (MAX_UNIX_PATH - 1), Address("unix", path="/" + "a" * (MAX_UNIX_PATH - 1))),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert parse_address(text, "/srv") == address


@pytest.mark.parametrize(
    ("text", "cure"),
    [
        ("run/a.sock", "unix://run/rocksyd.sock"),
        ("http://a:1", "unix://run/rocksyd.sock"),
        ("unix://", "the path of a socket"),
        ("unix://run/", "the path of a socket"),
        ("unix://a?mode=rw", "unix://a?mode=0660"),
        ("unix://" + "é" * 54, "unix:///run/rocksyd/rocksyd.sock"),
        ("tcp://127.0.0.1", "a port from 0 to 65535"),
        ("tcp://127.0.0.1:65536", "a port from 0 to 65535"),
        ("tcp://127.0.0.1:-1", "a port from 0 to 65535"),
        ("tcp://:80", '"tcp://0.0.0.0:80" is every address'),
        ("tcp://::1:80", "tcp://[::1]:31337"),
        ("tcp://[1.2.3.4]:80", "tcp://[::1]:31337"),
        ("tcp://a b:80", "expected a host"),
    ],
)
def test_what_is_no_address_has_its_cure(text: str, cure: str) -> None:
    with pytest.raises(AddressError, match=re.escape(cure)):
        parse_address(text, "/")


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.1.2.3", True),
        ("::1", True),
        ("LocalHost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("127.example.org", False),
        ("10.0.0.1", False),
        ("127.1", False),
    ],
)
def test_loopback(host: str, loopback: bool) -> None:
    assert Address("tcp", host=host, port=1).loopback is loopback


# --- the manual ----------------------------------------------------------------------------------------------------------
def test_the_examples_of_the_manual_are_right() -> None:
    examples = re.findall(r"```toml\n(.*?)```", MANUAL.read_text(encoding="utf-8"), re.DOTALL)
    assert examples
    for example in examples:
        parse(example, FILE)


def test_the_manual_names_every_setting() -> None:
    text = MANUAL.read_text(encoding="utf-8")
    named = set(re.findall(r"`(?:[a-z]+\.)?([a-z_]+)`", text))
    assert set(known_keys()) - {"path", "folder", "places", "name", "on_demand"} <= named
