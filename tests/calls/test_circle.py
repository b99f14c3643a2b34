"""Jobs that wait for jobs of their own full pool: `why` names them, and what it advises helps."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rocksyd.client import Client
from rocksyd.testing import Daemon
from rocksyd.testing.daemon import until

JOBS = """
import subprocess
import sys

from rocksyd import Client, Executor, job


@job
def leaf():
    return 1


@job
def calls(address):
    with Client(address) as client:
        return client.call("leaf")


@job
def waits(address):
    with Client(address) as client:
        return client.run("leaf").wait()["outcome"]


@job
def submits(address):
    with Executor(address=address) as executor:
        return executor.submit(leaf).result()


@job
def starts(address):
    subprocess.run([sys.executable, "-m", "rocksyd", "--address", address, "run", "leaf", "--wait"], check=True)


@job
def orders(address, path):
    with Client(address) as client:
        client.run("leaf")
    with open(path) as fifo:
        fifo.read()
"""
POOL = 'pm = "static"\nmax_workers = 1\nmax_jobs = 0\ngrace = "30s"'


def waiting(client: Client) -> list[str]:
    return [record["key"] for record in client.runs(state="waiting")]


def reasons(client: Client, key: str) -> list[str]:
    return [reason["code"] for reason in client.why(key)["reasons"]]


@pytest.mark.parametrize("target", ["calls", "waits", "submits", "starts"])
def test_a_job_that_waits_for_one_of_its_own_full_pool_is_in_a_circle(target: str, tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS, parts={"pool": POOL}) as daemon, daemon.client() as client:
        outer = client.run(target, daemon.address, key="outer")
        until(lambda: "circle" in reasons(client, "outer"), "the run to wait for the other")
        (inner,) = waiting(client)
        assert daemon.restart() == {"error_text": "Restarted successfully"}
        until(lambda: "circle" in reasons(client, inner), "the run to wait for the other again")
        first = client.why(inner)["reasons"][0]
        assert first["code"] == "circle"
        assert first["text"].endswith(f": {inner} waits for a worker of pool 'app', outer waits for {inner}")
        assert "raise max_workers" in first["advice"]
        daemon.config.write_text(daemon.config.read_text().replace("max_workers = 1", "max_workers = 2"))
        client.reload()
        assert outer.wait()["outcome"] == "ok"


def test_a_job_that_orders_another_and_does_not_wait_is_in_none(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with Daemon(tmp_path, JOBS, parts={"pool": POOL}) as daemon, daemon.client() as client:
        outer = client.run("orders", daemon.address, str(fifo), key="outer")
        with fifo.open("w"):  # opened as soon as the job does
            (inner,) = waiting(client)
            assert reasons(client, inner) == ["pool_full", "next"]
            assert reasons(client, "outer") == ["running"]
        assert outer.wait()["outcome"] == "ok"
