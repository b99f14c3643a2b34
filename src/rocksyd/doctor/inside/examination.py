"""An application under examination: ``boot.py doctor`` loads it as a zygote would, measures, writes down what it sees, and ends.

What must live here: the order of the measurements, and the report as plain data. What this file must not know: what is good and
what is bad about it, how it is shown.

Descriptor 3 holds the order (JSON), 4 takes the report (JSON, a line a part, so that a process that dies half-way has said how
far it came), 5 is told at its beginning what is being imported (so that one that hangs can be asked, too).
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from importlib import metadata
from typing import Any, NoReturn

from rocksyd import messages
from rocksyd.doctor.inside import sharing, trial
from rocksyd.doctor.inside.imports import Imports
from rocksyd.posix.processes import children_of
from rocksyd.worker import inherited, leaving, output, reset
from rocksyd.worker.context import Context
from rocksyd.worker.integrations import registry
from rocksyd.zygote import hugepages
from rocksyd.zygote.loading import Loaded, LoadFailed, Observer, load_application
from rocksyd.zygote.safety import Left

ORDER, REPORT, NOW = 3, 4, 5
NOW_SIZE = 4096
_LEAVE_GRACE = 5.0
_PACKAGES = 40
"""How many packages are tried one by one, the largest first."""
_MOST_KEPT = 50
"""Objects of known libraries that are named."""


def main(argv: list[str]) -> int:
    """Examine one application. Returns only when it was started wrongly; ends by ``os._exit`` otherwise."""
    if argv:
        print("rocksyd: an examination takes no arguments", file=sys.stderr)
        return 2
    try:
        for fd in (ORDER, REPORT, NOW):
            os.set_inheritable(fd, False)
        asked = json.loads(_content(ORDER))
        order = messages.decode(json.dumps(asked["load"]).encode())
    except (OSError, ValueError) as error:
        print(
            f"rocksyd: an examination is started by `rocksyd doctor`, with its order as descriptor 3 ({error})", file=sys.stderr
        )
        return 2
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    return _examine(order, asked["libraries"], asked.get("run"))


class Examination(Observer):
    """What is measured on the way."""

    def __init__(self, libraries: dict[str, dict[str, Any]]) -> None:
        self.libraries = libraries
        self.imports = Imports(_say_now)
        self.memory_before = hugepages.memory()
        self.scattered: sharing.ForkCost | None = None
        """What a fork costs before the heap is in huge pages."""

    def begins(self, step: str) -> None:
        """The next step of the preload."""
        _tell("step", name=step)
        self.imports.step(step)

    def loaded(self) -> None:
        """The last import is over."""
        self.imports.close()

    def frozen(self) -> None:
        """Nothing has been done about huge pages yet."""
        self.scattered = sharing.fork_cost()


def _examine(order: messages.Load, libraries: dict[str, dict[str, Any]], wanted: dict[str, Any] | None) -> NoReturn:
    _tell("begin", python=sys.version.split()[0], executable=sys.executable, pid=os.getpid())
    seen = Examination(libraries)
    try:
        loaded = load_application(order, seen)
    except LoadFailed as failure:
        _tell("failed", reason=failure.reason, traceback=failure.traceback)
        seen.imports.close()
        _tell("imports", steps=[step.plain() for step in seen.imports.steps])
        _leave()
    _say_now("")
    _tell("loaded", **_what_is_loaded(loaded, seen))
    _tell("imports", steps=[step.plain() for step in seen.imports.steps])
    _tell("forks", **_forks(order, seen))
    pages = trial.Pages()
    _tell("sharing", **_sharing(loaded.context, seen, pages))
    if wanted is not None:
        _tell("run", **_run(loaded, wanted, pages))
    _tell("done")
    _leave()


def _what_is_loaded(loaded: Loaded, seen: Examination) -> dict[str, Any]:
    ready = loaded.ready
    ours = {str(left) for left in loaded.left}
    return {
        "seconds": ready.seconds,
        "memory": ready.memory,
        "memory_before": seen.memory_before.resident,
        "huge": ready.huge,
        "jobs": sorted(ready.jobs),
        "allowed": len(ready.allowed),
        "modules": len(sys.modules),
        "left": [_left(left, seen.imports) for left in loaded.left],
        "warnings": [warning for warning in ready.warnings if warning not in ours],
        "libraries": _libraries(seen.libraries),
        "lazy": [[one.module, one.name] for one in loaded.announced if not one.failure],
    }


def _left(left: Left, imports: Imports) -> dict[str, Any]:
    return {
        "kind": left.kind,
        "step": left.step,
        "name": left.name,
        "origin": left.origin,
        "imports": imports.chain_of(left.number),
    }


# --- known libraries --------------------------------------------------------------------------------------------------
def _libraries(known: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Of those that doctor knows, what is loaded, in which version, and which of their objects the application's modules hold."""
    present = {name: entry for name, entry in known.items() if name in sys.modules}
    kept = _kept({address: name for name, entry in present.items() for address in entry["objects"]})
    found = {}
    for name, entry in present.items():
        try:
            version = metadata.version(entry["distribution"])
        except Exception:  # noqa: BLE001  (a vendored or broken installation; the version is a detail)
            version = str(getattr(sys.modules[name], "__version__", ""))
        found[name] = {"version": version, "kept": kept.get(name, [])}
    return found


