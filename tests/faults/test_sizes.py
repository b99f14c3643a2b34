"""Nobody waits for another's size: what is long is cut or refused with a sentence, and everybody else is served meanwhile."""

from __future__ import annotations

import json
import select
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rocksyd import bounds
from rocksyd.posix.processes import resident_memory
from rocksyd.testing import Conversation, Daemon
from rocksyd.testing.daemon import copy_package
from tests.faults.bystander import Bystander
from tests.faults.crowd import kill_master
from tests.faults.test_nonsense import JOBS as RAW
from tests.restart.stage import window

JOBS = (
    RAW
    + """
BODIES["long"] = lambda: sealed(json.dumps(["Result", {"key": current().key, "ok": False, "retcode": 1, "dropped": "d" * 100_000,
    "error": {"type": "T" * 100_000, "message": "m" * 1_000_000, "traceback": "t" * 1_000_000, "args": ["a" * 500_000],
              "more": "x" * 500_000}}]).encode())
BODIES["longer"] = lambda: sealed(json.dumps(["Result", {"key": current().key, "value": "v" * 5_000_000}]).encode())

@job
def raises(size):
    raise ValueError("x" * size)

@job
def floods(processes):
    "Says how far it is as fast as several processes can, until it is ended."
    sock, data = channel(), json.dumps(["Progress", {"key": current().key, "done": 1.0}]).encode()
    sock.setblocking(True)
    for _ in range(processes - 1):
        if os.fork() == 0:
            break
    while True:
        sock.send(data)
"""
)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path, JOBS) as daemon:
        yield daemon


def outcome(talk: Conversation, target: str, *params: Any, **options: Any) -> dict[str, Any]:
    """The record of a run at its end."""
    ordered = talk.rpc("run", target=target, params=list(params), **options)
    return dict(talk.rpc("wait", key=ordered["key"]))


def test_an_error_of_any_length_is_cut_in_its_record(daemon: Daemon) -> None:
    with Bystander(daemon) as bystander:
        error = outcome(daemon.talk(), "raises", 20_000_000)["error"]
        assert len(error["message"]) <= bounds.MESSAGE
        assert len(error["traceback"]) <= bounds.TRACEBACK
        assert "characters cut" in error["message"]
        bystander.was_served()


def test_what_a_job_writes_on_the_channel_itself_is_cut_like_what_a_worker_says(daemon: Daemon) -> None:
    with Bystander(daemon) as bystander:
        record = outcome(daemon.talk(), "say", "M", 1, 1, "long")
        error = record["error"]
        assert sorted(error) == ["message", "traceback", "type"]
        for name, most in (("type", bounds.NAME), ("message", bounds.MESSAGE), ("traceback", bounds.TRACEBACK)):
            assert len(error[name]) <= most
            assert "characters cut" in error[name]
        assert len(record["result_dropped"]) <= bounds.SENTENCE
        noted = daemon.talk().rpc(
            "run", target="say", params=[f'["Progress",{{"key":"MINE","note":"{"n" * 90_000}"}}]'], key="noted"
        )
        talk = daemon.talk()
        while not (record := talk.rpc("status", key=noted["key"]))["progress"]:
            pass
        assert len(record["progress"]["note"]) <= bounds.SENTENCE
        assert "characters cut" in record["progress"]["note"]
        talk.rpc("terminate", key="noted", signal="KILL")
        bystander.was_served()


def test_a_message_that_no_worker_would_send_is_not_read(daemon: Daemon) -> None:
    with Bystander(daemon) as bystander:
        record = outcome(daemon.talk(), "say", "M", 1, 1, "longer")
        assert record["outcome"] == "failed"
        assert f"{bounds.FROM_WORKER} are taken" in record["error"]["message"]
        key = "k" * 1000
        record = outcome(daemon.talk(), "say", f'["Result",{{"key":"{key}"}}]')
        assert record["error"]["type"] == "WorkerSpokeNonsense"
        bystander.was_served()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("target", "t" * (bounds.TARGET + 1)),
        ("labels", {"l": "x" * bounds.LABELS}),
        ("env", {"E": "x" * bounds.ENVIRONMENT}),
    ],
)
def test_what_a_caller_says_of_a_run_has_bounds(daemon: Daemon, name: str, value: Any) -> None:
    with Bystander(daemon) as bystander:
        talk = daemon.talk()
        request = {"jsonrpc": "2.0", "id": 1, "method": "run", "params": {"target": "echo", name: value}}
        error = talk.ask(json.dumps(request))["error"]
        assert error["code"] == -32602
        assert name in error["message"]
        assert len(json.dumps(error)) < 1000
        classic = {"hash": 1, "class": "echo", ("class" if name == "target" else name): value}
        assert len(talk.ask(f"run {json.dumps(classic)}")["error_text"]) < 100
        bystander.was_served()


