"""P1: No byte, connection or reply is lost, repeated or reordered by a restart. One sentence each; the storm is next door."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path

import pytest

from rocksyd.testing import Daemon
from rocksyd.testing.daemon import Conversation, copy_package, until
from tests.restart.stage import JOBS, gate, order, restart, window

HALVES = {
    "classic": (b'unknown {"text":"abc"}\n', 12, rb"{\"text\":\"abc\"}"),
    "classic, within a character": ('unknown {"text":"é漢"}\n'.encode(), 17, rb"\u00e9\u6f22"),
    "classic, the line end alone": (b'check {"hash":1}\n', 16, b"Hash not found"),
    "CRLF, between the two": (b'check {"hash":1}\r\n', 17, b"Hash not found"),
    "JSON-RPC": (order("status", 5, key="none").encode() + b"\n", 20, b'"id":5'),
    "JSON-RPC, within a character": (b'{"jsonrpc":"2.0","id":"\xe6\xbc\xa2","method":"health"}\n', 25, rb'"id":"\u6f22"'),
    "JSON-RPC, a batch": (f"[{order('health', 1)},{order('health', 2)}]\n".encode(), 50, b'"id":2'),
    "memcached": (b"version\r\n", 4, b"VERSION"),
    "almost a line of the largest size": (b'unknown {"a":"' + b"x" * 1_000_000 + b'"}\n', 900_000, b"x" * 1000),
}


def test_p1_half_a_request_before_a_restart_and_half_after_it_is_one_request(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon:
        talks = {name: daemon.talk() for name in HALVES}
        for name, talk in talks.items():
            data, cut, _ = HALVES[name]
            talk.socket.sendall(data[:cut])
        restart(daemon)
        restart(daemon)
        for name, talk in talks.items():
            data, cut, expected = HALVES[name]
            talk.socket.sendall(data[cut:])
            line = talk.line()
            assert expected in line, (name, line)
            assert talk.rpc("health")["ok"], name


def test_p1_what_stands_behind_restart_in_the_same_write_is_answered_in_order(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon:
        talk = daemon.talk()
        talk.send('a {"n":1}', "restart", 'b {"n":2}', 'run {"hash":7,"class":"add","params":[1,2]}')
        talk.send("restart", "version", 'c {"n":3}', "bye")
        assert b"request_a" in talk.line()
        assert json.loads(talk.line()) == {"error_text": "Restarted successfully"}
        assert b"request_b" in talk.line()
        assert json.loads(talk.line()) == {"error_text": "OK"}
        assert json.loads(talk.line()) == {"error_text": "Restarted successfully"}
        assert talk.line().startswith(b"VERSION ")
        assert b"request_c" in talk.line()
        assert talk.line() == b""
        assert daemon.talk().rpc("wait", key="7")["result"] == 3


def test_p1_an_unsent_reply_of_megabytes_arrives_to_the_byte_across_restarts(tmp_path: Path) -> None:
    text = "".join(chr(0x4E00 + n % 20000) for n in range(100_000))
    with Daemon(tmp_path, JOBS) as daemon:
        talk, other = daemon.talk(), daemon.talk()
        other.rpc("run", target="say", key="big", params=[text, 0])
        expected = other.rpc("wait", key="big")
        assert expected["params"] == [text, 0]
        talk.send(*(order("status", n, key="big") for n in range(20)))
        for _ in range(5):
            assert other.ask("restart") == {"error_text": "Restarted successfully"}
        total = 0
        for n in range(20):
            line = talk.line()
            total += len(line)
            reply = json.loads(line)
            assert (reply["id"], reply["result"]) == (n, expected)
        assert total > 5_000_000
        assert talk.rpc("health")["ok"]


def test_p1_requests_and_connections_of_the_time_of_the_hand_over_are_served(tmp_path: Path) -> None:
    package = copy_package(tmp_path)
    with Daemon(tmp_path, JOBS, package=package) as daemon, window(package, tmp_path) as held:
        old, ordering = daemon.talk(), daemon.talk()
        old.ask('a {"n":0}')
        young = daemon.talk()
        assert young.ask('a {"n":1}')
        ordering.send("restart")
        held.wait_entered()
        fresh = [daemon.talk() for _ in range(20)]
        ended = daemon.talk()
        ended.send('check {"hash":1}', 'run {"hash":2,"class":"add","params":[2,2]}')
        ended.socket.shutdown(socket.SHUT_WR)
        for number, talk in enumerate((old, young, *fresh)):
            talk.send(f'x {{"n":{number}}}', order("health", number))
            talk.socket.setblocking(False)
            with pytest.raises(BlockingIOError):
                talk.socket.recv(1)
            talk.socket.settimeout(30)
        held.open()
        assert json.loads(ordering.line()) == {"error_text": "Restarted successfully"}
        for number, talk in enumerate((old, young, *fresh)):
            assert talk.line() == f'{{"error_text":"UNKNOWN REQUEST \'request_x\': {{\\"n\\":{number}}}"}}'.encode()
            assert json.loads(talk.line())["id"] == number
        assert [ended.line(), ended.line(), ended.line()] == [b'{"error_text":"Hash not found"}', b'{"error_text":"OK"}', b""]


def test_p1_a_connection_younger_than_the_shelving_delay_survives(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon:
        for number in range(10):
            talk = daemon.talk()
            talk.send(f'before {{"n":{number}}}', "restart", f'after {{"n":{number}}}')
            assert [b"before" in talk.line(), b"Restarted" in talk.line(), b"after" in talk.line()] == [True] * 3
            talk.close()


def test_p1_whoever_waits_over_a_restart_is_answered(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon, gate(tmp_path) as held:
        talk, news, batch, follow = (daemon.talk() for _ in range(4))
        assert news.rpc("subscribe", keys=["g"])["subscribed"]
        talk.send(order("call", 1, target="gate", key="g", params=[str(held.path)]))
        held.wait_entered()
        talk.send(order("wait", 2, key="g"), order("wait", 3, key="g", timeout="1h"), order("wait", 4, key="g", timeout="1ms"))
        assert json.loads(talk.line())["result"]["timed_out"] is True
        batch.send(f"[{order('wait', 5, key='g')},{order('health', 6)},{order('status', 7, key='none')}]")
        text = follow.rpc("logs", key="g", follow=True)["text"]
        while not text.endswith("\n"):
            text += json.loads(follow.line())["params"]["text"]
        assert text == "entered\n"
        for _ in range(3):
            restart(daemon)
        held.open("here")
        answers = {reply["id"]: reply["result"] for reply in (json.loads(talk.line()) for _ in range(3))}
        assert answers[1] == {"result": [1, "here"], "key": "g"}
        assert answers[2] == answers[3]
        assert answers[2]["state"] == "ended"
        (parts,) = [json.loads(batch.line())]
        assert {part["id"]: "result" in part for part in parts} == {5: True, 6: True, 7: False}
        last = json.loads(follow.line())
        assert (last["method"], last["params"]["ended"]) == ("logs", True)
        told = [json.loads(news.line()) for _ in range(5)]
        assert [one["method"] for one in told] == ["run.started", "restarted", "restarted", "restarted", "run.ended"]


def test_p1_a_follower_that_is_behind_gets_the_rest_after_the_restart(tmp_path: Path) -> None:
    line = "0123456789" * 10
    with Daemon(tmp_path, JOBS) as daemon:
        follow, other = daemon.talk(), daemon.talk()
        other.rpc("run", target="say", key="much", params=[line, 60_000])
        follow.send(order("logs", 1, key="much", follow=True))
        other.rpc("wait", key="much")
        assert other.ask("restart") == {"error_text": "Restarted successfully"}
        assert other.ask("restart") == {"error_text": "Restarted successfully"}
        text, ended = "", False
        while not ended:
            said = json.loads(follow.line())
            part = said.get("params") or said["result"]
            text += part["text"]
            ended = part["ended"]
        assert text == (line + "\n") * 60_000


def test_p1_clients_that_come_and_go_during_restarts_are_all_served(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon:
        stop, served, wrong = threading.Event(), [0], []

        def come_and_go() -> None:
            while not stop.is_set():
                with Conversation(daemon.connect()) as talk:
                    reply = talk.ask(f'hello {{"n":{served[0]}}}')
                    if f'{{"n":{served[0]}}}' not in reply["error_text"]:
                        wrong.append(reply)
                served[0] += 1

        thread = threading.Thread(target=come_and_go)
        thread.start()
        try:
            for _ in range(10):
                before = served[0]
                restart(daemon)
                until(lambda: served[0] > before + 3 or not thread.is_alive(), "clients to be served")  # noqa: B023
        finally:
            stop.set()
            thread.join()
        assert not wrong
        assert served[0] > 30


def test_p1_followers_of_the_news_miss_nothing_of_a_flood_that_restarts_fall_into(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon:
        followers = [daemon.talk() for _ in range(3)]
        for follower in followers:
            follower.rpc("subscribe", events=["run.started", "run.ended"])
        flood, keys, restarts = daemon.talk(), [], 0
        while restarts < 3:
            some = [f"n{len(keys) + number}" for number in range(40)]
            flood.send(*(order("call", 1, target="add", key=key, params=[1, 2]) for key in some))
            for _ in some[:20]:
                flood.line()
            restart(daemon)
            restarts += 1
            for _ in some[20:]:
                flood.line()
            keys += some
        heard = [[json.loads(follower.line()) for _ in range(2 * len(keys))] for follower in followers]
        assert heard[0] == heard[1] == heard[2]
        told = [(one["method"], one["params"]["key"]) for one in heard[0]]
        assert sorted(told) == sorted((event, key) for key in keys for event in ("run.started", "run.ended"))
        assert all(told.index(("run.started", key)) < told.index(("run.ended", key)) for key in keys)
        positions = [one["params"]["position"] for one in heard[0]]
        assert positions == sorted(positions)
