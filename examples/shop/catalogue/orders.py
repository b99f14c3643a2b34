"""Placing orders: the shop's one piece of business logic that changes something."""

from __future__ import annotations

import random
import uuid

from django.db import transaction
from django.db.models import F

from catalogue.models import Order, OrderLine, Product


class OutOfStock(Exception):
    """There are fewer pieces than were ordered; nothing was booked."""


def place(email: str, wanted: dict[str, int]) -> Order:
    """Book an order of ``wanted`` pieces by article number, all of it or nothing.

    Raises:
        OutOfStock: the sentence names the article.
        Product.DoesNotExist: there is no such article.
    """
    with transaction.atomic():
        order = Order.objects.create(number=uuid.uuid4().hex, email=email)
        for sku, quantity in wanted.items():
            product = Product.objects.get(sku=sku)
            booked = Product.objects.filter(pk=product.pk, stock__gte=quantity).update(stock=F("stock") - quantity)
            if not booked:
                raise OutOfStock(f"{sku}: {quantity} ordered, {product.stock} in stock")
            OrderLine.objects.create(order=order, product=product, quantity=quantity, unit_cents=product.price_cents)
    return order


def place_random(count: int, seed: int | None = None) -> list[Order]:
    """Place ``count`` orders as customers would, of whatever is in stock; an article that sells out is left out."""
    generator = random.Random(seed)
    placed = []
    for _ in range(count):
        skus = list(Product.objects.filter(stock__gt=0).values_list("sku", flat=True))
        if not skus:
            raise OutOfStock("nothing is in stock any more: run `python manage.py seed` to fill the shelves again")
        wanted = dict.fromkeys(generator.sample(skus, k=min(len(skus), generator.randint(1, 4))), 1)
        placed.append(place(f"customer{generator.randrange(1000)}@example.com", wanted))
    return placed
