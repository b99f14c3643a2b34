"""Channels between processes: real sockets and descriptors."""

from __future__ import annotations

import fcntl
import os
import select
import socket
from collections.abc import Callable, Iterator

import pytest

from rocksyd import messages as m
from rocksyd.errors import ChannelClosed, MessageError
from rocksyd.posix import channel as channels
from rocksyd.posix.channel import MAX_FDS, MAX_INLINE, Channel, memfd, pair, read_memfd

Ends = tuple[Channel, Channel]


@pytest.fixture
def ends() -> Iterator[Ends]:
    left, right = (Channel(end) for end in pair())
    yield left, right
    left.close()
    right.close()


def raw(end: Channel) -> socket.socket:
    """The socket, to say what no channel would."""
    return socket.socket(fileno=os.dup(end.fileno()))


def open_descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def same_file(one: int, other: int) -> bool:
    return os.path.samestat(os.fstat(one), os.fstat(other))


def test_messages_come_whole_and_in_order(ends: Ends) -> None:
    left, right = ends
    for number in range(100):
        left.send(m.Signal(number))
    assert [right.receive().pid for _ in range(100)] == list(range(100))
    assert right.receive() is None


@pytest.mark.parametrize("size", [0, MAX_INLINE - 200, MAX_INLINE, MAX_INLINE + 1, 5_000_000])
@pytest.mark.parametrize("descriptors", [0, 1, 3])
def test_a_message_of_any_size_comes_with_its_descriptors(ends: Ends, size: int, descriptors: int) -> None:
    left, right = ends
    before = open_descriptors()
    own = tuple(os.memfd_create(f"test-{number}") for number in range(descriptors))
    left.send(m.Shelve(("x" * size,), own))
    heard = right.receive()
    assert heard.names == ("x" * size,)
    assert len(heard.fds) == descriptors
    assert all(same_file(one, other) for one, other in zip(own, heard.fds, strict=True))
    assert not any(os.get_inheritable(fd) for fd in heard.fds)
    for fd in (*own, *heard.fds):
        os.close(fd)
    assert open_descriptors() == before


@pytest.mark.parametrize(("size", "descriptors"), [(10, MAX_FDS), (MAX_INLINE + 1, MAX_FDS - 1)])
def test_as_many_descriptors_as_the_kernel_takes_come_in_one_message(ends: Ends, size: int, descriptors: int) -> None:
    left, right = ends
    before = open_descriptors()
    fd = os.memfd_create("test")
    left.send(m.Shelve(("x" * size,), (fd,) * descriptors))
    heard = right.receive()
    assert len(heard.fds) == descriptors
    assert all(same_file(fd, other) for other in heard.fds)
    for other in (fd, *heard.fds):
        os.close(other)
    assert open_descriptors() == before


@pytest.mark.parametrize(("size", "descriptors"), [(10, MAX_FDS + 1), (MAX_INLINE + 1, MAX_FDS)])
def test_more_descriptors_than_the_kernel_takes_are_the_senders_mistake(ends: Ends, size: int, descriptors: int) -> None:
    left, right = ends
    fd = os.memfd_create("test")
    with pytest.raises(ValueError, match="descriptors"):
        left.send(m.Shelve(("x" * size,), (fd,) * descriptors))
    os.close(fd)
    left.send(m.Thaw("still there"))
    assert right.receive() == m.Thaw("still there")


@pytest.mark.parametrize("size", [10, MAX_INLINE + 1])
def test_descriptors_of_who_has_none_to_give_are_closed_whatever_the_message_is(size: int) -> None:
    before = open_descriptors()
    left, right = (Channel(end, takes_descriptors=ours) for end, ours in zip(pair(), (True, False), strict=True))
    fd = os.memfd_create("test")
    for said in (
        m.Shelve(("x" * size,), (fd,) * 9),
        m.Forked(1, 2, "x" * size, fds=(fd,)),
        m.Workers(app="x" * size, fds=(fd, fd)),
    ):
        left.send(said)
        assert right.receive() == said._replace(fds=())
    os.close(fd)
    left.close()
    right.close()
    assert open_descriptors() == before


