"""Receivers of alerts: what ``[notify.NAME]`` may say, and how the companion ``notify`` is told.

What must live here: the declarations, which settings may stand together, and the plain data that the companion gets.
What this file must not know: when there is an alert (``rocksyd.alerts``), how it is sent.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

from rocksyd.config import forms
from rocksyd.config.address import absolute
from rocksyd.config.forms import choice
from rocksyd.config.setting import array, file_path, read_table, setting
from rocksyd.config.settings import ScriptConfig
from rocksyd.config.table import Table
from rocksyd.options import FLAG, whole
from rocksyd.units import parse_duration, shown

KINDS = (
    "failed", "late", "missed", "long", "short", "restart", "crash", "pool", "companion", "health",
)  # fmt: skip
"""What there are alerts of."""
REDACT = ("*password*", "*passwd*", "*secret*", "*token*", "*api_key*", "*apikey*", "*authorization*", "*cookie*", "*credential*")
_MAIL = re.compile(r"[^\s@<>,;]+@[^\s@<>,;]+")
LOOK = "notify.look"
"""The method by which the scheduler says that ticks were left out."""
_WAYS = ("webhook", "mail", "command")


def _webhook(value: object) -> str:
    return _url(value, ("http", "https"), "https://hooks.example.org/rocksyd")


def _smtp(value: object) -> str:
    return _url(value, ("smtp", "smtps", "smtp+tls"), "smtp://localhost:25")


def _url(value: object, schemes: tuple[str, ...], example: str) -> str:
    try:
        found = urlsplit(value) if isinstance(value, str) and value.isascii() and value.isprintable() else None
        wrong = found is None or found.scheme not in schemes or not found.hostname or found.port == 0 or " " in found.geturl()
    except ValueError:
        wrong = True
    if wrong:
        raise ValueError(f'expected an address such as "{example}", got {shown(value)}')
    return str(value)


def _address(value: object) -> str:
    if not isinstance(value, str) or not value.isprintable() or not _MAIL.fullmatch(value):
        raise ValueError(f'expected an address such as "ops@example.org", got {shown(value)}')
    return value


def _word(value: object) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise ValueError(f"expected a word of a command line, a string, got {shown(value)}")
    return value


def _patterns(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
        raise ValueError(f'expected an array of names such as ["*password*"], got {shown(value)}')
    return tuple(value)


@dataclass(frozen=True)
class ReceiverConfig:
    """Somebody who is told of alerts."""

    webhook: str = setting("", _webhook, "where alerts are sent to by POST, as JSON", "one of the three")
    mail: tuple[str, ...] = array("ops@example.org", _address, "who gets letters", "one of the three")
    command: tuple[str, ...] = array(
        "/usr/local/bin/page", _word, "what is run for each alert: a program with its arguments, the JSON on its standard input",
        "one of the three",
    )  # fmt: skip
    on: tuple[str, ...] = array("failed", choice(*KINDS), "which [alerts](#alerts)", "all")
    only: tuple[str, ...] = array(
        "billing-*", forms.text("billing-*"), "whose: patterns of the names of scripts, jobs, pools, companions", "all"
    )
    after: int = setting(1, whole(1, 1000).convert, "`failed`: how often in a row")
    every: float = setting("1h", parse_duration, "the same thing is told at most once in this time; `0`: each time")
    recovered: bool = setting(True, FLAG.convert, "whether it is told when something is well again")
    redact: tuple[str, ...] | None = setting(
        None,
        _patterns,
        "names of values that nobody is to read, with `*`, among the params and wherever else they stand; params by position are "
        "left out, unless this is `[]`",
        " ".join(f"`{one}`" for one in REDACT),
    )
    secret_file: str = file_path("hook.secret", "`webhook`: the file with the secret that signs", "not signed")
    token_file: str = file_path("hook.token", "`webhook`: the file with what is sent as `Authorization: Bearer`", "none")
    smtp: str = setting(
        "smtp://localhost:25", _smtp, "`mail`: the server; `smtps://` for TLS from the beginning, `smtp+tls://` for STARTTLS"
    )
    smtp_user: str = setting("", forms.text("rocksyd"), "`mail`: who logs in at the server", "nobody")
    smtp_password_file: str = file_path("smtp.password", "`mail`: the file with that user's password", "none")
    sender: str = setting("", _address, "`mail`: whom letters are from", "`rocksyd@` and the name of the machine")
    timeout: float = setting("10s", forms.positive_duration, "how long one try may take")
    give_up: float = setting("1d", forms.positive_duration, "for how long it is tried")


def parse(table: Table) -> dict[str, ReceiverConfig]:
    """The receivers that ``[notify]`` has, by name. Other keys of it are the companion's own."""
    found = {}
    for name in [name for name, value in table.values.items() if isinstance(value, dict) and name != "env"]:
        own = table.table(name)
        if not forms.NAME.fullmatch(name):
            own.problem("expected a receiver's name of at most 64 letters, digits, - and _, beginning with a letter or digit")
        found[name] = _receiver(own)
    if not found and not table.wrong:
        table.problem('nobody is to be told; add [notify.ops] with webhook = "...", mail = ["..."] or command = ["..."]')
    return found


def _receiver(table: Table) -> ReceiverConfig:
    receiver = read_table(ReceiverConfig, table)
    if table.wrong:
        return receiver
    ways = [way for way in _WAYS if table.given(way)]
    if not ways or table.values.get(ways[0]) == []:
        table.problem('how is missing; add webhook = "https://...", mail = ["..."] or command = ["..."]')
    for way in ways[1:]:
        table.problem(f"{ways[0]} and {way} contradict each other; make two receivers of it", way)
    owners = {"secret_file": "webhook", "token_file": "webhook"} | dict.fromkeys(
        ("smtp", "smtp_user", "smtp_password_file", "sender"), "mail"
    )
    for key, way in owners.items():
        if table.given(key) and ways and way not in ways:
            table.problem(f"{key} says something only with {way}", key)
    if table.given("smtp_user") != table.given("smtp_password_file"):
        table.problem("smtp_user and smtp_password_file need each other", *(["smtp_user"] if table.given("smtp_user") else []))
    return receiver


def check(table: Table, scripts: dict[str, ScriptConfig], receivers: dict[str, ReceiverConfig]) -> None:
    """See that the receivers that scripts name are there."""
    for name, script in scripts.items():
        for index, receiver in enumerate(script.notify):
            if receiver not in receivers:
                there = f"there are: {', '.join(receivers)}" if receivers else "there is none: add [notify.ops]"
                table.problem(f"there is no receiver {receiver!r} ({there})", "scripts", name, "notify", index)


def told(table: Table, scripts: dict[str, ScriptConfig], receivers: dict[str, ReceiverConfig]) -> dict[str, Any]:
    """What the companion is told."""
    folder = table.source.folder
    state_dir = absolute(folder, str(table.values.get("state_dir", "var")))
    return {
        "receivers": [
            {**asdict(one), "name": name, "redact": REDACT if one.redact is None else one.redact}
            for name, one in receivers.items()
        ],
        "scripts": {
            name: {
                "late_after": one.late_after, "long_after": one.long_after, "at_least": one.at_least,
                "to": one.notify, "owner": one.owner, "tags": one.tags,
            }
            for name, one in scripts.items()
        },
        "schedules": True,
        "store": f"{state_dir}/notify.sqlite",
        "daemon": folder,
    }  # fmt: skip
