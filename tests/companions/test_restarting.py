"""Companions across a hand-over, whoever dies in it: old beside new until the new one is ready and its master serves."""

from __future__ import annotations

import json
import os
import signal
import threading
import urllib.request
from pathlib import Path

import pytest

from rocksyd.testing import Daemon, DaemonError
from rocksyd.testing.daemon import Conversation, command_line, copy_package, descendants, until
from tests.companions.stage import METRICS, Gate, companion, daemon, error, gone, wait_ready
from tests.ports import refuses
from tests.restart.stage import kinds, many, order, restart, window
from tests.versions import Place, unpacked


class Asked:
    """A request that the companion has, until the test opens its gate."""

    def __init__(self, served: Daemon, folder: Path) -> None:
        self.talk = served.talk()
        self._held = Gate(folder / "asked")
        self.talk.send(order("bell.gate", 7, path=str(self._held.path)))
        self._held.wait_entered()

    def answered(self) -> dict[str, object]:
        self._held.open("here")
        reply: dict[str, object] = json.loads(self.talk.line())
        assert reply["id"] == 7
        return reply

    def only_once(self) -> None:
        assert self.talk.rpc("bell.ring")["params"] == {}  # nothing stands before this answer

    def close(self) -> None:
        self._held.close()


def test_a_request_is_answered_once_by_the_process_that_had_it_when_the_restart_came(tmp_path: Path) -> None:
    with daemon(tmp_path) as served:
        talk = served.talk()
        old = companion(talk)["pid"]
        asked = Asked(served, tmp_path)
        for _ in range(2):
            restart(served)
        new = companion(talk)["pid"]
        assert new != old
        assert talk.rpc("bell.ring")["pid"] == new
        assert asked.answered()["result"] == {"pid": old, "said": "here"}
        asked.only_once()
        gone(old)
        until(lambda: served.children("rocksyd: bell") == [new], "it to be the only one")


def held(tmp_path: Path, at: str) -> tuple[Daemon, Path]:
    package = copy_package(tmp_path / "package")
    return daemon(tmp_path, top=METRICS, package=package), package


@pytest.mark.parametrize("victim", ["old", "new"])
def test_p4_a_companion_killed_while_clients_wait_for_the_new_master_is_started_again_by_it(tmp_path: Path, victim: str) -> None:
    served, package = held(tmp_path, "_take_over")
    with served, window(package, tmp_path) as opened:
        talk, ordered = served.talk(), served.talk()
        old = companion(talk)["pid"]
        asked = Asked(served, tmp_path)
        ordered.send("restart")
        opened.wait_entered()
        (new,) = (pid for pid in served.children("rocksyd: bell") if pid != old)
        os.kill(old if victim == "old" else new, signal.SIGKILL)
        opened.open()
        assert json.loads(ordered.line()) == {"error_text": "Restarted successfully"}
        if victim == "old":
            reply = json.loads(asked.talk.line())
            assert reply["error"]["code"] == -32005
            assert wait_ready(talk) == new
        else:
            assert wait_ready(talk, other_than=new) not in (old, new)
            assert asked.answered()["result"] == {"pid": old, "said": "here"}
        asked.only_once()
        asked.close()
        until(lambda: len(served.children("rocksyd: bell")) == 1, "one companion to be left")


def test_p4_when_the_new_master_dies_before_it_serves_the_old_companions_go_on(tmp_path: Path) -> None:
    served, package = held(tmp_path, "_take_over")
    with served, window(package, tmp_path) as opened:
        talk, ordered = served.talk(), served.talk()
        before, old = talk.rpc("health")["companions"], served.children("rocksyd: bell")
        master = served.master_pid
        asked = Asked(served, tmp_path)
        ordered.send("restart")
        opened.wait_entered()
        (candidate,) = (pid for pid in served.children("rocksyd: master") if pid != master)
        os.kill(candidate, signal.SIGKILL)
        assert b"Restart failed" in ordered.line()
        assert talk.rpc("health")["companions"] == before
        assert asked.answered()["result"] == {"pid": old[0], "said": "here"}
        asked.only_once()
        until(lambda: served.children("rocksyd: bell") == old, "the new companion to be gone")
        page(talk)