def test_what_the_kernel_does_not_take_now_waits_and_nothing_is_lost_or_reordered(ends: Ends) -> None:
    left, right = ends
    before = open_descriptors()
    sent = heard = 0
    while left.pending < 20:
        fd = os.memfd_create("test") if sent % 50 == 0 else -1
        left.send(m.Shelve((str(sent), "x" * 5000), () if fd < 0 else (fd,)))
        if fd >= 0:
            os.close(fd)  # at once: what waits has a duplicate
        sent += 1
    assert not left.flush()
    while heard < sent:
        message = right.receive()
        if message is None:
            left.flush()
            continue
        assert message.names[0] == str(heard)
        assert len(message.fds) == (heard % 50 == 0)
        for fd in message.fds:
            os.close(fd)
        heard += 1
    assert left.flush()
    assert left.pending == 0
    assert open_descriptors() == before


def test_closing_a_channel_closes_what_waits_in_it() -> None:
    before = open_descriptors()
    left, right = (Channel(end) for end in pair())
    fd = os.memfd_create("test")
    while left.pending < 3:
        left.send(m.Shelve(("x" * 50_000,), (fd,)))
    os.close(fd)
    left.close()
    right.close()
    assert open_descriptors() == before


def test_what_was_said_before_the_end_is_heard_before_the_end(ends: Ends) -> None:
    left, right = ends
    left.send(m.Thaw("last words"))
    left.close()
    assert right.receive() == m.Thaw("last words")
    with pytest.raises(ChannelClosed):
        right.receive()
    with pytest.raises(ChannelClosed):
        right.send(m.Freeze())
    with pytest.raises(ChannelClosed):
        right.wait(1.0)


def test_the_end_is_heard_also_when_the_other_has_not_read_everything(ends: Ends) -> None:
    left, right = ends
    right.send(m.Freeze())
    left.send(m.Thaw("last words"))
    left.close()
    assert right.receive() == m.Thaw("last words")
    with pytest.raises(ChannelClosed):
        right.receive()


@pytest.mark.parametrize("garbage", [b"{", b"M", b"null", b"\xff\x00", b'["Hello",5]', b"x" * (MAX_INLINE + 1)])
def test_p12_garbage_is_an_error_and_the_next_message_is_heard(ends: Ends, garbage: bytes) -> None:
    left, right = ends
    before = open_descriptors()
    fd = os.memfd_create("test")
    with raw(left) as other:
        if garbage == b"M":
            other.send(garbage)
        else:
            socket.send_fds(other, [garbage], [fd])
    left.send(m.Thaw("next"))
    with pytest.raises(MessageError):
        right.receive()
    assert right.receive() == m.Thaw("next")
    os.close(fd)
    assert open_descriptors() == before


def test_p12_a_memfd_of_garbage_is_an_error_and_is_closed(ends: Ends) -> None:
    left, right = ends
    before = open_descriptors()
    body = memfd("test", b"garbage")
    with raw(left) as other:
        socket.send_fds(other, [b"M"], [body])
    os.close(body)
    with pytest.raises(MessageError):
        right.receive()
    assert open_descriptors() == before


def sparse_terabyte() -> int:
    fd = os.memfd_create("sparse", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, 1 << 40)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
    return fd


def write_only() -> int:
    whole = memfd("test", b'["Thaw",{}]')
    fd = os.open(f"/proc/self/fd/{whole}", os.O_WRONLY)
    os.close(whole)
    return fd


def half_sealed() -> int:
    fd = os.memfd_create("half", os.MFD_ALLOW_SEALING)
    os.write(fd, b'["Thaw",{}]')
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    return fd


def a_pipe() -> int:
    read, write = os.pipe()
    os.close(write)
    return read


