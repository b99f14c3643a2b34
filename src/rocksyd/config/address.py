"""Addresses: ``unix://PATH`` and ``tcp://HOST:PORT``, as the configuration and ``--address`` write them."""

from __future__ import annotations

import os.path
import re
from _socket import AF_INET, AF_INET6, inet_pton
from dataclasses import dataclass
from typing import Literal

from rocksyd.errors import AddressError

MAX_UNIX_PATH = 107
"""Bytes of a unix socket's path: ``sun_path`` has 108, the last one is the zero (unix(7))."""

_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_.])?")
_MODE = re.compile(r"[0-7]{3,4}")


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen or connect. ``path`` and ``mode`` are for ``unix``, ``host`` and ``port`` for ``tcp``."""

    kind: Literal["unix", "tcp"]
    path: str = ""
    """Absolute path of the socket."""
    host: str = ""
    """A name or a numeric address; an IPv6 one without its brackets."""
    port: int = 0
    """0: the system chooses."""
    mode: int = 0o600
    """Permissions of the socket's file."""

    def __str__(self) -> str:
        """As ``parse_address`` reads it (the mode left out: it is no part of where)."""
        if self.kind == "unix":
            return f"unix://{self.path}"
        return f"tcp://[{self.host}]:{self.port}" if ":" in self.host else f"tcp://{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it (every unix socket; 127.0.0.0/8, ::1 and localhost)."""
        if self.kind == "unix" or self.host.lower().rstrip(".") == "localhost":
            return True
        packed = _packed(self.host)
        if packed is None:
            return False
        return packed[0] == 127 if len(packed) == 4 else packed == bytes(15) + b"\1"


def parse_address(text: str, folder: str = "") -> Address:
    """The address that ``text`` says; a relative socket path starts from ``folder`` (an absolute path).

    Raises:
        AddressError: it is not an address, or the socket's path is too long for the kernel. The message has the cure.
    """
    scheme, separator, rest = text.partition("://")
    if separator and scheme == "unix":
        return _unix(text, rest, folder)
    if separator and scheme == "tcp":
        return _tcp(text, rest)
    raise AddressError(f'expected an address such as "unix://run/rocksyd.sock" or "tcp://127.0.0.1:31337", got {_quoted(text)}')


def absolute(folder: str, path: str) -> str:
    """``path``, relative to ``folder``, made absolute.

    ``..`` is left to the kernel: behind a symbolic link it means another folder than its text says.
    """
    joined = os.path.join(folder, path)
    return joined if ".." in path.split("/") else os.path.normpath(joined)


def _unix(text: str, rest: str, folder: str) -> Address:
    path, query, setting = rest.partition("?mode=")
    if not path or path.endswith("/") or not path.isprintable():
        raise AddressError(f'expected the path of a socket such as "unix://run/rocksyd.sock", got {_quoted(text)}')
    if query and not _MODE.fullmatch(setting):
        raise AddressError(f'expected permissions in octal such as "unix://{path}?mode=0660", got {_quoted(text)}')
    path = absolute(folder, path)
    # "replace" makes one byte of each surrogate, which is what a byte of the path that is no UTF-8 became.
    size = len(path.encode("utf-8", "replace"))
    if size > MAX_UNIX_PATH:
        raise AddressError(
            f"the socket's path has {size} bytes and the kernel takes {MAX_UNIX_PATH}: {path}; "
            'name a shorter one, for example "unix:///run/rocksyd/rocksyd.sock"'
        )
    return Address("unix", path=path, mode=int(setting, 8) if query else 0o600)


def _tcp(text: str, rest: str) -> Address:
    host, colon, port = rest.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or len(port) > 5 or int(port) > 65535:
        raise AddressError(f'expected a port from 0 to 65535 as in "tcp://127.0.0.1:31337", got {_quoted(text)}')
    if not host:
        raise AddressError(f'the host is missing in {_quoted(text)}; "tcp://0.0.0.0:{port}" is every address of this machine')
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        numeric, _, scope = host.partition("%")
        if ":" not in numeric or _packed(numeric) is None or ("%" in host and not _HOST.fullmatch(scope)):
            raise AddressError(f'expected an IPv6 address in the brackets as in "tcp://[::1]:31337", got {_quoted(text)}')
    elif ":" in host:
        raise AddressError(f'an IPv6 address stands in brackets, as in "tcp://[::1]:31337"; got {_quoted(text)}')
    elif not _HOST.fullmatch(host) or len(host) > 253:
        raise AddressError(f'expected a host as in "tcp://127.0.0.1:31337", got {_quoted(text)}')
    return Address("tcp", host=host, port=int(port))


def _packed(host: str) -> bytes | None:
    """The bytes of a numeric address, else None. No resolver is asked: what a name means may change while we serve."""
    try:
        return inet_pton(AF_INET6 if ":" in host else AF_INET, host)
    except (OSError, ValueError):
        return None


def _quoted(text: str) -> str:
    return f'"{text}"' if text.isprintable() and len(text) <= 200 else ascii(text[:200])
