"""How an alert reaches a receiver: a webhook, a letter, a command.

What must live here: one try of each way. What this file must not know: when there is another try (``outbox``), what alerts mean.

A webhook is signed as https://www.standardwebhooks.com has it (1.0): ``webhook-id``, ``webhook-timestamp`` and
``webhook-signature``, an HMAC-SHA256 of the three parts ``id.timestamp.body``. The id is the same in every try.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import http.client
import json
import os
import signal
import smtplib
import ssl
import subprocess
import time
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Any
from urllib.parse import urlsplit

from rocksyd import __version__
from rocksyd.alerts import letter
from rocksyd.units import format_duration

PREFIX = "whsec_"
"""What a secret begins with that is written in base64."""
_OUTPUT_MOST = 500
"""Characters of what a command or server says that are kept of a failed try."""


class NotDelivered(Exception):
    """A try has failed; the text says why. ``after``: seconds for which the receiver wants to be left alone."""

    def __init__(self, text: str, after: float = 0.0) -> None:
        super().__init__(text)
        self.after = after


def deliver(receiver: dict[str, Any], said: dict[str, Any]) -> None:
    """One try. ``receiver``: the settings of ``[notify.NAME]``; ``said``: the alert (``letter.payload``). Raises NotDelivered."""
    try:
        if receiver.get("webhook"):
            _post(receiver, said)
        elif receiver.get("mail"):
            _mail(receiver, said)
        else:
            _command(receiver, said)
    except (OSError, ssl.SSLError, http.client.HTTPException, smtplib.SMTPException, ValueError) as error:
        where = _host(receiver["smtp"]) if receiver.get("mail") else place_of(receiver)
        why = error.strerror if isinstance(error, OSError) and error.strerror else f"{type(error).__name__}: {error}"
        raise NotDelivered(f"{where}: {why}"[:_OUTPUT_MOST]) from error


def place_of(receiver: dict[str, Any]) -> str:
    """Whom or what it reaches, for people. A webhook's path may be a secret, so it is left out."""
    if receiver.get("webhook"):
        return f"{_host(receiver['webhook'])}/..."
    return ", ".join(receiver["mail"]) if receiver.get("mail") else str(receiver["command"][0])


def _host(address: str) -> str:
    url = urlsplit(address)
    return f"{url.scheme}://{url.netloc.rpartition('@')[2]}"


# --- a webhook --------------------------------------------------------------------------------------------------------
def signature(secret: bytes, number: str, at: int, body: bytes) -> str:
    """The value of ``webhook-signature``."""
    mark = hmac.new(secret, f"{number}.{at}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(mark).decode()}"


def secret_of(text: str) -> bytes:
    """The secret in a file: ``whsec_`` and base64, or the line as it is."""
    text = text.strip()
    if text.startswith(PREFIX):
        try:
            return base64.b64decode(text.removeprefix(PREFIX), validate=True)
        except binascii.Error as error:
            raise ValueError(f"a secret that begins with {PREFIX} goes on in base64") from error
    return text.encode()


def _post(receiver: dict[str, Any], said: dict[str, Any]) -> None:
    url, body, at = urlsplit(receiver["webhook"]), json.dumps(said).encode(), int(time.time())
    headers = {
        "content-type": "application/json",
        "user-agent": f"rocksyd/{__version__}",
        "webhook-id": said["id"],
        "webhook-timestamp": str(at),
    }
    if receiver.get("secret_file"):
        with open(receiver["secret_file"], encoding="utf-8") as file:
            headers["webhook-signature"] = signature(secret_of(file.read()), said["id"], at, body)
    if receiver.get("token_file"):
        with open(receiver["token_file"], encoding="utf-8") as file:
            headers["authorization"] = f"Bearer {file.read().strip()}"
    assert url.hostname is not None
    if url.scheme == "https":
        tls = ssl.create_default_context()
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            url.hostname, url.port, timeout=receiver["timeout"], context=tls
        )
    else:
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=receiver["timeout"])
    try:
        connection.request("POST", (url.path or "/") + (f"?{url.query}" if url.query else ""), body, headers)
        answer = connection.getresponse()
        text = answer.read(_OUTPUT_MOST).decode(errors="replace")
        if not 200 <= answer.status < 300:  # a redirection, too: what is signed for one address is not sent to another
            wait = answer.getheader("retry-after", "")
            raise NotDelivered(f"{answer.status} {answer.reason}: {text}".strip(": "), float(wait) if wait.isdigit() else 0.0)
    finally:
        connection.close()


