"""Where the gateway begins: its parts are put together, and it serves until it is told to leave.

What must live here: which part is given which. What this file must not know: what any of them does.
"""

from __future__ import annotations

import asyncio
import signal
import ssl
import sys

from rocksyd.companions.companion import CannotAttend, Companion

try:
    from rocksyd.companions.gateway.binary import requests
    from rocksyd.companions.gateway.binary.exchange import Exchange
    from rocksyd.companions.gateway.connections import Make as MakeConnection
    from rocksyd.companions.gateway.connections import Served
    from rocksyd.companions.gateway.gate import Gate, Listener
    from rocksyd.companions.gateway.numbers import Numbers
    from rocksyd.companions.gateway.pages.site import Make, Site
except ImportError as missing:
    raise CannotAttend(
        f"[gateway] needs {missing.name or 'packages'}, which {sys.executable} does not have: pip install rocksyd[gateway]"
    ) from missing

from rocksyd.companions.gateway.access import Access
from rocksyd.companions.gateway.daemon import Daemon
from rocksyd.companions.gateway.openapi import OpenApi
from rocksyd.companions.gateway.pages.now import Now
from rocksyd.companions.gateway.pages.reference import Reference
from rocksyd.companions.gateway.pages.runs import Runs
from rocksyd.companions.gateway.pages.schedules import Schedules
from rocksyd.companions.gateway.pages.targets import Targets
from rocksyd.companions.gateway.rest import Rest
from rocksyd.companions.gateway.streams import Streams
from rocksyd.companions.gateway.web import Routes
from rocksyd.config import tls


def serve(companion: Companion) -> None:
    """Be the companion."""
    asyncio.run(_serve(companion))


async def _serve(companion: Companion) -> None:
    settings = companion.settings
    access = Access(settings)
    context = _tls(settings["tls"])
    daemon = Daemon(companion.address, companion.token, settings["redact"])
    numbers = Numbers(daemon)
    streams = Streams(daemon, lambda: served)
    site = Site(daemon, access, streams)
    rest = Rest(daemon, streams)
    parts = (rest, streams, OpenApi(daemon), numbers)
    routes = Routes([*(route for part in parts for route in part.routes()), *site.routes(_pages(daemon))])
    served = Served(Gate(access, routes, Routes(numbers.routes()), settings["max_body"], site.refused))
    owners = settings.get("owners") or ["gateway"] * len(companion.listening)
    for owner, listening in zip(owners, companion.listening, strict=True):
        scheme = listening.address.partition("://")[0]
        if scheme == "protobuf":
            make = _exchange(served, access, rest, settings["max_body"])
        else:
            make = served.http(Listener(_host(listening.address), owner != "gateway"))
        served.listen(listening.socket, make, context if scheme == "https" else None)
    companion.ready()
    await _told_to_leave(companion)
    await served.leave()
    await daemon.client.close()


def _exchange(served: Served, access: Access, rest: Rest, max_body: int) -> MakeConnection:
    try:
        requests.messages()
    except ImportError:
        raise CannotAttend(
            f"[gateway] needs protobuf for its address protobuf://, which {sys.executable} does not have: "
            "pip install rocksyd[gateway]"
        ) from None
    return lambda: Exchange(served, access, rest.perform, max_body)


def _pages(daemon: Daemon) -> list[tuple[str, str, Make]]:
    """Path, template, and what finds the contents."""
    now, runs, targets, schedules = Now(daemon), Runs(daemon), Targets(daemon), Schedules(daemon)
    return [
        ("/", "now.html", now.page),
        ("/restarts", "restarts.html", now.restarts),
        ("/run/{key}", "run.html", runs.run),
        ("/run/{key}/flame", "flame.html", runs.flame),
        ("/errors", "errors.html", runs.errors),
        ("/search", "search.html", runs.search),
        ("/targets", "targets.html", targets.all_of_them),
        ("/target/{app}/{name}", "target.html", targets.one),
        ("/schedules", "schedules.html", schedules.all_of_them),
        ("/schedule/{name}", "schedule.html", schedules.one),
        ("/api", "api.html", Reference(daemon).page),
    ]


async def _told_to_leave(companion: Companion) -> None:
    loop, told = asyncio.get_running_loop(), asyncio.Event()

    def heard() -> None:
        if not companion.step():
            told.set()

    loop.add_reader(companion.fileno(), heard)
    loop.add_signal_handler(signal.SIGTERM, told.set)
    await told.wait()
    loop.remove_reader(companion.fileno())


def _host(address: str) -> str:
    host = address.partition("://")[2].rpartition(":")[0]
    return host.removeprefix("[").removesuffix("]")


def _tls(files: dict[str, str]) -> ssl.SSLContext | None:
    if not files:
        return None
    try:
        return tls.context(files["certificate"], files["key"])
    except tls.Unusable as error:
        raise CannotAttend(f"gateway.tls.{error.key}: {error}") from error
