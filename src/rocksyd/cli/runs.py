"""The commands about runs: run, check, wait, logs, kill, stack, free, retry."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import chain, repeat
from typing import Any

from rocksyd import codes
from rocksyd.cli import bulk
from rocksyd.cli.arguments import client, exact, has_written, meant, options_of_run
from rocksyd.cli.check import not_found
from rocksyd.cli.output import clean, json_line, say, write
from rocksyd.cli.outputs import last_lines, show
from rocksyd.cli.phrases import describe, exit_status
from rocksyd.cli.progress import Progress
from rocksyd.client import Client, Run
from rocksyd.client.records import failure_text
from rocksyd.errors import NotFound, RequestError

INTERRUPTED = 130
USAGE, REFUSED = 2, 1
_MAILED = 20
"""Lines of output that ``--quiet`` shows of a run that did not end well."""
_CLOCK = 0.01
"""Seconds by which times in records are rounded, at most."""


class _UsageError(Exception):
    """The arguments contradict each other; the text says how."""


def run(options: argparse.Namespace) -> int:
    """Order a run; print its key, with ``--wait`` also what it returned, with ``--follow`` its output instead."""
    try:
        _contradictions(options)
    except _UsageError as error:
        say(f"run: {error}")
        return USAGE
    with client(options) as daemon:
        params = _params(options, daemon)
        asked_at = time.time()
        ordered = daemon.run(options.target, key=options.key, app=options.app, params=params, **options_of_run(options))
        here = daemon.place.address.kind == "unix"  # the clock of another machine may differ
        if options.key and here and ordered.record.get("submitted_at", asked_at) < asked_at - _CLOCK:
            key, state = clean(ordered.key), clean(ordered.record.get("outcome") or ordered.record.get("state"))
            say(f"{key} was ordered before ({state}): nothing new runs; once it has ended, `rocksyd retry {key}` runs it again")
        if options.follow:
            # Standard output is the job's.
            if not options.quiet:
                say(f"run {clean(ordered.key)}")
            return _follow(ordered, as_json=options.json)
        if not options.wait:
            if not options.quiet:
                write(json_line(ordered.record) if options.json else f"{ordered.key}\n")
            return 0
        if not options.json and not options.quiet:
            write(f"{ordered.key}\n")
        with _leaving(ordered.key):
            record = ordered.wait()
        if options.quiet:
            return _told_if_bad(daemon, record)
        if not options.json and record.get("outcome") == "ok" and record.get("result") is not None:
            write(json_line(record["result"]))
        if record.get("result_dropped"):
            say(f"{ordered.key}: {record['result_dropped']}")
        return _finished(record, as_json=options.json)


def _contradictions(options: argparse.Namespace) -> None:
    names = [name for name, _ in options.values]
    if len(set(names)) < len(names):
        raise _UsageError(f"{next(name for name in names if names.count(name) > 1)} is given twice: give it once")
    if "=" in options.target:
        raise _UsageError(f"{options.target} is an argument, and the job goes before it: rocksyd run TARGET {options.target}")
    if twice := [name for name in names if isinstance(options.params, dict) and name in options.params]:
        raise _UsageError(f"{twice[0]} is in --params and given as {twice[0]}=...: give it once")
    if names and isinstance(options.params, list):
        raise _UsageError("--params is an array, and NAME=VALUE are arguments by name: give all by position or all by name")


def _params(options: argparse.Namespace, daemon: Client) -> Any:
    """``--params`` and ``NAME=VALUE`` together; None when there are neither."""
    values = {name: meant(text) for name, text in options.values}
    # 5 can be a number, or the name of something; 12.10 a float, or a decimal with two places.
    if any(not isinstance(value, str) for value in values.values()) or has_written(options.params):
        takes = _Takes(daemon, options.target, options.app)
        values = {name: meant(text, takes.named(name)) for name, text in options.values}
        if options.params is not None:
            params: Any = [takes.exact(one) for one in options.params] if options.each else takes.exact(options.params)
            return {**params, **values} if values else params
    return values or options.params


class _Takes:
    """What a target declares of its parameters, as far as that can be known: nothing is no reason not to order it."""

    def __init__(self, daemon: Client, target: str, app: str | None) -> None:
        try:
            rows = daemon.targets(app)
        except RequestError:
            rows = []
        signature = next((row.get("signature") for row in rows if target in (row.get("name"), row.get("target"))), None) or {}
        parameters = signature.get("parameters", ())
        self._named = {one["name"]: one.get("schema", {}) for one in parameters if one.get("kind") in (None, "keyword")}
        self._places = [one.get("schema", {}) for one in parameters if one.get("kind") in (None, "positional")]
        self._beside = {one["kind"]: one.get("schema", {}) for one in parameters if one.get("kind") in ("rest", "others")}

    def named(self, name: str) -> dict[str, Any]:
        """The schema of the parameter of this name."""
        found: dict[str, Any] = self._named.get(name, self._beside.get("others", {}))
        return found

    def exact(self, params: Any) -> Any:
        """Parameters in which no decimal has lost a digit."""
        if isinstance(params, dict):
            return {name: exact(value, self.named(name)) for name, value in params.items()}
        if not isinstance(params, list):
            return params
        schemas = chain(self._places, repeat(self._beside.get("rest", {})))
        return [exact(value, schema) for value, schema in zip(params, schemas, strict=False)]


def _follow(ordered: Run, *, as_json: bool) -> int:
    shown = Progress()
    with _leaving(ordered.key):
        try:
            for text in ordered.logs(follow=True, told=shown.told if shown.shown else None):
                shown.output(text)
            record = ordered.wait()
        finally:
            shown.close()
    if as_json:
        say(json_line(record).rstrip())
        return exit_status(record)
    if shown.shown and record.get("outcome") == "ok":
        say(describe(record, time.time()))
    return _finished(record, as_json=False)


def _told_if_bad(daemon: Client, record: dict[str, Any]) -> int:
    """For cron, which mails what is printed: nothing of a run that ended well, else how, and the end of its output."""
    if record.get("outcome") != "ok":
        key = str(record.get("key"))
        say(f"{key} ({record.get('target')}) {record.get('outcome')}: {failure_text(record)}")
        for line in last_lines(daemon, key, _MAILED):
            say(f"  {line}")
    return exit_status(record)


def _finished(record: dict[str, Any], *, as_json: bool) -> int:
    """Say how a run that was waited for ended; its own exit status."""
    if as_json:
        write(json_line(record))
    elif record.get("outcome") != "ok":
        say(f"{clean(record.get('key'))} {record.get('outcome')}: {clean(failure_text(record))}")
    return exit_status(record)


@contextmanager
def _leaving(key: str) -> Iterator[None]:
    """Ctrl-C ends the watching, not the run; say how to come back."""
    try:
        yield
    except KeyboardInterrupt:
        key = clean(key)
        say(f"the run goes on; `rocksyd logs -f {key}` follows it, `rocksyd wait {key}` waits, `rocksyd kill {key}` ends it")
        raise


def check(options: argparse.Namespace) -> int:
    """One line, or the record, of a run."""
    with client(options) as daemon:
        try:
            record = daemon.status(options.key)
        except NotFound:
            raise _unknown(options.key) from None
    write(json_line(record) if options.json else describe(record, time.time()) + "\n")
    return 0


def _unknown(key: str) -> NotFound:
    return NotFound(codes.NOT_FOUND, not_found(key))


def wait(options: argparse.Namespace) -> int:
    """A line a run as it ends; the status of the first of the keys, in their order, that did not end well."""
    keys = list(dict.fromkeys(options.keys))
    statuses: dict[str, int] = {}
    with client(options) as daemon:
        try:
            for record in daemon.wait(*keys, timeout=options.timeout):
                statuses[str(record.get("key"))] = exit_status(record)
                if not options.quiet or record.get("outcome") != "ok":
                    write(json_line(record) if options.json else describe(record, time.time()) + "\n")
        except NotFound as error:
            raise (_unknown(keys[0]) if len(keys) == 1 else error) from None
        except KeyboardInterrupt:
            say("the runs go on")
            raise
    return next((statuses[key] for key in keys if statuses.get(key)), 0)


def logs(options: argparse.Namespace) -> int:
    """The output of a run, as far as it is there or until it has ended."""
    with client(options) as daemon:
        try:
            with _leaving(options.key) if options.follow else nullcontext():
                show(options, daemon)
        except NotFound:
            raise _unknown(options.key) from None
    return 0


def kill(options: argparse.Namespace) -> int:
    """End runs."""
    more = {} if options.signal is None else {"signal": options.signal}
    return _some(options, bulk.KILL, lambda daemon, key: daemon.terminate(key, options.signal), more)


def stack(options: argparse.Namespace) -> int:
    """Print where the threads of a run are."""
    with _one(options) as daemon:
        found = daemon.request("stack", {"key": options.key}, wait=True)
    write(json_line(found) if options.json else found["text"])
    return 0


def free(options: argparse.Namespace) -> int:
    """Forget runs."""
    return _some(options, bulk.FREE, lambda daemon, key: daemon.free(key))


def retry(options: argparse.Namespace) -> int:
    """Run ended runs again; print their keys."""

    def again(daemon: Client, key: str) -> None:
        ordered = daemon.retry(key)
        if not options.quiet:
            write(json_line(ordered.record) if options.json else f"{ordered.key}\n")

    return _some(options, bulk.RETRY, again)


def _some(
    options: argparse.Namespace, act: bulk.Act, order: Callable[[Client, str], None], more: dict[str, Any] | None = None
) -> int:
    """An order about the runs with these keys, or about all that the filters find."""
    try:
        many = bulk.wants_many(options)
    except ValueError as error:
        say(str(error))
        return USAGE
    return bulk.each_found(options, act, more) if many else _each(options, order)


def _each(options: argparse.Namespace, order: Callable[[Client, str], None]) -> int:
    """An order about each of the keys: what is refused for one is said, and the others are gone on with."""
    status = 0
    with client(options) as daemon:
        for key in dict.fromkeys(options.keys):
            try:
                order(daemon, key)
            except NotFound:
                say(not_found(key))
            except RequestError as error:
                if error.code == codes.INVALID_PARAMS:
                    raise
                say(f"{clean(key)}: {error}" if len(options.keys) > 1 else str(error))
            else:
                continue
            status = REFUSED
    return status


@contextmanager
def _one(options: argparse.Namespace) -> Iterator[Any]:
    """A client for one order about one key."""
    with client(options) as daemon:
        try:
            yield daemon
        except NotFound:
            raise _unknown(options.key) from None
