"""``manage.py seed``: products on the shelves, a few orders."""

from __future__ import annotations

from argparse import ArgumentParser

from django.core.management.base import BaseCommand

from catalogue import orders
from catalogue.models import Order, Product
from shop.assortment import Article, articles


class Command(BaseCommand):
    """Repeatable: products that are there are filled up, orders are only made where there are none."""

    help = "Fills the database with products from the assortment and some orders."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--products", type=int, default=500, help="how many products (default 500)")
        parser.add_argument("--orders", type=int, default=40, help="how many orders, where there are none yet (default 40)")

    def handle(self, *, products: int, orders: int, **options: object) -> None:
        Product.objects.bulk_create(
            [
                Product(sku=a.sku, name=a.name, category=a.category, price_cents=a.price_cents, stock=1000)
                for a in spread(products)
            ],
            update_conflicts=True,
            unique_fields=["sku"],
            update_fields=["stock"],
        )
        made = 0 if Order.objects.exists() else len(place_orders(orders))
        self.stdout.write(f"{Product.objects.count()} products on the shelves, {made} orders placed")


def spread(count: int) -> list[Article]:
    """``count`` articles from all over the assortment."""
    assortment = list(articles())
    return assortment[:: max(1, len(assortment) // max(1, count))][:count]


def place_orders(count: int) -> list[Order]:
    """Orders that are the same on every machine."""
    return orders.place_random(count, seed=1)
