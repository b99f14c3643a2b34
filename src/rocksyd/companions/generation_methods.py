"""What clients, and jobs of a generation, ask about generations: ``schedule.add``, ``schedule.results``, ``schedule.generation``.

What must live here: what they may say, and what is shown. What this file must not know: how a generation goes on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rocksyd import codes
from rocksyd.client import Client
from rocksyd.companions.companion import Request
from rocksyd.companions.generation_course import checked
from rocksyd.companions.generation_store import Job
from rocksyd.companions.generations import Generations
from rocksyd.errors import RequestError
from rocksyd.schedule import depends, generation
from rocksyd.schedule.generation import ENDED, QUEUED, Generation
from rocksyd.schedule.script import Script

AT_ONCE = 10_000
"""Jobs that are added with one request."""
_KEY: dict[str, Any] = {
    "name": "generation",
    "schema": {"type": "string"},
    "required": True,
    "description": "the generation's key, SCRIPT@TIME",
}
_JOBS: dict[str, Any] = {"name": "jobs", "schema": {"type": "array"}, "required": True, "description": "the data of each job"}
_AFTER: dict[str, Any] = {
    "name": "after",
    "schema": {"type": "integer"},
    "description": "the number of the last job of the page before; the first page if left out",
}
_LIMIT: dict[str, Any] = {"name": "limit", "schema": {"type": "integer"}, "description": "jobs of a page, 1000 at most"}
Declared = tuple[str, Callable[[dict[str, Any], Request], Any], str, list[dict[str, Any]]]


class GenerationMethods:
    """The methods. None is asked before the scheduler acts."""

    def __init__(self, generations: Generations, client: Callable[[], Client]) -> None:
        self._generations = generations
        self._client = client

    def declared(self) -> list[Declared]:
        """Name, function, summary and parameters of each."""
        return [
            ("add", self._add, "Add jobs to a generation; data that is in its list already is not added again.", [_KEY, _JOBS]),
            ("results", self._results, "What became of a generation's jobs, a page.", [_KEY, _AFTER, _LIMIT]),
            ("generation", self._generation, "How far a generation is.", [_KEY]),
        ]

    def _add(self, given: dict[str, Any], request: Request) -> Any:
        jobs = given["jobs"]
        if not isinstance(jobs, list) or len(jobs) > AT_ONCE:
            raise _wrong(f"jobs must be an array of at most {AT_ONCE:,}")
        try:
            return self._generations.add(self._known(given).key, checked(jobs))
        except ValueError as error:
            raise _wrong(str(error)) from error

    def _results(self, given: dict[str, Any], request: Request) -> Any:
        one = self._known(given)
        after, limit = given.get("after", -1), given.get("limit", 1000)
        if type(after) is not int or type(limit) is not int or not 1 <= limit <= 1000:
            raise _wrong("after must be a whole number, and limit one from 1 to 1000")
        jobs, following = self._generations.store.page(one.key, after, limit)
        kept = self._of_runs(one, [job for job in jobs if job.outcome == generation.OK and not job.result])
        shown = [
            {
                "n": job.n,
                "job": job.data,
                "key": generation.job_key(one, job.n),
                "outcome": job.outcome or None,
                "result": json.loads(job.result) if job.result else kept.get(job.n),
            }
            for job in jobs
        ]
        return {"jobs": shown, "next": following}

    def _of_runs(self, one: Generation, jobs: Iterable[Job]) -> dict[int, Any]:
        """Results that are too long to be kept by the scheduler, from the runs as long as the daemon has them."""
        asked = [job.n for job in jobs if one.jobs]
        if not asked:
            return {}
        with self._client() as client:
            answers = client.answers([("status", {"key": generation.job_key(one, n)}) for n in asked])
        return {n: found["result"] for n, found in zip(asked, answers, strict=True) if not isinstance(found, RequestError)}

    def _generation(self, given: dict[str, Any], request: Request) -> Any:
        return generation.progress(self._known(given))

    def _known(self, given: dict[str, Any]) -> Generation:
        key = given["generation"]
        found = self._generations.store.get(key) if isinstance(key, str) else None
        if found is None:
            advice = "rocksyd schedule show has the keys of a script's generations"
            raise RequestError(codes.NOT_FOUND, f"there is no generation {key!r}", data={"advice": advice})
        return found


def begin_by_hand(generations: Generations, script: Script, key: str, time: str) -> dict[str, Any]:
    """Have a generation now; what is known of it."""
    begun = generation.of(script, key, time, [])
    generations.store.put(begun)
    generations.look()
    return {**generation.progress(begun), "state": "waiting"}


def fill(generations: Generations, scripts: Mapping[str, Script], name: str, ticks: list[int]) -> dict[str, Any]:
    """Have a generation for each of these times that had none; those that had one stay as they are."""
    script = scripts[name]
    found: dict[str, Any] = {"name": script.name, "ordered": [], "again": [], "known": [], "refused": {}}
    for tick in ticks:
        begun = generation.of_tick(script, tick, depends.keys(script, tick, scripts))
        begun.fill = True
        found["ordered" if generations.store.put(begun) else "known"].append(begun.key)
    generations.look()
    return found


def outcome(one: Generation) -> str:
    """How it is, or ended, in a word."""
    return one.outcome if one.stage == ENDED else "waiting" if one.stage == QUEUED else "running"


def record(one: Generation) -> dict[str, Any]:
    """What is shown of a generation where others show a run."""
    return {"state": "ended" if one.stage == ENDED else outcome(one), "outcome": one.outcome or None, "generation": one}


def _wrong(message: str) -> RequestError:
    return RequestError(codes.INVALID_PARAMS, message, data={"advice": "see the manual's page on generations"})