@pytest.mark.parametrize("at", ["_take_over", "_begin_to_serve"])
def test_p11_when_the_old_master_dies_in_the_hand_over_there_is_one_companion_in_the_end(tmp_path: Path, at: str) -> None:
    served, package = held(tmp_path, at)
    with served, window(package, tmp_path, at) as opened:
        talk = served.talk()
        served.wait_shelved(1)
        old, master = companion(talk)["pid"], served.master_pid
        ordered = served.talk()
        ordered.send("restart")
        opened.wait_entered()
        if at == "_take_over":
            os.kill(master, signal.SIGKILL)
        opened.open()
        again = served.talk()
        new = wait_ready(again, other_than=old)
        gone(old)
        until(lambda: served.children("rocksyd: bell") == [new], "it to be the only one")
        assert again.rpc("bell.ring")["pid"] == new


def test_p11_after_a_crash_of_the_master_there_is_one_companion_and_its_socket_is_the_same(tmp_path: Path) -> None:
    with daemon(tmp_path, top=METRICS) as served:
        talk = served.talk()
        address, old = url(talk), companion(talk)["pid"]
        served.wait_shelved(1)
        for _ in range(2):
            os.kill(served.master_pid, signal.SIGKILL)
            with urllib.request.urlopen(address) as answer:  # waits in the socket's queue until the next companion is there
                assert answer.status == 200
            again = served.talk()
            wait_ready(again, "metrics")
            new = wait_ready(again, other_than=old)
            gone(old)
            until(lambda: served.children("rocksyd: bell") == [new], "it to be the only one")  # noqa: B023
            assert url(again) == address
            old = new
        assert again.rpc("bell.ring")["pid"] == new


def test_a_companion_that_hangs_when_its_master_is_killed_is_killed_before_the_next_one_starts(tmp_path: Path) -> None:
    with daemon(tmp_path, 'grace = "50ms"') as served:
        old = companion(served.talk())["pid"]
        (tmp_path / "stays").touch()
        os.kill(served.master_pid, signal.SIGKILL)
        again = served.talk()
        new = wait_ready(again, other_than=old)
        assert not os.path.exists(f"/proc/{old}")
        until(lambda: served.children("rocksyd: bell") == [new], "it to be the only one")
        (tmp_path / "stays").unlink()


def test_a_daemon_that_stops_after_a_crash_in_its_stop_starts_no_companion(tmp_path: Path) -> None:
    with daemon(tmp_path) as served:
        talk, held_run = served.talk(), Gate(tmp_path / "run")
        talk.rpc("run", target="deaf", key="old", params=[str(held_run.path)])
        held_run.wait_entered()
        pid, master = companion(talk)["pid"], served.master_pid
        talk.rpc("stop")
        gone(pid)
        os.kill(master, signal.SIGKILL)
        until(lambda: "goes on" in served.log(), "the next master to go on with the stop")
        held_run.close()
        served.wait()
        (only,) = [line for line in served.log().split("\n") if "companion bell" in line]
        assert f"companion bell is ready (pid {pid})" in only


@pytest.mark.parametrize("says", ["ready", "cannot"])
def test_a_daemon_that_stops_while_a_companion_starts_waits_for_its_end_and_starts_no_other(tmp_path: Path, says: str) -> None:
    """What the companion says at last was on its way when the order to stop came, which a run holds up."""
    with daemon(tmp_path, 'grace = "30s"') as served:
        held_run, held_start, pid = Gate(tmp_path / "run"), Gate(tmp_path / "starting"), companion(served.talk())["pid"]
        served.talk().rpc("run", target="deaf", key="old", params=[str(held_run.path)])
        held_run.wait_entered()
        os.kill(served.master_pid, signal.SIGKILL)
        gone(pid)
        held_start.wait_entered()
        if says == "cannot":
            (tmp_path / "refuses").touch()
        served.talk().rpc("stop")
        (starting,) = served.children("rocksyd: bell")
        held_start.open()
        gone(starting)
        held_run.close()
        served.wait()
        assert "means nothing" not in served.log()
        assert served.log().count("starting another") == 1, "the master"


def url(talk: Conversation) -> str:
    """Where the metrics are."""
    return f"{companion(talk, 'metrics')['listen'][0]}/metrics"


def page(talk: Conversation) -> str:
    """The metrics."""
    with urllib.request.urlopen(url(talk)) as answer:
        text: str = answer.read().decode()
        return text


