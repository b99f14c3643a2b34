"""Clients of a web server: ``web_client.py PORT CONNECTIONS``. They begin at once, and say what they saw for each line of input.

Each has one kept connection, thinks for 0 to 100 ms between two requests, and posts every third time. It does not look whether it
has been closed before it asks, as a client does not that hears of it late.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time

PORT, CONNECTIONS = int(sys.argv[1]), int(sys.argv[2])
GET = b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: bench\r\nContent-Length: 5\r\n\r\nhello"
seen = {"answered": 0, "failed": 0, "reconnects": 0}
waits: list[float] = []


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> bool:
    """One request; whether the connection stays open."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    length = next(int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:"))
    await reader.readexactly(length)
    if not head.startswith(b"HTTP/1.1 200"):
        raise ConnectionError(head)
    return b"connection: close" not in lines


async def client(number: int) -> None:
    chance = random.Random(number)
    connection = None
    count = 0
    while True:
        count += 1
        began = time.perf_counter()
        try:
            if connection is None:
                connection = await asyncio.open_connection("127.0.0.1", PORT)
            stays = await ask(*connection, POST if count % 3 == 0 else GET)
            seen["answered"] += 1
            waits.append(time.perf_counter() - began)
        except (OSError, EOFError, asyncio.LimitOverrunError):
            seen["failed"] += 1
            stays = False
            await asyncio.sleep(0.005)
        if not stays and connection is not None:
            connection[1].close()
            connection = None
            seen["reconnects"] += 1
        await asyncio.sleep(chance.random() / 10)


async def main() -> None:
    clients = [asyncio.create_task(client(number)) for number in range(CONNECTIONS)]
    print("ready", flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps({**seen, "waits": waits}), flush=True)
        waits.clear()
        seen.update(dict.fromkeys(seen, 0))
    for one in clients:
        one.cancel()


asyncio.run(main())