BODIES: dict[str, Callable[[], int]] = {
    "a directory": lambda: os.open("/", os.O_RDONLY),
    "a path only": lambda: os.open("/", os.O_PATH),
    "a pipe": a_pipe,
    "a device": lambda: os.open("/dev/zero", os.O_RDONLY),
    "a file": lambda: os.open(__file__, os.O_RDONLY),
    "a memfd that can be written only": write_only,
    "a memfd without seals": lambda: os.memfd_create("test"),
    "a memfd that can still be changed": half_sealed,
    "a sparse memfd of a terabyte": sparse_terabyte,
    "a socket": lambda: socket.socket().detach(),
}


@pytest.mark.parametrize("what", BODIES)
def test_p12_what_is_no_sealed_memfd_of_a_reasonable_size_is_refused_and_closed(ends: Ends, what: str) -> None:
    left, right = ends
    before = open_descriptors()
    body = BODIES[what]()
    with raw(left) as other:
        socket.send_fds(other, [b"M"], [body])
    os.close(body)
    left.send(m.Thaw("next"))
    with pytest.raises(MessageError, match="the memfd of a message"):
        right.receive()
    assert right.receive() == m.Thaw("next")
    assert open_descriptors() == before


def test_p12_how_large_a_message_may_be_is_said_by_who_receives_it() -> None:
    left, right = pair()
    sender, receiver = Channel(left), Channel(right, max_body=MAX_INLINE + 100)
    sender.send(m.Thaw("x" * (MAX_INLINE + 1)))
    sender.send(m.Thaw("x" * (MAX_INLINE + 101)))
    assert len(receiver.receive().reason) == MAX_INLINE + 1
    with pytest.raises(MessageError, match=f"bytes, and {MAX_INLINE + 100} are taken"):
        receiver.receive()
    sender.close()
    receiver.close()


@pytest.mark.parametrize("size", [0, MAX_INLINE])
def test_p12_descriptors_that_a_message_may_not_carry_are_closed(ends: Ends, size: int) -> None:
    left, right = ends
    before = open_descriptors()
    fd, text = os.memfd_create("test"), "x" * size
    with raw(left) as other:
        for data in (f'["Progress",{{"note":"{text}"}}]', f'["Forked",{{"pool":"{text}"}}]'):
            if size:
                body = memfd("test", data.encode())
                socket.send_fds(other, [b"M"], [fd] * 200 + [body])
                os.close(body)
            else:
                socket.send_fds(other, [data.encode()], [fd] * 200)
    assert right.receive() == m.Progress(note=text)
    forked = right.receive()
    assert len(forked.fds) == 1
    os.close(forked.fds[0])
    os.close(fd)
    assert open_descriptors() == before


def test_p6_a_message_of_a_newer_version_is_dropped_and_its_descriptors_are_closed(ends: Ends) -> None:
    left, right = ends
    before = open_descriptors()
    fd = os.memfd_create("test")
    with raw(left) as other:
        socket.send_fds(other, [b'["AddedLater",{}]'], [fd])
    os.close(fd)
    left.send(m.Thaw("next"))
    assert right.receive() == m.Thaw("next")
    assert open_descriptors() == before


def test_waiting_ends_with_a_message_or_with_the_time(ends: Ends) -> None:
    left, right = ends
    assert right.wait(0.01) is None
    left.send(m.Freeze())
    assert right.wait() == m.Freeze()
    assert right.receive() is None, "and afterwards nothing blocks"


def test_a_channel_with_nothing_in_it_does_not_wake_anybody(ends: Ends) -> None:
    left, right = ends
    assert select.select([left, right], [], [], 0) == ([], [], [])


def test_a_memfd_is_sealed_and_is_read_from_its_start_as_often_as_one_likes() -> None:
    fd = memfd("test", b"x" * 3_000_000)
    os.lseek(fd, 5, os.SEEK_SET)
    assert read_memfd(fd) == read_memfd(fd) == b"x" * 3_000_000
    for change in (lambda: os.write(fd, b"y"), lambda: os.ftruncate(fd, 1), lambda: os.ftruncate(fd, 4_000_000)):
        with pytest.raises(PermissionError):
            change()
    os.close(fd)


def test_nothing_of_a_channel_is_inherited() -> None:
    for end in pair():
        assert not os.get_inheritable(end.fileno())
        end.close()
    assert channels.MAX_FDS == 253
