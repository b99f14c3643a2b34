"""What ``rocksyd.toml`` says of requests: each thing that may not stand there is named with its line, and what to do."""

from __future__ import annotations

import pytest

from rocksyd.config import parse
from rocksyd.errors import ConfigError

FILE = "/srv/rocksyd.toml"
APP = '[apps.shop]\npath = "shop"\n'
LISTEN = 'listen = ["unix://s.sock"]\n'
WEB = f'{APP}[apps.shop.web]\nwsgi = "shop:app"\n{LISTEN}'
POOL = WEB + "[apps.shop.pools.web]\n"
OTHER = '[apps.b]\npath = "b"\n[apps.b.web]\nwsgi = "b:app"\n'

WRONG = {
    "nobody who answers": (f"{APP}[apps.shop.web]\n{LISTEN}", '3: apps.shop.web: name what answers: wsgi = "module:callable"'),
    "two who answer": (WEB + 'asgi = "shop:other"', "3: apps.shop.web: both wsgi and asgi are named; remove one"),
    "nowhere to listen": (f'{APP}[apps.shop.web]\nwsgi = "a:b"', "3: apps.shop.web: listen is missing; add listen = "),
    "an address that is none": (WEB.replace("unix:", "tcp:"), "5: apps.shop.web.listen[0]: expected an address such as"),
    "another's address": (WEB + OTHER + LISTEN, "10: apps.b.web.listen[0]: apps.shop.web.listen has that address already;"),
    "concurrency of WSGI": (WEB + "concurrency = 3", "6: apps.shop.web.concurrency: concurrency is for asgi; remove it"),
    "no threads": (WEB + "threads = 0", "6: apps.shop.web.threads: expected a whole number from 1 to 1000, got 0"),
    "one page for two": (WEB + 'status = "/x"\nping = "/x"', "7: apps.shop.web.ping: status and ping are the same path;"),
    "a path that is none": (WEB + 'smoke_request = "x"', '6: apps.shop.web.smoke_request: expected a path such as "/status"'),
    "a form of no log": (WEB + 'access_format = "json"', "6: apps.shop.web.access_format: there is no access_log to write"),
    "a proxy by name": (WEB + 'trusted_proxies = ["all"]', "6: apps.shop.web.trusted_proxies[0]: expected an address or a net"),
    "too large a head": (WEB + 'max_head = "1M"', "6: apps.shop.web.max_head: expected a size from 1024 to 131072 bytes"),
    "no time between requests": (WEB + "keep_alive = 0", "6: apps.shop.web.keep_alive: expected a duration above zero"),
    "a word nobody knows": (WEB + "wrong = 1", "6: apps.shop.web.wrong: unknown key; known here: access_format,"),
    "the timeout of jobs": (POOL + 'timeout = "3s"', "that of requests is set in [apps.NAME.web]"),
    "the memory of all": (POOL + 'max_total_rss = "1G"', "limit each worker, with max_rss or max_rss_hard, and max_workers"),
    "templates": (POOL + "refork_after = 3", "refork_after is for jobs, and this pool serves requests; remove it"),
    "too long a queue": (POOL + "max_queue = 5000", "7: apps.shop.pools.web.max_queue: expected 1 to 4095 connections"),
    "jobs in it": (WEB + '[apps.shop.jobs_settings.x]\npool = "web"', "the pool 'web' serves requests, and runs no jobs;"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_may_not_stand_there(what: str) -> None:
    text, sentence = WRONG[what]
    with pytest.raises(ConfigError) as caught:
        parse(text, FILE)
    (line,) = str(caught.value).split("\n")
    assert sentence in line
    assert line.startswith(f"{FILE}:")


def test_what_is_left_out() -> None:
    shop = parse(WEB, FILE).apps["shop"]
    pool = shop.every_pool()["shop/web"]
    assert shop.web is not None
    assert (pool.pm, pool.max_workers, pool.max_jobs, pool.max_queue) == ("static", 2, 0, 256)
    assert (shop.web.threads, shop.web.capacity, shop.web.timeout, shop.web.keep_alive) == (8, 8, 30.0, 75.0)
