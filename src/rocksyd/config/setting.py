"""How a setting is declared: beside its field in a dataclass, with its shape, its text, and its default as the file would say it.

What must live here: the declaration, and reading a table by the declarations of its class.
What this file must not know: which settings there are (``settings``), which may stand together (``parse``, ``pool_rules``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from typing import Any, TypeVar

from rocksyd.config import forms
from rocksyd.config.address import absolute
from rocksyd.config.table import Convert, Table

C = TypeVar("C")


@dataclass(frozen=True)
class Setting:
    """What is declared of a setting, beside its name and its type."""

    text: str
    """For the manual."""
    default: Any = None
    """As the file would say it; None for one that it cannot say."""
    unset: str = ""
    """What the manual says in the place of ``default``."""
    read: Callable[[Table, str, Any], Any] | None = None
    """Takes it from a table by its key; the last argument is what holds where the table does not say it. None: ``parse`` does."""
    told: str = ""
    """What the processes of the application are told it as; "" for what only the master needs to know."""


def setting(default: Any, convert: Convert[Any], text: str, unset: str = "", *, told: str = "") -> Any:
    """A setting that is a single value. ``default`` is as the file would say it, but with ``unset`` it is the value itself."""

    def read(table: Table, key: str, otherwise: Any) -> Any:
        return table.get(key, otherwise, convert)

    declared = Setting(text, None if unset else default, unset, read, told)
    return field(default=default if unset else convert(default), metadata={Setting: declared})


def file_path(example: str, text: str, unset: str = "", *, default: str = "", words: tuple[str, ...] = ()) -> Any:
    """A setting that is a path, relative ones from the folder of the file; or one of ``words``."""
    convert = forms.text(example)

    def read(table: Table, key: str, _: Any) -> str:
        value = table.get(key, default, convert)
        return value if not value or value in words else absolute(table.source.folder, value)

    # What is relative to the file has no value before there is a file.
    known = unset != "required" and (not default or default in words)
    return field(default=default if known else MISSING, metadata={Setting: Setting(text, default or None, unset, read)})


def array(example: str, convert: Convert[Any], text: str, unset: str = "", *, told: str = "") -> Any:
    """A setting that is an array, empty if left out."""

    def read(table: Table, key: str, _: Any) -> Any:
        return table.array(key, example, convert)

    return field(default=(), metadata={Setting: Setting(text, None if unset else [], unset, read, told)})


def inner(make: Callable[[Table], Any], default: Callable[[], Any], text: str, unset: str = "", *, told: str = "") -> Any:
    """A setting that is a table, which ``make`` reads. ``default`` makes what holds where there is none."""

    def read(table: Table, key: str, _: Any) -> Any:
        return make(table.table(key))

    return field(default_factory=default, metadata={Setting: Setting(text, None if unset else {}, unset, read, told)})


def table_of(cls: type, text: str = "", unset: str = "") -> Any:
    """A setting that is a table with settings of its own, those of the class ``cls``."""
    return inner(lambda table: read_table(cls, table), cls, text, unset)


def read_by_parse(default: Callable[[], Any] | None, text: str, unset: str = "") -> Any:
    """A setting that needs more than its own value to be understood: ``parse`` reads it. None for ``default``: there is none."""
    metadata = {Setting: Setting(text, None, unset)}
    return field(metadata=metadata) if default is None else field(default_factory=default, metadata=metadata)


def declared(cls: type) -> dict[str, Setting]:
    """The settings of a class by name."""
    return {one.name: one.metadata[Setting] for one in fields(cls) if Setting in one.metadata}


def found(cls: type, table: Table) -> dict[str, Any]:
    """What a table says of the settings of a class, and their defaults for what it does not say."""
    return {name: read(table, name, default) for name, read, default in _readers(cls)}


@cache
def _readers(cls: type) -> list[tuple[str, Callable[[Table, str, Any], Any], Any]]:
    known = [(one, one.metadata[Setting]) for one in fields(cls) if one.metadata]
    return [(one.name, said.read, one.default) for one, said in known if said.read is not None]


def read_table(cls: type[C], table: Table, **given: Any) -> C:
    """A table as its class; ``given`` is what ``parse`` has read. Keys that were not asked for are noted as unknown."""
    made = cls(**found(cls, table), **given)
    table.complain_of_rest()
    return made
