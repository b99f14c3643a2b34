"""Event loops and schedulers: what has a thread, a loop or a poll set of its own."""

from __future__ import annotations

import asyncio
from typing import Any

from case import Case, check, port, url


class Aiohttp(Case):
    distribution = module = "aiohttp"
    hook = "close session and loop before the fork, make them after it"

    def create(self) -> Any:
        import aiohttp

        loop = asyncio.new_event_loop()

        async def session() -> Any:
            return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(10))

        return loop, loop.run_until_complete(session())

    def use(self, made: Any, tag: str) -> Any:
        loop, session = made

        async def get() -> str:
            async with session.get(url(f"/echo/{tag}")) as answer:
                return str(await answer.text())

        check(loop.run_until_complete(asyncio.wait_for(get(), 5)), tag)

    def before_fork(self, made: Any) -> None:
        loop, session = made
        loop.run_until_complete(session.close())
        loop.close()

    def after_fork(self, made: Any) -> Any:
        return self.create()


class Asyncpg(Case):
    distribution = module = "asyncpg"
    server = "postgres"
    hook = "close pool and loop before the fork, make them after it"

    def create(self) -> Any:
        import asyncpg

        loop = asyncio.new_event_loop()
        pool = asyncpg.create_pool(
            host="127.0.0.1", port=port("postgres"), user="bench", database="postgres", min_size=1, max_size=2, loop=loop
        )

        async def made() -> Any:
            return await pool

        return loop, loop.run_until_complete(made())

    def use(self, made: Any, tag: str) -> Any:
        loop, pool = made
        check(loop.run_until_complete(asyncio.wait_for(pool.fetchval("select $1::text", tag), 5)), tag)

    def before_fork(self, made: Any) -> None:
        loop, pool = made
        loop.run_until_complete(pool.close())
        loop.close()

    def after_fork(self, made: Any) -> Any:
        return self.create()


class Uvloop(Case):
    distribution = module = "uvloop"
    hook = "close the loop before the fork, make one after it"

    def create(self) -> Any:
        import uvloop

        return uvloop.new_event_loop()

    def use(self, made: Any, tag: str) -> Any:
        async def ask() -> str:
            reader, writer = await asyncio.open_connection("127.0.0.1", port("http"))
            writer.write(f"GET /echo/{tag} HTTP/1.0\r\n\r\n".encode())
            answer = await reader.read()
            writer.close()
            return answer.decode().rpartition("\r\n")[2]

        check(made.run_until_complete(asyncio.wait_for(ask(), 5)), tag)

    def before_fork(self, made: Any) -> None:
        made.close()

    def after_fork(self, made: Any) -> Any:
        return self.create()


class Gevent(Case):
    distribution = module = "gevent"
    hook = "end the hub's thread pool before the fork, gevent.reinit() after it"

    def create(self) -> Any:
        import gevent
        import gevent.socket

        return gevent

    def use(self, made: Any, tag: str) -> Any:
        from gevent import socket

        def ask() -> str:
            with socket.create_connection(("127.0.0.1", port("http")), timeout=5) as connection:
                connection.sendall(f"GET /echo/{tag} HTTP/1.0\r\n\r\n".encode())
                data = b""
                while part := connection.recv(4096):
                    data += part
            return data.decode().rpartition("\r\n")[2]

        jobs = [made.spawn(ask) for _ in range(3)]
        made.joinall(jobs, timeout=5)
        check([job.value for job in jobs], [tag] * 3)

    def before_fork(self, made: Any) -> None:
        made.get_hub().threadpool.kill()

    def after_fork(self, made: Any) -> Any:
        made.reinit()
        return made


class Apscheduler(Case):
    distribution = module = "apscheduler"
    rounds = 2
    hook = "shut the scheduler down before the fork, start one after it"

    def create(self) -> Any:
        from apscheduler.schedulers.background import BackgroundScheduler

        scheduler = BackgroundScheduler()
        scheduler.start()
        return scheduler

    def use(self, made: Any, tag: str) -> Any:
        import threading

        ran = threading.Event()
        made.add_job(ran.set)
        check(ran.wait(3), True)

    def before_fork(self, made: Any) -> None:
        made.shutdown()

    def after_fork(self, made: Any) -> Any:
        return self.create()
