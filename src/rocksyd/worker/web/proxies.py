"""For whom a request is: what a proxy in front says of it, if it may, and the request's id.

What must live here: whom to believe, and what of the forwarding headers. What this file must not know: connections.

Whoever is not trusted has forwarding headers dropped, so that an application may believe those that it gets.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from rocksyd.worker.web.request import Request

_FORWARDING = (b"forwarded", b"x-real-ip", b"x-request-id")
_ID = re.compile(rb"[A-Za-z0-9._:=+/@-]{1,128}")
_MOST_HOPS = 32


def _is_forwarding(name: bytes) -> bool:
    return name in _FORWARDING or name.startswith(b"x-forwarded-")


class Proxies:
    """Whom to believe."""

    def __init__(self, trusted: Iterable[str]) -> None:
        self._networks = [ipaddress.ip_network(one, strict=False) for one in trusted]
        self._is_trusted = lru_cache(4096)(self._look)

    def trust(self, client: tuple[str, int] | None) -> bool:
        """Whether who has connected may say for whom a request is. Over a unix socket (which has no address) everybody may."""
        return client is None or self._is_trusted(client[0])

    def _look(self, address: str) -> bool:
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(found in network for network in self._networks)

    def read(self, scope: Any, headers: list[tuple[bytes, bytes]], *, trusted: bool) -> Request:
        """The request that these headers are of. ``scope`` gets the client's address and the scheme, ``headers`` the id."""
        client = scope.get("client")
        said: dict[bytes, bytes] = {}
        referer = agent = b"-"
        kept = []
        for pair in headers:
            name = pair[0]
            if b"_" in name and _is_forwarding(name.replace(b"_", b"-")):
                continue  # many an application would take it for the one with hyphens
            if _is_forwarding(name):
                if name == b"x-forwarded-for" and name in said:
                    said[name] += b"," + pair[1]
                else:
                    said[name] = pair[1]
                if not trusted or name == b"x-request-id":
                    continue
            elif name == b"referer":
                referer = pair[1]
            elif name == b"user-agent":
                agent = pair[1]
            kept.append(pair)
        request_id = said.get(b"x-request-id", b"")
        if not trusted or not _ID.fullmatch(request_id):
            request_id = os.urandom(12).hex().encode()
        kept.append((b"x-request-id", request_id))
        headers[:] = kept
        if trusted and b"x-forwarded-for" in said:
            client = self._first_stranger(said[b"x-forwarded-for"]) or client
            scope["client"] = client
        if trusted and said.get(b"x-forwarded-proto") in (b"https", b"http"):
            secure = said[b"x-forwarded-proto"] == b"https"
            scope["scheme"] = {"http": ("http", "https"), "websocket": ("ws", "wss")}[scope["type"]][secure]
        request = Request(request_id.decode("ascii"), client[0] if client else "-")
        request.referer, request.agent = referer.decode("latin-1"), agent.decode("latin-1")
        return request

    def _first_stranger(self, forwarded: bytes) -> tuple[str, int] | None:
        """The last address in the list that is nobody's whom we trust: what stands before it anybody may have written."""
        found = None
        for part in reversed(forwarded.split(b",")[-_MOST_HOPS:]):
            address = part.strip().decode("latin-1")
            address = address[1:].partition("]")[0] if address.startswith("[") else address
            try:
                ipaddress.ip_address(address)
            except ValueError:
                host, _, port = address.rpartition(":")
                if not host or not port.isdigit():
                    break
                address = host
                try:
                    ipaddress.ip_address(address)
                except ValueError:
                    break
            found = (address, 0)
            if not self._is_trusted(address):
                break
        return found
