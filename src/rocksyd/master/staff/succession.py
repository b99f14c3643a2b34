"""Children and companions across a hand-over: what the old master says of them, and what becomes of them under the new one.

What must live here: what is carried, and that every companion of an older generation is told to leave.
What this file must not know: the rest of the snapshot, what companions are asked (``forwarding``).
"""

from __future__ import annotations

import os
import select
from collections.abc import Iterable, Iterator
from typing import Any

from rocksyd import messages as m
from rocksyd import shelf_names
from rocksyd.master.snapshot import Snapshot
from rocksyd.master.staff.children import Children
from rocksyd.master.staff.companions import Companions, Process
from rocksyd.master.staff.workers import Workers
from rocksyd.master.staff.zygotes import Zygotes
from rocksyd.posix.channel import Channel

Fields = dict[Any, dict[str, Any]]
"""Of zygotes by name, of workers by number."""


def carry(children: Children, snapshot: Snapshot) -> None:
    """Carry zygotes, templates and workers; also as lists, for a version that does not know them by name and number."""
    zygotes, workers = children.zygotes, children.workers
    snapshot.last_words.append(workers.acknowledge_owed)
    snapshot.channels.append(lambda: (zygote.channel for zygote in zygotes.values()))
    snapshot.channels.append(lambda: (link.channel for link in workers.values()))
    snapshot.loose.append(
        lambda: ((shelf_names.worker(link.number), link.channel.fileno()) for link in workers.values() if not link.shelved)
    )
    snapshot.parts |= {
        "zygotes_by_name": (lambda: _zygotes(zygotes), lambda found: _adopt_zygotes(zygotes, snapshot, found)),
        "zygotes": (lambda: _in_rows(_zygotes(zygotes)), lambda rows: _adopt_zygotes(zygotes, snapshot, _zygotes_in(rows))),
        "workers_by_number": (lambda: _workers(workers), lambda found: _adopt_workers(workers, snapshot, found)),
        "workers": (lambda: _in_rows(_workers(workers)), lambda rows: _adopt_workers(workers, snapshot, _workers_in(rows))),
    }


def _zygotes(zygotes: Zygotes) -> Fields:
    return {
        zygote.name: {"state": zygote.state, "pid": zygote.pid, "ready": zygote.ready._asdict() if zygote.ready else None}
        for zygote in zygotes.values()
    }


def _workers(workers: Workers) -> Fields:
    return {
        link.number: {
            "pid": link.pid,
            "app": link.app,
            "generation": link.generation,
            "inode": os.fstat(link.channel.fileno()).st_ino,
            "template": link.template,
        }
        for link in workers.values()
    }


def _in_rows(found: Fields) -> list[list[Any]]:
    """The same as lists, in the order in which the fields stand."""
    return [[name, *fields.values()] for name, fields in found.items()]


def _zygotes_in(rows: Iterable[list[Any]]) -> Fields:
    return {name: {"state": state, "pid": pid, "ready": ready} for name, state, pid, ready, *_ in rows}


def _workers_in(rows: Iterable[list[Any]]) -> Fields:
    return {
        number: {"pid": pid, "app": app, "generation": generation, "inode": inode, "template": template}
        for number, pid, app, generation, inode, template, *_ in rows
    }


def _adopt_zygotes(zygotes: Zygotes, snapshot: Snapshot, found: Fields) -> None:
    """Go on with those that have not been adopted already."""
    for name, fields in found.items():
        if name in snapshot.shelf:
            zygote = zygotes.adopt(name, snapshot.shelf.pop(name), fields["state"], fields["pid"])
            zygote.ready = m.known(m.Ready, fields["ready"]) if fields["ready"] else None


def _adopt_workers(workers: Workers, snapshot: Snapshot, found: Fields) -> None:
    """Go on with those that have not been adopted already."""
    for number, fields in ((int(number), fields) for number, fields in found.items()):
        if number not in workers:
            parent = (fields["app"], fields["generation"], fields["template"])
            fd = snapshot.claim(shelf_names.worker(number), fields["inode"])
            workers.link((number, fields["pid"]), parent, fd).shelved = True


# --- companions -------------------------------------------------------------------------------------------------------
def carry_companions(companions: Companions, snapshot: Snapshot) -> None:
    """Carry what the next master has to know of companions; its own are there already."""
    snapshot.channels.append(lambda: (channel for _, channel in _channels(companions)))
    snapshot.loose.append(lambda: ((name, channel.fileno()) for name, channel in _channels(companions)))
    snapshot.manifest.append(lambda: ((name, channel.fileno()) for name, channel in _channels(companions)))
    snapshot.manifest.append(companions.sockets.by_name.items)
    snapshot.adopted_parts["companions"] = (lambda: _dump(companions), lambda state: _take_over(companions, snapshot, state))


def _living(companions: Companions) -> Iterator[tuple[Process, Channel]]:
    for process in companions.processes.values():
        if process.channel is not None and not process.doomed:
            yield process, process.channel


def _channels(companions: Companions) -> Iterator[tuple[str, Channel]]:
    """The channels that go to the next master, with their names on the shelf."""
    return ((shelf_names.listener(process.title), channel) for process, channel in _living(companions))


def _dump(companions: Companions) -> dict[str, Any]:
    living = [[process.companion, process.title, process.pid] for process, _ in _living(companions)]
    return {"living": living, "restarts": {name: life.restarts for name, life in companions.lives.items()}}


def _take_over(companions: Companions, snapshot: Snapshot, state: dict[str, Any]) -> None:
    """Let what the masters before had leave, hearing its last answers."""
    for name, restarts in state.get("restarts", {}).items():
        if name in companions.lives:
            companions.lives[name].restarts += restarts
    for companion, title, pid, *_ in state.get("living", ()):
        name = shelf_names.listener(title)
        fd = snapshot.shelf.pop(name)
        companions.tell_keeper(m.Unshelve((name,)))
        process = Process(companions, companion, title, Channel.from_fd(fd, takes_descriptors=False), pid)
        companions.processes[title] = process
        companions.loop.register(fd, process, select.EPOLLIN)
        process.leave()
    for title in shelf_names.of(shelf_names.COMPANION, snapshot.children):
        if title not in companions.processes:
            pid = snapshot.children[title]
            companions.processes[title] = Process(companions, shelf_names.companion_of(title), title, None, pid)
            companions.processes[title].leave()
