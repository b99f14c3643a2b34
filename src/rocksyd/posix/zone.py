"""The system's time zone.

What must live here: where the system says it. What this file must not know: what zones are for.

Sources: tzset(3), https://www.freedesktop.org/software/systemd/man/latest/localtime.html
"""

from __future__ import annotations

import os

_LINK, _NAME = "/etc/localtime", "/etc/timezone"


def system_zone() -> str:
    """The name of the system's time zone, such as ``Europe/Berlin``; ``UTC`` where the system does not say."""
    said = os.environ.get("TZ", "").removeprefix(":")
    if said and not said.startswith("/"):
        return said
    try:
        found = os.path.realpath(said or _LINK)
        if "/zoneinfo/" in found:
            return found.partition("/zoneinfo/")[2]
    except OSError:
        pass
    try:
        with open(_NAME, encoding="ascii") as file:
            return file.read().strip() or "UTC"
    except (OSError, ValueError):
        return "UTC"
