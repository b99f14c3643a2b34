"""Which jobs a loaded application offers.

What must live here: the modules of ``jobs`` and the patterns of ``allow`` turned into names and Plans.
What this file must not know: processes, messages.
"""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from textwrap import dedent
from typing import Any

from rocksyd.errors import JobError
from rocksyd.jobs import script_of, settings_of
from rocksyd.services import service_of
from rocksyd.worker.target import CLASS, FUNCTION, Method, Plan, import_module, is_offered, load
from rocksyd.zygote.signatures import signature

OFFERS = "__rocksyd_jobs__"
"""Attribute of a module that makes jobs of its own (``rocksyd.contrib.django``): a function that is given one to call with
warnings, and returns callables by short name. A name with a colon (``django:migrate``) is a target, too."""
HOOKS = ("init_jobs", "finish_jobs")
"""Methods of a class with ``run`` that are jobs of their own: the hooks around a script's list of jobs."""
_WILD = frozenset("*?[")
MOST_DOC = 1000
"""Characters of a job's documentation that are passed on: every hand-over carries them."""


class Offer:
    """What was found so far."""

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        """Short name -> {"target", "kind", "settings", "signature", "doc", "script"}, as READY has it."""
        self.services: dict[str, dict[str, Any]] = {}
        """Name -> {"target", "listen", "state_version"}."""
        self.allowed: list[str] = []
        self.open_patterns: list[str] = []
        self.plans: dict[str, Plan] = {}
        self.warnings: list[str] = []

    def add_module(self, name: str) -> None:
        """A module of ``jobs``: declared jobs in its namespace, its own classes with a run method, what it offers by itself.

        Raises:
            JobError: there is no such module, or two different jobs have one short name.
            Exception: whatever the module raises.
        """
        module = import_module(name)
        before = len(self.jobs) + len(self.services)
        for short, found in getattr(module, OFFERS, _nothing)(self.warnings.append).items():
            self._add_job(short if ":" in short else f"{name}:{short}", found, {"name": short})
        for attribute, found in list(vars(module).items()):
            if (said := service_of(found)) is not None:
                self._add_service(_address(found, name, attribute), said)
                continue
            settings = settings_of(found)
            if settings is None and not _is_run_class(attribute, found, name):
                continue
            self._add_job(_address(found, name, attribute), found, dict(settings or {}))
        if len(self.jobs) + len(self.services) == before:
            self.warnings.append(f"jobs names {name!r}, but it has no function marked @job and no class with a run method")

    def _add_service(self, target: str, said: dict[str, Any]) -> None:
        known = self.services.get(said["name"])
        if known is not None and known["target"] != target:
            both = f"{known['target']} and {target}"
            raise JobError(f"two services are called {said['name']!r}: {both}; give one another name with @service(name=...)")
        self.services[said["name"]] = {
            "target": target, "listen": list(said["listen"]), "state_version": said["state_version"],
        }  # fmt: skip

    def serve_services(self, wanted: list[str]) -> None:
        """Only these are served. Raises JobError where one is declared nowhere."""
        there = ", ".join(self.services) or "none"
        for name in wanted:
            if name not in self.services:
                cure = "mark one, in a module that `jobs` names"
                raise JobError(f"no class marked @service is called {name!r} (there are: {there}); {cure}")
        for name in [name for name in self.services if name not in wanted]:
            where = self.services.pop(name)["target"]
            self.warnings.append(f"service {name} ({where}) is not served; add [apps.NAME.services.{name}]")

    def _add_job(self, target: str, found: Any, settings: dict[str, Any]) -> None:
        short = settings.pop("name", None) or target.partition(":")[2]
        plan = self._plan(target, found)
        known = self.jobs.get(short)
        if known is not None and known["target"] != target:
            raise JobError(
                f"two jobs are called {short!r}: {known['target']} and {target}; give one another name with @job(name=...)"
            )
        self.jobs[short] = {"target": target, "kind": plan.kind, "settings": settings}
        if (script := script_of(found)) is not None:
            self.jobs[short]["script"] = _plain(script, target)
        for hook in HOOKS if plan.kind == CLASS else ():
            if callable(getattr(found, hook, None)):
                self._add_job(f"{target}.{hook}", Method(found, hook), {**settings, "name": f"{short}.{hook}"})
        if doc := _written_of(found):
            self.jobs[short]["doc"] = doc
        known_as = signature(found) if plan.kind == FUNCTION else None
        if known_as is not None:
            self.jobs[short]["signature"] = known_as

    def add_pattern(self, pattern: str) -> None:
        """A pattern of ``allow``: its targets are found now, unless the module's name has a wildcard.

        Raises:
            JobError: it is no pattern, or what it names without a wildcard is not there.
            Exception: whatever importing the module raises.
        """
        module_name, colon, name = pattern.partition(":")
        if not colon or not module_name or not name:
            raise JobError(f"allow: {pattern!r} is not understood: expected module:name, for example shop.reports:*")
        if _WILD & set(module_name):
            self.open_patterns.append(pattern)
        elif _WILD & set(name):
            self._allow_all(module_name, name, pattern)
        else:
            found = load(pattern)
            if not callable(found):
                raise JobError(f"allow: {pattern!r} names a {type(found).__name__}, which cannot be called")
            self._allow(pattern, found)

    def _allow_all(self, module_name: str, name: str, pattern: str) -> None:
        module = import_module(module_name)
        count = 0
        for attribute, found in list(vars(module).items()):
            if not attribute.startswith("_") and fnmatchcase(attribute, name) and is_offered(found, module_name):
                self._allow(f"{module_name}:{attribute}", found)
                count += 1
        if not count:
            self.warnings.append(f"allow names {pattern!r}, but {module_name} defines nothing of that name that can be run")

    def _allow(self, target: str, found: Any) -> None:
        self._plan(target, found)
        if target not in self.allowed:
            self.allowed.append(target)

    def _plan(self, target: str, found: Any) -> Plan:
        plan = self.plans.get(target)
        if plan is None:
            plan = self.plans[target] = Plan(target, found)
        return plan


