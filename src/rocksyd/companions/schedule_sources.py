"""Where scripts are from: the configuration, the code of applications, and what was applied by the API.

What must live here: reading what each source says, saying what is wrong with it, and the versions that come of it.
What this file must not know: ticks and runs.

The configuration is as it was when this process was started. What the code says is told by the master; until it is, what it said
last holds, so that a crash changes nothing. What was applied is in the store alone.
"""

from __future__ import annotations

import re
import time
import tomllib
from collections.abc import Mapping
from typing import Any

from rocksyd import codes
from rocksyd.companions.schedule_store import Store
from rocksyd.config import scripts as configured
from rocksyd.config.locate import locate
from rocksyd.config.table import Place
from rocksyd.errors import RequestError
from rocksyd.schedule.book import API, CODE, FILE, Book, Said, Version, book, difference, same
from rocksyd.schedule.script import DefinitionError, Script, define, depending
from rocksyd.ticks import NAME_MOST

RENAME = "give one of the two another name, @job(name=...)"
APPLIED = 10_000
"""Scripts that can be applied by the API."""


class Sources:
    """All that is said of scripts."""

    def __init__(self, settings: Mapping[str, Any], scripts: Mapping[str, Script], zone: str, machine: str) -> None:
        self._settings = settings
        self._from_file = dict(scripts)
        self.beside: Mapping[str, Script] = {}
        """What is no script, and listed, paused and run by hand as one: consumers, by name."""
        self._zone = settings["timezone"] or zone
        self._machine = machine
        self._apps: list[str] = []
        file = settings["file"]
        self._pages: dict[str, dict[str, Said]] = {
            FILE: {name: Said(FILE, file, configured.spoken(said)) for name, said in settings["scripts"].items()}
        }
        self._versions: dict[str, Version] = {}
        self.book = Book({}, {})

    # --- reading ------------------------------------------------------------------------------------------------------
    def of_code(self, apps: Mapping[str, Mapping[str, Any] | None]) -> dict[str, dict[str, Said]]:
        """What the code of these applications says, by source and name. Raises RequestError with all that is wrong."""
        found: dict[str, dict[str, Said]] = {}
        problems: list[str] = []
        seen: dict[str, Said] = {}
        for app, jobs in apps.items():
            if jobs is None:
                continue
            page = found[f"{CODE}:{app}"] = {}
            for job, declared in jobs.items():
                said = self._of_job(job, {**declared, "app": app}, list(apps), problems)
                name = _script_name(job)
                if name in seen and said is not None:
                    problems.append(f"{said.place}: there is a script {name!r} at {seen[name].place} already; {RENAME}")
                elif said is not None:
                    page[name] = seen[name] = said
        if problems:
            raise RequestError(codes.INVALID_PARAMS, "\n".join(problems))
        return found

    def _of_job(self, job: str, declared: dict[str, Any], apps: list[str], problems: list[str]) -> Said | None:
        place = str(declared.pop("at", ""))
        name = _script_name(job)
        settings, wrong = configured.read({name: declared}, apps, place)
        if not wrong:
            wrong = self._wrong(name, settings[name], {(): place})
        problems += wrong
        return None if wrong else Said(CODE, place, configured.spoken(settings[name]))

    def _wrong(self, name: str, settings: Mapping[str, Any], places: Mapping[Any, object]) -> list[str]:
        """What only cron, zones and consumers show to be wrong."""
        if name in self.beside:
            return [f"{places.get((), '')}: there is a consumer {name!r}, [consumers.{name}]; choose another name for the script"]
        try:
            self._defined(name, settings)
        except DefinitionError as error:
            place = places.get(("scripts", name, error.key), places.get(("scripts", name), places.get((), "")))
            return [f"{place}: scripts.{name}.{error.key}: {error}"]
        return []

    def _defined(self, name: str, settings: Mapping[str, Any]) -> Script:
        return define(name, settings, self._zone, self._machine, self._settings["calendars"])

    def of_text(self, text: str, file: str, who: str) -> dict[str, Said]:
        """The scripts of a file with tables ``[scripts.NAME]``. Raises RequestError with all that is wrong, with its lines."""
        try:
            document = tomllib.loads(text)
            lines = locate(text)
        except (ValueError, RecursionError) as error:
            raise RequestError(codes.INVALID_PARAMS, f"{file}: not valid TOML: {error}") from error
        tables = document.get("scripts")
        if document.keys() != {"scripts"} or not isinstance(tables, dict):
            raise RequestError(codes.INVALID_PARAMS, f"{file}: expected tables [scripts.NAME] and nothing else")
        if len(tables) > APPLIED:
            raise RequestError(codes.INVALID_PARAMS, f"{file}: {len(tables):,} scripts, and {APPLIED:,} can be applied")
        places = {key: Place(0, line, file) for key, line in lines.items()}
        found, problems = configured.read(tables, self._apps, file, places)
        for name, settings in found.items():
            if settings["command"]:
                problems.append(
                    f"{places[('scripts', name)]}: scripts.{name}.command: a command line stands in rocksyd.toml only"
                )
            elif not problems:
                problems += self._wrong(name, settings, {(): file, **places})
        if problems:
            raise RequestError(codes.INVALID_PARAMS, "\n".join(problems))
        return {name: Said(API, f"applied by {who}", configured.spoken(settings)) for name, settings in found.items()}

    # --- what holds ---------------------------------------------------------------------------------------------------
    def begin(self, store: Store) -> dict[str, Script]:
        """Take up what is kept. Returns the scripts as they were when it was kept, as far as they can be read today."""
        self._pages = {**store.sources(), **self._pages}
        self._versions = store.latest_versions()
        before = {}
        for name, version in self._versions.items():
            if version.said is not None:
                try:
                    before[name] = self._defined(name, version.said.settings)
                except (DefinitionError, KeyError, TypeError, ValueError):
                    continue  # written by another version of rocksyd
        return {**depending(before)[0], **self.beside}

    def said_of(self, name: str) -> Said:
        """What is said of a script, or of a consumer, which only the configuration has."""
        return self.book.holds.get(name) or Said(FILE, self._settings["file"], {})

    def tell(self, apps: Mapping[str, Mapping[str, Any] | None]) -> None:
        """This code serves. Raises RequestError."""
        self._apps = list(apps)
        told = self.of_code(apps)
        unheard = {f"{CODE}:{app}" for app, jobs in apps.items() if jobs is None}
        kept = {name: page for name, page in self._pages.items() if not name.startswith(CODE) or name in unheard}
        self._pages = {**kept, **told}

    def keep(self, store: Store, author: str) -> dict[str, Script]:
        """Write down what holds from now on, with its new versions; returns the scripts. Raises StoreError."""
        scripts, holds = {}, {}
        found = book(self._pages.values())
        for name, said in sorted(found.holds.items()):
            try:
                script = self._from_file[name] if said.source == FILE else self._defined(name, said.settings)
            except DefinitionError:
                continue  # a calendar, or a zone, that was there when it was applied
            scripts[name], holds[name] = script, said
        self.book = Book(holds, found.shadowed)
        new = self._new_versions(author)
        store.define({source: page for source, page in self._pages.items() if source != FILE}, new)
        self._versions |= new
        return {**depending(scripts)[0], **self.beside}

    def _new_versions(self, author: str) -> dict[str, Version]:
        now, new = time.time(), {}
        for name in {*self._versions, *self.book.holds}:
            before, said = self._versions.get(name), self.book.holds.get(name)
            if before is None or not same(before.said, said):
                by = said.place.removeprefix("applied by ") if said is not None and said.source == API else author
                new[name] = Version(before.number + 1 if before else 1, said, by, now)
        return new

    # --- the API's own ------------------------------------------------------------------------------------------------
    def changes(self, wanted: Mapping[str, Said], *, rest: bool) -> list[dict[str, Any]]:
        """What applying these would change; with ``rest`` the API's other scripts go. Raises RequestError."""
        if self._settings["on_demand"]:
            text = (
                "scripts are applied where rocksyd.toml has a table [scheduler]: without one they would end with the code's own"
            )
            raise RequestError(codes.NOT_ALLOWED, text, data="add [scheduler] to rocksyd.toml, and `rocksyd restart`")
        others = [
            f"{name} ({said.source}: {said.place})"
            for name in wanted
            if (said := self.book.holds.get(name)) and said.source != API
        ]
        if others:
            text = f"only its source changes a script: {', '.join(others)}"
            raise RequestError(codes.NOT_ALLOWED, text, data="change it there, or apply it under another name")
        here = self._pages.get(API, {})
        names = [*wanted, *(name for name in here if rest and name not in wanted)]
        found = []
        for name in names:
            lines = difference(here.get(name), wanted.get(name))
            what = "removed" if name not in wanted else "new" if name not in here else "changed" if lines else "same"
            found.append({"name": name, "what": what, "diff": lines})
        return found

    def apply(self, wanted: Mapping[str, Said], *, rest: bool) -> None:
        """Let the API say this from now on."""
        here = self._pages.get(API, {})
        changed = {name: said for name, said in wanted.items() if not same(here.get(name), said)}
        page = {name: said for name, said in here.items() if not rest or name in wanted} | changed
        if len(page) > APPLIED:
            raise RequestError(codes.TOO_BUSY, f"there would be {len(page):,} scripts of the API, and there may be {APPLIED:,}")
        self._pages[API] = page


def _script_name(job: str) -> str:
    """A job's name as a script's: other characters than a-z 0-9 _ - are a hyphen."""
    return re.sub(r"[^a-z0-9_-]+", "-", job.lower())[:NAME_MOST]
