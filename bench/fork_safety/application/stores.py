"""Databases, queues and caches."""

from __future__ import annotations

from typing import Any

from case import Case, check, port


class Redis(Case):
    distribution = module = "redis"
    server = "redis"
    hook = "close the client before the fork"

    def create(self) -> Any:
        import redis

        return redis.Redis(port=port("redis"), socket_timeout=10)

    def use(self, made: Any, tag: str) -> Any:
        check(made.echo(tag), tag.encode())

    def before_fork(self, made: Any) -> None:
        made.close()


class Psycopg(Case):
    distribution, module = "psycopg", "psycopg"
    server = "postgres"
    hook = "close the connection before the fork, open one after it"

    def create(self) -> Any:
        import psycopg

        return psycopg.connect(f"host=127.0.0.1 port={port('postgres')} user=bench dbname=postgres", autocommit=True)

    def use(self, made: Any, tag: str) -> Any:
        check(made.execute("select %s::text", (tag,)).fetchone(), (tag,))

    def before_fork(self, made: Any) -> None:
        made.close()

    def after_fork(self, made: Any) -> Any:
        return self.create()


class Psycopg2(Case):
    distribution, module = "psycopg2-binary", "psycopg2"
    server = "postgres"
    hook = "close the connection before the fork, open one after it"

    def create(self) -> Any:
        import psycopg2

        made = psycopg2.connect(host="127.0.0.1", port=port("postgres"), user="bench", dbname="postgres")
        made.autocommit = True
        return made

    def use(self, made: Any, tag: str) -> Any:
        with made.cursor() as cursor:
            cursor.execute("select %s", (tag,))
            check(cursor.fetchone(), (tag,))

    def before_fork(self, made: Any) -> None:
        made.close()

    def after_fork(self, made: Any) -> Any:
        return self.create()


class Sqlalchemy(Case):
    distribution = module = "sqlalchemy"
    server = "postgres"

    def create(self) -> Any:
        import sqlalchemy

        return sqlalchemy.create_engine(f"postgresql+psycopg://bench@127.0.0.1:{port('postgres')}/postgres")

    def use(self, made: Any, tag: str) -> Any:
        import sqlalchemy

        with made.connect() as connection:
            check(connection.execute(sqlalchemy.text("select cast(:tag as text)"), {"tag": tag}).scalar(), tag)


class Pymysql(Case):
    distribution = module = "pymysql"
    hook = "close the connection before the fork, open one after it"

    def create(self) -> Any:
        import pymysql

        return pymysql.connect(host="127.0.0.1", port=port("mysql"), user="bench", read_timeout=5)

    def use(self, made: Any, tag: str) -> Any:
        with made.cursor() as cursor:
            cursor.execute("select %s", (tag,))
            check(cursor.fetchone(), (tag,))

    def before_fork(self, made: Any) -> None:
        made.close()

    def after_fork(self, made: Any) -> Any:
        return self.create()


class Pymongo(Case):
    distribution = module = "pymongo"
    hook = "close the client before the fork, make one after it"

    def create(self) -> Any:
        import pymongo

        return pymongo.MongoClient(f"mongodb://127.0.0.1:{port('mongo')}", serverSelectionTimeoutMS=3000, socketTimeoutMS=5000)

    def use(self, made: Any, tag: str) -> Any:
        check(made.bench.command("echo", tag)["tag"], tag)

    def before_fork(self, made: Any) -> None:
        made.close()

    def after_fork(self, made: Any) -> Any:
        return self.create()


class Celery(Case):
    distribution = module = "celery"
    server = "redis"
    hook = "reset kombu's pools and close the result backend before the fork, app._after_fork() after it"

    def create(self) -> Any:
        import celery

        address = f"redis://127.0.0.1:{port('redis')}/1"
        app = celery.Celery("bench", broker=address, backend=address, set_as_current=False)
        app.conf.broker_connection_retry_on_startup = True
        return app

    def use(self, made: Any, tag: str) -> Any:
        made.send_task("nobody", task_id=tag, retry=False)
        made.backend.store_result(tag, tag, "SUCCESS")
        check(made.AsyncResult(tag).get(timeout=5), tag)

    def before_fork(self, made: Any) -> None:
        import kombu.pools

        kombu.pools.reset()
        made.backend.result_consumer.stop()
        made.backend.client.connection_pool.disconnect()

    def after_fork(self, made: Any) -> Any:
        made._after_fork()
        return made


class Duckdb(Case):
    distribution = module = "duckdb"
    hook = "close the connection before the fork, open one after it"

    def create(self) -> Any:
        import duckdb

        return duckdb.connect(":memory:", config={"threads": 2})

    def use(self, made: Any, tag: str) -> Any:
        check(
            made.execute("select count(*), any_value(?) from range(1000000) t(n) where n % 7 = 0", [tag]).fetchone(),
            (142858, tag),
        )

    def before_fork(self, made: Any) -> None:
        made.close()

    def after_fork(self, made: Any) -> Any:
        return self.create()
