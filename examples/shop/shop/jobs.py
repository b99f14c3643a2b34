"""The shop's jobs.

What each does is small; together they use a process in every way that a job can: the database, a library that is expensive to
import, much output, progress, a subprocess, an event loop, failure.

This module is named in ``jobs`` of ``rocksyd.toml``, so each job is run by its short name: ``rocksyd run daily_report``. Nothing
else of the shop imports it or rocksyd.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from datetime import UTC, date, datetime

from django.core.management import call_command

from catalogue import orders
from catalogue.models import Order
from rocksyd import current, job
from shop import prices, reports, warehouse


@job
def daily_report(day: date | None = None) -> dict[str, object]:
    """Write the report of ``day`` (in JSON ``"YYYY-MM-DD"``; today if left out) and return its totals in cents."""
    wanted = day or datetime.now(UTC).date()
    path, table = reports.write_daily(wanted)
    print(f"report of {wanted} written to {path}")
    return {"file": str(path), "revenue": int(table["revenue"].sum()), "cost": int(table["cost"].sum())}


@job
def stock_value() -> dict[str, int]:
    """The value of the stock in cents, by category."""
    return {stock.category: stock.value_cents for stock in warehouse.stock_by_category()}


@job
def place_orders(count: int = 1) -> dict[str, int]:
    """Place random orders; returns how many were placed and how many there are now."""
    placed = orders.place_random(count)
    return {"placed": len(placed), "orders": Order.objects.count()}


@job
def count_orders() -> int:
    """How many orders there are."""
    return Order.objects.count()


@job(timeout="5m", max_running=1)
def send_digest(to: str = "owner@example.com", hours: int = 24) -> str:
    """The management command of that name, in a process that has the application loaded already."""
    return str(call_command("send_digest", to=to, hours=hours))


@job
def quotes(query: str, limit: int = 5) -> list[dict[str, object]]:
    """The best offers for what ``query`` finds in the price index."""
    index = prices.load()
    found = index.search(query, limit)
    return [{"name": article.name, **index.best(article.sku)._asdict()} for article in found]


@job
def market() -> dict[str, float]:
    """How the mean offer of each category moved over the days of the price index: 0.1 is ten per cent dearer."""
    course = prices.load().course
    return {category: round(change, 4) for category, change in (course.iloc[-1] / course.iloc[0] - 1).items()}


@job
async def compare(queries: list[str]) -> dict[str, int | None]:
    """The cheapest offer in cents for each query, each looked up in a task of its own; None where nothing is found."""

    async def cheapest(query: str) -> int | None:
        index = prices.load()
        return min((index.best(article.sku).cents for article in await asyncio.to_thread(index.search, query)), default=None)

    return dict(zip(queries, await asyncio.gather(*map(cheapest, queries)), strict=True))


@job
def reprice(articles: int = 2000) -> dict[str, object]:
    """Find the article whose price moved most among the first ``articles``; says how far it is, and stops early when asked to."""
    index = prices.load()
    skus = list(index.articles)[:articles]
    moved = ("", 0.0)
    done = 0
    for sku in skus:
        if current().stopping:
            print(f"asked to stop after {done} of {len(skus)}")
            break
        moved = max(moved, (sku, index.change(sku)), key=lambda pair: abs(pair[1]))
        done += 1
        if done % 100 == 0 or done == len(skus):
            current().progress(done, len(skus), sku)
    return {"sku": moved[0], "change": round(moved[1], 4), "looked_at": done}


@job
def sleep(seconds: float = 1.0) -> float:
    """Do nothing for a while."""
    print(f"sleeping {seconds} s", flush=True)
    time.sleep(seconds)
    return seconds


@job
def print_much(lines: int = 10_000, width: int = 100) -> int:
    """Print ``lines`` numbered lines of ``width`` characters; returns the number of bytes printed."""
    for number in range(lines):
        print(f"{number:08d} ".ljust(width, "."))
    return lines * (max(width, 9) + 1)


@job
def shell(command: str = "uname -s") -> str:
    """Run a command of the system in a subprocess; its errors go to the job's output, what it prints is the result."""
    return subprocess.run(command, shell=True, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


@job
def broken(message: str = "this job always fails") -> None:
    """Fail with an exception that nobody catches."""
    raise RuntimeError(message)


@job
def leave(status: int = 3) -> None:
    """End with an exit status of its own choice."""
    sys.exit(status)


class TestClass1:
    """A job in the form of the published daemon: a class, and one argument for its ``run``."""

    def run(self, params: list[float]) -> None:
        """Sleep as many seconds as each of ``params`` says, and say so."""
        for number, seconds in enumerate(params, start=1):
            print(f"{number} of {len(params)}: {seconds} s", flush=True)
            time.sleep(seconds)
        print("done")
