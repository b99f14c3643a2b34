"""From what was heard of the daemon to alerts.

What must live here: when something has to be told, and when it is over.
What this file must not know: how it was heard, who is told, clocks. Moments are Unix seconds, passed in.

What must outlast this process is in ``rows``: which alerts are open, what has not begun, what runs for how long.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from rocksyd.alerts.alert import COMPANION, CRASH, FAILED, HEALTH, LATE, LONG, MISSED, POOL, RESTART, SHORT, Alert
from rocksyd.alerts.rows import Rows
from rocksyd.client.failures import fingerprint
from rocksyd.client.records import failure_text
from rocksyd.units import format_duration, rough_duration

Record = Mapping[str, Any]
RESTARTS_SEEN = 50
"""Rows of the audit that are remembered as seen."""
_LEFT_OUT = ("missed", "overlap", "refused")
"""What has become of ticks that somebody has to be told of (``schedule.decide``)."""
_WHOLE = "ended"
"""An account that is no tick's: how a list of jobs has ended as a whole, well where it has no reason."""
_NEVER = "cancelled"
"""The outcome that somebody wanted."""


class Expected(NamedTuple):
    """What a script's owner expects of it. Durations are seconds; 0 for nothing."""

    late_after: float = 0.0
    long_after: float | None = None
    """None: longer than usual."""
    at_least: float = 0.0
    to: tuple[str, ...] = ()
    owner: str = ""
    tags: tuple[str, ...] = ()

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Expected:
        """From plain data, by this version or another."""
        known = {name: value for name, value in said.items() if name in cls._fields}
        return cls(**{**known, "to": tuple(known.get("to", ())), "tags": tuple(known.get("tags", ()))})


_NOTHING = Expected()