# --- a letter ---------------------------------------------------------------------------------------------------------
def message(receiver: dict[str, Any], said: dict[str, Any]) -> EmailMessage:
    """The alert as a letter."""
    made = EmailMessage()
    made["Subject"] = letter.subject(said)
    made["From"] = receiver.get("sender") or f"rocksyd@{said['host']}"
    made["To"] = ", ".join(receiver["mail"])
    made["Date"] = formatdate(localtime=True)
    domain = said["host"] if "." in said["host"] else "rocksyd.invalid"
    made["Message-ID"] = f"<{said['id']}@{domain}>" if said.get("id") else make_msgid(domain=domain)
    thread = hashlib.sha256(f"{said['daemon']}\0{said['fingerprint']}".encode()).hexdigest()[:24]
    made["References"] = f"<{thread}@{domain}>"  # what is about the same thing is one conversation
    made["Auto-Submitted"] = "auto-generated"
    made["X-Rocksyd-Kind"] = said["kind"]
    made.set_content(letter.body(said, receiver["every"]))
    return made


def _mail(receiver: dict[str, Any], said: dict[str, Any]) -> None:
    url = urlsplit(receiver["smtp"])
    host, port = url.hostname or "localhost", url.port or (465 if url.scheme == "smtps" else 25)
    made = message(receiver, said)
    tls = ssl.create_default_context()
    if url.scheme == "smtps":
        server: smtplib.SMTP = smtplib.SMTP_SSL(host, port, timeout=receiver["timeout"], context=tls)
    else:
        server = smtplib.SMTP(host, port, timeout=receiver["timeout"])
    with server:
        if url.scheme == "smtp+tls":
            server.starttls(context=tls)
        if receiver.get("smtp_user"):
            with open(receiver["smtp_password_file"], encoding="utf-8") as file:
                server.login(receiver["smtp_user"], file.read().strip())
        refused = server.send_message(made)
    if refused:
        # Those that were taken have it: to send it again would double it for them.
        names = "; ".join(f"{name}: {code} {why!r}" for name, (code, why) in refused.items())
        raise_for = len(refused) == len(receiver["mail"])
        if raise_for:
            raise NotDelivered(f"refused for {names}"[:_OUTPUT_MOST])


# --- a command --------------------------------------------------------------------------------------------------------
def _command(receiver: dict[str, Any], said: dict[str, Any]) -> None:
    environment = {
        **os.environ,
        "ROCKSYD_ALERT_ID": said["id"],
        "ROCKSYD_ALERT_KIND": said["kind"],
        "ROCKSYD_ALERT_SUBJECT": said["subject"],
        "ROCKSYD_ALERT_TITLE": said["title"],
        "ROCKSYD_ALERT_OVER": "1" if said["over"] else "",
        "ROCKSYD_ALERT_COUNT": str(said["count"]),
    }
    process = subprocess.Popen(
        list(receiver["command"]), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={name: value.replace("\0", "") for name, value in environment.items()}, start_new_session=True,
    )  # fmt: skip
    try:
        output, _ = process.communicate(json.dumps(said).encode() + b"\n", timeout=receiver["timeout"])
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise NotDelivered(
            f"{receiver['command'][0]} did not end within {format_duration(receiver['timeout'])}, and was killed"
        ) from None
    if process.returncode:
        text = output.decode(errors="replace").strip()[-_OUTPUT_MOST:]
        raise NotDelivered(f"{receiver['command'][0]}: exit status {process.returncode}: {text}".strip(": "))
