"""A client of the gateway's Protocol Buffers, made from the published .proto by protoc, and by nothing of ours."""

from __future__ import annotations

import shutil
import socket
import subprocess
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PROTO = Path(__file__).parents[2] / "docs" / "schema" / "rocksyd.proto"


@cache
def described() -> Any:
    """What protoc makes of the file."""
    protoc = shutil.which("protoc")
    if protoc is None:
        pytest.skip("protoc is not there (Debian: protobuf-compiler)")
    command = [protoc, f"--proto_path={PROTO.parent}", "--descriptor_set_out=/dev/stdout", PROTO.name]
    made = descriptor_pb2.FileDescriptorSet.FromString(subprocess.run(command, check=True, capture_output=True).stdout)
    return made.file[0]


@cache
def classes() -> dict[str, Any]:
    """Its messages."""
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(described().SerializeToString())
    names = [one.name for one in described().message_type]
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"rocksyd.{name}")) for name in names}


class Binary:
    """A connection."""

    def __init__(self, address: str, token: str = "") -> None:
        host, _, port = address.partition("://")[2].rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=60)
        self._number = 0
        if token:
            assert self.ask("auth", token=token).auth.authorised.boolean

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.socket.close()

    def request(self, method: str, **members: Any) -> bytes:
        """The bytes of a request."""
        self._number += 1
        request = classes()["Request"](id=self._number)
        part = getattr(request, method)
        part.SetInParent()
        for name, value in members.items():
            if isinstance(value, list):
                getattr(part, name).list.items.extend(classes()["Value"](**{_KINDS[type(one)]: one}) for one in value)
            elif isinstance(value, dict):
                for key, one in value.items():
                    getattr(part, name)[key].CopyFrom(classes()["Value"](**{_KINDS[type(one)]: one}))
            else:
                setattr(part, name, value)
        body = request.SerializeToString()
        return len(body).to_bytes(4, "big") + body

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(self, method: str, **members: Any) -> Any:
        """What is answered."""
        self.send(self.request(method, **members))
        reply = self.receive()
        assert reply is not None
        assert reply.id == self._number
        return reply

    def receive(self) -> Any:
        """The next reply; None at the end."""
        head = self._read(4)
        return classes()["Reply"].FromString(self._read(int.from_bytes(head, "big"))) if head else None

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self.socket.recv(size - len(data))
            if not piece:
                assert not data, "the connection ended in the middle of a reply"
                return b""
            data += piece
        return data


_KINDS = {bool: "boolean", int: "integer", float: "number", str: "text"}
