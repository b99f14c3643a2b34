"""From the text of ``rocksyd.toml`` and the files beside it to a Config: which keys there are, and which may stand together.

What must live here: the tables' shapes and the rules between settings. What this file must not know: the disk.
"""

from __future__ import annotations

import os.path
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from rocksyd.config import companions, consumers, forms, notify, pool_rules, scripts, services, web
from rocksyd.config.address import Address, absolute
from rocksyd.config.files import Part, together, unkept
from rocksyd.config.locate import KeyPath
from rocksyd.config.setting import declared, read_table
from rocksyd.config.settings import (
    DEFAULT_LISTEN,
    AppConfig,
    Config,
    EmergencyRestart,
    JournalConfig,
    OutputConfig,
    PoolConfig,
    RestartConfig,
)
from rocksyd.config.table import Place, Problems, Source, Table
from rocksyd.options import BY_NAME, OPTIONS, ORDER, TARGET, said_in

T = TypeVar("T")


def _homes() -> dict[str, str]:
    """Where each key belongs, for one that stands in the wrong table (a top key below the first header is the usual slip)."""
    places: dict[str, list[str]] = {}
    for settings, place in (
        (Config, "at the top of the file, before the first [table]"),
        (RestartConfig, "in [restart]"),
        (JournalConfig, "in [journal]"),
        (OutputConfig, "in [output]"),
        (AppConfig, "in [apps.NAME]"),
        (EmergencyRestart, "in [apps.NAME.emergency_restart]"),
        (web.WebConfig, "in [apps.NAME.web]"),
        (services.ServiceConfig, "in [apps.NAME.services.SERVICE]"),
        (PoolConfig, "in [apps.NAME.pool] or [apps.NAME.pools.POOL]"),
    ):
        for name in declared(settings):
            places.setdefault(name, []).append(place)
    for option in OPTIONS:
        at_order = "with an order, as an option of run" if option.scope & ORDER else "in the code, at @job"
        place = "in [apps.NAME.jobs_settings.TARGET]" if option.scope & TARGET else at_order
        places.setdefault(option.name, []).append(place)
    return {key: " or ".join(found) for key, found in places.items()}


HOMES = _homes()


def parse(text: str, path: str, parts: Iterable[Part] = ()) -> Config:
    """The configuration that ``text`` and the ``parts`` beside it say. Touches no file.

    ``path`` only gives names their folder and errors their file.

    Raises:
        ConfigError: with every error found, one a line, in the order of the files and their lines.
    """
    config, problems = parse_all(text, path, parts)
    problems.raise_if_any()
    return config


def parse_kept(text: str, path: str) -> Config:
    """As ``parse``, from the one text that was kept of all files."""
    main, parts = unkept(text)
    return parse(main, path, parts)


def parse_all(text: str, path: str, parts: Iterable[Part] = ()) -> tuple[Config, Problems]:
    """As ``parse``, with what is wrong beside what could be read: where something is wrong its default stands.

    Raises:
        ConfigError: it is not TOML.
    """
    document, places, problems = together(text, path, parts)
    file = os.path.abspath(path)
    return _config(Table(document, (), Source(problems, os.path.dirname(file), HOMES)), file, places), problems


def _config(table: Table, path: str, places: dict[KeyPath, Place]) -> Config:
    folder = table.source.folder
    listen = _listen(table, folder)
    given = {"path": path, "folder": folder, "listen": tuple(listen.values()), "places": places}
    apps = _apps(table.table("apps"))
    found = scripts.parse(table, apps)
    consuming = consumers.parse(table, apps, found)
    told = {"scheduler": scripts.told(table, found, path) | consumers.told(consuming)}
    state_dir = str(table.values.get("state_dir", "var"))
    told["profiler"] = {"folder": f"{absolute(folder, state_dir)}/profiles"}
    wanted = ["scheduler"] if found or consuming else []
    if any(map(table.table("output").given, ("keep_runs", "keep_size"))):
        wanted.append("history")
    receivers = table.table("notify")
    there = notify.parse(receivers) if table.given("notify") else {}
    notify.check(table, found, there)
    if there:
        told["notify"] = notify.told(table, found, there)
        told["scheduler"]["tell"] = notify.LOOK
    beside, on_demand = companions.parse(table, told, wanted, receivers)
    given |= {"apps": apps, "scripts": found, "consumers": consuming}
    config = read_table(Config, table, **given, companions=beside, on_demand=on_demand)
    _check_access(table, config, listen)
    _check_web(table, config)
    return companions.with_outputs(config)


def _listen(table: Table, folder: str) -> dict[int, Address]:
    """The addresses by their index in the file."""
    convert = forms.address(folder)
    if not table.given("listen"):
        table.array("listen", DEFAULT_LISTEN, convert)  # asked for, so that the key counts as known
        try:
            return {0: convert(DEFAULT_LISTEN)}
        except ValueError as error:  # the folder alone is too long for a socket's path
            table.problem(f"{error} (it is not set, so it is {DEFAULT_LISTEN} beside this file)", "listen")
            return {}
    addresses = table.elements("listen", DEFAULT_LISTEN, convert)
    if table.values["listen"] == []:
        table.problem(f'expected at least one address such as "{DEFAULT_LISTEN}", got an empty array', "listen")
    seen: dict[str, int] = {}
    for index, address in addresses.items():
        first = seen.setdefault(str(address), index)
        # Port 0 twice are two ports, chosen by the system.
        if first != index and (address.kind == "unix" or address.port):
            table.problem(f"the same address as listen[{first}]; remove one of the two", "listen", index)
    return addresses


