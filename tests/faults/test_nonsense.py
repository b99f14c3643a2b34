"""P12: a job, of the daemon's user or of another, writes what it likes on the channel of its worker.

Its run fails and says why, its worker is killed, and everybody else is served by the master that was there before.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rocksyd.testing import Daemon
from rocksyd.testing.daemon import POOL, until
from tests.faults.bystander import Bystander
from tests.pools.stage import enterable

JOBS = """
import fcntl, json, os, select, socket, threading, time
from rocksyd import current, job

@job
def echo(*args):
    return list(args)

def channel():
    "The socket that this worker's master listens to."
    for name in sorted(os.listdir("/proc/self/fd"), key=int):
        try:
            found = socket.socket(fileno=os.dup(int(name)))
        except OSError:
            continue
        if (found.family, found.type) == (socket.AF_UNIX, socket.SOCK_SEQPACKET):
            return found
        found.close()

def sealed(data):
    fd = os.memfd_create("body", os.MFD_ALLOW_SEALING)
    os.write(fd, data)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
    return fd

def terabyte():
    fd = os.memfd_create("body", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, 1 << 40)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
    return fd

def write_only():
    return os.open(f"/proc/self/fd/{os.memfd_create('body')}", os.O_WRONLY)

BODIES = {"directory": lambda: os.open("/", os.O_RDONLY), "terabyte": terabyte, "write_only": write_only,
          "pipe": lambda: os.pipe()[0], "deep": lambda: sealed(b'["Result",{"value":' + b"[" * 100_000),
          "typed": lambda: sealed(b'["Progress",{"key":{},"note":"' + b"x" * 300_000 + b'"}]')}

@job
def say(text, times=1, descriptors=0, key=""):
    "Says it, and waits for what comes of it."
    data = text.replace("MINE", current().key).replace("OTHER", key).encode()
    fds = [0] * descriptors
    if text == "M":
        fds = [BODIES[key]()]
    sock = channel()
    for _ in range(times):
        while True:
            try:
                socket.send_fds(sock, [data], fds) if fds else sock.send(data)
                break
            except (BlockingIOError, OSError) as error:
                if getattr(error, "errno", 0) not in (11, 105, 109):
                    raise
                time.sleep(0.001)
    if times == 1:
        time.sleep(600)
    return "said"

@job
def lies_and_goes_on(text):
    "Says that it has ended, waits until the next run is given to this worker, and says something then."
    sock = channel()
    sock.send(b'["Result",{"key":"%s","ok":true,"value":"lied"}]' % current().key.encode())
    while True:
        select.select([sock], [], [])
        if sock.recv(1, socket.MSG_PEEK) and b'"Job"' in sock.recv(100, socket.MSG_PEEK):
            break
        sock.recv(1 << 16)
    sock.send(text.encode())
    time.sleep(600)

@job
def leaves_a_liar(*texts):
    "Returns, and has left a thread that says these when the next run has begun."
    def lies():
        while not os.path.exists("begun"):
            time.sleep(0.01)
        try:
            sock = channel()
            for text in texts:
                sock.send(text.encode())
        finally:
            open("lied", "w").close()
    threading.Thread(target=lies).start()
    return os.getpid()

@job
def begins():
    open("begun", "w").close()
    while not os.path.exists("lied"):
        time.sleep(0.01)
    return os.getpid()
