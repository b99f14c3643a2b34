"""Reports, with pandas."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import pandas as pd
from django.conf import settings

from catalogue.models import OrderLine
from shop import prices

_COLUMNS = ["order", "sku", "category", "quantity", "unit_cents"]


def sales(day: date) -> pd.DataFrame:
    """The lines sold on ``day`` (UTC), with what each brought in and what buying it again today would cost, in cents."""
    start = datetime.combine(day, time.min, tzinfo=UTC)
    lines = OrderLine.objects.filter(order__placed_at__gte=start, order__placed_at__lt=start + timedelta(days=1))
    rows = lines.values_list("order__number", "product__sku", "product__category", "quantity", "unit_cents")
    frame = pd.DataFrame.from_records(list(rows), columns=_COLUMNS)
    index = prices.load()
    frame["revenue"] = frame["quantity"] * frame["unit_cents"]
    frame["cost"] = frame["quantity"] * frame["sku"].map(lambda sku: index.best(sku).cents)
    return frame


def by_category(frame: pd.DataFrame) -> pd.DataFrame:
    """Orders, pieces, revenue, cost and margin (a share of the revenue) of each category, the best-selling first."""
    grouped = frame.groupby("category").agg(
        orders=("order", "nunique"), pieces=("quantity", "sum"), revenue=("revenue", "sum"), cost=("cost", "sum")
    )
    grouped["margin"] = 1 - grouped["cost"] / grouped["revenue"]
    return grouped.sort_values("revenue", ascending=False)


def write_daily(day: date) -> tuple[Path, pd.DataFrame]:
    """Write the report of ``day`` as CSV under ``var/reports`` and return its path and the table."""
    table = by_category(sales(day))
    folder = settings.VAR_DIR / "reports"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{day.isoformat()}.csv"
    table.to_csv(path, float_format="%.4f")
    return path, table


class Daily:
    """The daily report as a class with ``run(params)``: not in the list of jobs, run as ``shop.reports:Daily`` because the
    configuration's ``allow`` names this module."""

    def run(self, params: list[str]) -> dict[str, object]:
        """Report on the day given as ``params[0]`` (``YYYY-MM-DD``), or on today."""
        day = date.fromisoformat(params[0]) if params else datetime.now(UTC).date()
        path, table = write_daily(day)
        print(table.to_string() if len(table) else f"nothing was sold on {day}")
        return {"day": day.isoformat(), "file": str(path), "revenue_cents": int(table["revenue"].sum())}
