"""What ``stats`` and ``pools`` say is what their schemas describe, each field of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rocksyd.core import schema
from rocksyd.master.desk import methods
from rocksyd.testing import Daemon

JOBS = """
import time
from rocksyd import job
@job
def waits(): time.sleep(60)
"""


@pytest.mark.parametrize("name", ["stats", "pools"])
def test_every_number_is_described_and_there(tmp_path: Path, name: str) -> None:
    with Daemon(tmp_path, JOBS, parts={"pool": 'pm = "static"\nmax_workers = 2'}) as daemon:
        talk = daemon.talk()
        talk.rpc("run", target="waits", key="k")
        answer = talk.rpc(name)
        wanted = methods.METHODS[name].result
        assert schema.problem(answer, wanted, name) == ""
        described(answer, wanted, name)
        talk.rpc("terminate", key="k")
        talk.rpc("wait", key="k")


def described(value: Any, known: dict[str, Any], where: str) -> None:
    """Every member is in the schema, and says what it is."""
    if isinstance(value, list):
        for item in value:
            described(item, known["items"], where)
    elif isinstance(value, dict) and "properties" in known:
        assert set(known["required"]) <= value.keys() <= known["properties"].keys(), where
        for member, item in value.items():
            assert known["properties"][member]["description"], f"{where}.{member}"
            described(item, known["properties"][member], f"{where}.{member}")