"""
DEEP = "[" * 5000 + "]" * 5000
NONSENSE = {
    "a key that is an object": '["Progress",{"key":{}}]',
    "a finished key that is an array": '["Finished",{"key":[]}]',
    "a result's key that is an array": '["Result",{"key":[]}]',
    "an error that is a number": '["Result",{"key":"MINE","error":5}]',
    "an error without a message": '["Result",{"key":"MINE","error":{"type":"E"}}]',
    "a retcode that is a text": '["Result",{"key":"MINE","retcode":"x"}]',
    "a retcode of 400 digits": '["Result",{"key":"MINE","retcode":' + "9" * 400 + "}]",
    "a time that is none": '["Result",{"key":"MINE","cpu":NaN}]',
    "a result nested deep": '["Result",{"key":"MINE","value":' + DEEP + "}]",
    "progress nested deep": '["Progress",{"key":"MINE","note":' + DEEP + "}]",
    "keys that are numbers": '["Holding",{"keys":[1,2]}]',
    "an epoch that is a text": '["Idle",{"epoch":"1"}]',
    "what a zygote says": '["Forked",{"worker":1,"pid":1}]',
    "what a keeper says": '["Exited",{"pid":1}]',
    "what is no message": "[]",
    "what is not even text": "\\xff",
    "nothing but brackets": "[" * 100_000,
}
OTHERS = ["daemon", pytest.param("nobody", marks=pytest.mark.root)]


@pytest.fixture(params=OTHERS)
def daemon(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Daemon]:
    user = "" if request.param == "daemon" else f'user = "{request.param}"\n'
    with enterable(JOBS, pool=f"{POOL}\n{user}") as (_, config), Daemon(tmp_path, config=config) as daemon:
        yield daemon


def failed(talk: Any, **params: Any) -> str:
    """The message of a run of ``say`` that ended as it should."""
    record = talk.rpc("run", target="say", params=params)
    record = talk.rpc("wait", key=record["key"])
    assert (record["state"], record["outcome"]) == ("ended", "failed"), record
    assert record["error"]["type"] == "WorkerSpokeNonsense"
    return str(record["error"]["message"])


def test_p12_a_worker_that_talks_nonsense_is_killed_and_its_run_says_why(daemon: Daemon) -> None:
    with Bystander(daemon) as bystander:
        talk = daemon.talk()
        for what, text in NONSENSE.items():
            assert failed(talk, text=text).startswith("its worker said "), what
        for body in ("directory", "terabyte", "write_only", "pipe", "deep", "typed"):
            assert failed(talk, text="M", key=body).startswith("its worker said "), body
        bystander.was_served()


def test_p12_a_worker_can_speak_of_no_run_but_its_own(daemon: Daemon) -> None:
    with Bystander(daemon) as bystander:
        talk = daemon.talk()
        other = talk.rpc("run", target="say", params={"text": '["AddedLater",{}]'}, key="other")
        until(lambda: talk.rpc("status", key="other")["state"] == "running", "the other run")
        for said in ("Result", "Finished", "Progress"):
            text = f'["{said}",{{"key":"OTHER"}}]'
            assert failed(talk, text=text, key="other") == f"its worker said {said} of run 'other', which it was never given"
        for text in (
            '["Holding",{"keys":["OTHER"]}]',
            '["Result",{"key":"nobody\'s"}]',
        ):
            assert talk.rpc("call", target="say", params={"text": text, "times": 2, "key": "other"})["result"] == "said"
        after = talk.rpc("status", key="other")
        assert (after["state"], after["pid"], after["result"], after["progress"]) == ("running", after["pid"], None, None)
        assert other["key"] == "other"
        talk.rpc("terminate", key="other")
        bystander.was_served()


@pytest.mark.parametrize("text", ['["Progress",{"key":{}}]', '["Forked",{"worker":1,"pid":1}]', "[]"])
def test_p2_what_a_run_leaves_on_the_channel_is_not_laid_at_the_door_of_the_next(tmp_path: Path, text: str) -> None:
    with Daemon(tmp_path, JOBS, parts={"pool": 'pm = "static"\nmax_workers = 1\nmax_jobs = 0\ngrace = "30s"'}) as daemon:
        talk = daemon.talk()
        assert talk.rpc("call", target="lies_and_goes_on", params=[text])["result"] == "lied"
        assert talk.rpc("call", target="echo", params=[1])["result"] == [1]
        assert ("is killed: it said" in daemon.log()) == ("Forked" not in text)


def test_p2_a_thread_that_a_run_has_left_speaks_for_no_other(tmp_path: Path) -> None:
    said = ['["Result",{"key":"second","value":"lied"}]', '["Progress",{"key":{}}]']
    with Daemon(tmp_path, JOBS, parts={"pool": 'pm = "static"\nmax_workers = 1\nmax_jobs = 0\ngrace = "60s"'}) as daemon:
        talk = daemon.talk()
        first = talk.rpc("call", target="leaves_a_liar", params=said)["result"]
        assert talk.rpc("call", target="begins", key="second")["result"] not in (first, "lied")
        assert talk.rpc("wait", key="second")["outcome"] == "ok"


def test_p12_descriptors_that_nobody_asked_for_are_closed(daemon: Daemon) -> None:
    with Bystander(daemon) as bystander:
        talk = daemon.talk()
        talk.rpc("call", target="echo", params=[1])
        before = len(daemon.descriptors(daemon.master_pid))
        said = talk.rpc("call", target="say", params={"text": '["Progress",{"key":"MINE"}]', "times": 30, "descriptors": 200})
        assert said["result"] == "said"
        until(lambda: len(daemon.descriptors(daemon.master_pid)) < before + 60, "no more open than before")
        for text in ('["Forked",{"worker":1,"pid":1}]', '["Workers",{}]', '["Shelve",{"names":["a"]}]', '["Attend",{}]'):
            failed(talk, text=text, descriptors=100)
        until(lambda: len(daemon.descriptors(daemon.master_pid)) < before + 60, "no more open than before")
        bystander.was_served()


def test_p2_runs_of_others_and_a_next_attempt_do_not_suffer_from_it(daemon: Daemon) -> None:
    talk = daemon.talk()
    record = talk.rpc("run", target="say", params={"text": '["Progress",{"key":{}}]'}, key="again", retries=1)
    until(lambda: talk.rpc("status", key="again")["attempt"] == 2, "the second attempt")
    record = talk.rpc("wait", key="again")
    assert (record["outcome"], record["attempt"], record["error"]["type"]) == ("failed", 2, "WorkerSpokeNonsense")
    assert talk.rpc("call", target="echo", params=[5])["result"] == [5]


ZYGOTE = """
import os, socket, threading
from rocksyd import job