def test_a_worker_that_never_stops_talking_does_not_keep_the_others_waiting(daemon: Daemon) -> None:
    with Bystander(daemon) as bystander:
        talk = daemon.talk()
        for number in range(2):
            talk.rpc("run", target="floods", params=[3], key=f"flood{number}")
        while not all(talk.rpc("status", key=f"flood{number}")["progress"] for number in range(2)):
            pass
        for number in range(20):
            assert outcome(talk, "echo", number)["result"] == [number]
        for number in range(2):
            talk.rpc("terminate", key=f"flood{number}", signal="KILL")
            assert talk.rpc("wait", key=f"flood{number}")["signal"] == 9
        bystander.was_served()


def test_a_run_with_each_has_a_bound_that_is_looked_at_first(daemon: Daemon) -> None:
    with Bystander(daemon) as bystander:
        talk = daemon.talk()
        params = ",".join(["[]"] * 300_000)
        error = talk.ask(
            f'{{"jsonrpc":"2.0","id":1,"method":"call","params":{{"target":"echo","each":true,"params":[{params}]}}}}'
        )
        assert f"a run with each may have {bounds.EACH}" in error["error"]["message"]
        assert talk.ask(f'run {{"hash":1,"class":"echo","each":true,"params":[{params}]}}') == {"error_text": "Invalid params"}
        most: list[Any] = [[]] * bounds.EACH
        assert talk.rpc("call", target="echo", each=True, params=most)["result"] == most
        bystander.was_served()


def large_batch(number: int) -> str:
    """Requests that each take some time: the parameters of all that ran are listed."""
    one = {"jsonrpc": "2.0", "method": "list", "params": {"limit": 200}}
    return json.dumps([{**one, "id": f"{number}.{at}"} for at in range(100)])


def some_runs(talk: Conversation) -> None:
    for number in range(100):
        talk.rpc("run", target="echo", params=[number] * 20, key=f"ran{number}")
    for number in range(100):
        talk.rpc("wait", key=f"ran{number}")


def test_a_batch_is_served_beside_the_other_clients_and_answered_as_a_whole(daemon: Daemon) -> None:
    talk, other = daemon.talk(), daemon.talk()
    some_runs(talk)
    with Bystander(daemon) as bystander:
        talk.send(*(large_batch(number) for number in range(1, 4)))
        served = 0
        while not select.select([talk.socket], [], [], 0)[0]:
            other.ask('check {"hash":1}')
            served += 1
        assert served > 10  # else it was served when the batch had been, once
        for number in range(1, 4):
            replies: Any = json.loads(talk.line())
            assert {reply["id"] for reply in replies} == {f"{number}.{at}" for at in range(100)}
            assert [reply for reply in replies if "result" not in reply] == []
        bystander.was_served()


def test_a_batch_that_is_half_served_is_answered_after_a_restart(daemon: Daemon) -> None:
    talk, other = daemon.talk(), daemon.talk()
    some_runs(talk)
    other.send("restart")
    for number in range(20):
        talk.send(large_batch(number))
        replies: Any = json.loads(talk.line())
        assert {reply["id"] for reply in replies} == {f"{number}.{at}" for at in range(100)}
        assert [reply for reply in replies if "result" not in reply] == []
    assert json.loads(other.line()) == {"error_text": "Restarted successfully"}


