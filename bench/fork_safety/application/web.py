"""Clients of HTTP and its relatives, and what serves it."""

from __future__ import annotations

import gc
import os
import threading
from typing import Any

from case import Case, check, port, url


class Requests(Case):
    distribution = module = "requests"
    hook = "close the session before the fork"

    def create(self) -> Any:
        import requests

        return requests.Session()

    def use(self, made: Any, tag: str) -> Any:
        check(made.get(url(f"/echo/{tag}"), timeout=10).text, tag)

    def before_fork(self, made: Any) -> None:
        made.close()


class Urllib3(Case):
    distribution = module = "urllib3"
    hook = "empty the pool before the fork"

    def create(self) -> Any:
        import urllib3

        return urllib3.PoolManager(timeout=10)

    def use(self, made: Any, tag: str) -> Any:
        check(made.request("GET", url(f"/echo/{tag}")).data.decode(), tag)

    def before_fork(self, made: Any) -> None:
        made.clear()


class Httpx(Case):
    distribution = module = "httpx"
    hook = "close the client before the fork, make one after it"

    def create(self) -> Any:
        import httpx

        return httpx.Client(timeout=10)

    def use(self, made: Any, tag: str) -> Any:
        check(made.get(url(f"/echo/{tag}")).text, tag)

    def before_fork(self, made: Any) -> None:
        made.close()

    def after_fork(self, made: Any) -> Any:
        return self.create()


class Boto3(Case):
    distribution = module = "boto3"
    hook = "close the client before the fork"

    def create(self) -> Any:
        import boto3

        keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region_name": "here"}
        return boto3.client("s3", endpoint_url=url(), **keys)

    def use(self, made: Any, tag: str) -> Any:
        check(made.get_object(Bucket="echo", Key=tag)["Body"].read().decode(), tag)

    def before_fork(self, made: Any) -> None:
        made.close()


class Openai(Case):
    distribution = module = "openai"
    hook = "close the client before the fork, make one after it"

    def create(self) -> Any:
        import openai

        return openai.OpenAI(base_url=url("/v1"), api_key="key", max_retries=0, timeout=10)

    def use(self, made: Any, tag: str) -> Any:
        answer = made.chat.completions.create(model="echo", messages=[{"role": "user", "content": tag}])
        check(answer.choices[0].message.content, tag)

    def before_fork(self, made: Any) -> None:
        made.close()

    def after_fork(self, made: Any) -> Any:
        return self.create()


class Elasticsearch(Case):
    distribution = module = "elasticsearch"
    hook = "close the client before the fork, make one after it"

    def create(self) -> Any:
        import elasticsearch

        return elasticsearch.Elasticsearch(url(), max_retries=0, request_timeout=10)

    def use(self, made: Any, tag: str) -> Any:
        check(made.get(index="echo", id=tag)["_source"]["tag"], tag)

    def before_fork(self, made: Any) -> None:
        made.close()

    def after_fork(self, made: Any) -> Any:
        return self.create()


class GoogleStorage(Case):
    distribution = "google-cloud-storage"
    module = "google.cloud.storage"
    hook = "close the client and collect garbage before the fork, make one after it"

    def create(self) -> Any:
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import storage

        options = {"api_endpoint": url()}
        return storage.Client(project="p", credentials=AnonymousCredentials(), client_options=options)

    def use(self, made: Any, tag: str) -> Any:
        check(made.bucket("echo").blob(tag).download_as_bytes(checksum=None, retry=None).decode(), tag)

    def before_fork(self, made: Any) -> None:
        made.close()
        gc.collect()

    def after_fork(self, made: Any) -> Any:
        return self.create()


class Grpc(Case):
    distribution, module = "grpcio", "grpc"
    hook = "close the channel before the fork, open one after it"

    def create(self) -> Any:
        import grpc

        return grpc.insecure_channel(f"127.0.0.1:{port('grpc')}")

    def use(self, made: Any, tag: str) -> Any:
        check(made.unary_unary("/bench.Echo/Echo")(tag.encode(), timeout=5), tag.encode())

    def before_fork(self, made: Any) -> None:
        made.close()

    def after_fork(self, made: Any) -> Any:
        return self.create()