def _check_access(table: Table, config: Config, listen: dict[int, Address]) -> None:
    """Whoever reaches an address may run jobs: a TCP address wants a token, or ``auth = "none"`` and loopback."""
    tcp = {index: address for index, address in listen.items() if address.kind == "tcp"}
    if config.auth == "none":
        if table.given("token_file"):
            table.problem('auth = "none" and token_file contradict each other; remove one of the two', "auth")
        for index, address in tcp.items():
            if not address.loopback:
                table.problem(
                    f'{address} can be reached from other machines, and auth = "none" is for loopback addresses only; '
                    'remove auth and set token_file = "token" (a file with a secret)',
                    *("listen", index),
                )
    elif not table.given("token_file"):
        if table.values.get("auth") == "token" and not tcp:
            table.problem('auth = "token" needs token_file = "token" (a file with a secret)', "auth")
        for index, address in tcp.items():
            table.problem(
                f'{address} would let anybody who reaches it run jobs; set token_file = "token" (a file with a secret)'
                + (', or auth = "none" if every user of this machine may' if address.loopback else ""),
                *("listen", index),
            )


def _check_web(table: Table, config: Config) -> None:
    """No two of all addresses may be the same."""
    taken = {str(address): "listen" for address in config.listen if address.kind == "unix" or address.port}
    for app in config.apps.values():
        for index, (_, address) in enumerate(app.web.listen if app.web is not None else ()):
            holder = taken.get(str(address)) if address.kind == "unix" or address.port else None
            if holder is not None:
                table.problem(f"{holder} has that address already; choose another one", "apps", app.name, "web", "listen", index)
            taken.setdefault(str(address), f"apps.{app.name}.web.listen")


def _apps(table: Table) -> dict[str, AppConfig]:
    apps = _by_name(table, "an application's", _app)
    if not apps and not table.wrong:
        table.problem('no application; add a table [apps.NAME] with path = "..." and jobs = ["..."]')
    return apps


def _by_name(table: Table, whose: str, make: Callable[[str, Table], T]) -> dict[str, T]:
    """What each table in a table is read as, by its name."""
    made = {}
    for name, one in table.tables():
        if not forms.NAME.fullmatch(name):
            one.problem(f"expected {whose} name of at most 64 letters, digits, - and _, beginning with a letter or digit")
        made[name] = make(name, one)
    return made


def _app(name: str, table: Table) -> AppConfig:
    targets = {target: _job_settings(settings) for target, settings in table.table("jobs_settings").tables()}
    served = web.parse(table.table("web")) if table.given("web") else None
    if served is None:
        table.table("web")
    resident = _by_name(table.table("services"), "a service's", lambda service, one: services.parse(one))
    own = pool_rules.pool(table.table("pool"))

    def made(pool: str, one: Table) -> PoolConfig:
        if pool in resident:
            return pool_rules.service_pool(one)
        return pool_rules.web_pool(one) if served is not None and served.pool == pool else pool_rules.pool(one)

    others = {**dict.fromkeys(resident, pool_rules.DEFAULT_SERVICE), **_by_name(table.table("pools"), "a pool's", made)}
    if served is not None and served.pool in resident:
        table.problem("there is a service of that name already; choose another pool for requests", "web", "pool")
    if served is not None and served.pool not in others:
        if table.table("web").given("pool"):
            table.problem(f'there is no pool "{served.pool}"; add [apps.{name}.pools.{served.pool}]', "web", "pool")
        others[served.pool] = pool_rules.DEFAULT_WEB
    app = read_table(AppConfig, table, name=name, pool=own, pools=others, jobs_settings=targets, web=served, services=resident)
    if not table.given("path") and not table.wrong:
        table.problem('path is missing; add path = "..." (the application\'s folder, relative to this file)')
    if not any(table.values.get(key) for key in ("jobs", "allow", "web")) and not table.wrong:
        table.problem('nothing of it could be run; add jobs = ["..."] (modules) or allow = ["..."] (targets)')
    emergency = table.values.get("emergency_restart")
    if isinstance(emergency, dict) and emergency and "workers" not in emergency:
        table.problem('workers is missing; write emergency_restart = { workers = 10, within = "1m" }', "emergency_restart")
    pool_rules.check_choices(table, app)
    pool_rules.check_users(table, app)
    return app


def _job_settings(table: Table) -> dict[str, Any]:
    if any(isinstance(value, dict) and name not in BY_NAME for name, value in table.values.items()):
        table.problem('expected settings, got a table; a target with dots stands in quotes, as jobs_settings."shop.jobs:nightly"')
        return {}
    settings = {option.name: table.get(option.name, None, option.form.convert) for option in said_in(TARGET)}
    table.complain_of_rest()
    return {name: value for name, value in settings.items() if value is not None}
