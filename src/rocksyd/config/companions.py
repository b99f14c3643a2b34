"""Companions: which there are, and what their tables in ``rocksyd.toml`` may say.

What must live here: the one table of built-in companions, and how each becomes what the master starts.
What this file must not know: what a companion does.

To add one: a row here, and its program. Whoever starts companions knows only ``CompanionConfig``, whether built in or a user's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any, NamedTuple

from rocksyd.config import forms, gateway
from rocksyd.config.forms import not_json
from rocksyd.config.setting import declared, read_table
from rocksyd.config.settings import CompanionConfig, Config, GatewayConfig, HistoryConfig, OwnCompanionConfig
from rocksyd.config.table import Table
from rocksyd.config.web import addresses
from rocksyd.units import shown

_OWN = ("http", "https", "tcp", "unix")


class BuiltIn(NamedTuple):
    """A companion that comes with rocksyd. It is started where there is a table of its name, or something else for it to do."""

    target: str
    schemes: tuple[str, ...] = ()
    """What its addresses begin with; () when it does not listen."""
    namespace: str = ""
    extra: str = ""
    needs: tuple[str, ...] = ()
    config: type[CompanionConfig] = CompanionConfig
    """What its table may say. What that declares beyond the settings of every companion is the companion's to know."""
    told: Callable[[Table, Any], dict[str, Any]] | None = None
    """Where that is not plain data: makes what the companion is told of it, and notes what of it cannot stand together."""
    does: tuple[str, ...] = ()
    """Companions whose work it does where both are configured."""
    hears_code: bool = False
    """Whether it is started, too, where the code of an application declares something for it."""


BUILT_IN = {
    "gateway": BuiltIn(
        "rocksyd.companions.gateway.main:serve", schemes=("http", "https", "protobuf"), extra="gateway",
        needs=("uvicorn", "jinja2", "prometheus_client"), config=GatewayConfig, told=gateway.told, does=("metrics",),
    ),
    "history": BuiltIn("rocksyd.companions.history:serve", namespace="history", config=HistoryConfig),
    "metrics": BuiltIn(
        "rocksyd.companions.metrics:serve", schemes=("http",), extra="metrics", needs=("prometheus_client",),
    ),
    "notify": BuiltIn("rocksyd.companions.notify:serve", namespace="notify"),
    "profiler": BuiltIn("rocksyd.companions.profiler:serve", namespace="profile", extra="profiler"),
    "scheduler": BuiltIn(
        "rocksyd.companions.scheduler:serve", namespace="schedule", extra="scheduler", needs=("cronsim",), hears_code=True,
    ),
}  # fmt: skip


def parse(
    table: Table, settings: dict[str, dict[str, Any]], wanted: Collection[str] = (), receivers: Table | None = None
) -> tuple[dict[str, CompanionConfig], dict[str, CompanionConfig]]:
    """The companions that the document ``table`` configures, by name, and those that are started if an application's code asks.

    Args:
        settings: what other tables say to those built in.
        wanted: those built in that these other tables need.
        receivers: the table ``notify``, whose receivers have been read.
    """
    found: dict[str, CompanionConfig] = {}
    on_demand: dict[str, CompanionConfig] = {}
    for name, row in BUILT_IN.items():
        own = receivers if name == "notify" and receivers is not None else table.table(name)
        if table.given(name) or name in wanted:
            found[name] = _built_in(name, row, own, settings.get(name, {}))
        elif row.hears_code:
            on_demand[name] = _built_in(name, row, own, settings.get(name, {}))
    for name, own in table.table("companions").tables():
        if not forms.NAME.fullmatch(name):
            own.problem("expected a companion's name of at most 64 letters, digits, - and _, beginning with a letter or digit")
        elif name in BUILT_IN:
            own.problem(f"{name} is built in: its table is [{name}]; choose another name for a companion of your own")
        found[name] = _users(name, own)
    _check_namespaces(table, found)
    return _together(found), on_demand


def _together(found: dict[str, CompanionConfig]) -> dict[str, CompanionConfig]:
    """The same, with one process where a companion does the work of another."""
    for name, row in BUILT_IN.items():
        others = {other: found.pop(other) for other in row.does if name in found and other in found}
        if others:
            made = replace(found[name], listen_for={other: one.listen for other, one in others.items()})
            owners = [owner for owner, _, _ in made.sockets]
            found[name] = replace(made, settings={**made.settings, "owners": owners})
    return found


def _built_in(name: str, row: BuiltIn, table: Table, settings: dict[str, Any]) -> CompanionConfig:
    listen = addresses(table, row.schemes, _example(row.schemes)) if row.schemes else ()
    if row.schemes and not listen and not table.wrong and not table.values.get("listen"):
        table.problem(f'listen is missing; add listen = ["{_example(row.schemes)}"]')
    given = {"namespace": row.namespace, "extra": row.extra, "needs": row.needs, "settings": settings}
    companion = read_table(row.config, table, name=name, target=row.target, listen=listen, **given)
    if row.told:
        return replace(companion, settings=row.told(table, companion))
    own = {one: getattr(companion, one) for one in declared(row.config) if one not in declared(CompanionConfig)}
    return replace(companion, settings={**settings, **own})


def with_outputs(config: Config) -> Config:
    """The configuration, its companion ``history`` told where the outputs are and how many of them are to be kept."""
    history = config.companions.get("history")
    if history is None:
        return config
    told = {"state_dir": config.state_dir, "keep_runs": config.output.keep_runs, "keep_size": config.output.keep_size}
    told_history = replace(history, settings={**history.settings, **told})
    return replace(config, companions={**config.companions, "history": told_history})


def _users(name: str, table: Table) -> CompanionConfig:
    listen = addresses(table, _OWN, _example(_OWN))
    companion = read_table(OwnCompanionConfig, table, name=name, listen=listen)
    if not table.given("target") and not table.wrong:
        table.problem('target is missing; add target = "module:callable", which is called with the companion')
    wrong = not_json(companion.settings)
    if wrong:
        table.problem(f"expected strings, numbers, true, false, arrays and tables, got {shown(wrong)}", "settings")
    return companion


def _example(schemes: tuple[str, ...]) -> str:
    return f"{schemes[0]}://127.0.0.1:9180"


def _check_namespaces(table: Table, found: dict[str, CompanionConfig]) -> None:
    holders: dict[str, str] = {}
    for name, companion in found.items():
        holder = holders.setdefault(companion.namespace, name) if companion.namespace else name
        if holder != name:
            table.problem(f"the companion {holder} has that namespace; choose another one", "companions", name, "namespace")
