"""`rocksyd doctor`: each application loaded as the daemon would load it, and what was found.

What must live here: which applications, the exit status, JSON. What this file must not know: how an application is examined, what
is a finding, how it is shown.
"""

from __future__ import annotations

import argparse
from typing import Any

from rocksyd import config
from rocksyd.cli.daemon import config_path
from rocksyd.cli.doctor_view import shown
from rocksyd.cli.output import json_line, say, write
from rocksyd.cli.tables import screen
from rocksyd.doctor.examining import examine
from rocksyd.doctor.findings import BREAKS, findings
from rocksyd.doctor.libraries import libraries
from rocksyd.errors import ConfigError

BROKEN = 1


def doctor(options: argparse.Namespace) -> int:
    """Examine, one application after the other; 1 when something was found that breaks."""
    path = config_path(options)
    settings = config.load(path)
    names = options.app or list(settings.apps)
    unknown = [name for name in names if name not in settings.apps]
    if unknown:
        raise ConfigError(f"{path} has no application {unknown[0]!r}; it has: {', '.join(settings.apps) or 'none'}")
    if options.target and len(names) > 1:
        raise ConfigError(f"--run needs one application: add --app NAME ({', '.join(names)})")
    run = {"target": options.target, "params": options.params} if options.target else None
    known, target = libraries(), screen()
    load_timeout = settings.restart.prepare_timeout
    apps: dict[str, Any] = {}
    for name in names:
        app = settings.apps[name]
        if target.width is not None and not options.json:
            say(f"loading {name} …")
        report = examine(app, known, load_timeout, run)
        found = findings(app, report, known, _memory_left(), load_timeout)
        apps[name] = {**report, "findings": [finding._asdict() for finding in found]}
        if not options.json:
            write(shown(app, report, found, target, everything=options.all))
    ok = not any(finding["level"] == BREAKS for app in apps.values() for finding in app["findings"])
    if options.json:
        write(json_line({"ok": ok, "config": path, "apps": apps}))
    return 0 if ok else BROKEN


def _memory_left() -> int:
    """Bytes of memory that this machine could still give; 0 where it does not say."""
    try:
        with open("/proc/meminfo", "rb") as file:
            return next((int(line.split()[1]) * 1024 for line in file if line.startswith(b"MemAvailable:")), 0)
    except (OSError, ValueError):
        return 0
