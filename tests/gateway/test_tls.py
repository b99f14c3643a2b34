"""The gateway with TLS: what comes over it, who does not speak it or never comes to an end, a certificate that is renewed."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from rocksyd.companions.gateway import connections
from rocksyd.config import tls
from rocksyd.testing import Daemon
from tests.certificates import certificate
from tests.companions.stage import Gate
from tests.gateway.stage import GATEWAY, IDLE_POOL, JOBS, companion
from tests.gateway.test_connections import served
from tests.restart.stage import restart

TLS = GATEWAY.replace('"http:', '"https:') + 'tls = { certificate = "cert.pem", key = "key.pem" }\n'
TOKEN = '[gateway.tokens.alice]\nfile = "alice"\nscopes = ["read", "run"]\n'
HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n"


def trusting(found: Path) -> ssl.SSLContext:
    """What a client needs that knows this certificate."""
    return ssl.create_default_context(cafile=str(found))


def ask(
    port: int, context: ssl.SSLContext, verb: str, path: str, body: Any = None, **headers: str
) -> tuple[int, dict[str, str], str]:
    link = http.client.HTTPSConnection("localhost", port, timeout=60, context=context)
    try:
        given = {"Content-Type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
        link.request(verb, path, None if body is None else json.dumps(body), given)
        reply = link.getresponse()
        return reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read().decode()
    finally:
        link.close()


def test_all_goes_over_tls_and_a_renewed_certificate_holds_from_the_next_restart_on(tmp_path: Path) -> None:
    found, _ = certificate(tmp_path)
    (tmp_path / "alice").write_text("alice-secret-alice\n")
    (tmp_path / "alice").chmod(0o600)
    with Daemon(tmp_path, JOBS, parts={"top": TLS + TOKEN, "pool": IDLE_POOL}) as running:
        talk = running.talk()
        (address,) = companion(talk, "gateway")["listen"]
        assert address.startswith("https://")
        port = int(address.rpartition(":")[2])
        first = trusting(found)
        token = {"Authorization": "Bearer alice-secret-alice"}
        assert ask(port, first, "POST", "/call/add", [1, 2], **token)[::2] == (200, '{"result":3}')
        assert ask(port, first, "POST", "/call/add", [1, 2])[0] == 401

        # A browser logs in: its cookie is never sent without TLS, and what it orders comes from an origin with https.
        own = {"Origin": f"https://localhost:{port}", "Sec_Fetch_Site": "same-origin"}
        status, headers, _ = ask(port, first, "POST", "/login", {"token": "alice-secret-alice"}, **own)
        cookie, *rules = headers["set-cookie"].split("; ")
        assert (status, "Secure" in rules) == (200, True)
        assert ask(port, first, "GET", "/", Cookie=cookie, Accept="text/html")[0] == 200
        assert ask(port, first, "POST", "/call/add", [1, 2], Cookie=cookie, **own)[2] == '{"result":3}'

        # Nothing else is spoken there, and nobody but the one who tries is the worse for it.
        with socket.create_connection(("127.0.0.1", port)) as plain:
            plain.sendall(HEAD + b"\r\n")
            with suppress(ConnectionResetError):  # it has left without having read all of it
                assert b"HTTP" not in plain.recv(65536)
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(50)]
        assert ask(port, first, "GET", "/runs", **token)[0] == 200

        # What is asked over a connection before the restart is answered there after it, in the old certificate.
        held = Gate(tmp_path / "held")
        link = http.client.HTTPSConnection("localhost", port, timeout=60, context=first)
        link.request("POST", "/call/gate", f'["{held.path}"]', {"Content-Type": "application/json", **token})
        held.wait_entered()
        renewed, _ = certificate(tmp_path)
        restart(running)
        held.open("open")
        reply = link.getresponse()
        assert (reply.status, reply.getheader("connection")) == (200, "close")
        reply.read()
        for one in (link, *silent):
            one.close()
        with pytest.raises(ssl.SSLCertVerificationError):
            ask(port, first, "GET", "/runs", **token)
        assert ask(port, trusting(renewed), "POST", "/call/add", [1, 2], **token)[2] == '{"result":3}'

        # One that cannot be used refuses the restart, and the one before goes on.
        (tmp_path / "key.pem").write_text("nonsense\n")
        refused = running.restart()["error_text"]
        assert "gateway.tls.key: " in refused
        assert "/key.pem: no private key in PEM" in refused
        assert ask(port, trusting(renewed), "POST", "/call/add", [1, 2], **token)[2] == '{"result":3}'


def test_who_does_not_shake_hands_ends_by_itself_and_too_many_end_the_oldest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, key = certificate(tmp_path)
    context = tls.context(str(found), str(key))
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    monkeypatch.setattr(connections, "HEAD_TIMEOUT", 3600.0)

    async def clients() -> None:
        async with served(most=3, context=context) as (_, connect):
            silent = [await connect() for _ in range(3)]
            reader, writer = await connect(ssl=trusting(found), server_hostname="localhost")
            assert await silent[0][0].read() == b""
            writer.write(HEAD + b"\r\n")
            assert (await reader.readuntil(b"hello")).startswith(b"HTTP/1.1 200")
            for _, one in (*silent, (reader, writer)):
                one.close()
        monkeypatch.setattr(connections, "HEAD_TIMEOUT", 0.05)
        async with served(context=context) as (_, connect):
            reader, writer = await connect()
            writer.write(b"\x16\x03\x01")
            assert await reader.read() == b""
            writer.close()

    asyncio.run(clients())
