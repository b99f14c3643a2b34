"""The conversations that need no run, with a server that is only the wire and an empty table; and the player itself."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

import tests.corpus
from rocksyd import codes
from rocksyd.errors import RequestError
from rocksyd.master.desk.methods import METHODS, arguments
from rocksyd.wire import Call, Check, Free, Json, Request, Terminate, Version, encode
from tests.corpus.player import MODES, ConversationError, Mode, contains, parse, play
from tests.unit.wire_drive import server

CORPUS = Path(next(iter(tests.corpus.__path__)))
WITHOUT_RUNS = sorted(
    [
        *CORPUS.glob("not_utf8_*.txt"),
        *CORPUS.glob("too_long_*.txt"),
        *(
            CORPUS / f"{name}.txt"
            for name in ("classic_errors", "classic_lines", "half_closed", "memcached", "mixed_dialects", "jsonrpc_errors")
        ),
    ]
)
Connect = Callable[[], socket.socket]


def _daemon_without_runs(request: Request) -> bytes:
    if isinstance(request, Check | Free | Terminate):
        return encode.classic_error("Hash not found")
    if isinstance(request, Version):
        return encode.version("0.1.0")
    assert isinstance(request, Call)
    if request.method == "status":
        try:
            arguments("status", METHODS["status"], request.params)
        except RequestError as error:
            return encode.rpc_error(request.id, error.code, str(error), error.data)
        return encode.rpc_error(request.id, codes.NOT_FOUND, "Not found", "no run has this key")
    return encode.rpc_error(request.id, codes.METHOD_NOT_FOUND, "Method not found")


def _subtract(minuend: int, subtrahend: int) -> int:
    return minuend - subtrahend


_METHODS: dict[str, Callable[..., Json]] = {
    "subtract": _subtract,
    "sum": lambda *numbers: sum(numbers),
    "get_data": lambda: ["hello", 5],
    "update": lambda *_: None,
    "notify_hello": lambda *_: None,
    "notify_sum": lambda *_: None,
}


def _specification(request: Request) -> bytes:
    assert isinstance(request, Call)
    method = _METHODS.get(request.method)
    if method is None:
        return encode.rpc_error(request.id, codes.METHOD_NOT_FOUND, "Method not found")
    params = request.params
    return encode.rpc_result(request.id, method(**params) if isinstance(params, dict) else method(*params))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("path", WITHOUT_RUNS, ids=lambda path: path.stem)
def test_conversation(path: Path, mode: Mode) -> None:
    with server(_daemon_without_runs) as connect:
        play(path, connect, mode=mode)


@pytest.mark.parametrize("mode", MODES)
def test_the_specifications_own_examples(mode: Mode) -> None:
    with server(_specification) as connect:
        play(CORPUS / "specification" / "jsonrpc.txt", connect, mode=mode)


def test_every_conversation_can_be_parsed() -> None:
    paths = sorted(CORPUS.rglob("*.txt"))
    assert paths
    for path in paths:
        assert any(step.kind.startswith("S") for step in parse(path)), path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("C: version\nS: wrong\n", r":2 .*\n expected S: wrong\n got      b'VERSION 0.1.0"),
        ("C: version\n", r"at the end .*\n expected the end of the connection\n got      b'VERSION"),
        ("C: quit\nS: more\n", r":2 .*\n expected S: more\n got      the end of the connection"),
        ("C: version\nS.\n", r":2 .*\n expected the end of the connection\n got      b'VERSION"),
        ("C: version\nS? {}\nS? {}\n", r":2 .*\n expected S\? \{\}\n got      b'VERSION"),
        ('C* check {"hash":1}\nS* {"a":1}\nS: x\n', r":3 .*\n expected S: x\n got      b'\{\"error_text"),
    ],
)
def test_the_player_tells_a_difference(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "conversation.txt"
    path.write_text(text)
    with server(_daemon_without_runs) as connect, pytest.raises(ConversationError, match=message):
        play(path, connect)


def test_a_missing_answer_is_told(tmp_path: Path) -> None:
    path = tmp_path / "conversation.txt"
    path.write_text("C~ half a line\nS: x\n")
    with server(_daemon_without_runs) as connect, pytest.raises(ConversationError, match="no answer in time"):
        play(path, connect, timeout=0.05)


def test_actions_polls_and_answers_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "conversation.txt"
    path.write_text(
        'C* check {"hash":1}\nS* {"error_text":"Still running"}\nS: {"retcode":0}\nA: note\n'
        'C: {"jsonrpc":"2.0","method":"a","id":1}\n'
        'C: {"jsonrpc":"2.0","method":"a","id":2}\nS? {"id":2}\nS? {"id":1}\nC: bye\nS.\n'
    )
    answers = [encode.classic_error("Still running")] * 3 + [encode.classic_reply({"retcode": 0})]
    noted: list[int] = []

    def handler(request: Request) -> bytes:
        return answers.pop(0) if isinstance(request, Check) else _daemon_without_runs(request)

    with server(handler) as connect:
        play(path, connect, mode="bytewise", actions={"note": lambda: noted.append(len(answers))})
    assert noted == [0]


def test_a_file_that_is_no_conversation(tmp_path: Path) -> None:
    path = tmp_path / "conversation.txt"
    path.write_text("# fine\nX: what\n")
    with pytest.raises(ValueError, match=r"conversation.txt:2"):
        parse(path)


def test_containment() -> None:
    assert contains({"a": 1, "b": [1, {"c": 2, "d": 3}]}, {"b": [1, {"c": 2}]})
    assert not contains({"b": [1, 2]}, {"b": [1]})
    assert not contains(1, True)
    assert not contains({}, {"a": None})
