"""What clients can do to the original: six ways to kill it, and how many it serves."""

from __future__ import annotations

import json
import select
import socket
from pathlib import Path

import pytest

from rocksyd.testing import Daemon
from rocksyd.testing.daemon import Conversation, until
from tests.originals.stage import JOBS, NOT_FOUND, OK, common_sockets, crowd, everything, exchange, used

CHECK = b'check {"hash":77}\n'
UNKNOWN = b'{"error_text":"Hash not found"}\n'
MEGABYTE = 1 << 20
LITTLE = 24 * MEGABYTE
"""What the master may need for one client that means no good."""


def served(connection: socket.socket) -> bool:
    """Whether this connection gets its answer."""
    connection.sendall(CHECK)
    return connection.recv(100) == UNKNOWN


@pytest.mark.parametrize("count", [1100, pytest.param(15_000, marks=pytest.mark.slow)])
def test_the_1019th_connection_and_thousands_more_are_served_and_kept_over_a_restart(tmp_path: Path, count: int) -> None:
    with Daemon(tmp_path, JOBS, parts={"top": "max_connections = 16000"}) as daemon:
        before = daemon.master_pid
        with crowd(daemon, count) as connections:
            assert all(map(served, connections))
            assert daemon.restart() == {"error_text": "Restarted successfully"}
            assert daemon.master_pid != before
            assert all(map(served, connections))


@pytest.mark.parametrize("limit", ["max_connections", "open files"])
def test_a_connection_beyond_the_limit_waits_without_costing_anything_until_another_is_closed(tmp_path: Path, limit: str) -> None:
    few = limit == "max_connections"
    parts, prefix = ({"top": "max_connections = 50"}, ()) if few else ({}, ("prlimit", "--nofile=200"))
    with Daemon(tmp_path, JOBS, parts=parts, prefix=prefix) as daemon:
        talk = daemon.talk()
        room, master = talk.rpc("stats")["max_connections"] - 1, daemon.master_pid
        assert 10 < room < 200
        until(lambda: talk.rpc("stats")["curr_connections"] == 1, "the connection that asked for the PID is closed")
        with crowd(daemon, room) as connections:
            assert all(map(served, connections))
            until(lambda: common_sockets(daemon.pid, master) > room, "all of them are on the shelf")
            late = daemon.connect()
            late.sendall(CHECK)
            before = used(master)
            assert not select.select([late], [], [], 0.5)[0]
            after = used(master)
            assert after.ticks - before.ticks <= 2  # busy all the time it would be 50
            assert after.switches - before.switches <= 5
            # A restart works in this state, where it killed the original, and the one that waits goes on waiting.
            assert talk.ask("restart") == {"error_text": "Restarted successfully"}
            assert all(map(served, connections))
            assert not select.select([late], [], [], 0)[0]
            connections.pop().close()
            assert late.recv(100) == UNKNOWN
            late.close()
        assert "no more connections are accepted until one is closed" in daemon.log()


@pytest.mark.parametrize("start", [b"check ", b'{"jsonrpc":', b""], ids=["classic", "JSON-RPC", "no dialect"])
def test_p12_a_line_of_64_mb_or_without_end_gets_an_error_and_takes_no_memory(tmp_path: Path, start: bytes) -> None:
    with Daemon(tmp_path, JOBS) as daemon:
        master, other = daemon.master_pid, daemon.talk()
        before = used(master)
        with daemon.connect() as connection:
            connection.sendall(start)
            with pytest.raises((BrokenPipeError, ConnectionResetError)):
                connection.sendall(b"1" * (64 * MEGABYTE))
            reply = json.loads(everything(connection))
        text = reply["error"]["data"] if "error" in reply else reply["error_text"]
        assert "a line is longer than 1048576 bytes" in text
        assert used(master).peak - before.peak < LITTLE
        assert other.ask(CHECK[:-1]) == NOT_FOUND


FLOODS = {
    "check": CHECK,
    "unknown commands": b"x" * 1000 + b"\n",
    "large replies": b"[" + b",".join([b'{"jsonrpc":"2.0","id":1,"method":"stats"}'] * 500) + b"]\n",
    "notifications behind one reply": b'{"jsonrpc":"2.0","method":"stats"}\n',
    "runs": b'run {"hash":77,"class":"NoSuchClass"}\n',
}


