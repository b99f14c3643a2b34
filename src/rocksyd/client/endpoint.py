"""Where the daemon is: ``--address``, ``$ROCKSYD_ADDRESS``, or the ``rocksyd.toml`` of this folder or above.

What must live here: addresses as clients write them, and how one is found without loading a configuration.
What this file must not know: sockets, and everything in ``rocksyd.toml`` but ``listen`` and ``token_file``.

Every command pays for what is imported here, so it is ``os`` alone; ``tomllib`` is loaded only when the scanner is in doubt.
"""

import os

from rocksyd.errors import AddressError, ConfigError, NoDaemon

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CONFIG_NAME = "rocksyd.toml"
DEFAULT_LISTEN = ("unix://run/rocksyd.sock",)
MAX_UNIX_PATH = 107
"""Bytes of a unix socket's path (``sun_path``, unix(7))."""


class Address:
    """One place a daemon listens at: ``kind`` is ``unix`` (then ``path``) or ``tcp`` (then ``host`` and ``port``)."""

    __slots__ = ("host", "kind", "path", "port")

    def __init__(self, kind: str, path: str = "", host: str = "", port: int = 0) -> None:
        self.kind = kind
        self.path = path
        self.host = host
        self.port = port

    def __str__(self) -> str:
        if self.kind == "unix":
            return f"unix://{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"tcp://{host}:{self.port}"

    def __repr__(self) -> str:
        return f"Address({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Address) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))


class Place:
    """Where to connect, and what to say first: ``token`` is None when no token is known."""

    __slots__ = ("address", "config", "token")

    def __init__(self, address: Address, token: "str | None" = None, config: str = "") -> None:
        self.address = address
        self.token = token
        self.config = config
        """Absolute path of the ``rocksyd.toml`` it was found in, or ""."""


def parse(text: str, folder: str = "") -> Address:
    """Read ``unix://PATH`` (a relative PATH starts at ``folder``, by default the working folder) or ``tcp://HOST:PORT``.

    ``?mode=0660`` behind PATH is the daemon's business and ignored.

    Raises:
        AddressError: it is neither.
    """
    if text.startswith("unix://") and len(text) > len("unix://"):
        path = text[len("unix://") :].partition("?mode=")[0]
        if not os.path.isabs(path):  # only then: the working folder may have been removed
            path = os.path.join(folder or os.getcwd(), path)
        if ".." not in path.split("/"):  # behind a symbolic link `..` is another folder than the text says
            path = os.path.normpath(path)
        size = len(os.fsencode(path))
        if size > MAX_UNIX_PATH:
            raise AddressError(
                f"the path of {text!r} has {size} bytes, a unix socket's has at most {MAX_UNIX_PATH}: "
                "use a shorter path, or a symbolic link to the folder"
            )
        return Address("unix", path=path)
    if text.startswith("tcp://"):
        host, colon, port = text[len("tcp://") :].rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            colon = ""
        if host and colon and port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536:
            return Address("tcp", host=host, port=int(port))
    raise AddressError(f"{text!r} is no address: write unix://PATH or tcp://HOST:PORT (PORT 1 to 65535)")


def find(given: "str | None" = None, folder: str = "") -> Place:
    """Find the daemon: ``given``, else ``$ROCKSYD_ADDRESS``, else ``rocksyd.toml`` of ``folder`` (the working one) or above.

    Raises:
        AddressError: what names the daemon is not an address.
        ConfigError: ``rocksyd.toml`` cannot be read.
        NoDaemon: nothing names a daemon.
    """
    given = given or os.environ.get("ROCKSYD_ADDRESS")
    if given:
        address = parse(given)
        token = find_token(find_config(folder)) if address.kind == "tcp" else None
        return Place(address, token)
    config = find_config(folder)
    if not config:
        raise NoDaemon(
            f"no {CONFIG_NAME} in {folder or os.getcwd()} or above, so there is nothing that names a daemon: go to its folder, "
            "or name it with --address unix://PATH or $ROCKSYD_ADDRESS"
        )
    return place_of(config)


def place_of(config: str) -> Place:
    """Where the daemon of the configuration file ``config`` (absolute path) is. Raises ConfigError, AddressError, NoDaemon."""
    address = _preferred(config)
    return Place(address, find_token(config) if address.kind == "tcp" else None, config)