def test_p1_a_short_search_is_not_given_up_in_a_hand_over_because_the_machine_is_busy(tmp_path: Path) -> None:
    """Each search sleeps, as if others had the processor, and longer than a hand-over lets all of them have together."""
    package = copy_package(tmp_path)
    for name, text, instead in (
        ("journal/search.py", "hungry.look(query, left)\n", "hungry.look(query, left) or __import__('time').sleep(0.02)\n"),
        ("master/desk/lists.py", "LAST_SEARCH, SHORT_SEARCH = 0.1, 0.01", "LAST_SEARCH, SHORT_SEARCH = 0.0, 0.01"),
    ):
        path = package / name
        assert text in path.read_text()
        path.write_text(path.read_text().replace(text, instead))
    with Daemon(tmp_path, JOBS, package=package) as daemon, window(package, tmp_path, "_listen") as prepares:
        talk, other = daemon.talk(), daemon.talk()
        talk.rpc("wait", key=talk.rpc("run", target="echo")["key"])
        other.send("restart")
        prepares.wait_entered()
        talk.send(large_batch(1))
        prepares.open()
        assert json.loads(other.line()) == {"error_text": "Restarted successfully"}
        replies: Any = json.loads(talk.line())
        assert [reply for reply in replies if "result" not in reply] == []


QUEUED = """
import os, time
from rocksyd import job

@job
def echo(*args):
    return list(args)

@job
def large(size):
    return "r" * size

@job
def held(folder, text=""):
    while not os.path.exists(f"{folder}/go"):
        time.sleep(0.01)
    return len(text)
"""


def test_a_queue_has_a_bound_in_bytes_and_small_runs_go_on_fitting_in(tmp_path: Path) -> None:
    pool = 'pm = "dynamic"\nmax_workers = 2\nmin_spare = 1\nmax_spare = 2\nmax_queue_bytes = "4M"'
    busy = 'pm = "ondemand"\nmax_workers = 1\nmax_queue_bytes = "4M"'
    app = f'[apps.app.pools.busy]\n{busy}\n[apps.app.jobs_settings.held]\npool = "busy"'
    with Daemon(tmp_path, QUEUED, parts={"pool": pool, "app": app}) as daemon:
        talk = daemon.talk()
        order = [str(tmp_path), "x" * 900_000]
        talk.rpc("run", target="held", params=order, key="running")
        while talk.rpc("status", key="running")["state"] != "running":
            pass
        for number in range(4):
            talk.rpc("run", target="held", params=order, key=f"waits{number}", **({"delay": 3600} if number == 3 else {}))
        for more in ({"key": "no"}, {"key": "later", "delay": 60}):
            request = {"jsonrpc": "2.0", "id": 1, "method": "run", "params": {"target": "held", "params": order, **more}}
            error = talk.ask(json.dumps(request))["error"]
            assert "max_queue_bytes = 4194304" in error["message"]
            assert "raise max_queue_bytes" in error["data"]
        assert talk.ask(f'run {{"hash":1,"class":"held","params":{json.dumps(order)}}}') == {"error_text": "Too busy"}
        talk.rpc("run", target="held", params=[str(tmp_path)], key="small")
        assert talk.ask("restart") == {"error_text": "Restarted successfully"}
        assert talk.ask(f'run {{"hash":1,"class":"held","params":{json.dumps(order)}}}') == {"error_text": "Too busy"}
        talk.rpc("terminate", key="waits3")
        assert talk.ask(f'run {{"hash":1,"class":"held","params":{json.dumps(order)}}}') == {"error_text": "OK"}
        (tmp_path / "go").touch()
        for key in ("running", "waits0", "waits1", "waits2", "1", "small"):
            assert talk.rpc("wait", key=key)["outcome"] == "ok"
        talk.rpc("run", target="held", params=order, key="no")


