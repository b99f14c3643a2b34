"""Control groups: their files are written and read as the kernel's documentation says, and what is in one ends as one.

The machines these tests run on have no delegated group with controllers, so most use a folder that stands for one.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from rocksyd import messages
from rocksyd.posix import cgroups
from rocksyd.testing import Daemon, until
from tests.faults.crowd import ended, found, zygotes
from tests.files import lines
from tests.process.zygotes import Zygote

JOBS = """
import glob, os, signal, time
from rocksyd import current, job

def hold():
    while not os.path.exists("gate"):
        time.sleep(0.01)

def own_group():
    return max(glob.glob("../groups/app@*/worker-*"), key=lambda path: int(path.rpartition("-")[2]))

@job
def looks():
    group = own_group()
    return {name: open(f"{group}/{name}").read() for name in os.listdir(group)}

@job
def killed(by_the_kernel):
    if by_the_kernel:
        with open(f"{own_group()}/memory.events", "w") as file:
            file.write("low 0\\nhigh 0\\nmax 12\\noom 1\\noom_kill 1\\noom_group_kill 0\\n")
    os.kill(os.getpid(), signal.SIGKILL)

@job(grace="300ms")
def deaf():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork() == 0:
        os.setsid()
    with open("family", "a") as file:
        file.write(f"{os.getpid()}\\n")
    hold()
