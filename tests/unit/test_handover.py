"""What a master that freezes still has to say to its children, and what it says of them and of clients to its successor."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from rocksyd import messages as m
from rocksyd.config import parse
from rocksyd.errors import SnapshotError
from rocksyd.journal.store import Journal
from rocksyd.master import handover, snapshot
from rocksyd.master.desk.page import AUTHORISED
from rocksyd.master.server import Server
from rocksyd.master.staff.zygotes import READY
from rocksyd.posix.channel import Channel, memfd, pair
from tests.unit.served import served

CONFIG = """
[apps.a]
path = "."
jobs = ["jobs"]
"""


@contextmanager
def handing_over(folder: Path) -> Iterator[tuple[Server, Server]]:
    """A master, and one that is given what the first one had."""
    config = parse(CONFIG, str(folder / "rocksyd.toml"))
    with served(config) as old, served(config) as new, closing(Journal(str(folder / "j"), sync="off")) as journal:
        new.writing.journal = journal
        yield old, new


def hand_over(old: Server, new: Server, change: Callable[[dict[str, Any]], object] = lambda members: None) -> None:
    """What the old one writes is what the new one reads, but for a ``change``."""
    members, body = snapshot.parse(memfd("snapshot", old.snapshot.dump(1.0)))
    change(members)
    new.snapshot.read(memfd("snapshot", json.dumps(members).encode() + b"\n" + body))
    new.snapshot.load()


def test_p9_the_moment_until_which_the_token_must_be_shown_is_carried(tmp_path: Path) -> None:
    with handing_over(tmp_path) as (old, new):
        (ours, theirs) = socket.socketpair()
        new.clients.adopt("conn:1:1", os.dup(ours.fileno()))
        old.clients.adopt("conn:1:1", ours.detach())
        new.clients.page.of[1] = AUTHORISED
        (client,) = old.clients.by_number.values()
        hand_over(old, new)
        assert new.clients.next_deadline() is None
        client.authorised, client.prove_by = False, 123.5
        new.clients.page.of[1] = 0
        hand_over(old, new)
        assert new.clients.next_deadline() == 123.5
        theirs.close()


LISTS, TABLES = ("zygotes", "workers"), ("zygotes_by_name", "workers_by_number")


def without(names: tuple[str, ...]) -> Callable[[dict[str, Any]], object]:
    return lambda members: [members.pop(name) for name in names]


def listed_otherwise(members: dict[str, Any]) -> None:
    """A later version knows more than the lists can say."""
    for row in (*members["zygotes"], *members["workers"]):
        row[-1], row[1] = None, 4999


CHANGES = {
    "as it is": lambda members: None,
    "as the version before writes it": without(TABLES),
    "as a version writes it that has dropped the lists": without(LISTS),
    "the lists say something else": listed_otherwise,
}


@pytest.mark.parametrize("what", CHANGES)
def test_p6_zygotes_and_workers_are_told_by_name_and_number_and_as_lists(tmp_path: Path, what: str) -> None:
    with handing_over(tmp_path) as (old, new):
        channels = [pair() for _ in range(3)]
        for (ours, _), name in zip(channels, ("zygote:a@1", "worker:7", "worker:8"), strict=True):
            new.snapshot.shelf[name] = os.dup(ours.fileno())
        zygote, one, other = (ours.detach() for ours, _ in channels)
        old.children.zygotes.adopt("zygote:a@1", zygote, READY, 4000).ready = m.Ready("a", 1, 4000, {"job": {}})
        old.children.workers.link((7, 4007), ("a", 1, 0), one)
        old.children.workers.link((8, 4008), ("a", 1, 3), other)
        hand_over(old, new, CHANGES[what])
        assert new.snapshot.shelf == {}
        (adopted,) = new.children.zygotes.values()
        assert (adopted.name, adopted.state, adopted.pid) == ("zygote:a@1", READY, 4000)
        assert adopted.ready == m.Ready("a", 1, 4000, {"job": {}})
        links = [(w.number, w.pid, w.app, w.generation, w.template, w.shelved) for w in new.children.workers.values()]
        assert links == [(7, 4007, "a", 1, 0, True), (8, 4008, "a", 1, 3, True)]
        for server in (old, new):
            for child in (*server.children.zygotes.values(), *server.children.workers.values()):
                child.channel.close()
        for _, theirs in channels:
            theirs.close()


@pytest.mark.parametrize("what", ["missing", "another file"])
def test_p3_a_worker_whose_channel_is_not_what_the_snapshot_says_is_not_taken_over(tmp_path: Path, what: str) -> None:
    with handing_over(tmp_path) as (old, new):
        (ours, theirs), (strange, end) = pair(), pair()
        if what == "another file":
            new.snapshot.shelf["worker:7"] = strange.fileno()
        old.children.workers.link((7, 4007), ("a", 1, 0), ours.detach())
        with pytest.raises(SnapshotError, match=f"descriptor worker:7 of the manifest is {what}"):
            hand_over(old, new)
        assert not new.children.workers
        old.children.workers[7].channel.close()
        for other in (theirs, strange, end):
            other.close()


def test_connections_come_first_the_engine_last_and_answers_behind_those_who_give_them(
    tmp_path: Path,
) -> None:
    with served(parse(CONFIG, str(tmp_path / "rocksyd.toml"))) as server:
        first, *_, last = server.snapshot.parts
        assert (first, last) == ("connections", "engine")
        assert list(server.snapshot.adopted_parts) == ["companions", "forwarded"]


def test_a_child_that_is_gone_does_not_hinder_those_that_live_from_hearing_the_last_words(tmp_path: Path) -> None:
    with served(parse(CONFIG, str(tmp_path / "rocksyd.toml"))) as server:
        (dead, gone), (ours, theirs) = pair(), pair()
        gone.close()
        zygote = server.children.zygotes.adopt("zygote:a@1", dead.detach(), READY)
        living = server.children.workers.link((1, 4000), ("a", 1, 0), ours.detach())
        end = Channel(theirs)
        while not living.channel.pending:
            living.channel.send(m.Kill(1))
        received = 0
        while end.receive() is not None:
            received += 1
        handover.flush([channel for give in server.snapshot.channels for channel in give()])
        assert end.receive() == m.Kill(1)
        assert not living.channel.pending
        assert received
        for channel in (zygote.channel, living.channel, end):
            channel.close()
