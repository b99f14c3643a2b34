"""The application of the conversations in this folder. Standard library only: it is loaded by the daemon, not by the tests."""

import os
import signal
import sys
import time
from pathlib import Path


class TestClass1:
    """The original's example ran ten seconds; this one until the test has made the file ``$ROCKSYD_GATE`` (no clock decides)."""

    __test__ = False  # not one of pytest's, whatever its name

    def run(self, params):
        gate = os.environ.get("ROCKSYD_GATE")
        print("Running as TestClass1", params, flush=True)
        if gate is None:
            time.sleep(10)
            return
        while not Path(gate).exists():
            time.sleep(0.01)


class TestClass2:
    """Runs until it is killed."""

    __test__ = False

    def run(self, params):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        while True:
            time.sleep(100)


class Succeeds:
    def run(self, params):
        return params


class Exits:
    """``params`` is ``[exit status]``."""

    def run(self, params):
        sys.exit(params[0])


class Raises:
    def run(self, params):
        raise ValueError("as ordered")


class KillsItself:
    """``params`` is ``[signal number]``."""

    def run(self, params):
        os.kill(os.getpid(), params[0])
        time.sleep(100)


class TakesNothing:
    """Ends well only if it was given an empty list: what ``params`` left out must be."""

    def run(self, params):
        if params != []:
            raise ValueError(f"expected [], got {params!r}")
