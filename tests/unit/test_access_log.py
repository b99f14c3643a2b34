"""Lines of the access log, whatever a client says."""

from __future__ import annotations

import asyncio
import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocksyd.worker.web.access import AccessLog
from rocksyd.worker.web.request import Request

SAID = st.binary(max_size=40) | st.text(max_size=20).map(lambda text: text.encode("utf-8", "surrogatepass"))
COMBINED = re.compile(r'- - - \[[^]]+\] "GET (.*) HTTP/1\.1" 200 5 "([^"]*)" "([^"]*)" 0\.250000 id')


def written(folder: Path, form: str, url: bytes, agent: bytes) -> str:
    """What a request has left in the file."""
    file = folder / "access.log"
    file.unlink(missing_ok=True)
    request = Request("id")
    request.method, request.version, request.url = "GET", "1.1", url
    request.referer = request.agent = agent.decode("latin-1")
    loop = asyncio.new_event_loop()
    try:
        log = AccessLog(str(file), form, loop)
        log.open()
        log.note(request, 200, 5, 0.25)
        log.flush()
        os.close(log._fd)
    finally:
        loop.close()
    return file.read_bytes().decode("ascii")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("access")


@given(SAID, SAID)
def test_a_line_of_json_is_one_line_and_says_what_was_said(folder: Path, url: bytes, agent: bytes) -> None:
    text = written(folder, "json", url, agent)
    assert text.index("\n") == len(text) - 1
    entry = json.loads(text)
    for value, said in ((entry["url"], url), (entry["agent"], agent), (entry["referer"], agent)):
        assert value == said.decode("utf-8", "backslashreplace")
        json.dumps(value).encode()  # no lone surrogates, which other readers refuse


@given(SAID, SAID)
def test_the_fields_of_a_combined_line_are_told_apart_and_can_be_read_back(folder: Path, url: bytes, agent: bytes) -> None:
    text = written(folder, "combined", url, agent)
    assert text.index("\n") == len(text) - 1
    found = COMBINED.fullmatch(text[:-1])
    assert found is not None, text
    assert [read(one) for one in found.groups()] == [url, agent, agent]


def read(field: str) -> bytes:
    """What stands in a field of a combined line."""
    return re.sub(rb"\\x([0-9a-f]{2})", lambda match: bytes.fromhex(match[1].decode()), field.encode())
