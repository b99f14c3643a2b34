"""Who is told, and how often: the same thing once in ``every``, and then with how often it happened meanwhile.

What must live here: which receiver wants an alert, and whether it is told now, later with others, or not at all.
What this file must not know: how anything is sent, clocks. Moments are Unix seconds, passed in.

Of one fingerprint a receiver is told at once, then nothing for ``every``; what comes meanwhile is counted, and told as one when
that time is over. That it is well again is told at once, if that it was not has been. However many fingerprints there are, a
receiver gets no more than MOST messages an hour: what is beyond that is counted, and told as one.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from rocksyd.alerts.alert import FAILED, HEALTH, Alert
from rocksyd.alerts.rows import Rows

MOST, WITHIN = 30, 3600.0
"""Messages that one receiver gets at most within so many seconds."""
KEPT = 7 * 86_400.0
"""Seconds for which a fingerprint is remembered whose end nobody has heard of."""
_ALL = ""
"""Stands for all fingerprints beyond MOST."""


class Wish(NamedTuple):
    """What a receiver wants to be told of."""

    name: str
    on: tuple[str, ...] = ()
    """Kinds of alerts; () for all."""
    only: tuple[str, ...] = ()
    """Patterns of subjects; () for all."""
    after: int = 1
    """``failed``: so many in a row."""
    every: float = 3600.0
    recovered: bool = True

    def wants(self, alert: Alert) -> bool:
        """Whether the receiver is to be told of it at all. That it is well again is asked elsewhere."""
        if alert.to:
            chosen = self.name in alert.to
        else:
            chosen = not self.only or any(fnmatchcase(alert.subject, pattern) for pattern in self.only)
        if not chosen or (self.on and alert.kind not in self.on):
            return False
        return alert.over or alert.kind != FAILED or alert.streak >= self.after


class Throttle:
    """What each receiver was told, in ``rows``."""

    def __init__(self, wishes: list[Wish], rows: Rows) -> None:
        self._wishes = {wish.name: wish for wish in wishes}
        self._rows = rows

    def take(self, alert: Alert, now: float) -> list[tuple[str, Alert]]:
        """Something has happened; what is to be sent now: receivers and alerts."""
        found = []
        for wish in self._wishes.values():
            if wish.wants(alert):
                sent = self._over(wish, alert) if alert.over else self._told(wish, alert, now)
                found += [(wish.name, one) for one in sent]
        return found

    def _told(self, wish: Wish, alert: Alert, now: float) -> list[Alert]:
        name = _row(wish, alert.fingerprint)
        group = self._rows.get(name)
        if group is not None and 0 <= now - group["at"] < wish.every:
            self._rows.put(name, {**group, "held": group["held"] + alert.number, "last": alert.plain(), "open": True})
            return []
        if not self._room(wish, now):
            self._beyond(wish, alert, now)
            return []
        held = group["held"] if group is not None else 0
        self._rows.put(name, {"at": now, "held": 0, "open": True, "told": True})
        return [alert._replace(number=alert.number + held)]

    def _over(self, wish: Wish, alert: Alert) -> list[Alert]:
        name = _row(wish, alert.fingerprint)
        group = self._rows.get(name)
        if group is None:
            return []
        self._rows.put(name, {**group, "open": False, "told": False})
        return [alert] if wish.recovered and group.get("told") else []

    def _room(self, wish: Wish, now: float) -> bool:
        sent = [at for at in self._rows.get(f"sent/{wish.name}", []) if 0 <= now - at < WITHIN]
        room = len(sent) < MOST
        self._rows.put(f"sent/{wish.name}", [*sent, now] if room else sent)
        return room

    def _beyond(self, wish: Wish, alert: Alert, now: float) -> None:
        name = _row(wish, _ALL)
        group = self._rows.get(name) or {"at": now, "held": 0, "subjects": []}
        subjects = sorted({*group["subjects"], alert.subject})[:20]
        self._rows.put(name, {**group, "held": group["held"] + alert.number, "subjects": subjects})

    # --- time ---------------------------------------------------------------------------------------------------------
    def next(self) -> float | None:
        """When something that was held back is due; None for never."""
        return min((at for _, _, _, at in self._held()), default=None)

    def due(self, now: float) -> list[tuple[str, Alert]]:
        """What was held back and is to be sent now."""
        found = []
        for wish, fingerprint, group, at in list(self._held()):
            if now < at:
                continue
            if not self._room(wish, now):
                continue
            if fingerprint == _ALL:
                self._rows.drop(_row(wish, _ALL))
                found.append((wish.name, _summary(group, now)))
                continue
            alert = Alert.of(group["last"])
            self._rows.put(_row(wish, fingerprint), {"at": now, "held": 0, "open": group["open"], "told": group["open"]})
            found.append((wish.name, alert._replace(number=group["held"], over=not group["open"])))
        self._forget(now)
        return found

    def _held(self) -> Iterator[tuple[Wish, str, dict[str, Any], float]]:
        for name, group in self._rows.of("told"):
            receiver, _, fingerprint = name.partition("/")
            wish = self._wishes.get(receiver)
            if wish is None or not group["held"]:
                continue
            room = self._rows.get(f"sent/{receiver}", [])
            free = room[0] + WITHIN if len(room) >= MOST else 0.0
            yield wish, fingerprint, group, max(free, 0.0 if fingerprint == _ALL else group["at"] + wish.every)

    def _forget(self, now: float) -> None:
        """What was told long enough ago that it would be told anew, and what nobody is to be told of any longer."""
        for name, group in self._rows.of("told"):
            wish = self._wishes.get(name.partition("/")[0])
            kept = KEPT if group.get("told") else wish.every if wish else 0.0
            if wish is None or (not group["held"] and now - group["at"] >= kept):
                self._rows.drop(f"told/{name}")


def _row(wish: Wish, fingerprint: str) -> str:
    return f"told/{wish.name}/{fingerprint}"


def _summary(group: dict[str, Any], now: float) -> Alert:
    subjects = ", ".join(group["subjects"])
    number = group["held"]
    return Alert(
        HEALTH,
        "alerts",
        _ALL,
        f"{number:,} further alerts were held back, so that this does not become a flood",
        f"They were about: {subjects}. `rocksyd errors` and `rocksyd health` show all.",
        now,
        number=number,
    )
