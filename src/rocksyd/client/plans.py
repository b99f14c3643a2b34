"""Several runs of which some come after others: ``chain`` and ``group``, and the orders that they mean.

    runs = client.submit(chain(step("fetch", day=day), group(step("prices"), step("stock")), step("report", results=True)))

What must live here: which order has which ``after``. What this file must not know: how an order reaches the daemon.

A plan is only a way to write orders down. Who waits for whom is in the daemon's journal with the runs, and each has a key.
"""

from __future__ import annotations

from typing import Any

from rocksyd.client.protocol import keys_of, new_key, order, unmistakable
from rocksyd.options import ORDERED
from rocksyd.values import Value

_OPTIONS = (*ORDERED, "key", "app", "params")


class Step(Value):
    """One run of a plan: what ``Client.run`` is given."""

    target: object
    args: tuple[Any, ...] = ()
    named: dict[str, Any] = {}
    results: bool = False


class Chain(Value):
    """Each part after the one before it."""

    parts: tuple[Any, ...] = ()


class Group(Value):
    """All parts beside each other."""

    parts: tuple[Any, ...] = ()


Plan = Step | Chain | Group


def step(target: object, *args: Any, results: bool = False, **named: Any) -> Step:
    """A run in a plan. The arguments are those of ``Client.run``, options among them.

    ``results``: what the runs before it returned comes before ``args``; of a group that is one argument a run, in its order.
    """
    return Step(target, args, named, results)


def chain(*parts: Plan | object) -> Chain:
    """Each part begins when the one before it has ended well; of a group, when all of it has. A part is a step, a group, a chain,
    or a target alone."""
    return Chain(_parts(parts))


def group(*parts: Plan | object) -> Group:
    """Parts that do not wait for each other."""
    return Group(_parts(parts))


def _parts(parts: tuple[Any, ...]) -> tuple[Plan, ...]:
    if not parts:
        raise TypeError("a chain, or a group, of nothing: give it a step")
    return tuple(part if isinstance(part, Step | Chain | Group) else step(part) for part in parts)


def orders(plan: Plan, key: str | None) -> list[dict[str, Any]]:
    """The parameters of ``run`` for each step, in an order in which each comes behind those that it waits for.

    Steps without a ``key`` of their own are called ``KEY.0``, ``KEY.1`` and so on. Raises TypeError as ``Client.run`` does.
    """
    found: list[dict[str, Any]] = []
    _add(found, plan, (), key or new_key())
    return found


def _add(found: list[dict[str, Any]], plan: Plan, before: tuple[str, ...], key: str) -> tuple[str, ...]:
    """Add a plan's orders; returns the keys that what comes behind it waits for."""
    if isinstance(plan, Chain):
        for part in plan.parts:
            before = _add(found, part, before, key)
        return before
    if isinstance(plan, Group):
        return tuple(last for part in plan.parts for last in _add(found, part, before, key))
    options = {name: value for name, value in plan.named.items() if name in _OPTIONS}
    named = {name: value for name, value in plan.named.items() if name not in _OPTIONS}
    options = unmistakable(plan.target, options)
    options.setdefault("key", f"{key}.{len(found)}")
    after = (*keys_of(options.pop("after", None) or ()), *before)
    if after:
        options["after"] = list(after)
    if plan.results:
        options["after_results"] = True
    found.append(order(plan.target, plan.args, named, options))
    return (str(found[-1]["key"]),)
