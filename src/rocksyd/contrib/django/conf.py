"""``settings.ROCKSYD``: which commands are jobs, and where the project's daemon is.

    ROCKSYD = {
        "CONFIG": BASE_DIR / "rocksyd.toml",     # default: the nearest rocksyd.toml of the working folder or BASE_DIR, or above
        "ADDRESS": "unix:///run/shop.sock",      # default: what that file says
        "COMMANDS": ["send_digest", "import_*"], # default: ["*"]
    }

What must live here: names, types and defaults of these settings. What this file must not know: what is done with them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from django.conf import settings

from rocksyd.errors import RocksydError

if TYPE_CHECKING:
    from rocksyd.client import Client
    from rocksyd.client.endpoint import Place

KEYS = ("ADDRESS", "COMMANDS", "CONFIG")


class WrongSettings(RocksydError):
    """``settings.ROCKSYD`` cannot be used. The message names the key, ``hint`` says what to write."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class Settings(NamedTuple):
    """What ``settings.ROCKSYD`` says."""

    config: str = ""
    """Absolute path of the project's ``rocksyd.toml``; "" where there is none."""
    address: str = ""
    """"" for what ``config`` says."""
    commands: tuple[str, ...] = ("*",)
    """Patterns for the names of management commands."""


def load() -> Settings:
    """Read ``settings.ROCKSYD``.

    Raises:
        WrongSettings: a key is unknown or its value has the wrong type.
    """
    given: Any = getattr(settings, "ROCKSYD", {})
    if not isinstance(given, dict):
        raise WrongSettings(f"ROCKSYD is a {type(given).__name__}, not a dictionary", 'write ROCKSYD = {"COMMANDS": ["*"]}')
    for key in given:
        if key not in KEYS:
            raise WrongSettings(f"ROCKSYD has a key {key!r}, which means nothing", f"there are: {', '.join(KEYS)}")
    address, config = given.get("ADDRESS") or "", given.get("CONFIG") or ""
    if not isinstance(address, str):
        raise WrongSettings("ROCKSYD['ADDRESS'] is not a string", "write unix://PATH or tcp://HOST:PORT")
    if not isinstance(config, (str, os.PathLike)):
        raise WrongSettings("ROCKSYD['CONFIG'] is not a path", 'write BASE_DIR / "rocksyd.toml"')
    return Settings(os.path.abspath(config) if config else "", address, _patterns(given.get("COMMANDS", ("*",))))


def _patterns(given: Any) -> tuple[str, ...]:
    if isinstance(given, (list, tuple)) and all(isinstance(pattern, str) for pattern in given):
        return tuple(given)
    raise WrongSettings("ROCKSYD['COMMANDS'] is not a list of names", 'write ["send_digest", "import_*"]')


def config_path() -> str:
    """The project's ``rocksyd.toml``: as set, else the nearest from the working folder up, else from BASE_DIR up; "" for none."""
    from rocksyd.client.endpoint import find_config  # noqa: PLC0415  (commands run as jobs do not need it)

    base = getattr(settings, "BASE_DIR", "")
    return load().config or find_config() or (find_config(os.fspath(base)) if base else "")


def place() -> Place | None:
    """Where the project's daemon is; None where nothing in the settings or beside them says so.

    Raises WrongSettings; AddressError and ConfigError where what names the daemon cannot be read.
    """
    from rocksyd.client.endpoint import find, place_of  # noqa: PLC0415

    given = os.environ.get("ROCKSYD_ADDRESS") or load().address
    if given:
        return find(given)
    config = config_path()
    return place_of(config) if config else None


def client(**options: Any) -> Client:
    """A ``rocksyd.Client`` for the project's daemon, from whatever folder it is called.

    Args:
        options: ``timeout``, ``patience`` ... of ``rocksyd.Client``.

    Raises what ``rocksyd.Client`` raises, and WrongSettings.
    """
    from rocksyd.client import Client  # noqa: PLC0415

    where = place()
    return Client(str(where.address), where.token, **options) if where else Client(**options)
