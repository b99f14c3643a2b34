"""A client that does ordinary things beside whatever a test does to the daemon, and looks at every reply."""

from __future__ import annotations

import json
import threading
from types import TracebackType

from rocksyd.testing import Daemon
from rocksyd.testing.daemon import until

OWN = {"whose": "the bystander's"}
"""The labels of its runs."""


class Bystander:
    """Asks for ``echo`` and for what it began, over one connection that has to last, from a thread of its own."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._talk = daemon.talk()
        self._master = daemon.master_pid
        self._over = threading.Event()
        self.resting = threading.Lock()
        """Whoever holds it lets it ask nothing meanwhile."""
        self._served = 0
        self._trouble = ""
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> Bystander:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._trouble and not (self._served and self._over.wait(0.01)):
            with self.resting:
                self._ask_once()

    def _ask_once(self) -> None:
        self._served += 1
        number = self._served
        call = {"jsonrpc": "2.0", "id": number, "method": "call", "params": {"target": "echo", "params": [number], "labels": OWN}}
        try:
            reply = self._talk.ask(json.dumps(call))
            if (reply["id"], reply.get("result", {}).get("result")) != (number, [number]):
                self._trouble = f"{call} was answered with {reply}"
            reply = self._talk.ask('check {"hash":999999}')
            if reply != {"error_text": "Hash not found"}:
                self._trouble = f"check was answered with {reply}"
        except Exception as error:  # noqa: BLE001  (told by was_served)
            self._trouble = repr(error)

    def goes_on(self) -> None:
        """It has been answered rightly since it was asked last. It goes on."""
        before = self._served
        until(lambda: self._trouble or self._served > before + 1, "the bystander to be served")
        assert not self._trouble, f"{self._trouble}\n{self._daemon.log()}"

    def was_served(self) -> None:
        """Every one of its requests was answered, by the master that was there at its beginning, which serves on."""
        self._over.set()
        self._thread.join()
        assert not self._trouble, self._daemon.log()
        assert self._served
        assert self._daemon.master_pid == self._master, self._daemon.log()
        with self._daemon.client() as client:
            assert client.call("echo", "still there") == ["still there"]