def test_p7_descriptors_of_companions_are_those_of_the_manifest_and_nothing_piles_up(tmp_path: Path) -> None:
    with daemon(tmp_path, top=METRICS) as served:
        talk = served.talk()
        served.wait_shelved(1)

        def held_open() -> dict[str, object]:
            pids = {"keeper": served.pid, "master": talk.rpc("stats")["master_pid"]}
            pids |= {name: companion(talk, name)["pid"] for name in ("bell", "metrics")}
            return {name: kinds(served, pid) for name, pid in pids.items()}

        def settled() -> bool:
            keepers, masters = (
                {target for target in served.descriptors(pid).values() if target.startswith("socket:")}
                for pid in (served.pid, talk.rpc("stats")["master_pid"])
            )
            return talk.rpc("stats")["curr_connections"] == 2 and len(keepers - masters) == 1  # the channel between the two

        def quiet() -> bool:
            return len(descendants(served.pid)) == 4  # master, zygote, two companions

        restart(served)
        until(quiet, "the old generation to have left")
        page(talk)  # by the new one's: both answer as long as both are there
        served.wait_shelved(3)  # this conversation, that of metrics, and the socket that metrics listens on
        until(settled, "the connections of those who have looked to be closed, and off the shelf")
        before = held_open()
        for _ in range(4):
            restart(served)
            page(talk)
        killed = companion(talk)["pid"]
        os.kill(killed, signal.SIGKILL)
        until(lambda: wait_ready(talk, other_than=killed) and quiet(), "the old generation to have left")
        page(talk)
        try:
            until(lambda: held_open() == before, "the descriptors to be those of before")
        except DaemonError:
            assert held_open() == before
        # Its channel, the eventfd; the listening socket is no other process's but for keeper and master.
        ours = {target for target in served.descriptors(companion(talk)["pid"]).values() if target.startswith("socket:")}
        assert len(ours) == 1


def test_the_socket_of_a_companion_that_is_no_longer_configured_is_closed(tmp_path: Path) -> None:
    with daemon(tmp_path, top=METRICS) as served:
        talk = served.talk()
        host, port = companion(talk, "metrics")["listen"][0].removeprefix("http://").split(":")
        text = served.config.read_text()
        served.config.write_text(text.replace(METRICS, ""))
        pid = companion(talk, "metrics")["pid"]
        restart(served)
        gone(pid)
        until(lambda: refuses(host, int(port)), "the socket to be closed")
        assert error(talk, "bell.refuse")["code"] == -32010


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_many_restarts_and_the_metrics_answer_every_request(tmp_path: Path) -> None:
    with daemon(tmp_path, top=METRICS) as served:
        talk = served.talk()
        address, over, failures, answers = url(talk), threading.Event(), [], [0, 0]

        def ask(which: int) -> None:
            while not over.is_set():
                try:
                    with urllib.request.urlopen(address, timeout=30) as answer:
                        assert answer.read().endswith(b"# EOF\n")
                    answers[which] += 1
                except Exception as failure:
                    failures.append(repr(failure))
                    raise

        askers = [threading.Thread(target=ask, args=(which,)) for which in range(2)]
        for asker in askers:
            asker.start()
        try:
            for _ in range(many(12, 100)):
                assert talk.ask("restart") == {"error_text": "Restarted successfully"}
                talk.rpc("call", target="add", params=[1, 2])
                assert talk.rpc("bell.ring")["pid"]
        finally:
            over.set()
            for asker in askers:
                asker.join()
        assert not failures
        assert min(answers) >= many(12, 100)
        until(lambda: len(descendants(served.pid)) == 4, "the old generations to have left")
        assert {command_line(pid).split("@")[0] for pid in descendants(served.pid)} == {
            "rocksyd: master", "rocksyd: zygote app", "rocksyd: bell", "rocksyd: metrics",
        }  # fmt: skip
        assert talk.rpc("health")["ok"]


def test_p6_going_back_to_a_version_without_companions_leaves_none_of_them_and_forward_again_brings_them(tmp_path: Path) -> None:
    before, now = unpacked(tmp_path / "before"), copy_package(tmp_path / "now")
    place = Place(tmp_path / "installed", now)
    with daemon(tmp_path, top=METRICS, package=place.path) as served:
        talk = served.talk()
        host, port = companion(talk, "metrics")["listen"][0].removeprefix("http://").split(":")
        pids = [companion(talk, name)["pid"] for name in ("bell", "metrics")]
        text = served.config.read_text()
        served.config.write_text(text[: text.index("[companions.bell]")] + text[text.index("[apps.app]") :])
        place.switch(before)
        restart(served)
        for pid in pids:
            gone(pid)
        until(lambda: refuses(host, int(port)), "the socket to be closed")
        assert "companions" not in talk.rpc("health")
        served.config.write_text(text)
        place.switch(now)
        until(lambda: served.restart() == {"error_text": "Restarted successfully"}, "the restart, once the keeper has followed")
        assert talk.rpc("bell.ring")["pid"] == companion(talk)["pid"]
        assert page(talk).endswith("# EOF\n")
        assert talk.rpc("call", target="add", params=[1, 2])["result"] == 3
