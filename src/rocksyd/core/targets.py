"""Which target a caller means, and whether callers may name it.

What must live here: short names, ``allow`` patterns, the settings of a target from its three sources.
What this file must not know: where the names were found.
"""

from __future__ import annotations

from collections import deque
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from rocksyd import codes
from rocksyd.config.table import nearest
from rocksyd.errors import RequestError

REVISIONS_KEPT = 20
"""Generations whose revisions are known: more than can have workers."""


class Target(NamedTuple):
    """A target that may be run."""

    app: str
    target: str
    settings: dict[str, Any]
    signature: dict[str, Any] | None = None
    """What its parameters are held against (``core.signature``); None for what has none."""


class Application:
    """What one application offers, as its zygote of the serving generation has reported it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.generation = 0
        """The generation that is forked from; 0 when no zygote is ready."""
        self.revisions: dict[int, str] = {}
        """Of the code of the latest generations, by generation; one that is not known is not in it."""
        self.ready = False
        self.jobs: dict[str, dict[str, Any]] = {}
        self.allowed: frozenset[str] = frozenset()
        self.open_patterns: tuple[str, ...] = ()
        self.crashes: deque[float] = deque()
        """CLOCK_MONOTONIC seconds at which workers of the serving generation crashed, oldest first."""

    def offer(self, jobs: dict[str, dict[str, Any]], allowed: tuple[str, ...], patterns: tuple[str, ...]) -> None:
        """Replace what is offered."""
        self.jobs = jobs
        self.allowed = frozenset(allowed) | {str(job["target"]) for job in jobs.values()}
        self.open_patterns = patterns

    @property
    def revision(self) -> str:
        """Of the code that is forked from; "" where nobody knows it."""
        return self.revisions.get(self.generation, "")

    def loaded(self, generation: int, revision: str) -> None:
        """The code of a generation is of this revision."""
        if revision:
            self.revisions = dict(sorted({**self.revisions, generation: revision}.items())[-REVISIONS_KEPT:])

    def find(self, name: str) -> Target | None:
        """The target called ``name`` here, or None."""
        job = self.jobs.get(name)
        if job is not None:
            return Target(self.name, str(job["target"]), dict(job.get("settings") or {}), job.get("signature"))
        if name in self.allowed or any(fnmatchcase(name, pattern) for pattern in self.open_patterns):
            found: dict[str, Any] = next((j for j in self.jobs.values() if j["target"] == name), {})
            return Target(self.name, name, dict(found.get("settings") or {}), found.get("signature"))
        return None

    def rows(self) -> list[dict[str, Any]]:
        """What may be run, a row a name: jobs, other targets that are allowed, patterns that cannot be listed."""
        jobs = [self._row(name, str(job["target"]), job) for name, job in sorted(self.jobs.items())]
        others = self.allowed - {str(job["target"]) for job in self.jobs.values()}
        patterns = [self._row(pattern, pattern, {"kind": "pattern"}) for pattern in self.open_patterns]
        return jobs + [self._row(target, target, {}) for target in sorted(others)] + patterns

    def _row(self, name: str, target: str, job: dict[str, Any]) -> dict[str, Any]:
        about = {"kind": job.get("kind"), "settings": job.get("settings") or {}, "signature": job.get("signature")}
        doc = {"doc": job["doc"]} if isinstance(job.get("doc"), str) else {}
        return {"app": self.name, "name": name, "target": target, **about, **doc}

    def dump(self) -> dict[str, Any]:
        """Plain data for a snapshot."""
        return {
            "generation": self.generation,
            "ready": self.ready,
            "jobs": self.jobs,
            "allowed": sorted(self.allowed),
            "open_patterns": list(self.open_patterns),
            "crashes": list(self.crashes),
            "revisions": {str(generation): revision for generation, revision in self.revisions.items()},
        }

    def load(self, data: dict[str, Any]) -> None:
        """Take over what ``dump`` wrote."""
        self.generation = int(data.get("generation", 0))
        self.ready = bool(data.get("ready", False))
        self.crashes = deque(data.get("crashes", ()))
        known = data.get("revisions", {})
        self.revisions = {int(number): str(revision) for number, revision in known.items() if number.isdecimal()}
        self.offer(data.get("jobs", {}), tuple(data.get("allowed", ())), tuple(data.get("open_patterns", ())))


def resolve(applications: dict[str, Application], app: str | None, name: str) -> Target:
    """The one target that is meant. Raises RequestError (not found, not allowed, in several applications)."""
    if app is not None and app not in applications:
        known = ", ".join(sorted(applications))
        raise RequestError(codes.NOT_FOUND, f"no application is called {app!r} (there are: {known})", classic="Class not found")
    among = [applications[app]] if app is not None else list(applications.values())
    found = [target for candidate in among if (target := candidate.find(name)) is not None]
    if len(found) == 1:
        return found[0]
    if found:
        homes = ", ".join(target.app for target in found)
        message = f'target {name!r} is in several applications ({homes}): say which with "app"'
        raise RequestError(codes.NOT_FOUND, message, classic=f"Class is in several applications ({homes}): say which with app")
    if ":" in name:
        raise RequestError(
            codes.NOT_ALLOWED,
            f"target {name!r} is not a job, and no pattern in `allow` names it",
            classic="Class not allowed",
            data="add it to `allow` of the application in rocksyd.toml, or its module to `jobs`",
        )
    known = ", ".join(sorted({job for candidate in among for job in candidate.jobs})[:20])
    near = nearest(name, {job for candidate in among for job in candidate.jobs})
    data = f"did you mean {near}? " * bool(near) + f"jobs there are: {known}"
    raise RequestError(codes.NOT_FOUND, f"no job is called {name!r}", classic="Class not found", data=data)
