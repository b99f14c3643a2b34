"""The price index: what each supplier asked for each article over the last months, and a search over the articles' names.

This is the part of the shop that is expensive to build and cheap to use: the reason for loading the application once and forking
every job from it. It is read only after ``load()``, so all jobs share its memory.
"""

from __future__ import annotations

from collections import defaultdict
from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd

from shop.assortment import Article, articles

DAYS = 56
SUPPLIERS = ("Ankerholm", "Brightwater", "Castellan", "Dunmore", "Eastgate")
_SHORTEST_PREFIX = 3


class Quote(NamedTuple):
    """The best offer for an article."""

    sku: str
    supplier: str
    cents: int


class PriceIndex:
    """Offers by article and supplier, the market's course by category, articles by the beginnings of their words."""

    def __init__(self, assortment: list[Article], days: int, seed: int = 20) -> None:
        self.articles = {article.sku: article for article in assortment}
        self._rows = {sku: row for row, sku in enumerate(self.articles)}
        self._offers = _offers(assortment, days, seed)
        self._best = self._today()
        self.course = self._course(days)
        self._words = _by_prefix(assortment)

    def _today(self) -> dict[str, Quote]:
        """The best offer of the last day for each article."""
        today = self._offers[:, :, -1]
        suppliers = today.argmin(axis=1)
        cents = today.min(axis=1)
        return {sku: Quote(sku, SUPPLIERS[suppliers[row]], int(cents[row])) for sku, row in self._rows.items()}

    def _course(self, days: int) -> pd.DataFrame:
        """The mean offer in cents: a row for each of the last ``days`` days, a column for each category."""
        means = pd.DataFrame(
            self._offers.mean(axis=1).T,
            index=pd.RangeIndex(-days + 1, 1, name="day"),
            columns=[article.category for article in self.articles.values()],
        )
        return means.T.groupby(level=0).mean().T

    def best(self, sku: str) -> Quote:
        """Today's best offer. Raises KeyError for an article that nobody sells."""
        return self._best[sku]

    def change(self, sku: str) -> float:
        """How much the mean offer moved since the first day of the index: 0.1 is ten per cent dearer."""
        offers = self._offers[self._rows[sku]].mean(axis=0)
        return float(offers[-1] / offers[0] - 1)

    def search(self, text: str, limit: int | None = None) -> list[Article]:
        """Articles whose names have, for every word of ``text``, a word that begins with it; in order of article number.

        Words shorter than three letters are ignored; a text without longer ones finds nothing.
        """
        words = [word for word in text.lower().split() if len(word) >= _SHORTEST_PREFIX]
        if not words:
            return []
        found = set.intersection(*(set(self._words.get(word, ())) for word in words))
        return [self.articles[sku] for sku in sorted(found)[:limit]]


def _offers(assortment: list[Article], days: int, seed: int) -> np.ndarray:
    """Cents by (article, supplier, day): a random walk around each recommended price."""
    generator = np.random.default_rng(seed)
    base = np.array([article.price_cents for article in assortment], dtype=np.float32)
    steps = generator.normal(0.0, 0.004, size=(len(assortment), len(SUPPLIERS), days)).astype(np.float32)
    level = generator.uniform(0.55, 0.8, size=(len(assortment), len(SUPPLIERS), 1)).astype(np.float32)
    return (base[:, None, None] * level * np.exp(np.cumsum(steps, axis=2))).astype(np.float32)


def _by_prefix(assortment: list[Article]) -> dict[str, list[str]]:
    index: defaultdict[str, list[str]] = defaultdict(list)
    for article in assortment:
        for word in article.name.split():
            for end in range(_SHORTEST_PREFIX, len(word) + 1):
                index[word[:end]].append(article.sku)
    return dict(index)


@cache
def load() -> PriceIndex:
    """The one index of this process, built at the first call: named in ``preload``, so that jobs find it built."""
    return PriceIndex(list(articles()), DAYS)