def find_config(folder: str = "") -> str:
    """The absolute path of the nearest ``rocksyd.toml`` in ``folder`` (by default the working one) or above, or ""."""
    folder = os.path.abspath(folder or os.getcwd())
    while True:
        path = os.path.join(folder, CONFIG_NAME)
        if os.path.isfile(path):
            return path
        above = os.path.dirname(folder)
        if above == folder:
            return ""
        folder = above


def find_token(config: str) -> "str | None":
    """``$ROCKSYD_TOKEN``, or what the ``token_file`` of this ``rocksyd.toml`` holds, or None.

    A token file that cannot be read is no error here: only the daemon knows whether this caller needs it, and it says so.
    """
    token = os.environ.get("ROCKSYD_TOKEN")
    if token or not config:
        return token or None
    name = read_config(config).get("token_file")
    if not isinstance(name, str):
        return None
    try:
        with open(os.path.join(os.path.dirname(config), name), encoding="utf-8") as file:
            return file.read().strip() or None
    except (OSError, ValueError):
        return None


def _preferred(config: str) -> Address:
    """The address of the configuration that clients on this machine take: a unix socket if there is one."""
    listen = read_config(config).get("listen", list(DEFAULT_LISTEN))
    if not isinstance(listen, list) or not all(isinstance(item, str) for item in listen):
        raise ConfigError(f"{config}: listen: expected a list of addresses: see `rocksyd check-config -c {config}`")
    folder = os.path.dirname(config)
    for scheme in ("unix://", "tcp://"):
        for text in listen:
            if text.startswith(scheme) and not text.endswith(":0"):
                return _reachable(parse(text, folder))
    raise NoDaemon(f"{config}: listen names no address that can be connected to: name the daemon with --address")


def _reachable(address: Address) -> Address:
    """A daemon that listens on every interface is reached through the loopback one."""
    if address.host in ("0.0.0.0", "*"):
        address.host = "127.0.0.1"
    elif address.host == "::":
        address.host = "::1"
    return address


def read_config(path: str) -> "dict[str, Any]":
    """The top-level keys of ``rocksyd.toml``, as far as clients need them. Raises ConfigError when it cannot be read."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}: it names the daemon; make it readable, or use --address") from error
    except ValueError as error:
        raise ConfigError(f"{path}: not UTF-8: save it as UTF-8, or name the daemon with --address") from error
    known = scan(text)
    if known is not None:
        return known
    import tomllib  # noqa: PLC0415  (costs as much as the whole rest of a command)

    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: {error}: correct it, or name the daemon with --address") from error


def scan(text: str) -> "dict[str, Any] | None":
    """The top-level keys of a simple TOML document that are strings or lists of strings; None when it is not that simple.

    Simple: every line before the first table is blank, a comment, or ``bare_key = value`` with the value complete on that line.
    None is the answer to any doubt, and costs only the time of the real parser.
    """
    found: dict[str, Any] = {}
    for raw in text.split("\n"):
        line = raw.strip(" \t\r")
        if not line or line[0] == "#":
            continue
        if line[0] == "[":
            break
        name, equals, value = line.partition("=")
        name, value = name.strip(" \t"), value.strip(" \t")
        if not equals or name in found or not (name.isascii() and name.replace("_", "").replace("-", "").isalnum()):
            return None
        if not value or "\\" in value or '"""' in value or "'" in value:
            return None
        if value[0] == '"':
            found[name], rest = _string(value)
        elif value[0] == "[":
            found[name], rest = _strings(value)
        elif value.partition("#")[0].strip(" \t").replace("_", "").isalnum():
            found[name], rest = None, ""
        else:
            return None
        if rest is None or (rest and rest[0] != "#"):
            return None
    return found


def _string(value: str) -> "tuple[str, str | None]":
    """The string that ``value`` starts with and what is behind it; None for that when the string has no end."""
    text, quote, rest = value[1:].partition('"')
    if not quote or not text.isprintable():
        return "", None
    return text, rest.lstrip(" \t")


def _strings(value: str) -> "tuple[list[str], str | None]":
    """The list of strings that ``value`` starts with and what is behind it; None for that when it is anything else."""
    items: list[str] = []
    rest: str | None = value[1:].lstrip(" \t")
    while rest and rest[0] == '"':
        item, rest = _string(rest)
        items.append(item)
        if rest and rest[0] == ",":
            rest = rest[1:].lstrip(" \t")
        elif not rest or rest[0] != "]":
            return items, None
    if not rest or rest[0] != "]":
        return items, None
    return items, rest[1:].lstrip(" \t")
