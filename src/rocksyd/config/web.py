"""What ``[apps.NAME.web]`` may say, and which of it may stand together.

What must live here: the settings of web pools, declared once, and the rules between them.
What this file must not know: how requests are served, the disk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from rocksyd.config import forms
from rocksyd.config.address import Address, parse_address
from rocksyd.config.setting import array, declared, file_path, read_by_parse, read_table, setting
from rocksyd.config.table import Table
from rocksyd.errors import AddressError
from rocksyd.options import whole
from rocksyd.units import parse_duration, parse_size, shown

POOL = "web"
"""The pool that serves requests where ``pool`` is left out."""
MAX_QUEUE = 256
"""Connections that may wait to be accepted where the pool's ``max_queue`` is left out."""
BACKLOG = 4096
"""What the kernel keeps of them; ``max_queue`` has to be below it."""


def path(value: object) -> str:
    """The path of a URL."""
    if not isinstance(value, str) or not value.startswith("/") or not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError(f'expected a path such as "/status", got {shown(value)}')
    return value


def network(value: object) -> str:
    """An address, or a network of them."""
    from ipaddress import ip_network  # noqa: PLC0415  (10 ms that a daemon without web pools is spared)

    try:
        return str(ip_network(value, strict=False)) if isinstance(value, str) else str(ip_network(""))
    except ValueError:
        raise ValueError(f'expected an address or a network such as "127.0.0.1" or "10.0.0.0/8", got {shown(value)}') from None


@dataclass(frozen=True)
class WebConfig:
    """Requests of an application: where they come in, and who answers them."""

    listen: tuple[tuple[str, Address], ...] = read_by_parse(
        None,
        "where requests come in: `unix:///run/shop.sock?mode=0660` and `http://127.0.0.1:8000`",
        "required",
    )
    """As the file writes each, and the address."""
    wsgi: str = setting("", forms.target, "`module:callable` of a WSGI application; this or `asgi`", "none", told="wsgi")
    asgi: str = setting("", forms.target, "`module:callable` of an ASGI application", "none", told="asgi")
    pool: str = setting(POOL, forms.text(POOL), "the pool of this name serves it, and nothing else: `[apps.NAME.pools.web]`")
    threads: int = setting(
        8, whole(1, 1000).convert, "`wsgi`: requests that a worker is at at once; `1`: in its main thread, as php-fpm does",
        told="threads",
    )  # fmt: skip
    concurrency: int = setting(
        200, whole(1, 100_000).convert, "`asgi`: requests that a worker is at at the same time", told="concurrency"
    )
    timeout: float = setting(
        "30s", parse_duration, "until the response has begun; then the request is given up, with 503; `0`: never", told="timeout"
    )
    keep_alive: float = setting(
        "75s",
        forms.positive_duration,
        "an idle connection is closed after this; it should be longer than the proxy's, who then closes first",
        told="keep_alive",
    )
    linger: float = setting("10m", parse_duration, "how long streams and WebSockets go on in code that has been replaced")
    max_body: int = setting(
        "10M", parse_size, "the body of a request; a larger one is refused with 413; `0`: any", told="max_body"
    )
    max_head: int = setting(
        "64K", forms.size_between(parse_size, 1024, 128 * 1024), "the head of a request, 1 KiB to 128 KiB; 431", told="max_head"
    )
    head_timeout: float = setting(
        "10s", forms.positive_duration, "a head that has begun must be whole after this; 408", told="head_timeout"
    )
    trusted_proxies: tuple[str, ...] = array(
        "127.0.0.1",
        network,
        "who may say for whom a request is (`X-Forwarded-For`, `-Proto`, `-Host`, `X-Request-ID`): addresses and networks; "
        "who comes by a unix socket always may",
        told="trusted_proxies",
    )
    access_log: str = file_path("access.log", "a file with a line a request", "none")
    access_format: Literal["combined", "json"] = setting(
        "combined", forms.choice("combined", "json"), "of the lines in `access_log`", told="access_format"
    )
    status: str = setting("", path, "the path that shows the pool's state as text, with `?json` as JSON", "none", told="status")
    ping: str = setting("", path, "the path that answers `pong` while a worker serves", "none", told="ping")
    smoke_request: str = setting("", path, "the path that must answer 2xx or 3xx before new code may serve", "none")

    @property
    def capacity(self) -> int:
        """Requests that one worker can be at."""
        return self.threads if self.wsgi else self.concurrency

    def told(self) -> dict[str, Any]:
        """What its workers must know, by name."""
        told = {one.told: getattr(self, name) for name, one in declared(WebConfig).items() if one.told}
        said = {name: list(value) if isinstance(value, tuple) else value for name, value in told.items()}
        return {**said, "access_log": self.access_log, "capacity": self.capacity}


def addresses(table: Table, schemes: tuple[str, ...], example: str) -> tuple[tuple[str, Address], ...]:
    """The array ``listen`` of a table, of addresses with these schemes: as written, and what to bind."""

    def convert(value: object) -> tuple[str, Address]:
        scheme, separator, rest = value.partition("://") if isinstance(value, str) else ("", "", "")
        if not separator or scheme not in schemes:
            raise ValueError(f'expected an address such as "{example}", got {shown(value)}')
        try:
            address = parse_address(f"{'unix' if scheme == 'unix' else 'tcp'}://{rest}", table.source.folder)
        except AddressError as error:
            raise ValueError(str(error)) from error
        return str(address) if scheme == "unix" else f"{scheme}{str(address).removeprefix('tcp')}", address

    found = table.array("listen", example, convert)
    if len(dict(found)) != len(found):
        table.problem("the same address twice; remove one of the two", "listen")
    return found


def parse(table: Table) -> WebConfig:
    """What the table says; what is wrong with it is noted."""
    example = "http://127.0.0.1:8000"
    listen = addresses(table, ("http", "unix"), example)
    if not listen and not table.wrong and not table.values.get("listen"):
        table.problem(f'listen is missing; add listen = ["{example}"]')
    web = read_table(WebConfig, table, listen=listen)
    if not table.wrong and table.given("wsgi") == table.given("asgi"):
        what = "both wsgi and asgi are named; remove one" if web.wsgi else 'name what answers: wsgi = "module:callable", or asgi'
        table.problem(what)
    for key, needs in (("threads", "wsgi"), ("concurrency", "asgi")):
        if table.given(key) and not table.given(needs):
            table.problem(f"{key} is for {needs}; remove it", key)
    if web.status and web.status == web.ping:
        table.problem("status and ping are the same path; choose another one", "ping")
    if table.given("access_format") and not table.given("access_log"):
        table.problem('there is no access_log to write it into; add access_log = "access.log"', "access_format")
    return web
