"""What a measurement says: figures with what was asked of them, and how samples become one number.

What must live here: statistics, tables. What this file must not know: what is measured.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Figure:
    """One number, and what it has to be."""

    what: str
    value: float
    unit: str = ""
    at_most: float | None = None
    at_least: float | None = None
    note: str = ""

    @property
    def kept(self) -> bool | None:
        """Whether it is as asked; None where nothing was."""
        if self.at_most is not None:
            return self.value <= self.at_most
        if self.at_least is not None:
            return self.value >= self.at_least
        return None

    @property
    def asked(self) -> str:
        """The limit in words."""
        if self.at_most is not None:
            return f"≤ {shown(self.at_most)}"
        return f"≥ {shown(self.at_least)}" if self.at_least is not None else ""


@dataclass
class Report:
    """All that one measurement found."""

    name: str
    title: str
    figures: list[Figure] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    """Peers that could not be measured here, with the reason."""
    curves: dict[str, Any] = field(default_factory=dict)
    """Points for the plots."""
    disturbance: float = 0.0
    """Share of the machine that others used before or after."""
    quick: bool = False
    """Whether there were fewer repetitions."""

    def add(self, what: str, value: float, unit: str = "", **more: Any) -> Figure:
        """One more figure."""
        figure = Figure(what, value, unit, **more)
        self.figures.append(figure)
        return figure

    def table(self) -> str:
        """As Markdown."""
        rows = [("", "measured", "asked", "")]
        for figure in self.figures:
            verdict = {True: "ok", False: "**missed**", None: ""}[figure.kept]
            rows.append(
                (
                    figure.what,
                    f"{shown(figure.value)} {figure.unit}".strip(),
                    figure.asked,
                    " · ".join(filter(None, (verdict, figure.note))),
                )
            )
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows]
        lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
        lines += [f"\nLeft out: {reason}" for reason in self.left_out]
        title = f"{self.title} (measured with --quick)" if self.quick else self.title
        return "\n".join([f"### {title}", "", *lines, ""])

    def dump(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def load(cls, data: dict[str, Any]) -> Report:
        """What ``dump`` wrote."""
        return cls(**{**data, "figures": [Figure(**figure) for figure in data["figures"]]})


def shown(value: float | None) -> str:
    """A number with three digits that matter."""
    if value is None:
        return ""
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def percentile(samples: Iterable[float], share: float) -> float:
    """The sample that ``share`` (0 to 1) of all are not above."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def p50(samples: Iterable[float]) -> float:
    """The median."""
    return statistics.median(samples)


class Rounds:
    """Samples of several contestants, taken in turns: what disturbs the machine for a while disturbs all of them."""

    def __init__(self) -> None:
        self.samples: dict[str, list[list[float]]] = {}

    def add(self, name: str, samples: Sequence[float]) -> None:
        """One contestant's samples of one round."""
        self.samples.setdefault(name, []).append(list(samples))

    def value(self, name: str, share: float = 0.5) -> float:
        """The median over the rounds of each round's percentile."""
        return statistics.median(percentile(one, share) for one in self.samples[name])

    def ratio(self, name: str, to: str, share: float = 0.5) -> float:
        """The median over the rounds of the ratio within a round."""
        pairs = zip(self.samples[name], self.samples[to], strict=True)
        return statistics.median(percentile(ours, share) / percentile(theirs, share) for ours, theirs in pairs)

    def __contains__(self, name: str) -> bool:
        return name in self.samples
