"""Alerts reach real receivers, signed, once, and again where a receiver could not be reached."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import signal
from pathlib import Path

from rocksyd.testing.daemon import until
from tests.companions.stage import gone, wait_ready
from tests.files import wait_lines
from tests.notify.receivers import hook, mail_server
from tests.notify.stage import OF_THE_DAEMON, daemon, wait_hears, webhook


def test_a_failure_reaches_a_webhook_signed_and_what_is_the_same_again_is_counted_only(tmp_path: Path) -> None:
    secret = base64.b64encode(b"k" * 24).decode()
    (tmp_path / "hook.secret").write_text(f"whsec_{secret}\n")
    with hook() as got, daemon(tmp_path, webhook(got.url, 'secret_file = "hook.secret"')) as served:
        talk = served.talk()
        wait_ready(talk, "notify")
        wait_hears(served)
        talk.rpc("run", target="fails", key="a", params={"password": "hunter2", "shop": 7})
        headers, body = got.got.get(timeout=30)
        said = json.loads(body)
        assert (said["kind"], said["subject"], said["over"], said["count"]) == ("failed", "fails", False, 1)
        assert said["about"]["key"] == "a"
        assert said["about"]["params"] == {"password": "[redacted]", "shop": 7}
        assert "hunter2" not in body.decode(), "nor in the message, the traceback and the output"
        assert "not today: [redacted]" in said["title"]
        assert "about to fail" in said["about"]["output"]
        assert "ValueError" in said["about"]["error"]["traceback"]
        part = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode()
        mark = base64.b64encode(hmac.new(b"k" * 24, part + body, hashlib.sha256).digest()).decode()
        assert headers["webhook-signature"] == f"v1,{mark}"
        assert (headers["webhook-id"], headers["path"]) == (said["id"], "/hook?from=rocksyd")
        talk.rpc("call", target="ok")
        for number in range(5):
            talk.rpc("run", target="fails", key=f"same {number}")
            talk.rpc("wait", key=f"same {number}")
        talk.rpc("run", target="dies", key="b")
        assert got.next()["subject"] == "dies", "the five others were the same failure"


def test_a_receiver_that_cannot_be_reached_is_tried_again_with_the_same_id_over_restarts_and_crashes(tmp_path: Path) -> None:
    with hook() as got, daemon(tmp_path, webhook(got.url)) as served:
        talk = served.talk()
        pid = wait_ready(talk, "notify")
        wait_hears(served)
        got.answers = [500, 302]
        talk.rpc("run", target="fails", key="a")
        first, second = got.next(), got.next()
        assert first == second
        assert served.restart() == {"error_text": "Restarted successfully"}
        third = got.next()
        assert third == first, "what was not delivered is so by the next process; a redirection is not followed"
        until(lambda: talk.rpc("notify.list")[0]["delivered"] == 1, "the delivery to be known")
        pid = wait_ready(talk, "notify", other_than=pid)
        talk.rpc("run", target="fails_else", key="b")
        assert got.next()["about"]["key"] == "b"
        until(lambda: talk.rpc("notify.list")[0]["waiting"] == 0, "the outbox to be empty")
        os.kill(pid, signal.SIGKILL)
        gone(pid)
        talk.rpc("run", target="dies", key="c")
        assert got.until("failed")["about"]["key"] == "c", "what happened while nobody was there, and nothing twice"
        os.kill(served.master_pid, signal.SIGKILL)
        assert got.until("crash")["title"] == "the master died and was replaced"
        assert got.got.empty()


def test_a_letter_says_what_failed_with_its_traceback_and_a_command_gets_the_same(tmp_path: Path) -> None:
    script = tmp_path / "page"
    paged = tmp_path / "paged"
    script.write_text(f'#!/bin/sh\n(cat; echo "$ROCKSYD_ALERT_KIND") > {paged}\n')
    script.chmod(0o755)
    with mail_server() as letters:
        tables = (
            f'[notify.ops]\nmail = ["ops@example.org", "gone@example.org"]\nsmtp = "smtp://127.0.0.1:{letters.port}"\n'
            f'sender = "rocksyd@example.org"\n{OF_THE_DAEMON}\n[notify.page]\ncommand = ["{script}"]\non = ["failed"]\n'
        )
        letters.refuse = {"gone@example.org"}
        with daemon(tmp_path, tables) as served:
            talk = served.talk()
            wait_ready(talk, "notify")
            wait_hears(served)
            talk.rpc("run", target="fails", key="a")
            letter = letters.next()
            assert letter["Subject"].endswith("fails failed: ValueError: not today:")
            assert (letter["From"], letter["To"]) == ("rocksyd@example.org", "ops@example.org, gone@example.org")
            assert letter["Auto-Submitted"] == "auto-generated"
            text = letter.get_content()
            for part in (
                "outcome    failed",
                "rocksyd logs a",
                "about to fail",
                "Traceback (most recent call last)",
                "ValueError",
            ):
                assert part in text
            said, kind = wait_lines(paged, 2)[:2]
            assert (json.loads(said)["about"]["key"], kind) == ("a", "failed")
            tried = talk.rpc("notify.test")
            assert [row["ok"] for row in tried] == [True, True]
            assert letters.next()["Subject"].endswith("this is a test")
