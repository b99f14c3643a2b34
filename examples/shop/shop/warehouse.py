"""Stock, seen by the warehouse: the same database through SQLAlchemy, because a real application is seldom of one piece."""

from __future__ import annotations

from typing import NamedTuple

from django.db import connection as django_connection
from sqlalchemy import Column, Engine, Integer, MetaData, String, Table, create_engine, func, select
from sqlalchemy.pool import NullPool

metadata = MetaData()
products = Table(
    "catalogue_product",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("sku", String(20)),
    Column("category", String(40)),
    Column("price_cents", Integer),
    Column("stock", Integer),
)


class CategoryStock(NamedTuple):
    """What lies on the shelves of one category."""

    category: str
    pieces: int
    value_cents: int


def engine() -> Engine:
    """An engine that keeps no connection: one opened before the fork would be shared by every job."""
    return create_engine(f"sqlite:///{django_connection.settings_dict['NAME']}", poolclass=NullPool)


def stock_by_category() -> list[CategoryStock]:
    """Pieces and their value at the shop's prices, the most valuable category first."""
    value = func.sum(products.c.stock * products.c.price_cents)
    query = select(products.c.category, func.sum(products.c.stock), value).group_by(products.c.category).order_by(value.desc())
    with engine().connect() as connection:
        return [CategoryStock(category, int(pieces), int(cents)) for category, pieces, cents in connection.execute(query)]
