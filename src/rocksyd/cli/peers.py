"""``rocksyd --on web1,web2 COMMAND``: a command that is sent to the daemons of other machines, ``[peers]``.

What must live here: which daemons those are, what each of them says, and when the next is asked.
What this file must not know: what the command does.

Each daemon is asked by a process of its own, a fork of this one: they are asked at the same time, one that does not answer keeps
nobody else, and the command is the same code as without ``--on``. Orders that change a daemon (``restart``) go to one after
another, and to none behind one that has refused.
"""

from __future__ import annotations

import argparse
import json
import os
import selectors
import signal
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NoReturn

from rocksyd.cli import tables
from rocksyd.cli.output import harmless, json_line, say, write
from rocksyd.client import Client
from rocksyd.client.endpoint import CONFIG_NAME, find_config
from rocksyd.config.check import read, secret
from rocksyd.config.parse import parse_all
from rocksyd.config.settings import PeerConfig
from rocksyd.config.table import nearest
from rocksyd.errors import AddressError, ConfigError, NotFound, RocksydError

Perform = Callable[[argparse.Namespace], int]
GAP = " | "
NARROWEST = 20
"""Columns that what a daemon says has at least, however wide the terminal is."""
UNKNOWN = 1
"""The exit status where no daemon knows a run."""


@dataclass
class Peer:
    """A daemon that is asked, and what it has said."""

    name: str
    address: str
    token: str | None
    width: int
    """Columns for the names of all that are asked."""
    out: bytearray = field(default_factory=bytearray)
    err: bytearray = field(default_factory=bytearray)
    found: bytearray = field(default_factory=bytearray)
    """Which of the runs it knows, as JSON."""
    pid: int = 0
    status: int | None = None
    """The exit status; None as long as it has not ended, and for one that was not asked."""

    @property
    def unknown(self) -> bool:
        """Whether it knows none of the runs that the command is about."""
        return bytes(self.found) == b"[]"


def on_peers(options: argparse.Namespace, perform: Perform) -> int:
    """Carry the command out at each of the daemons that ``--on`` names; returns the first exit status that is not 0.

    Raises ConfigError, AddressError.
    """
    peers = chosen(options.on)
    if options.rolls:
        return _one_after_another(peers, options, perform)
    streams = bool(getattr(options, "follow", False)) and not _wants_json(options)
    _ask(peers, options, perform, _tell if streams else None)
    if any(peer.found for peer in peers):
        told = [peer for peer in peers if not peer.unknown]
        missing = _known_to_nobody(peers, options)
    else:
        told, missing = peers, []
    if _wants_json(options):
        _say_all_as_json(peers)
    elif not streams:
        for peer in told:
            _tell(peer)
    for key in missing:
        say(f"no run {key!r} on {', '.join(peer.name for peer in peers)}")
    return next((peer.status for peer in told if peer.status), UNKNOWN if missing else 0)


def chosen(names: str) -> list[Peer]:
    """The daemons of ``[peers]`` that ``names`` names, each once, in its order; all of them for ``all``.

    Raises ConfigError, AddressError.
    """
    path = find_config()
    if not path:
        raise AddressError(f"--on: no {CONFIG_NAME} in {os.getcwd()} or above, whose [peers] would say where {names} is")
    there, own = read_peers(path)
    if not there:
        raise AddressError(f'{path}: it names no other daemon: add [peers.web1], address = "tcp://HOST:PORT"')
    wanted = list(there) if names == "all" else list(dict.fromkeys(filter(None, names.split(","))))
    for name in wanted:
        if name not in there:
            near = nearest(name, tuple(there))
            raise AddressError(
                f"--on: {path} has no [peers.{name}]{near and f' (did you mean {near}?)'}; there are: {', '.join(there)}"
            )
    if not wanted:
        raise AddressError(f"--on: no daemon is named; there are: {', '.join(there)}, or all of them: all")
    width = max(map(len, wanted))
    return [Peer(name, there[name].address, _token(there[name].token_file or own, name), width) for name in wanted]


def read_peers(path: str) -> tuple[dict[str, PeerConfig], str]:
    """What the configuration file ``path`` says of other daemons, and its own ``token_file``. Raises ConfigError.

    What is wrong with the rest of it is no reason not to reach others.
    """
    config, problems = parse_all(read(path), path)
    if wrong := problems.sorted(("peers",)):
        raise ConfigError("\n".join(wrong))
    return config.peers, config.token_file


def _token(path: str, name: str) -> str | None:
    """The secret for a daemon; None where none is kept. Raises ConfigError."""
    if not path:
        return None
    try:
        return secret(path)
    except ConfigError as error:
        raise ConfigError(f"[peers.{name}] token_file: {error}") from error


# --- one after another ------------------------------------------------------------------------------------------------
def _one_after_another(peers: list[Peer], options: argparse.Namespace, perform: Perform) -> int:
    status = 0
    for peer in peers:
        _ask([peer], options, perform, None)
        if not _wants_json(options):
            _tell(peer)
        status = peer.status or 0
        if status:
            break
    if _wants_json(options):
        _say_all_as_json(peers)
    if status and (left := [one.name for one in peers if one.status is None]):
        say(f"{peer.name} has refused (exit status {status}), so others were not asked, which are: --on {','.join(left)}")
    return status