def flood(connection: socket.socket, block: bytes, other: Conversation) -> None:
    """Send without end, and never read; whenever nothing more is taken, another client asks for something."""
    connection.setblocking(False)
    rest = block
    while True:
        try:
            rest = rest[connection.send(rest) :] or block
        except BlockingIOError:
            assert other.ask(CHECK[:-1]) == NOT_FOUND
            select.select([], [connection], [], 0.01)


@pytest.mark.parametrize("probe", FLOODS)
def test_p12_a_client_that_floods_and_never_reads_is_dropped_and_others_are_served(tmp_path: Path, probe: str) -> None:
    request = FLOODS[probe]
    block = request * (1 + 65536 // len(request))
    with Daemon(tmp_path, JOBS, parts={"top": 'write_timeout = "1s"'}) as daemon:
        master, other = daemon.master_pid, daemon.talk()
        before = used(master)
        with daemon.connect() as flooding:
            flooding.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            flooding.sendall(CHECK * 20000)  # more in replies than fits: from here on it is owed something
            with pytest.raises((BrokenPipeError, ConnectionResetError)):
                flood(flooding, block, other)
        assert used(master).peak - before.peak < LITTLE
        assert other.rpc("stats")["dropped_connections"] == 1
        assert "did not read for 1s" in daemon.log()


def test_a_flood_of_runs_holds_up_nobody_else_and_forks_no_more_than_the_pool_may(tmp_path: Path) -> None:
    count = 2000  # the original took 5000 in its stride for 11 s, with 170 processes
    pool = 'pm = "dynamic"\nmax_workers = 4\nmin_spare = 1\nmax_spare = 2\nmax_jobs = 0'
    runs = [f'run {{"hash":{number},"class":"Nothing"}}' for number in range(count)]
    with Daemon(tmp_path, JOBS, parts={"pool": pool}) as daemon:
        flooding, other = daemon.talk(), daemon.talk()
        flooding.send(*runs)
        answered = 0
        while other.rpc("stats")["runs_submitted"] < count:
            answered += 1
        assert answered >= 5  # while the runs were being accepted, and not only after them
        assert [flooding.line() for _ in runs] == [b'{"error_text":"OK"}'] * count
        assert max(pool["workers"] for pool in other.rpc("pools")) <= 4
        until(lambda: other.rpc("stats")["runs_ended_ok"] == count, "all have ended", timeout=100)
        assert other.ask(f'check {{"hash":{count - 1}}}') == {"retcode": 0}


def test_what_waits_is_bounded_and_the_rest_is_told_so(tmp_path: Path) -> None:
    pool = 'pm = "static"\nmax_workers = 1\nmax_queue = 3'
    with Daemon(tmp_path, JOBS, parts={"pool": pool}) as daemon:
        talk = daemon.talk()
        until(lambda: talk.rpc("pools")[0]["idle"] == 1, "the worker is there")
        replies = [talk.ask(f'run {{"hash":{number},"class":"Sleeps"}}') for number in range(6)]
        assert replies == [OK] * 4 + [{"error_text": "Too busy"}] * 2


def test_client_shuts_its_write_side_after_its_requests_and_gets_all_answers(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon:
        wait = b'{"jsonrpc":"2.0","id":1,"method":"call","params":{"target":"echo","params":[1]}}\n'
        first, second = sorted(exchange(daemon.connect(), wait + CHECK).splitlines())
        assert first == UNKNOWN[:-1]
        assert json.loads(second)["result"]["result"] == [1]


def test_p12_one_connection_cannot_wait_for_more_than_it_may_and_its_end_costs_little(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon:
        master, other, many = daemon.master_pid, daemon.talk(), daemon.talk()
        assert other.ask('run {"hash":1,"class":"Sleeps"}') == OK
        before = used(master)
        wait = '{"jsonrpc":"2.0","id":%d,"method":"wait","params":{"key":"1"}}'
        silent = '{"jsonrpc":"2.0","method":"wait","params":{"key":"1"}}'
        many.send(*[silent] * 1000, *[wait % number for number in range(20_010)])
        refused = [json.loads(many.line()) for _ in range(10)]
        assert [reply["id"] for reply in refused] == list(range(20_000, 20_010))
        assert {reply["error"]["code"] for reply in refused} == {-32004}
        many.close()
        assert other.ask('terminate {"hash":1}') == OK
        assert other.rpc("wait", key="1")["outcome"] == "cancelled"
        assert used(master).peak - before.peak < LITTLE
