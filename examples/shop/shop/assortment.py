"""What the shop could sell: an assortment generated from lists of words, the same on every machine.

Pure: no clock, no randomness that is not seeded, no database.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

_COLOURS = "amber black blue bronze coral cream green grey indigo ivory olive red rose sand slate teal white yellow".split()
_MATERIALS = "ash bamboo beech birch brass canvas ceramic cherry cork cotton felt glass leather linen oak pine steel wool".split()
_SIZES = "small medium large".split()
_THINGS = {
    "furniture": "armchair bench bookcase cabinet desk dresser shelf sideboard stool table wardrobe".split(),
    "kitchen": "board bowl canister carafe cup dish jug ladle mortar pan plate pot tray".split(),
    "lighting": "candlestick chandelier lamp lantern sconce spotlight".split(),
    "textiles": "blanket curtain cushion napkin rug runner tablecloth throw towel".split(),
    "garden": "basket birdhouse planter trellis trowel".split(),
}


class Article(NamedTuple):
    """One thing that can be sold."""

    sku: str
    name: str
    category: str
    price_cents: int
    """Recommended price, in cents."""


def articles() -> Iterator[Article]:
    """The whole assortment: 42 768 articles."""
    prices = random.Random("assortment")
    things = [(category, thing) for category, names in _THINGS.items() for thing in names]
    combinations = product(_MATERIALS, _COLOURS, _SIZES, things)
    for number, (material, colour, size, (category, thing)) in enumerate(combinations, start=1):
        yield Article(f"S{number:06d}", f"{size} {colour} {material} {thing}", category, prices.randrange(300, 90_000))
