"""What the tests of ``rocksyd.wire`` share: feeding a connection in pieces, and a server that is nothing but wire."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterable, Iterator

from rocksyd.wire import Answer, Batch, Bye, Call, Connection, Quit, Request, encode

Handler = Callable[[Request], bytes]


def requests_of(pieces: Iterable[bytes], *, max_line: int = 1 << 20) -> list[tuple[str, Request]]:
    """Every request in the bytes, with its type's name (named tuples of different types may be equal), as a server takes them."""
    connection = Connection(max_line=max_line)
    found = []
    for piece in pieces:
        connection.receive_data(piece)
        while (request := connection.next_request()) is not None:
            found.append((type(request).__name__, request))
    return found


def only(line: bytes) -> Request:
    """The one request in a line."""
    ((_, request),) = requests_of([line + b"\n"])
    return request


@contextlib.contextmanager
def server(handler: Handler) -> Iterator[Callable[[], socket.socket]]:
    """A server over socket pairs, each connection in a thread that has ended when this returns. Gives ``connect``."""
    threads = []

    def connect() -> socket.socket:
        ours, theirs = socket.socketpair()
        thread = threading.Thread(target=_serve, args=(theirs, handler))
        thread.start()
        threads.append(thread)
        return ours

    yield connect
    for thread in threads:
        thread.join()


def _serve(sock: socket.socket, handler: Handler) -> None:
    connection = Connection()
    with contextlib.closing(sock), contextlib.suppress(ConnectionError):
        while data := sock.recv(65536):
            connection.receive_data(data)
            while (request := connection.next_request()) is not None:
                sock.sendall(reply_to(request, handler))
            if connection.closed:
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(65536):  # a reset would overtake the answer
                    pass
                return


def reply_to(request: Request, handler: Handler) -> bytes:
    """The bytes that answer a request: what the wire alone decides is decided here."""
    if isinstance(request, Answer):
        return request.data
    if isinstance(request, Bye | Quit):
        return b""
    if isinstance(request, Batch):
        replies = (reply_to(call, handler) for call in request.calls)
        return encode.rpc_batch([reply for reply in replies if reply])
    reply = handler(request)
    return b"" if isinstance(request, Call) and request.notify else reply
