"""The least WSGI and ASGI applications with the shop loaded, for gunicorn and uvicorn."""

import os
import socket

import bench_loaded  # noqa: F401

BODY = b'{"retcode":0}\n'

if "BENCH_SAID" in os.environ:  # whoever started the server waits until its workers have loaded this
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as _said:
        _said.sendto(str(os.getpid()).encode(), os.environ["BENCH_SAID"])


def wsgi(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(BODY)))])
    return [BODY]


async def asgi(scope, receive, send):
    if scope["type"] == "http":
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(BODY)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": BODY})
