"""The blocking and the asyncio client are one: the same methods, arguments and words."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

from rocksyd.client import AsyncClient, AsyncRun, AsyncSubscription, Client, Run, Subscription

TWINS = [(Client, AsyncClient), (Run, AsyncRun), (Subscription, AsyncSubscription)]
SPECIAL = {"__aenter__": "__enter__", "__aexit__": "__exit__", "__aiter__": "__iter__", "__anext__": "__next__"}


def methods(kind: type) -> dict[str, Any]:
    found = {}
    for name, one in inspect.getmembers(kind):
        if not name.startswith("_") or name == "__init__" or name in {**SPECIAL, **dict.fromkeys(SPECIAL.values())}:
            found[SPECIAL.get(name, name)] = one
    return found


def parameters(method: Any) -> list[tuple[str, Any, Any, str]]:
    return [
        (one.name, one.kind, one.default, re.sub(r"\bAsync(?=[A-Z])", "", str(one.annotation)))
        for one in inspect.signature(method).parameters.values()
    ]


@pytest.mark.parametrize(("blocking", "aio"), TWINS, ids=[one.__name__ for one, _ in TWINS])
def test_both_have_the_same_methods_with_the_same_parameters_and_docstrings(blocking: type, aio: type) -> None:
    ours, theirs = methods(blocking), methods(aio)
    assert ours.keys() == theirs.keys()
    for name, method in ours.items():
        if callable(method):
            assert parameters(method) == parameters(theirs[name]), name
        said = re.sub(r"\bAsync(?=[A-Z])", "", inspect.getdoc(theirs[name]) or "")
        assert (inspect.getdoc(method) or "") == said, name
        assert name.startswith("_") or name in ("client", "key", "record") or said, f"{name} says nothing of itself"
