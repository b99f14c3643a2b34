"""The small servers of the matrix in one process: HTTP, gRPC, SSH, and as much of MySQL and MongoDB as their clients need.

Run by the matrix's own interpreter, because grpcio, paramiko and pymongo are only there. Prints its ports as JSON, then serves
until its standard input ends. Every answer repeats what was asked, so that an answer to another process's question is seen.
"""

from __future__ import annotations

import gzip
import json
import logging
import socketserver
import struct
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import bson
import grpc
import paramiko

PAUSE = 0.001
"""Seconds before an answer, so that the questions of several processes meet."""


class Http(BaseHTTPRequestHandler):
    """``/echo/TAG`` and the like, as S3, OpenAI, Elasticsearch, Google Cloud Storage and Sentry answer."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    seen: set[str] = set()

    def do_GET(self) -> None:
        time.sleep(PAUSE)
        path = self.path.partition("?")[0].strip("/").split("/")
        tag = path[-1]
        if path[0] == "seen":
            return self._say("yes" if tag in self.seen else "no")
        if "_doc" in path:
            return self._say(
                json.dumps({"_index": "echo", "_id": tag, "found": True, "_source": {"tag": tag}}), "application/json"
            )
        return self._say(tag)

    def do_POST(self) -> None:
        body = self._body()
        time.sleep(PAUSE)
        if self.path.startswith("/v1/"):
            tag = json.loads(body)["messages"][-1]["content"]
            choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": tag}}
            answer = {"id": "1", "object": "chat.completion", "created": 0, "model": "echo", "choices": [choice]}
            return self._say(json.dumps(answer), "application/json")
        for line in body.splitlines():
            if b'"message"' in line:
                self.seen.add(json.loads(line)["message"])
        return self._say("{}", "application/json")

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            body = b"".join(parts)
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _say(self, text: str, kind: str = "text/plain") -> None:
        data = text.encode()
        self.send_response(200)
        for name, value in (("Content-Type", kind), ("Content-Length", str(len(data))), ("X-Elastic-Product", "Elasticsearch")):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


# --- gRPC -------------------------------------------------------------------------------------------------------------
def serve_grpc() -> int:
    def echo(request: bytes, _context: object) -> bytes:
        time.sleep(PAUSE)
        return request

    server = grpc.server(ThreadPoolExecutor(8))
    handlers = {"Echo": grpc.unary_unary_rpc_method_handler(echo)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Echo", handlers),))
    port: int = server.add_insecure_port("127.0.0.1:0")
    server.start()
    KEPT.append(server)
    return port


# --- SSH --------------------------------------------------------------------------------------------------------------
KEY = paramiko.ECDSAKey.generate()
KEPT: list[Any] = []


class Login(paramiko.ServerInterface):
    """Everybody may, and a command's output is the command."""

    def check_auth_password(self, username: str, password: str) -> int:
        return paramiko.AUTH_SUCCESSFUL

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: Any, command: bytes) -> bool:
        threading.Thread(target=self._answer, args=(channel, command), daemon=True).start()
        return True

    def _answer(self, channel: Any, command: bytes) -> None:
        time.sleep(0.1)  # paramiko says that the request was taken only after its handler, which has started this, has returned
        channel.sendall(command)
        channel.send_exit_status(0)
        channel.close()


class Ssh(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        transport = paramiko.Transport(self.request)
        transport.add_server_key(KEY)
        try:
            transport.start_server(server=Login())
            transport.join()
        except (paramiko.SSHException, EOFError, OSError):
            transport.close()


# --- MySQL ------------------------------------------------------------------------------------------------------------
class Mysql(socketserver.StreamRequestHandler):
    """Protocol 10, text results of one column (https://dev.mysql.com/doc/dev/mysql-server/latest/PAGE_PROTOCOL.html)."""

    def handle(self) -> None:
        salt = b"x" * 20
        flags = 0x00000200 | 0x00008000 | 0x00080000 | 0x00000008
        greeting = b"\x0a8.0.0\0" + struct.pack("<I", 1) + salt[:8] + b"\0" + struct.pack("<H", flags & 0xFFFF)
        greeting += struct.pack("<BHH", 33, 2, flags >> 16) + b"\x15" + bytes(10) + salt[8:] + b"\0mysql_native_password\0"
        self._send(0, greeting)
        self._receive()
        self._send(2, b"\0\0\0\2\0\0\0")
        while command := self._receive():
            if command[0] == 1:
                return
            time.sleep(PAUSE)
            if not command[1:].startswith(b"select "):
                self._send(1, b"\0\0\0\2\0\0\0")
                continue
            value = command[8:].strip(b"'")
            column = (
                b"".join(map(_text, (b"def", b"", b"", b"", b"tag", b"tag")))
                + b"\x0c"
                + struct.pack("<HIBHBH", 33, 99, 253, 0, 0, 0)
            )
            for number, packet in enumerate((b"\1", column, b"\xfe\0\0\2\0", _text(value), b"\xfe\0\0\2\0"), 1):
                self._send(number, packet)

    def _receive(self) -> bytes:
        head = self.rfile.read(4)
        return self.rfile.read(int.from_bytes(head[:3], "little")) if len(head) == 4 else b""

    def _send(self, number: int, packet: bytes) -> None:
        self.wfile.write(len(packet).to_bytes(3, "little") + bytes([number]) + packet)


def _text(data: bytes) -> bytes:
    return bytes([len(data)]) + data


# --- MongoDB ----------------------------------------------------------------------------------------------------------
class Mongo(socketserver.StreamRequestHandler):
    """OP_MSG, and OP_QUERY for the first hello (https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/)."""

    def handle(self) -> None:
        while len(head := self.rfile.read(16)) == 16:
            size, number, _, kind = struct.unpack("<iiii", head)
            body = self.rfile.read(size - 16)
            at = 5 if kind == 2013 else body.index(b"\0", 4) + 9
            asked = bson.decode(body[at : at + struct.unpack_from("<i", body, at)[0]])
            time.sleep(PAUSE)
            answer = bson.encode(self._answer(asked))
            answer = struct.pack("<iB", 0, 0) + answer if kind == 2013 else struct.pack("<iqii", 8, 0, 0, 1) + answer
            self.wfile.write(struct.pack("<iiii", 16 + len(answer), 0, number, 2013 if kind == 2013 else 1) + answer)

    def _answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        if "echo" in asked:
            return {"ok": 1.0, "tag": asked["echo"]}
        sizes = {"maxBsonObjectSize": 16 << 20, "maxMessageSizeBytes": 48_000_000, "maxWriteBatchSize": 100_000}
        return {
            "ok": 1.0,
            "helloOk": True,
            "ismaster": True,
            "isWritablePrimary": True,
            "minWireVersion": 0,
            "maxWireVersion": 21,
            **sizes,
        }


def serve(handler: Any, kind: Any = socketserver.ThreadingTCPServer) -> int:
    kind.daemon_threads = True
    kind.request_queue_size = 100
    kind.handle_error = lambda *_: None  # processes that fight over a connection are what this is about
    server = kind(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return int(server.server_address[1])


def main() -> None:
    logging.getLogger("paramiko").addHandler(logging.NullHandler())
    ports = {"http": serve(Http, ThreadingHTTPServer), "grpc": serve_grpc()}
    ports |= {"ssh": serve(Ssh), "mysql": serve(Mysql), "mongo": serve(Mongo)}
    print(json.dumps(ports), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