def _plain(script: dict[str, Any], target: str) -> dict[str, Any]:
    """What was declared of a schedule, as messages carry it. Raises JobError."""
    try:
        return dict(json.loads(json.dumps(script, allow_nan=False)))
    except (TypeError, ValueError, RecursionError) as error:
        raise JobError(f"{script['at']}: @job on {target}: its schedule has what is no text, number or list: {error}") from error


def _written_of(found: Any) -> str:
    """Its documentation, indented as it is read; "" for none. Never an inherited one: that is of something else."""
    doc = getattr(found, "__dict__", {}).get("__doc__") if isinstance(found, type) else getattr(found, "__doc__", None)
    if not isinstance(doc, str):
        return ""
    first, _, rest = doc.expandtabs().strip().partition("\n")
    return f"{first}\n{dedent(rest)}".strip()[:MOST_DOC]


def _nothing(_warn: object) -> dict[str, Any]:
    return {}


def _is_run_class(attribute: str, found: Any, module_name: str) -> bool:
    return isinstance(found, type) and not attribute.startswith("_") and is_offered(found, module_name)


def _address(found: Any, module_name: str, attribute: str) -> str:
    """``module:qualified.name`` of a job: where it is defined if it can be found there, else where it was seen."""
    home = getattr(found, "__module__", None)
    name = getattr(found, "__qualname__", None)
    if isinstance(home, str) and isinstance(name, str) and "<" not in name:
        try:
            if load(f"{home}:{name}") is found:
                return f"{home}:{name}"
        except Exception:  # noqa: BLE001  (a name that lies: decorators copy __module__ and __qualname__)
            pass
    return f"{module_name}:{attribute}"
