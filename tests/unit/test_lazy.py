"""What modules only announce to import is imported before the first fork: with a stand-in for Python 3.15's type."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator

import pytest

from rocksyd.zygote import lazy


class Announced:
    """As ``types.LazyImportType``: resolving it changes nothing where it stands."""

    def __init__(self, resolve: Callable[[], object]) -> None:
        self.resolve = resolve


def module(name: str, **names: object) -> types.ModuleType:
    made = sys.modules[name] = types.ModuleType(name)
    vars(made).update(names)
    return made


def missing() -> object:
    raise ModuleNotFoundError("No module named 'gone'")


@pytest.fixture(autouse=True)
def _python_3_15(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = dict(sys.modules)
    monkeypatch.setattr(lazy, "_ANNOUNCED", Announced)
    monkeypatch.setattr(lazy, "_given_up", set())
    yield
    for name in sys.modules.keys() - before.keys():
        del sys.modules[name]


def carried_out() -> list[lazy.Made]:
    made: list[lazy.Made] = []
    for _name, act in lazy.steps(made):
        act()
    return made


def test_what_is_announced_is_imported_and_what_that_announces_in_turn() -> None:
    inner = Announced(lambda: "the innermost")
    shop = module("shop", views=Announced(lambda: module("shop.views", csv=inner)), plain=1)
    assert {(one.module, one.name) for one in carried_out()} == {("shop", "views"), ("shop.views", "csv")}
    assert shop.views is sys.modules["shop.views"]
    assert (shop.views.csv, shop.plain) == ("the innermost", 1)
    assert list(lazy.steps([])) == []


def test_what_cannot_be_imported_stays_and_is_said_once() -> None:
    announced = Announced(missing)
    shop = module("shop", gone=announced, fine=Announced(lambda: "real"))
    made = carried_out()
    assert (shop.gone, shop.fine) == (announced, "real")
    (failure,) = [str(one) for one in made if one.failure]
    text = "the lazy import of gone in shop fails: ModuleNotFoundError: No module named 'gone'; so will what uses it"
    assert failure == text
    assert carried_out() == []


def test_the_standard_library_s_and_rocksyd_s_own_are_imported_and_not_named() -> None:
    own = [module("json.announcing", x=Announced(lambda: 1)), module("rocksyd.announcing", x=Announced(lambda: 1))]
    assert carried_out() == []
    assert [one.x for one in own] == [1, 1]


def test_an_import_that_sets_the_name_itself_keeps_what_it_has_set() -> None:
    shop = module("shop")
    vars(shop)["name"] = Announced(lambda: vars(shop).update(name="mine"))
    carried_out()
    assert shop.name == "mine"


def test_a_python_without_lazy_imports_has_no_such_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lazy, "_ANNOUNCED", None)
    module("shop", views=Announced(missing))
    assert list(lazy.steps([])) == []