@job
def echo(*args):
    return list(args)

@job
def zygote_says(text, descriptors=0):
    "Writes on the channel of the zygote that this worker was forked from, which a process of the same user can."
    fd = os.pidfd_open(os.getppid())
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    ours = libc.syscall(438, fd, 3, 0)  # pidfd_getfd
    if ours < 0:
        return os.strerror(ctypes.get_errno())
    sock = socket.socket(fileno=ours)
    socket.send_fds(sock, [text.encode()], [0] * descriptors) if descriptors else sock.send(text.encode())
    sock.close()
    return "said"
"""


@pytest.mark.parametrize(
    ("text", "descriptors"),
    [
        ('["Forked",{"worker":7,"pid":7}]', 0),
        ('["Forked",{"worker":"7"}]', 1),
        ('["Workers",{"workers":[[1,2,"app",3]]}]', 2),
        ('["Workers",{"workers":[[1,2]]}]', 0),
        ('["Ready",{"jobs":{"x":5}}]', 0),
        ('["Exited",{"pid":1.5}]', 0),
        ('["Measured",{"workers":[1]}]', 0),
        ('["Result",{}]', 0),
        ("[" * 5000, 0),
    ],
)
def test_p12_a_zygote_that_talks_nonsense_is_replaced_and_its_runs_go_on(tmp_path: Path, text: str, descriptors: int) -> None:
    with Daemon(tmp_path, ZYGOTE) as daemon, Bystander(daemon) as bystander:
        talk = daemon.talk()
        zygote = talk.rpc("health")["zygotes"]["zygote:app@1"]["pid"]
        said = talk.rpc("call", target="zygote_says", params={"text": text, "descriptors": descriptors})["result"]
        assert said == "said", "this system lets no process of the same user write there"
        until(
            lambda: [z["pid"] for z in talk.rpc("health")["zygotes"].values() if z["state"] == "ready"] not in ([], [zygote]),
            "another zygote",
        )
        assert "was ended: it said" in daemon.log()
        assert talk.rpc("call", target="echo", params=[1])["result"] == [1]
        bystander.was_served()
