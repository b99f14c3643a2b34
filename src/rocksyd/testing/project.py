"""A project's ``rocksyd.toml`` for a daemon of a test: the same applications, a temporary socket, a state of their own.

What must live here: which settings a test replaces. What this file must not know: how the daemon is started.
"""

from __future__ import annotations

import json
import os
import tomllib
from typing import Any

from rocksyd.errors import ConfigError

_REPLACED: dict[str, Any] = {"listen": ["unix://d.sock"], "state_dir": "var"}
_WEB = ["http://127.0.0.1:0", "unix://web.sock"]
"""Where requests come in: two daemons cannot have one port."""
_LEFT_OUT = ("token_file", "auth")
_PATHS = ("path", "python")


def for_tests(path: str | os.PathLike[str]) -> str:
    """The text of a configuration with the applications of the file ``path``, to be put into another folder.

    Raises:
        ConfigError: it cannot be read, or is not TOML.
    """
    path = os.path.abspath(path)
    try:
        with open(path, "rb") as file:
            document = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    folder = os.path.dirname(path)
    document = {**{name: value for name, value in document.items() if name not in _LEFT_OUT}, **_REPLACED}
    apps = document.get("apps")
    for app in apps.values() if isinstance(apps, dict) else ():
        for name in _PATHS:
            if isinstance(app, dict) and isinstance(app.get(name), str):
                app[name] = os.path.normpath(os.path.join(folder, app[name]))
        web = app.get("web") if isinstance(app, dict) else None
        if isinstance(web, dict):
            web["listen"] = _WEB
    return toml(document)


def toml(table: dict[str, Any], path: tuple[str, ...] = ()) -> str:
    """A table of strings, numbers, booleans, arrays and tables as TOML text."""
    lines = [f"[{'.'.join(map(_key, path))}]"] if path else []
    lines += [f"{_key(name)} = {_value(value)}" for name, value in table.items() if not isinstance(value, dict)]
    text = "".join(f"{line}\n" for line in lines)
    return text + "".join(toml(value, (*path, name)) for name, value in table.items() if isinstance(value, dict))


def _key(name: str) -> str:
    return _value(name)


def _value(value: Any) -> str:
    if isinstance(value, str):
        # A JSON string is a TOML string, but for DEL, which JSON leaves as it is.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(name)} = {_value(item)}" for name, item in value.items()) + " }"
    return str(value)
