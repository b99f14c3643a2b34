"""Debian's cron, as far as which minute an entry is run in: after its source, entry.c and cron.c, and after nothing of ours.

An entry is five sets of bits and two flags; a minute matches by ``find_jobs``. ``FIELDS`` are low, high and names (``cron.h``).
"""

from __future__ import annotations

from datetime import date, timedelta

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat", "sun")
FIELDS: tuple[tuple[int, int, tuple[str, ...]], ...] = (
    (0, 59, ()), (0, 23, ()), (1, 31, ()), (1, 12, MONTHS), (0, 7, DAYS),
)  # fmt: skip


class Entry:
    """One line's five fields."""

    def __init__(self, text: str) -> None:
        fields = text.split()
        self.minute, self.hour, self.dom, self.month, self.dow = (
            get_list(field, *kind) for field, kind in zip(fields, FIELDS, strict=True)
        )
        self.dom_star, self.dow_star = fields[2].startswith("*"), fields[4].startswith("*")
        if {0, 7} & self.dow:  # "make sundays equivalent"
            self.dow |= {0, 7}

    def on(self, day: date) -> bool:
        """Whether ``find_jobs`` would have it on this day."""
        dom, dow = day.day in self.dom, day.isoweekday() % 7 in self.dow
        both = self.dom_star or self.dow_star
        return day.month in self.month and ((dom and dow) if both else (dom or dow))

    def days(self, first: date, number: int) -> list[date]:
        """Its days among so many."""
        return [day for day in (first + timedelta(days=one) for one in range(number)) if self.on(day)]

    def times(self) -> list[tuple[int, int]]:
        """Hour and minute of each run on one of its days."""
        return [(hour, minute) for hour in range(24) if hour in self.hour for minute in range(60) if minute in self.minute]


def get_list(field: str, low: int, high: int, names: tuple[str, ...]) -> set[int]:
    """``list = range {"," range}``"""
    found: set[int] = set()
    for part in field.split(","):
        found |= get_range(part, low, high, names)
    return found


def get_range(part: str, low: int, high: int, names: tuple[str, ...]) -> set[int]:
    """``range = number | number "-" number [ "/" number ]``, with ``*`` for first and last."""
    span, _, step = part.partition("/")
    if span == "*":
        first, last = low, high
    else:
        begin, dash, end = span.partition("-")
        first = last = get_number(begin, low, names)
        if not dash:
            return {first}
        last = get_number(end, low, names)
    return set(range(first, last + 1, int(step) if step else 1))


def get_number(text: str, low: int, names: tuple[str, ...]) -> int:
    return names.index(text.lower()) + low if text.lower() in names else int(text)
