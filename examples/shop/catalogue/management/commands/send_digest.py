"""``manage.py send_digest``: the day's orders by mail."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import timedelta

from django.core.mail import send_mail
from django.core.management.base import BaseCommand
from django.utils import timezone

from catalogue.models import Order


class Command(BaseCommand):
    """Run cold as ``python manage.py send_digest``, or as the job ``send_digest`` in a process that is loaded already."""

    help = "Mails a digest of the orders of the last hours."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--to", default="owner@example.com", help="the recipient")
        parser.add_argument("--hours", type=int, default=24, help="how far to look back (default 24)")

    def handle(self, *, to: str, hours: int, **options: object) -> str:
        orders = Order.objects.filter(placed_at__gte=timezone.now() - timedelta(hours=hours)).prefetch_related("lines")
        lines = [f"{order.number}  {order.total_cents / 100:10.2f}  {order.email}" for order in orders]
        send_mail(f"{len(lines)} orders in {hours} hours", "\n".join(lines) or "Nothing was ordered.", None, [to])
        return f"a digest of {len(lines)} orders was sent to {to}"
