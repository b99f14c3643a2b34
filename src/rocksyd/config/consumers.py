"""Consumers of queues: what ``[consumers.NAME]`` may say.

What must live here: which settings may stand together. What this file must not know: how many instances follow from them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from typing import Any

from rocksyd.config.scripts import NAME, params_of
from rocksyd.config.setting import read_table
from rocksyd.config.settings import AppConfig, ConsumerConfig
from rocksyd.config.table import Table
from rocksyd.ticks import NAME_MOST


def parse(table: Table, apps: dict[str, AppConfig], scripts: Collection[str]) -> dict[str, ConsumerConfig]:
    """The consumers that the document ``table`` configures, by name: ``[consumers.NAME]``, and scripts with a ``depth``.

    ``scripts``: the names that are taken.
    """
    found = {}
    as_scripts = {name: own for name, own in table.table("scripts").tables() if own.given("depth")}
    for name, own in (*as_scripts.items(), *table.table("consumers").tables()):
        if not NAME.fullmatch(name):
            own.problem(f"expected a consumer's name of 1 to {NAME_MOST} of a-z 0-9 _ -")
        if name in scripts or name in found:
            own.problem(f"there is a script of that name, [scripts.{name}]; choose another name for one of the two")
        found[name] = _consumer(own, apps)
    return found


def _consumer(table: Table, apps: dict[str, AppConfig]) -> ConsumerConfig:
    consumer = read_table(ConsumerConfig, table, params=table.get("params", [], params_of))
    if table.wrong:
        return consumer
    for key, what in (("target", "the job that consumes"), ("depth", "the function that says how much waits")):
        if not table.given(key):
            table.problem(f'{key} is missing; add {key} = "module:name", {what}')
    if consumer.app and consumer.app not in apps:
        table.problem(f"there is no application {consumer.app!r} (there are: {', '.join(apps)})", "app")
    if not consumer.app and len(apps) > 1:
        table.problem(f'app is missing; add app = "..." (one of {", ".join(apps)})')
    if consumer.min > consumer.max:
        table.problem(f"min = {consumer.min} is more than max = {consumer.max}; lower it, or raise max", "min")
    return consumer


def told(consumers: dict[str, ConsumerConfig]) -> dict[str, Any]:
    """What the scheduler is told."""
    return {"consumers": {name: asdict(consumer) for name, consumer in consumers.items()}}
