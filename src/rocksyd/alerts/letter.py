"""An alert as it is sent: JSON for a webhook and a command, a letter for people.

What must live here: the two forms. What this file must not know: how they are sent, and to whom.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from rocksyd.alerts.alert import Alert
from rocksyd.alerts.redact import redacted
from rocksyd.units import format_duration

MOST_TITLE, MOST_TEXT, MOST_BODY = 300, 16_384, 131_072
"""Characters of a title, and of each text; bytes of the JSON as a whole."""


def payload(number: str, alert: Alert, where: dict[str, str], patterns: tuple[str, ...]) -> dict[str, Any]:
    """The alert as JSON. ``where``: which daemon of which machine says so."""
    said = {
        "id": number,
        "kind": alert.kind,
        "subject": alert.subject,
        "title": cut(alert.title, MOST_TITLE),
        "text": cut(alert.text, MOST_TEXT),
        "at": moment(alert.at),
        "over": alert.over,
        "count": alert.number,
        "in_a_row": alert.streak or None,
        "fingerprint": alert.fingerprint,
        "host": where["host"],
        "daemon": where["daemon"],
        "about": alert.about,
    }
    found = redacted(said, patterns)
    if len(json.dumps(found)) > MOST_BODY:  # a run's params, say
        found["about"] = {name: cut(str(value), 1000) for name, value in found["about"].items()}
    return found


def subject(said: dict[str, Any]) -> str:
    """The subject of a letter, in one line."""
    state = "over: " if said["over"] else ""
    more = f" ({said['count']} times)" if said["count"] > 1 and said["kind"] != "missed" else ""
    return " ".join(f"[{said['host']}] {state}{said['title']}{more}".split())


def body(said: dict[str, Any], every: float) -> str:
    """What a letter says."""
    about = dict(said["about"])
    output, error = about.pop("output", ""), about.pop("error", None)
    parts = [said["title"] + (" (over)" if said["over"] else "")]
    if said["count"] > 1 and said["kind"] != "missed":
        parts.append(f"{said['count']} times since this was told last; told at most every {format_duration(every)}.")
    if said["text"]:
        parts.append(said["text"])
    names = ("script", "target", "app", "key", "outcome", "retcode", "attempt", "revision", "owner", "tags", "params")
    lines = [f"{name:10} {_plain(about[name])}" for name in names if about.get(name) not in (None, "", [])]
    parts.append("\n".join([*lines, f"{'at':10} {said['at']}", f"{'daemon':10} {said['daemon']} on {said['host']}"]))
    if isinstance(error, dict) and error.get("traceback"):
        parts.append(cut(str(error["traceback"]).rstrip(), MOST_TEXT))
    if output:
        parts.append(f"The end of its output:\n\n{output.rstrip()}")
    if about.get("key"):
        parts.append(f"More: rocksyd logs {about['key']}; rocksyd why {about['key']}")
    return "\n\n".join(parts) + "\n"


def moment(at: float) -> str:
    """Unix seconds as RFC 3339, UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def cut(text: str, most: int) -> str:
    """The text, or its beginning and its end."""
    if len(text) <= most:
        return text
    return f"{text[: most // 2]} [...] {text[-most // 2 :]}"


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