def own_memory(pid: int) -> int:
    """Bytes that are its own: not those of files, such as the journal's."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon:")) * 1024


def test_large_params_stay_in_the_journal_while_their_run_waits(tmp_path: Path) -> None:
    busy = 'max_workers = 1\nmax_queue_bytes = "1G"'
    app = f'[apps.app.pools.busy]\n{busy}\n[apps.app.jobs_settings.held]\npool = "busy"'
    with Daemon(tmp_path, QUEUED, parts={"app": app}) as daemon:
        talk, before = daemon.talk(), own_memory(daemon.master_pid)
        texts = [chr(97 + number % 26) * 1_000_000 for number in range(120)]
        talk.rpc("run", target="held", params=[str(tmp_path)], key="first")
        for number, text in enumerate(texts):
            talk.rpc("run", target="held", params=[str(tmp_path), text], key=f"r{number}", priority=number)
        assert own_memory(daemon.master_pid) - before < 60_000_000
        assert talk.ask("restart") == {"error_text": "Restarted successfully"}
        assert own_memory(daemon.master_pid) - before < 60_000_000
        kill_master(daemon)
        talk = daemon.talk()
        assert talk.rpc("pools")[1]["waiting"] == 120
        assert own_memory(daemon.master_pid) - before < 60_000_000
        with Bystander(daemon) as bystander:
            talk.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "list", "params": {"limit": 10, "target": "held"}}))
            listed = json.loads(talk.line())["result"]
            assert [run["params"][1] for run in listed] == texts[:-11:-1]
            bystander.was_served()
        assert own_memory(daemon.master_pid) - before < 60_000_000
        assert talk.rpc("status", key="r7")["params"][1] == texts[7]
        talk.rpc("run", target="held", params=[str(tmp_path), texts[7]], key="r7")  # the same: nothing new
        in_use = {"jsonrpc": "2.0", "id": 1, "method": "run", "params": {"target": "held", "params": ["other"], "key": "r7"}}
        assert talk.ask(json.dumps(in_use))["error"]["code"] == -32002
        assert talk.rpc("terminate", key="r8")["params"][1] == texts[8]
        assert talk.rpc("free", key="r8")["params"][1] == texts[8]
        for number in range(9, 115):
            talk.rpc("terminate", key=f"r{number}")
        (tmp_path / "go").touch()
        for number in (0, 7, 115, 119):
            assert talk.rpc("wait", key=f"r{number}")["result"] == 1_000_000
        assert own_memory(daemon.master_pid) - before < 60_000_000


def test_large_results_stay_in_the_journal(tmp_path: Path) -> None:
    with Daemon(tmp_path, QUEUED) as daemon:
        talk, master = daemon.talk(), daemon.master_pid
        for number in range(100):
            talk.rpc("run", target="large", params=[1_000_000], key=f"large{number}")
            assert talk.rpc("wait", key=f"large{number}")["outcome"] == "ok"
        for number in range(100):
            assert len(talk.rpc("status", key=f"large{number}")["result"]) == 1_000_000
        assert resident_memory(master) < 150_000_000


def test_a_list_of_large_records_is_made_beside_the_other_clients(tmp_path: Path) -> None:
    with Daemon(tmp_path, QUEUED) as daemon:
        talk, other = daemon.talk(), daemon.talk()
        for number in range(36):
            talk.rpc("run", target="held", params=[str(tmp_path), "x" * 900_000], key=f"r{number}", delay=3600)
            talk.rpc("run", target="large", params=[1_000_000], key=f"large{number}")
            talk.rpc("wait", key=f"large{number}")
        request = {"jsonrpc": "2.0", "id": "list", "method": "list", "params": {"limit": 39, "after": "r6"}}
        listed = [f"r{number}" for number in range(5, -1, -1)] + [f"large{number}" for number in range(5, -1, -1)]
        with Bystander(daemon) as bystander:
            talk.send(json.dumps(request), '{"jsonrpc":"2.0","id":"beside","method":"health"}')
            assert json.loads(talk.line())["id"] == "beside"  # what is quick comes between
            reply = json.loads(talk.line())
            assert (reply["id"], [run["key"] for run in reply["result"]]) == ("list", listed)
            assert all(len(run["params"][1]) == 900_000 for run in reply["result"][:6])
            assert all(len(run["result"]) == 1_000_000 for run in reply["result"][6:])
            error = talk.ask(json.dumps({**request, "params": {"limit": 1000}}))["error"]
            assert "ask for fewer" in error["data"]
            bystander.was_served()
        other.send(json.dumps(request))
        assert talk.ask("restart") == {"error_text": "Restarted successfully"}
        assert [run["key"] for run in json.loads(other.line())["result"]] == listed