class Paramiko(Case):
    distribution = module = "paramiko"
    rounds = 3
    hook = "close the connection before the fork, open one after it"

    def create(self) -> Any:
        import paramiko

        client = paramiko.SSHClient()
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        client.connect("127.0.0.1", port("ssh"), "bench", "bench", allow_agent=False, look_for_keys=False, timeout=10)
        return client

    def use(self, made: Any, tag: str) -> Any:
        _, output, _ = made.exec_command(tag, timeout=5)
        check(output.read().decode(), tag)

    def before_fork(self, made: Any) -> None:
        made.close()

    def after_fork(self, made: Any) -> Any:
        return self.create()


class Sentry(Case):
    distribution, module = "sentry-sdk", "sentry_sdk"
    rounds = 3
    late = True
    hook = "init after the fork only"

    def create(self) -> Any:
        import sentry_sdk

        sentry_sdk.init(dsn=f"http://key@127.0.0.1:{port('http')}/1", default_integrations=False)
        return sentry_sdk

    def use(self, made: Any, tag: str) -> Any:
        import urllib.request

        made.capture_message(tag)
        made.flush(timeout=5)
        with urllib.request.urlopen(url(f"/seen/{tag}"), timeout=5) as answer:
            check(answer.read(), b"yes")

    def after_fork(self, made: Any) -> Any:
        return self.create()


class Opentelemetry(Case):
    distribution, module = "opentelemetry-sdk", "opentelemetry.sdk.trace"
    rounds = 3
    hook = "shut the provider down before the fork, make one after it"

    def create(self) -> Any:
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

        class Exporter(SpanExporter):
            def __init__(self) -> None:
                self.names: set[str] = set()
                self.threads: set[str] = set()

            def export(self, spans: Any) -> Any:
                self.names |= {span.name for span in spans}
                self.threads.add(threading.current_thread().name)
                return SpanExportResult.SUCCESS

        provider, exporter = TracerProvider(shutdown_on_exit=False), Exporter()
        provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=50))
        return provider, exporter

    def use(self, made: Any, tag: str) -> Any:
        import time

        provider, exporter = made
        with provider.get_tracer("bench").start_as_current_span(tag):
            pass
        until = time.monotonic() + 3
        while tag not in exporter.names and time.monotonic() < until:  # the processor's own thread is to export it
            time.sleep(0.01)
        check(tag in exporter.names, True)

    def before_fork(self, made: Any) -> None:
        made[0].shutdown()

    def after_fork(self, made: Any) -> Any:
        return self.create()


class Prometheus(Case):
    distribution, module = "prometheus_client", "prometheus_client"

    def create(self) -> Any:
        import prometheus_client

        registry = prometheus_client.CollectorRegistry()
        return prometheus_client.Counter("runs", "Runs", ["tag"], registry=registry), registry

    def use(self, made: Any, tag: str) -> Any:
        import prometheus_client

        counter, registry = made
        counter.labels(tag).inc()
        check(f'runs_total{{tag="{tag}"}} 1.0' in prometheus_client.generate_latest(registry).decode(), True)


class Django(Case):
    distribution, module = "django", "django"
    server = "postgres"

    def create(self) -> Any:
        import django
        from django.conf import settings

        settings.configure(
            SECRET_KEY="bench", ROOT_URLCONF="web", ALLOWED_HOSTS=["*"],
            DATABASES={"default": {
                "ENGINE": "django.db.backends.postgresql", "NAME": "postgres", "USER": "bench", "HOST": "127.0.0.1",
                "PORT": port("postgres"), "CONN_MAX_AGE": None,
            }},
        )  # fmt: skip
        django.setup()
        from django.template import engines

        return engines

    def use(self, made: Any, tag: str) -> Any:
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute("select %s", [tag])
            check(cursor.fetchone()[0], tag)


urlpatterns: list[Any] = []  # Django's


class Flask(Case):
    distribution = module = "flask"

    def create(self) -> Any:
        import flask

        app = flask.Flask("bench")
        app.add_url_rule("/<tag>", "echo", lambda tag: flask.render_template_string("{{ tag }}", tag=tag))
        return app

    def use(self, made: Any, tag: str) -> Any:
        check(made.test_client().get(f"/{tag}").text, tag)


class Fastapi(Case):
    distribution = module = "fastapi"

    def create(self) -> Any:
        import fastapi
        import fastapi.testclient

        app = fastapi.FastAPI()
        app.add_api_route("/{tag}", _echo)
        return fastapi.testclient.TestClient(app)

    def use(self, made: Any, tag: str) -> Any:
        check(made.get(f"/{tag}").json(), {"tag": tag, "pid": os.getpid()})


def _echo(tag: str) -> dict[str, Any]:
    return {"tag": tag, "pid": os.getpid()}
