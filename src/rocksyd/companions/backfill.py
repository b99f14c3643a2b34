"""Ticks of a time that has passed, run after all.

What must live here: which of them are ordered, ordered again, or left alone. What this file must not know: how that is asked for.
"""

from __future__ import annotations

from typing import Any

from rocksyd.client import Client
from rocksyd.errors import NotFound, RequestError
from rocksyd.schedule.script import Script
from rocksyd.schedule.words import key_time


class Backfill:
    """One script and the daemon."""

    def __init__(self, script: Script, client: Client) -> None:
        self._script = script
        self._client = client

    def fill(self, ticks: list[int], *, again: bool) -> dict[str, Any]:
        """Order the ticks that were not run, earliest first, and with ``again`` another attempt at those that were.

        Answers the keys that were ``ordered``, tried ``again``, left alone because they had been run (``known``), and the
        ``refused`` ones, with the reason. Whoever asks again orders nothing twice.
        """
        found: dict[str, Any] = {"name": self._script.name, "ordered": [], "again": [], "known": [], "refused": {}}
        times = {f"{self._script.name}@{key_time(tick)}": key_time(tick) for tick in ticks}
        if not times:
            return found
        answers = self._client.answers([("status", {"key": key}) for key in times])
        states = dict(zip(times, answers, strict=True))
        new = [key for key, answer in states.items() if isinstance(answer, NotFound)]
        self._order(new, times, found)
        over = [key for key, answer in states.items() if not isinstance(answer, RequestError) and answer["state"] == "ended"]
        found["known"] += [key for key in times if key not in new and not (again and key in over)]
        if again and over:
            for key, answer in zip(over, self._client.answers([("retry", {"key": key}) for key in over]), strict=True):
                if isinstance(answer, RequestError):
                    found["refused"][key] = str(answer)
                else:
                    found["again"].append(key)
        return found

    def _order(self, keys: list[str], times: dict[str, str], found: dict[str, Any]) -> None:
        orders = [
            ("run", {**self._script.order, "key": key, "tick": {"script": self._script.name, "time": times[key], "fill": True}})
            for key in keys
        ]
        for key, answer in zip(keys, self._client.answers(orders) if orders else [], strict=True):
            if isinstance(answer, RequestError):
                found["refused"][key] = str(answer)
            else:
                found["known" if answer.get("known") else "ordered"].append(key)
