"""`rocksyd kill`, `free` and `retry` of all runs that a filter finds: counted, asked about, ordered together.

What must live here: what is asked before, and what is said after.
What this file must not know: how runs are found (``filters``).
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from typing import Any, NamedTuple

from rocksyd.cli.arguments import client
from rocksyd.cli.filters import asked, found
from rocksyd.cli.output import clean, json_line, say, write
from rocksyd.errors import RequestError

USAGE, REFUSED = 2, 1
_AT_ONCE = 500
"""Orders that are sent together."""
_SHOWN = 3
"""Targets, and reasons of a refusal, that are named."""


class Act(NamedTuple):
    """What is done to each of the runs."""

    verb: str
    done: str
    method: str
    states: tuple[str, ...]
    """Those that it can be done in."""


KILL = Act("end", "told to end", "terminate", ("running", "waiting"))
FREE = Act("forget", "forgotten", "free", ("ended",))
RETRY = Act("run again", "run again", "retry", ("ended",))


def wants_many(options: argparse.Namespace) -> bool:
    """Whether it is about all runs of a filter. Raises ValueError where it is about nothing, or about keys as well."""
    filters = [*asked(options), *(["--all"] if options.all else [])]
    if options.keys and filters:
        raise ValueError("give keys, or filters (--target ..., --all), not both")
    if not options.keys and not filters:
        raise ValueError("say which: KEY..., a filter such as --target or --failed --since 1h, or --all")
    return not options.keys


def each_found(options: argparse.Namespace, act: Act, more: dict[str, Any] | None = None) -> int:
    """Do it to every run that the filters find, after a question that ``--yes`` answers."""
    with client(options) as daemon:
        runs = [run for state in act.states for run in found(daemon, {**asked(options), "state": state})]
        targets = Counter(str(run.get("target")) for run in runs)
        keys = list(dict.fromkeys(str(run["key"]) for run in runs))
        del runs
        if not keys:
            say("no run fits")
            return _told(options, act, 0, {})
        if not options.yes and not _agreed(f"{act.verb} {_runs(len(keys))} ({_named(targets)})?"):
            return REFUSED
        refused: dict[str, str] = {}
        for at in range(0, len(keys), _AT_ONCE):
            some = keys[at : at + _AT_ONCE]
            answers = daemon.answers([(act.method, {"key": key, **(more or {})}) for key in some])
            refused |= {key: str(one) for key, one in zip(some, answers, strict=True) if isinstance(one, RequestError)}
    return _told(options, act, len(keys) - len(refused), refused)


def _told(options: argparse.Namespace, act: Act, done: int, refused: dict[str, str]) -> int:
    if options.json:
        write(json_line({"done": done, "refused": refused}))
    elif not options.quiet and (done or refused):
        write(f"{_runs(done)} {act.done}\n")
    for key in [] if options.json else list(refused)[:_SHOWN]:
        say(f"{clean(key)}: {refused[key]}")
    if len(refused) > _SHOWN and not options.json:
        say(f"and {len(refused) - _SHOWN} more that were refused; --json names all")
    return REFUSED if refused else 0


def _agreed(question: str) -> bool:
    """Ask the person; nobody there is no."""
    if not sys.stdin.isatty():
        say(f"{question} Nobody can be asked: repeat it with --yes")
        return False
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _runs(number: int) -> str:
    return f"{number:,} run{'s' * (number != 1)}"


def _named(targets: Counter[str]) -> str:
    words = [f"{count:,} {clean(target)}" for target, count in targets.most_common(_SHOWN)]
    rest = len(targets) - len(words)
    return ", ".join(words) + (f" and of {rest} more targets" if rest > 1 else " and of another target" if rest else "")