# --- a process for each -----------------------------------------------------------------------------------------------
def _ask(peers: Iterable[Peer], options: argparse.Namespace, perform: Perform, tell: Callable[[Peer], None] | None) -> None:
    """Have each of them asked, at the same time, until all have answered; ``tell`` is called when one has said more."""
    selector = selectors.DefaultSelector()
    running = list(peers)
    try:
        for peer in running:
            for channel, buffer in zip(_start(peer, options, perform), (peer.out, peer.err, peer.found), strict=True):
                selector.register(channel, selectors.EVENT_READ, (peer, buffer))
        while selector.get_map():
            for key, _ in selector.select():
                peer, buffer = key.data
                data = os.read(key.fd, 65536)
                buffer += data
                if not data:
                    selector.unregister(key.fd)
                    os.close(key.fd)
                elif tell is not None:
                    tell(peer)
        for peer in running:
            peer.status = os.waitstatus_to_exitcode(os.waitpid(peer.pid, 0)[1])
            if tell is not None:
                tell(peer)
    finally:
        for key in list(selector.get_map().values()):
            os.close(key.fd)
        selector.close()
        for peer in running:
            if peer.pid and peer.status is None:
                os.kill(peer.pid, signal.SIGTERM)
                os.waitpid(peer.pid, 0)


def _start(peer: Peer, options: argparse.Namespace, perform: Perform) -> tuple[int, int, int]:
    """Fork the process that asks; returns what its output, its errors and the runs that it knows can be read from."""
    ends = [os.pipe() for _ in range(3)]
    screen = tables.screen()
    peer.pid = os.fork()
    if peer.pid:
        for _, end in ends:
            os.close(end)
        return ends[0][0], ends[1][0], ends[2][0]
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(ends[0][1], 1)
        os.dup2(ends[1][1], 2)
        for end, _ in ends[:2]:
            os.close(end)
        if screen.width is not None:
            tables.elsewhere = screen._replace(width=max(screen.width - peer.width - len(GAP), NARROWEST))
        _carry_out(peer, options, perform, ends[2][1])
    finally:
        os._exit(70)


def _carry_out(peer: Peer, options: argparse.Namespace, perform: Perform, found: int) -> NoReturn:
    """In the process of its own."""
    os.environ.pop("ROCKSYD_TOKEN", None)
    if peer.token is not None:
        os.environ["ROCKSYD_TOKEN"] = peer.token
    own = argparse.Namespace(**{**vars(options), "address": peer.address, "on": None})
    status = perform(own) if _locate(own, found) else 0
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _locate(options: argparse.Namespace, found: int) -> bool:
    """Look which of the runs that the command is about are known here, and leave it those; whether there is anything to do."""
    keys = _keys(options)
    if not keys:
        os.close(found)
        return True
    known = []
    try:
        with Client(options.address) as client:
            for key in keys:
                try:
                    client.status(key)
                except NotFound:
                    continue
                known.append(key)
    except RocksydError:
        os.close(found)
        return True  # the command meets it, too, and says so
    os.write(found, json.dumps(known).encode())
    os.close(found)
    if options.finds == "keys":
        options.keys = known
    return bool(known)


def _keys(options: argparse.Namespace) -> list[str]:
    given = getattr(options, options.finds, None) if options.finds else None
    return [given] if isinstance(given, str) else list(given or ())


def _known_to_nobody(peers: list[Peer], options: argparse.Namespace) -> list[str]:
    known = {key for peer in peers if peer.found for key in json.loads(peer.found)}
    return [] if any(not peer.found for peer in peers) else [key for key in _keys(options) if key not in known]


# --- what they say ----------------------------------------------------------------------------------------------------
def _tell(peer: Peer) -> None:
    """Write the lines that it has said completely, the daemon's name before each; when it has ended, everything."""
    for buffer, put in ((peer.out, write), (peer.err, _to_stderr)):
        end = len(buffer) if peer.status is not None else buffer.rfind(b"\n") + 1
        lines = bytes(buffer[:end]).decode(errors="backslashreplace").splitlines()
        del buffer[:end]
        if lines:
            put("".join(f"{peer.name.ljust(peer.width)}{GAP}{line}\n" for line in lines))


def _to_stderr(text: str) -> None:
    try:
        sys.stderr.write(harmless(text))
        sys.stderr.flush()
    except OSError:
        pass


def _wants_json(options: argparse.Namespace) -> bool:
    return bool(getattr(options, "json", False))


def _say_all_as_json(peers: list[Peer]) -> None:
    write(json_line({peer.name: _as_json(peer) for peer in peers}))


def _as_json(peer: Peer) -> dict[str, Any]:
    """What one has said: ``output`` is its JSON, or its text where it is not one JSON value."""
    text = peer.out.decode(errors="backslashreplace")
    try:
        output = json.loads(text) if text.strip() else None
    except ValueError:
        output = text
    said = peer.err.decode(errors="backslashreplace").strip()
    return {"status": peer.status, "output": output, **({"error": said} if said else {})}