def _kept(classes: dict[str, str]) -> dict[str, list[dict[str, str]]]:
    """Where the application's modules, and classes of theirs, hold objects of these classes (``module:Class`` -> library)."""
    found: dict[str, list[dict[str, str]]] = {}
    seen: set[int] = set()

    def look(where: str, one: Any) -> None:
        # The type's own list of bases: isinstance would ask a lazy object for its class, and so make it.
        for kind in type(one).__mro__:
            if kind is random.SystemRandom:  # the only Random that needs no seed
                return
            library = classes.get(f"{kind.__module__}:{kind.__qualname__}")
            if library is not None and id(one) not in seen and len(seen) < _MOST_KEPT:
                seen.add(id(one))
                found.setdefault(library, []).append({"at": where, "class": f"{kind.__module__}.{kind.__qualname__}"})

    if not classes:
        return found
    for name, module in list(sys.modules.items()):
        if _is_installed(module) or sharing.package_of(name) in _NOT_OWN:
            continue
        for attribute, one in list(getattr(module, "__dict__", {}).items()):
            look(f"{name}:{attribute}", one)
            if isinstance(one, type) and getattr(one, "__module__", None) == name:
                for inner, value in list(vars(one).items()):
                    look(f"{name}:{attribute}.{inner}", value)
    return found


def _is_installed(module: Any) -> bool:
    file = getattr(module, "__file__", None)
    return not isinstance(file, str) or "site-packages" in file or "dist-packages" in file


# --- forks ------------------------------------------------------------------------------------------------------------
def _forks(order: messages.Load, seen: Examination) -> dict[str, Any]:
    now = sharing.fork_cost()
    wanted = bool(order.settings.get("huge_pages", True))
    return {
        "huge_pages": wanted,
        "system": _setting("enabled"),
        "huge": hugepages.memory().huge,
        "ms": round(now.fork, 3),
        "whole_ms": round(now.whole, 3),
        "scattered_ms": round(seen.scattered.fork, 3) if seen.scattered is not None else None,
        "scattered_whole_ms": round(seen.scattered.whole, 3) if seen.scattered is not None else None,
    }


def _setting(name: str) -> str:
    """``madvise`` of ``always [madvise] never``; "" where the kernel has no transparent huge pages."""
    try:
        with open(f"/sys/kernel/mm/transparent_hugepage/{name}", encoding="ascii") as file:
            return file.read().partition("[")[2].partition("]")[0]
    except OSError:
        return ""


def _run(loaded: Loaded, wanted: dict[str, Any], pages: trial.Pages) -> dict[str, Any]:
    """What one run of a job un-shares."""
    known = loaded.ready.jobs.get(wanted["target"])
    target = str(known["target"]) if known is not None else str(wanted["target"])
    found = trial.run(loaded.context, target, wanted["params"], pages)
    return {
        "target": target,
        "ms": round(found.seconds * 1000, 3),
        "bytes": found.private,
        "copied": {package: size for package, size in found.copied.items() if size},
        "error": found.error,
    }


def _sharing(context: Context, seen: Examination, pages: trial.Pages) -> dict[str, Any]:
    """What a worker un-shares: by starting, by a collection, and at most by using each package."""
    start = sharing.in_child(lambda: reset.after_fork(context))
    collection = sharing.in_child(_collect)
    grown = grown_by_package(seen.imports)
    own = sorted({name for name, modules in sharing.packages().items() if not all(map(_is_installed, modules))} - _NOT_OWN)
    order = [*own, *sorted(set(sharing.packages()) - set(own), key=lambda name: -grown.get(name, 0))]
    rows = []
    for package, objects in sharing.owned(order[:_PACKAGES]):
        sample = sharing.in_child(lambda objects=objects: sharing.read_all(objects))  # type: ignore[misc]
        pages.add(package, objects)
        loaded = max(grown.get(package, 0), 0)
        rows.append({"package": package, "loaded": loaded, "objects": len(objects), "copied": sample.grown})
    return {
        "start": {"bytes": start.grown, "ms": round(start.seconds * 1000, 3), "error": start.error},
        "collection": {"bytes": collection.grown, "error": collection.error},
        "packages": sorted(rows, key=lambda row: -int(str(row["copied"]))),
    }


_NOT_OWN = {sharing.STANDARD_LIBRARY, "rocksyd"}


def _collect() -> None:
    import gc  # noqa: PLC0415

    gc.enable()
    gc.collect()


def grown_by_package(imports: Imports) -> dict[str, int]:
    """Bytes of resident memory that came while each package's modules were imported, what they import of others not counted."""
    found: dict[str, int] = {}
    todo = [child for step in imports.steps for child in step.children]
    while todo:
        node = todo.pop()
        package = sharing.package_of(node.name)
        found[package] = found.get(package, 0) + node.grown - sum(child.grown for child in node.children)
        todo += node.children
    return found


# --- saying it --------------------------------------------------------------------------------------------------------
def _tell(kind: str, **fields: Any) -> None:
    data = json.dumps({"kind": kind, **fields}, ensure_ascii=True).encode() + b"\n"
    while data:
        data = data[os.write(REPORT, data) :]


def _say_now(chain: str) -> None:
    os.pwrite(NOW, chain.encode("utf-8", "replace")[-NOW_SIZE + 1 :].ljust(NOW_SIZE, b"\0"), 0)


def _content(fd: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size, 0)


def _leave() -> NoReturn:
    """As a zygote ends, and without what the preload has started beside it."""
    for pid in children_of(os.getpid()):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    inherited.take_back()
    registry.take_back()
    leaving.finish(_LEAVE_GRACE)
    output.flush()
    os._exit(0)
