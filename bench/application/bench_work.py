"""The jobs of bench_jobs as plain functions, for the peers."""

import os
import time


def first_line():
    """When the first statement of a job ran, and when its last did (CLOCK_MONOTONIC, ns: one clock for all processes)."""
    return time.monotonic_ns(), time.monotonic_ns()


def nothing():
    """Run and end."""


def visit():
    """A visit to the example shop, and what its owner looks at: pages, the report of the day, the stock."""
    from datetime import UTC, datetime

    from django.test import Client

    from shop import reports, warehouse

    client = Client(headers={"host": "localhost"})
    page = client.get("/", {"q": "a"})
    found = next((product for product in page.context["products"]), None) if page.context else None
    if found is not None:
        client.get(f"/products/{found.sku}/")
    table = reports.by_category(reports.sales(datetime.now(UTC).date()))
    return [page.status_code, len(table), len(warehouse.stock_by_category())]


def who(seconds):
    """Which process runs this, after a while."""
    time.sleep(seconds)
    return os.getpid()
