"""Products and orders."""

from __future__ import annotations

from django.db import models
from django.utils import timezone


class Product(models.Model):
    """Something the shop sells."""

    sku = models.SlugField(max_length=20, unique=True)
    name = models.CharField(max_length=120)
    category = models.CharField(max_length=40, db_index=True)
    price_cents = models.PositiveIntegerField()
    stock = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ("sku",)

    def __str__(self) -> str:
        return f"{self.sku} {self.name}"


class Order(models.Model):
    """What one customer ordered at once."""

    class Status(models.TextChoices):
        """How far an order has come."""

        PLACED = "placed"
        SHIPPED = "shipped"
        CANCELLED = "cancelled"

    number = models.CharField(max_length=32, unique=True)
    email = models.EmailField()
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.PLACED)
    placed_at = models.DateTimeField(default=timezone.now, db_index=True)

    class Meta:
        ordering = ("-placed_at", "number")

    def __str__(self) -> str:
        return f"{self.number} ({self.status})"

    @property
    def total_cents(self) -> int:
        """The sum of its lines."""
        return sum(line.quantity * line.unit_cents for line in self.lines.all())


class OrderLine(models.Model):
    """So many of a product in an order, at the price of that moment."""

    order = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="lines")
    product = models.ForeignKey(Product, on_delete=models.PROTECT, related_name="+")
    quantity = models.PositiveIntegerField()
    unit_cents = models.PositiveIntegerField()

    class Meta:
        constraints = (models.CheckConstraint(condition=models.Q(quantity__gt=0), name="line_quantity_positive"),)

    def __str__(self) -> str:
        return f"{self.quantity} x {self.product.sku}"
