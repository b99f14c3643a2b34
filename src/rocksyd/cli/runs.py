"""The commands about single runs: run, check, wait, logs, kill, stack, free, retry."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rocksyd.cli.arguments import client, meant, pair
from rocksyd.cli.check import not_found
from rocksyd.cli.output import clean, say, write
from rocksyd.cli.phrases import describe, exit_status
from rocksyd.cli.progress import Progress
from rocksyd.client import Client, Run
from rocksyd.client.records import failure_text
from rocksyd.errors import NotFound, RequestError

INTERRUPTED = 130
USAGE = 2


class _UsageError(Exception):
    """The arguments contradict each other; the text says how."""


def run(options: argparse.Namespace) -> int:
    """Order a run; print its key, with ``--wait`` also what it returned, with ``--follow`` its output instead."""
    try:
        _contradictions(options)
        env, labels = (_pairs(options, name) for name in ("env", "label"))
    except (_UsageError, argparse.ArgumentTypeError) as error:
        say(f"run: {error}")
        return USAGE
    with client(options) as daemon:
        params = _params(options, daemon)
        ordered = daemon.run(
            options.target, key=options.key, app=options.app, priority=options.priority, timeout=options.timeout,
            start_within=options.start_within, delay=options.delay, retries=options.retries,
            env=env, labels=labels, params=params,
        )  # fmt: skip
        if options.follow:
            # Standard output is the job's.
            say(f"run {clean(ordered.key)}")
            return _follow(ordered, as_json=options.json)
        if not options.wait:
            write(_json(ordered.record) if options.json else f"{ordered.key}\n")
            return 0
        if not options.json:
            write(f"{ordered.key}\n")
        with _leaving(ordered.key):
            record = ordered.wait()
        if not options.json and record.get("outcome") == "ok" and record.get("result") is not None:
            write(_json(record["result"]))
        if record.get("result_dropped"):
            say(f"{ordered.key}: {record['result_dropped']}")
        return _finished(record, as_json=options.json)


def _contradictions(options: argparse.Namespace) -> None:
    names = [name for name, _ in options.values]
    if len(set(names)) < len(names):
        raise _UsageError(f"{next(name for name in names if names.count(name) > 1)} is given twice: give it once")
    if names and isinstance(options.params, list):
        raise _UsageError("--params is an array, and NAME=VALUE are arguments by name: give all by position or all by name")


def _params(options: argparse.Namespace, daemon: Client) -> Any:
    """``--params`` and ``NAME=VALUE`` together; None when there are neither."""
    if not options.values:
        return options.params
    values = {name: meant(text) for name, text in options.values}
    if any(not isinstance(value, str) for value in values.values()):  # 5 can be a number, or the name of something
        schemas = _schemas(daemon, options.target, options.app)
        values = {name: meant(text, schemas.get(name)) for name, text in options.values}
    return {**(options.params or {}), **values}


def _schemas(daemon: Client, target: str, app: str | None) -> dict[str, Any]:
    """What the target declares of its parameters, as far as that can be known: {} is no reason not to order it."""
    try:
        rows = daemon.targets(app)
    except RequestError:
        return {}
    signature = next((row.get("signature") for row in rows if target in (row.get("name"), row.get("target"))), None) or {}
    return {parameter["name"]: parameter.get("schema", {}) for parameter in signature.get("parameters", ())}


def _pairs(options: argparse.Namespace, name: str) -> dict[str, str] | None:
    words = getattr(options, name)
    return dict(pair(word) for word in words) if words else None


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
        say(json.dumps(record))
        return exit_status(record)
    if shown.shown and record.get("outcome") == "ok":
        say(describe(record, time.time()))
    return _finished(record, as_json=False)


def _finished(record: dict[str, Any], *, as_json: bool) -> int:
    """Say how a run that was waited for ended; its own exit status."""
    if as_json:
        write(_json(record))
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
    write(_json(record) if options.json else describe(record, time.time()) + "\n")
    return 0


def _unknown(key: str) -> NotFound:
    return NotFound(-32001, not_found(key))


def wait(options: argparse.Namespace) -> int:
    """A line a run as it ends; the status of the first of the keys, in their order, that did not end well."""
    keys = list(dict.fromkeys(options.keys))
    statuses: dict[str, int] = {}
    with client(options) as daemon:
        try:
            for record in daemon.wait(*keys, timeout=options.timeout):
                statuses[str(record.get("key"))] = exit_status(record)
                write(_json(record) if options.json else describe(record, time.time()) + "\n")
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
            pieces = daemon.logs(options.key, follow=options.follow)
            if options.json:
                for text in pieces:
                    write(_json({"key": options.key, "text": text}))
                return 0
            if options.follow:
                with _leaving(options.key):
                    for text in pieces:
                        write(text)
                return 0
            for text in pieces:
                write(text)
        except NotFound:
            raise _unknown(options.key) from None
    return 0


def kill(options: argparse.Namespace) -> int:
    """End a run."""
    with _one(options) as daemon:
        daemon.terminate(options.key, options.signal)
    return 0


def stack(options: argparse.Namespace) -> int:
    """Print where the threads of a run are."""
    with _one(options) as daemon:
        found = daemon.request("stack", {"key": options.key}, wait=True)
    write(_json(found) if options.json else found["text"])
    return 0


def free(options: argparse.Namespace) -> int:
    """Forget a run."""
    with _one(options) as daemon:
        daemon.free(options.key)
    return 0


def retry(options: argparse.Namespace) -> int:
    """Run a run again."""
    with _one(options) as daemon:
        again = daemon.retry(options.key)
    write(_json(again.record) if options.json else f"{again.key}\n")
    return 0


@contextmanager
def _one(options: argparse.Namespace) -> Iterator[Any]:
    """A client for one order about one key."""
    with client(options) as daemon:
        try:
            yield daemon
        except NotFound:
            raise _unknown(options.key) from None


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) + "\n"