"""
LIMITS = 'max_rss_hard = "1G"\nmax_processes = 20\nmax_cpu = 1.5'
POOL = f'pm = "ondemand"\nmax_workers = 2\ngrace = "30s"\n{LIMITS}'
REAL = "/sys/fs/cgroup/unified"
"""Where systems that still have version 1 have version 2 as well."""


def hierarchy(folder: Path) -> Path:
    """A folder that stands for a delegated group."""
    root = folder / "groups"
    root.mkdir()
    (root / "cgroup.controllers").write_text("cpuset cpu io memory hugetlb pids\n")
    (root / "cgroup.procs").write_text("17\n18\n")
    return root


def daemon_of(folder: Path, cgroup: str, pool: str = POOL) -> Daemon:
    return Daemon(folder, JOBS, parts={"top": f'cgroup = "{cgroup}"', "pool": pool})


def test_a_worker_has_a_group_of_its_own_with_the_limits_of_its_pool(tmp_path: Path) -> None:
    root = hierarchy(tmp_path)
    with daemon_of(tmp_path, "groups") as daemon, daemon.client() as client:
        limits = {"memory.max": str(1 << 30), "memory.oom.group": "1", "pids.max": "20", "cpu.max": "150000 100000"}
        assert client.call("looks") == {**limits, "cgroup.procs": "0"}
        assert (root / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"
        assert (root / "daemon" / "cgroup.procs").read_text() == "18", "what was in the group is in its leaf"
        assert (root / "app@1" / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"
        assert (root / "app@1" / "zygote" / "cgroup.procs").read_text() == "0"
        daemon.restart()
        assert client.call("looks") == {**limits, "cgroup.procs": "0"}
        assert (root / "app@2" / "zygote").is_dir()
        assert "no effect" not in daemon.log()


@pytest.mark.parametrize("by_the_kernel", [True, False])
def test_a_kill_for_want_of_memory_is_told_from_any_other(tmp_path: Path, by_the_kernel: bool) -> None:
    hierarchy(tmp_path)
    with daemon_of(tmp_path, "groups") as daemon, daemon.client() as client:
        client.run("killed", by_the_kernel, key="1")
        outcome = "memory" if by_the_kernel else "killed"
        expected = {"outcome": outcome, "reason": "memory" if by_the_kernel else None, "retcode": 137, "signal": 9}
        assert found(ended(daemon, "1"), expected) == expected


def test_a_zygote_says_again_whom_the_kernel_has_killed_for_want_of_memory(tmp_path: Path) -> None:
    root = hierarchy(tmp_path)
    settings = {"cgroup": str(root), "pools": {"main": {"memory": 1 << 30}}}
    with Zygote(tmp_path, {"shop": JOBS}, jobs=("shop",), settings=settings) as zygote:
        zygote.ready()
        worker = zygote.fork()
        until(lambda: list(root.glob(f"*/worker-{worker.number}/cgroup.procs")), "the worker to be in its group")
        group = next(root.glob(f"*/worker-{worker.number}"))
        (group / "memory.events").write_text("oom_kill 1\n")
        os.kill(worker.pid, 9)
        assert zygote.next(messages.Exited).oom
        zygote.send(messages.Inventory())
        again = zygote.next(messages.Workers)
        assert (again.exits[0][0], again.oom) == (worker.number, (worker.number,))


def test_an_order_to_kill_is_for_the_whole_group(tmp_path: Path) -> None:
    root = hierarchy(tmp_path)
    with daemon_of(tmp_path, "groups") as daemon, daemon.client() as client:
        client.run("deaf", key="1")
        until(lambda: len(family(daemon)) == 2, "the run and its child")
        client.terminate("1")
        assert ended(daemon, "1")["signal"] == 9
        assert [path.read_text() for path in root.glob("app@1/*/cgroup.kill")] == ["1"]
        (daemon.app / "gate").touch()  # for the child: the folder does not kill


@contextlib.contextmanager
def real_group() -> Iterator[str]:
    folder = f"{REAL}/rocksyd-test-{os.getpid()}"
    try:
        os.mkdir(folder)
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        yield folder
    finally:
        until(lambda: cgroups.remove(folder), "all of its groups to be empty and gone")


def test_what_a_job_has_started_in_a_session_of_its_own_ends_with_its_group(tmp_path: Path) -> None:
    with real_group() as root, daemon_of(tmp_path, root) as daemon, daemon.client() as client:
        client.run("deaf", key="1")
        until(lambda: len(family(daemon)) == 2, "the run and its child")
        assert all(f"{os.path.basename(root)}/app@1/worker-" in Path(f"/proc/{pid}/cgroup").read_text() for pid in family(daemon))
        client.terminate("1")
        assert ended(daemon, "1")["signal"] == 9
        until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in family(daemon)), "the whole family to end")
        until(lambda: not list(Path(root).glob("app@1/worker-*")), "its group to be removed")
        assert "max_cpu has no effect" in daemon.log()


def test_the_group_of_a_worker_that_outlives_its_zygote_is_removed_when_it_has_ended(tmp_path: Path) -> None:
    with real_group() as root, daemon_of(tmp_path, root) as daemon, daemon.client() as client:
        client.run("deaf", key="1")
        until(lambda: len(family(daemon)) == 2, "the run and its child")
        (zygote,) = zygotes(daemon)
        os.kill(zygote, signal.SIGKILL)
        until(lambda: [pid for pid in zygotes(daemon) if pid != zygote], "another zygote")
        assert Path(root, "app@1").is_dir(), "somebody is in it"
        (daemon.app / "gate").touch()
        assert ended(daemon, "1")["outcome"] == "ok"
        until(lambda: not Path(root, "app@1").exists(), "the group of the zygote that is gone to be removed")


def test_a_group_that_could_not_be_removed_is_removed_when_it_can_be(tmp_path: Path) -> None:
    root = hierarchy(tmp_path)
    settings = {"cgroup": str(root), "pools": {"main": {"memory": 1 << 30}}}
    with Zygote(tmp_path, {"shop": JOBS}, jobs=("shop",), settings=settings) as zygote:
        zygote.ready()
        worker = zygote.fork()
        until(lambda: list(root.glob(f"*/worker-{worker.number}/cgroup.procs")), "the worker to be in its group")
        group = next(root.glob(f"*/worker-{worker.number}"))
        os.kill(worker.pid, 9)
        zygote.exited(worker)
        for file in group.iterdir():  # what stands for a process that ends later than the worker
            file.unlink()
        until(lambda: not group.exists(), "the group to be removed, though nothing else happens")


def test_what_an_earlier_service_has_left_is_removed_at_the_start(tmp_path: Path) -> None:
    root = hierarchy(tmp_path)
    for name in ("app@0/worker-3", "gone@1/worker-7", "gone@1/zygote", "app@9", "mine"):
        (root / name).mkdir(parents=True)
    with daemon_of(tmp_path, "groups"):
        until(lambda: not (root / "app@0").exists() and not (root / "gone@1").exists(), "what is nobody's to be removed")
        assert sorted(path.name for path in root.iterdir() if path.is_dir()) == ["app@1", "app@9", "daemon", "mine"]


def test_a_group_is_tried_again_ever_more_seldom_and_at_last_only_when_there_is_something_to_do(tmp_path: Path) -> None:
    groups = [tmp_path / f"group-{number}" for number in range(20)]
    removals = cgroups.Removals()
    for group in groups:
        group.mkdir()
        (group / "cgroup.procs").touch()
        removals.remove(str(group), 100.0)
    moments = []
    while (at := removals.next_try()) is not None:
        moments.append(at - 100.0)
        removals.on_time(at)
    assert moments == pytest.approx([0.02 * (2**n - 1) for n in range(1, len(moments) + 1)])
    assert 60 < moments[-1] < 180
    assert removals.left == [str(group) for group in groups]
    for group in groups:
        (group / "cgroup.procs").unlink()
    removals.in_passing()
    assert 0 < len(removals.left) < 20, "not all of them are tried each time"
    removals.once_more()
    assert removals.left == []
    assert list(tmp_path.iterdir()) == []


def test_without_control_groups_all_runs_and_what_has_no_effect_is_said(tmp_path: Path) -> None:
    (tmp_path / "nowhere").mkdir()
    with daemon_of(tmp_path, "nowhere") as daemon, daemon.client() as client:
        client.run("killed", False, key="1")
        assert ended(daemon, "1")["outcome"] == "killed"
        assert "workers have no control groups" in daemon.log()
        assert "pool app: max_processes has no effect" in daemon.log()


def test_what_was_delegated_is_found_by_its_mark_also_from_the_leaf(tmp_path: Path) -> None:
    service = tmp_path / "mount" / "system.slice" / "rocksyd.service"
    (service / cgroups.LEAF).mkdir(parents=True)
    proc = tmp_path / "proc"
    proc.mkdir()
    (proc / "mountinfo").write_text(
        f"25 1 0:22 / /proc rw - proc proc rw\n30 24 0:27 / {tmp_path}/mount rw,nosuid shared:9 - cgroup2 cgroup2 rw\n"
    )
    (proc / "cgroup").write_text("1:name=systemd:/x\n0::/system.slice/rocksyd.service\n")
    assert cgroups.delegated(str(proc)) == ""
    try:
        os.setxattr(service, "user.delegate", b"1")
    except OSError as error:
        pytest.skip(f"this file system has no attributes: {error}")
    assert cgroups.delegated(str(proc)) == str(service)
    (proc / "cgroup").write_text(f"0::/system.slice/rocksyd.service/{cgroups.LEAF}\n")
    assert cgroups.delegated(str(proc)) == str(service)
    assert cgroups.delegated(str(tmp_path)) == ""


def family(daemon: Daemon) -> list[int]:
    return [int(line) for line in lines(daemon.app / "family")]
