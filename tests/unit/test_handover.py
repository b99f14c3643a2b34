"""What a master that freezes still has to say to its children."""

from __future__ import annotations

from types import SimpleNamespace

from rocksyd import messages as m
from rocksyd.master import handover
from rocksyd.posix.channel import Channel, pair


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