class Watch:
    """What is open. Each method takes what was heard, and returns the alerts that come of it."""

    def __init__(self, scripts: Mapping[str, Expected], rows: Rows) -> None:
        self._scripts = dict(scripts)
        self._rows = rows

    # --- runs ---------------------------------------------------------------------------------------------------------
    def started(self, record: Record, now: float) -> list[Alert]:
        """A script's run has begun."""
        name, expected = self._script(record)
        tick, key, at = record["tick"], str(record["key"]), float(record["started_at"] or now)
        found = []
        of_list = "total" in tick
        if (of_list or (not tick.get("fill") and not tick.get("n"))) and int(record.get("attempt", 1)) == 1:
            nominal = _instant(tick["time"])
            begun = self._rows.get(f"begun/{name}", 0)
            awaited = [self._rows.drop(f"start/{one}") for one in {key, f"{name}@{tick['time']}"}]
            self._rows.put(f"begun/{name}", max(nominal, begun))
            if not of_list or any(awaited) or self._rows.get(f"open/late:{name}"):  # the first job that is heard of
                found += self._began(name, expected, record, nominal + self._delay(name), at)
        limit = expected.long_after if expected.long_after is not None else _usual(record)
        if limit:
            self._rows.put(
                f"runs/{key}", {"at": at + limit, "limit": limit, "script": name, "usual": expected.long_after is None}
            )
        return found

    def _began(self, name: str, expected: Expected, record: Record, due: float, at: float) -> list[Alert]:
        mark = f"late:{name}"
        if self._rows.drop(f"open/{mark}"):
            text = f"It began {rough_duration(max(at - due, 0.0))} after it was due."
            return [self._about(LATE, name, mark, (f"{name} has begun", text), at, record, over=True)]
        if not expected.late_after or at - due <= expected.late_after or str(record["key"]).startswith(f"{name}!"):
            return []
        title = f"{name} began {rough_duration(at - due)} late"
        text = f"Its tick {record['tick']['time']} was to begin within {format_duration(expected.late_after)} (late_after)."
        return [self._about(LATE, name, mark, (title, text), at, record)]

    def ended(self, record: Record, now: float, streak: int = 0) -> list[Alert]:
        """A run has ended. ``streak``: how many of its job have failed in a row, where that is not counted here."""
        at = float(record["ended_at"] or now)
        name, expected = self._script(record)
        found = self._ended_long(record, at) if name else []
        if record["outcome"] == _NEVER:
            return found
        subject = name or str(record["target"])
        row = f"failing/{'script' if name else record['app']}:{subject}"
        failing = self._rows.get(row, {"streak": 0, "marks": []})
        if record["outcome"] != "ok":
            mark = f"failed:{subject}:{fingerprint(dict(record))}"
            number = failing["streak"] + 1 if name else streak or failing["streak"] + 1
            marks = [*(one for one in failing["marks"] if one != mark), mark][-20:]
            app = record["app"]
            self._rows.put(row, {"streak": number, "marks": marks, "subject": subject, "app": app, "script": name, "at": at})
            title = f"{subject} failed" + (f" {number} times in a row" if number > 1 else "")
            alert = self._about(FAILED, subject, mark, (f"{title}: {failure_text(dict(record))}", ""), at, record)
            return [*found, alert._replace(streak=number)]
        if failing["marks"]:
            found += self.recovered(row, at, record)
        took = at - float(record["started_at"] or at)
        if name and expected.at_least and took < expected.at_least:
            title = f"{name} ended after only {rough_duration(took)}"
            text = f"It ended well, but should take at least {format_duration(expected.at_least)} (at_least)."
            found.append(self._about(SHORT, name, f"short:{name}", (title, text), at, record))
        return found

    def recovered(self, row: str, at: float, record: Record | None = None) -> list[Alert]:
        """What has failed (its row) is well again."""
        failing = self._rows.drop(row)
        if failing is None:
            return []
        subject = failing["subject"]
        title = f"{subject} is well again, after {_times(failing['streak'], 'failure')}"
        about = record or {"app": failing["app"], **({"script": failing["script"]} if failing["script"] else {})}
        return [self._about(FAILED, subject, mark, (title, ""), at, about, over=True) for mark in failing["marks"]]

    def failing(self) -> list[tuple[str, dict[str, Any]]]:
        """The rows of jobs that have failed and belong to no script: whether they are well again has to be asked."""
        return [(f"failing/{name}", row) for name, row in self._rows.of("failing") if not row["script"]]

    def _ended_long(self, record: Record, at: float) -> list[Alert]:
        key = str(record["key"])
        row = self._rows.drop(f"runs/{key}")
        mark = f"long:{key}"
        took = at - float(record["started_at"] or at)
        if self._rows.drop(f"open/{mark}"):
            name = self._script(record)[0]
            said = (f"{name} has ended after {rough_duration(took)}", "")
            return [self._about(LONG, name, mark, said, at, record, over=True)]
        if row is not None and took > row["limit"]:  # nobody was looking when it was over its time
            return [self._long(key, row, at, record, took)]
        return []

    def _long(self, key: str, row: Mapping[str, Any], at: float, record: Record, took: float) -> Alert:
        name = row["script"]
        why = "usual" if row["usual"] else "it should (long_after)"
        title = f"{name} takes longer than {'usual' if row['usual'] else 'it should'}: {rough_duration(took)}"
        text = f"Longer than {why} is more than {rough_duration(row['limit'])}. `rocksyd stack {key}` shows where it is."
        return self._about(LONG, name, f"long:{key}", (title, text), at, record)

    # --- ticks --------------------------------------------------------------------------------------------------------
    def accounts(self, rows: Iterable[Mapping[str, Any]], now: float) -> list[Alert]:
        """What has become of ticks, as ``schedule.accounts`` says."""
        found = []
        for row in rows:
            name, what = str(row["script"]), row["what"]
            expected = self._scripts.get(name, _NOTHING)
            if what in _LEFT_OUT and row["count"]:
                number = f"{_times(row['count'], 'tick')} of {name} {'was' if row['count'] == 1 else 'were'} not run"
                text = f"{row['reason']}. From {_shown(row['first'])} to {_shown(row['last'])}." if row["count"] > 1 else (
                    f"{row['reason']}. It was due at {_shown(row['first'])}.")  # fmt: skip
                about = {"script": name}
                found.append(
                    self._about(MISSED, name, f"missed:{name}", (number, text), now, about)._replace(number=row["count"])
                )
            elif what == _WHOLE:
                found += self._generation(row, name, now)
            elif what == "run" and expected.late_after and row["key"] and row["first"] > self._rows.get(f"begun/{name}", 0):
                due = row["first"] + self._delay(name)
                self._rows.put(f"start/{row['key']}", {"due": due, "at": due + expected.late_after, "script": name})
        return found

    def _generation(self, row: Mapping[str, Any], name: str, now: float) -> list[Alert]:
        """A list of jobs has ended. (What is told of its jobs is told beside this.)"""
        mark, failing = f"failed:{name}:generation", f"generation/{name}"
        about = {"script": name, "key": row["key"], "outcome": "failed" if row["reason"] else "ok"}
        before = self._rows.get(failing, 0)
        if row["reason"]:
            self._rows.put(failing, before + 1)
            title = f"{row['key']} failed" + (f", and {_times(before, 'list')} of jobs before it" if before else "")
            text = f"`rocksyd schedule show {name}` says how far it came."
            alert = self._about(FAILED, name, mark, (f"{title}: {row['reason']}", text), now, about)
            return [alert._replace(streak=before + 1)]
        if not before:
            return []
        self._rows.drop(failing)
        title = f"the lists of jobs of {name} are well again, after {_times(before, 'failure')}"
        return [self._about(FAILED, name, mark, (title, ""), now, about, over=True)]

    def due(self, scripts: Mapping[str, Mapping[str, Any]]) -> None:
        """When scripts are due next: ``at`` (nothing for never), how long after the nominal time that is (``delay``), and
        what is expected of them (``expects``)."""
        for name, one in scripts.items():
            self._scripts[name] = Expected.of(one.get("expects") or {})
            self._rows.put(f"delay/{name}", one.get("delay") or 0)
            late, at = self._scripts.get(name, _NOTHING).late_after, one.get("at")
            if late and at is not None:
                self._rows.put(f"next/{name}", {"due": at, "at": at + late})
            else:
                self._rows.drop(f"next/{name}")

    def _delay(self, name: str) -> float:
        return float(self._rows.get(f"delay/{name}", 0))

    # --- the daemon ---------------------------------------------------------------------------------------------------
    def health(self, problems: Iterable[tuple[str, str, str]], now: float) -> list[Alert]:
        """How the daemon is: each problem's kind, text and cure."""
        there = {kind: (text, cure) for kind, text, cure in problems if _counts(kind, text)}
        found = []
        for kind, (text, cure) in there.items():
            if self._rows.get(f"open/health:{kind}") is None:
                found.append(self._of_health(kind, text, f"What to do: {cure}.", now))
        for name, _ in self._rows.of("open"):
            kind = name.removeprefix("health:")
            if name.startswith("health:") and kind not in there:
                self._rows.drop(f"open/{name}")
                found.append(self._of_health(kind, f"{_subject(kind)[1]}: it is well again", "", now)._replace(over=True))
        for kind, (text, _) in there.items():
            self._rows.put(f"open/health:{kind}", text)
        return found

    def _of_health(self, kind: str, title: str, text: str, now: float) -> Alert:
        sort, subject = _subject(kind)
        return Alert(sort, subject, f"health:{kind}", title.partition("\n")[0], text, now)

    def restarts(self, rows: Iterable[Mapping[str, Any]], now: float) -> list[Alert]:
        """The latest rows of the audit, the latest first."""
        rows = list(rows)[:RESTARTS_SEEN]
        seen = self._rows.get("restarts")
        self._rows.put("restarts", [_mark(row) for row in rows])
        if seen is None:  # what was before anybody looked is nobody's news
            return []
        found = []
        for row in reversed([row for row in rows if _mark(row) not in seen]):
            kind, at = str(row["kind"]), float(row["at"])
            if kind == "crash":
                why = str(row.get("reason") or "It died")
                text = (
                    f"{why[:1].upper()}{why[1:]}. The keeper has started another one, which went on with the runs. "
                    "`rocksyd restarts` shows how often that was, the log what the dead one said last."
                )
                found.append(Alert(CRASH, "master", "crash", "the master died and was replaced", text, at))
            elif not row["ok"]:
                reason = str(row.get("reason") or "")
                title = f"a {kind} was refused: {reason.partition(chr(10))[0]}"
                text = f"Ordered by {row.get('ordered_by')}. Nothing has changed: the old code serves on.\n\n{reason}"
                self._rows.put("open/restart", kind)
                found.append(Alert(RESTART, kind, "restart", title, text, at))
            elif self._rows.drop("open/restart"):
                text = f"generation {row.get('to')} serves"
                found.append(Alert(RESTART, kind, "restart", f"a {kind} came about", text, at, over=True))
        return found

    # --- time ---------------------------------------------------------------------------------------------------------
    def next(self) -> float | None:
        """When there may be an alert although nothing is heard; None for never."""
        return min((row["at"] for sort in ("runs", "start", "next") for _, row in self._rows.of(sort)), default=None)

    def on_time(self, now: float) -> list[Alert]:
        """What has taken too long, or has not begun."""
        found = []
        for key, row in self._rows.of("runs"):
            if row["at"] <= now:
                self._rows.drop(f"runs/{key}")
                self._rows.put(f"open/long:{key}", True)
                about = {"key": key, "script": row["script"]}
                found.append(self._long(key, row, now, about, now - row["at"] + row["limit"]))
        for key, row in self._rows.of("start"):
            if row["at"] <= now:
                self._rows.drop(f"start/{key}")
                found.append(self._not_begun(row["script"], row["due"], now, {"key": key, "script": row["script"]}))
        for name, row in self._rows.of("next"):
            if row["at"] <= now:
                self._rows.drop(f"next/{name}")
                found.append(self._not_begun(name, row["due"], now, {"script": name}))
        return found

    def _not_begun(self, name: str, due: float, now: float, about: dict[str, Any]) -> Alert:
        mark = f"late:{name}"
        self._rows.put(f"open/{mark}", True)
        title = f"{name} has not begun: it was due {rough_duration(now - due)} ago"
        key = about.get("key")
        text = (
            f"`rocksyd why {key}` says what keeps it."
            if key
            else "The scheduler has not ordered it (the run before may go on): "
            f"`rocksyd schedule show {name}` says what becomes of its ticks."
        )
        return self._about(LATE, name, mark, (title, text), now, about)

    # --- what all alerts have -----------------------------------------------------------------------------------------
    def _script(self, record: Record) -> tuple[str, Expected]:
        name = str((record.get("tick") or {}).get("script", "") or record.get("script", ""))
        return name, self._scripts.get(name, _NOTHING)

    def _about(  # noqa: PLR0913  (what every alert about a script or job says)
        self, kind: str, subject: str, mark: str, said: tuple[str, str], at: float, record: Record, *, over: bool = False
    ) -> Alert:
        name, expected = self._script(record)
        names = ("key", "app", "target", "outcome", "retcode", "attempt", "generation", "revision", "params", "error", "log")
        about = {one: record[one] for one in names if record.get(one) not in (None, "")}
        about |= {"script": name} if name else {}
        about |= {"owner": expected.owner} if expected.owner else {}
        about |= {"tags": list(expected.tags)} if expected.tags else {}
        return Alert(kind, subject, mark, *said, at, over=over, to=expected.to, about=about)


def _usual(record: Record) -> float:
    """After how many seconds it takes longer than usual; 0 where that is not known."""
    return float((record.get("usual") or {}).get("long") or 0.0)


def _counts(kind: str, text: str) -> bool:
    """Whether a problem is one that somebody has to be told of: not what was ordered, nor what is about to be ready."""
    return kind not in ("draining", "companion:notify") and not text.endswith((" is starting", " is absent"))


def _subject(kind: str) -> tuple[str, str]:
    sort, _, name = kind.partition(":")
    return {"pool": POOL, "companion": COMPANION}.get(sort, HEALTH), name if sort in ("pool", "companion") else kind.replace(
        ":", " "
    )


def _mark(row: Mapping[str, Any]) -> str:
    return f"{row.get('at')} {row.get('kind')} {row.get('ok')} {row.get('to')}"


def _times(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"


def _instant(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


def _shown(instant: int) -> str:
    return f"{datetime.fromtimestamp(instant).astimezone():%Y-%m-%d %H:%M:%S %z}"
