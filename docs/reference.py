"""The manual's tables of settings, parameters and errors, made from where those are declared.

    python docs/reference.py            write them into the pages
    python docs/reference.py --check    say which page is not as the declarations are, or needs Sphinx to be read, and fail

A table stands between ``<!-- table: WHAT -->`` and ``<!-- end -->``; WHAT is the name of a class of ``rocksyd.config.settings``,
with names behind it only those settings of it, with ``but`` and names all others; or one of the words in ``OTHERS``.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import binary_schema
import command_line
import python_api

from rocksyd.companions.metric_names import ALL, GROUPS
from rocksyd.config import notify, services, settings, web
from rocksyd.config.setting import Setting, declared
from rocksyd.master.desk import openrpc
from rocksyd.master.desk.methods import METHODS
from rocksyd.options import DURATION, JOB, TARGET, Option, said_in
from rocksyd.units import format_duration

NAMES = (
    "commands.md", "configuration.md", "gateway.md", "metrics.md", "notifications.md", "protocol.md", "python.md", "schedules.md",
)  # fmt: skip
PAGES = [Path(__file__).parent / name for name in NAMES]
METRICS = Path(__file__).parent / "schema" / "metrics.json"
PROTO = METRICS.with_name("rocksyd.proto")
PACKAGED = Path(__file__).parents[1] / "src" / "rocksyd" / "companions" / "gateway" / "binary" / "rocksyd.proto"
"""The same file, for the gateway."""
_ROLE = re.compile(r"\{(term|doc|ref|download|numref|[a-z]+:[a-z]+)\}`")
"""Sphinx's own notation for a reference; where the pages are read as they are, nobody understands it."""
_TABLE = re.compile(r"(?P<head><!-- table: (?P<what>[^>]+?) -->\n).*?(?P<foot><!-- end -->)", re.DOTALL)
_PREFIXES = {"RestartConfig": "restart.", "JournalConfig": "journal.", "OutputConfig": "output."}


def _settings(what: list[str]) -> Iterable[str]:
    of = declared(next(getattr(home, what[0]) for home in (settings, notify, services, web) if hasattr(home, what[0])))
    named = set(what[1:]) - {"but"}
    if unknown := named - set(of):
        raise SystemExit(f"{what[0]} has no setting {', '.join(sorted(unknown))}")
    yield from ("| setting | default | |", "| --- | --- | --- |")
    for name, one in of.items():
        if one.text and (not named or (name in named) != ("but" in what)):
            yield f"| `{_PREFIXES.get(what[0], '')}{name}` | {_default(one)} | {one.text} |"


def _default(one: Setting) -> str:
    return one.unset or f"`{json.dumps(one.default)}`"


def _of_jobs(_: list[str]) -> Iterable[str]:
    yield from ("| setting | default | |", "| --- | --- | --- |")
    for option in said_in(JOB):
        unset = "" if option.default in (None, "") else f"`{_as_written(option)}`"
        yield f"| `{option.name}` | {unset} | {option.text} |"


def _as_written(option: Option) -> str:
    return format_duration(option.default) if option.form is DURATION and option.default else json.dumps(option.default)


def _of_targets(_: list[str]) -> Iterable[str]:
    yield from ("| setting | |", "| --- | --- |")
    for option in said_in(TARGET):
        yield f"| `{option.name}` | {option.text} |"


def _of_method(what: list[str]) -> Iterable[str]:
    yield from ("| parameter | |", "| --- | --- |")
    for parameter in METHODS[what[0]].parameters:
        yield f"| `{parameter.name}` | {parameter.text} |"


def _of_metrics(what: list[str]) -> Iterable[str]:
    yield from ("| metric | kind | from | |", "| --- | --- | --- | --- |")
    for one in GROUPS[what[1]]:
        labels = f"{{{', '.join(one.labels)}}}" if one.labels else ""
        yield f"| `{one.shown}{labels}` | {one.kind} | {one.source} | {one.text.rstrip('.')} |"


def _metrics_schema() -> str:
    """The names of all metrics, for programs."""
    fields = ("name", "kind", "unit", "labels", "text")
    rows = [{"sample": one.shown, **{name: getattr(one, name) for name in fields}} for one in ALL]
    return json.dumps({"metrics": rows}, indent=1) + "\n"


OTHERS: dict[str, Callable[[list[str]], Iterable[str]]] = {
    "api": python_api.described,
    "commands": command_line.commands,
    "errors": python_api.errors,
    "job": _of_jobs,
    "list": _of_method,
    "metrics": _of_metrics,
    "run": _of_method,
    "statuses": command_line.statuses,
    "targets": _of_targets,
}


def page(text: str) -> str:
    """The page with its tables made anew."""

    def table(found: re.Match[str]) -> str:
        what = found["what"].split()
        lines = "\n".join(OTHERS.get(what[0], _settings)(what)).rstrip("\n")
        return "\n".join([found["head"], lines, "", found["foot"]])

    return _TABLE.sub(table, text)


def main(arguments: list[str]) -> int:
    """Write the tables, or with ``--check`` compare them."""
    stale = 0
    wanted = {path: page(path.read_text(encoding="utf-8")) for path in PAGES} | {METRICS: _metrics_schema()}
    made = binary_schema.proto(openrpc.document(), PROTO.read_text(encoding="utf-8") if PROTO.exists() else "")
    wanted |= {PROTO: made, PACKAGED: made}
    for path, made in wanted.items():
        if path.exists() and path.read_text(encoding="utf-8") == made:
            continue
        stale += 1
        if "--check" in arguments:
            print(f"{path.name}: it is not what is declared; run python docs/reference.py", file=sys.stderr)
        else:
            path.write_text(made, encoding="utf-8")
    for path in sorted(PAGES[0].parent.rglob("*.md")):
        if "--check" in arguments and (role := _ROLE.search(path.read_text(encoding="utf-8"))):
            stale += 1
            print(f"{path.name}: {role[0]}...` is for Sphinx alone; write [word](page.md#heading)", file=sys.stderr)
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
