"""Tests of the catalogue: ``python manage.py test`` in ``examples/shop``."""

from __future__ import annotations

from datetime import UTC, datetime
from io import StringIO

from django.core import mail
from django.core.management import call_command
from django.test import TestCase, TransactionTestCase

from catalogue import orders
from catalogue.models import Order, Product
from shop import prices, reports, warehouse


def put_on_the_shelf(sku: str, stock: int = 10) -> Product:
    """A product of the assortment, in stock."""
    article = prices.load().articles[sku]
    return Product.objects.create(
        sku=sku, name=article.name, category=article.category, price_cents=article.price_cents, stock=stock
    )


class Orders(TestCase):
    def test_an_order_takes_its_pieces_from_the_stock(self) -> None:
        product = put_on_the_shelf("S000001", stock=10)
        order = orders.place("a@example.com", {"S000001": 3})
        product.refresh_from_db()
        self.assertEqual(product.stock, 7)
        self.assertEqual(order.total_cents, 3 * product.price_cents)

    def test_an_order_that_cannot_be_met_changes_nothing(self) -> None:
        first = put_on_the_shelf("S000001", stock=10)
        put_on_the_shelf("S000002", stock=1)
        with self.assertRaisesRegex(orders.OutOfStock, "S000002: 2 ordered, 1 in stock"):
            orders.place("a@example.com", {"S000001": 1, "S000002": 2})
        first.refresh_from_db()
        self.assertEqual(first.stock, 10)
        self.assertFalse(Order.objects.exists())


class Commands(TestCase):
    def test_seed_can_be_repeated(self) -> None:
        for _ in range(2):
            call_command("seed", products=50, orders=5, stdout=StringIO())
            self.assertEqual((Product.objects.count(), Order.objects.count()), (50, 5))

    def test_the_digest_lists_the_orders(self) -> None:
        call_command("seed", products=50, orders=5, stdout=StringIO())
        said = call_command("send_digest", to="owner@example.com", stdout=StringIO())
        self.assertEqual(said, "a digest of 5 orders was sent to owner@example.com")
        self.assertEqual(len(mail.outbox[0].body.splitlines()), 5)


class Pages(TestCase):
    def test_the_list_and_its_search(self) -> None:
        product = put_on_the_shelf("S000001")
        self.assertContains(self.client.get("/"), product.name)
        self.assertContains(self.client.get("/", {"q": product.name[:5]}), product.name)
        self.assertContains(self.client.get("/", {"q": "nothing like it"}), "Nothing found.")

    def test_a_product_shows_its_best_offer(self) -> None:
        put_on_the_shelf("S000001")
        self.assertContains(self.client.get("/products/S000001/"), prices.load().best("S000001").supplier)
        self.assertEqual(self.client.get("/products/S999999/").status_code, 404)


class Reports(TestCase):
    def test_a_day_by_category(self) -> None:
        put_on_the_shelf("S000001")
        order = orders.place("a@example.com", {"S000001": 2})
        table = reports.by_category(reports.sales(order.placed_at.date()))
        line = order.lines.get()
        self.assertEqual(int(table["revenue"].sum()), 2 * line.unit_cents)
        self.assertEqual(int(table["cost"].sum()), 2 * prices.load().best("S000001").cents)

    def test_a_day_without_orders(self) -> None:
        self.assertEqual(len(reports.by_category(reports.sales(datetime(2001, 1, 1, tzinfo=UTC).date()))), 0)


class Warehouse(TransactionTestCase):
    """Through SQLAlchemy's own connection, which sees only what was committed."""

    def test_stock_by_category(self) -> None:
        product = put_on_the_shelf("S000001", stock=4)
        expected = warehouse.CategoryStock(product.category, 4, 4 * product.price_cents)
        self.assertEqual(warehouse.stock_by_category(), [expected])
