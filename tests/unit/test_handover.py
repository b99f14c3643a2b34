"""What a master that freezes still has to say to its children."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from rocksyd import messages as m
from rocksyd.master import handover
from rocksyd.posix.channel import Channel, pair
from rocksyd.wire.connection import Connection


def test_p9_the_moment_until_which_the_token_must_be_shown_is_carried() -> None:
    def client(**more: Any) -> Any:
        known = {"authorised": True, "prove_by": 7.0, "held": False, "closing": False, "eof": False, "waits": 0}
        owed = {"out": bytearray(), "linger_until": 0.0, "batches": {}, "connection": Connection(max_line=100)}
        return SimpleNamespace(**{**known, **owed, **more})

    server: Any = SimpleNamespace(config=SimpleNamespace(max_line=100))
    fields = handover._dump_client(client(authorised=False, prove_by=123.5), lambda data: [0, 0])
    assert fields == {"prove_by": 123.5}
    assert handover._dump_client(client(), lambda data: [0, 0]) == {}
    new = client(authorised=False)
    handover._load_client(server, new, fields, b"")
    assert new.prove_by == 123.5


def test_a_child_that_is_gone_does_not_hinder_those_that_live_from_hearing_the_last_words() -> None:
    keeper, dead, living = (tuple(Channel(end) for end in pair()) for _ in range(3))
    for channel, _ in (dead, living):
        while not channel.pending:
            channel.send(m.Kill(1))
    dead[1].close()
    received = 0
    while living[1].receive() is not None:
        received += 1
    server = SimpleNamespace(
        keeper=keeper[0],
        children=SimpleNamespace(
            zygotes={"a": SimpleNamespace(channel=dead[0])}, workers={1: SimpleNamespace(channel=living[0])}
        ),
    )
    handover._flush_channels(server)  # type: ignore[arg-type]
    assert living[1].receive() == m.Kill(1)
    assert not living[0].pending
    for channel in (*keeper, dead[0], *living):
        channel.close()
    assert received
